-- `perigee serve --dev`: errors as pages, and pages that reload themselves.
local gateway = require("spec.support.gateway")
local match = require("luassert.match")
local posix = require("perigee.testing.posix")

local HTML = { Accept = "text/html,application/xhtml+xml" }
local TAG = '\n<script src="/%.perigee/dev%.js" data%-version="(%w+%.%d+)"></script>\n$'

-- With --dev, unless `options` says otherwise; files are watched when it returns.
local function start(body, options)
  local all = { app = body, arguments = { "--dev" }, watch = true }
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  if all.script then
    all.app = nil
  end
  local server = gateway.start(all)
  server.log:expect("--dev: errors show the script's source to whoever asks")
  return server
end

local function whole(body)
  return 'local perigee = require("perigee") local app = perigee.app() ' .. body .. "\nreturn app\n"
end

describe("The page of an error", function()
  -- Its lines are named below.
  local FAILING = [[
    local function fail(text)
      error("no <script>alert(1)</script> & \27[31m " .. text)
    end
    app:get("/raises/:text", function(request)
      fail(request.params.text)
    end)
    app:get("/table", function() error({ message = "in a table" }) end)
    app:get("/caller", function()
      local function check() error("who calls", 2) end
      check()
    end)
    app:get("/deep", function()
      local function deep(n) return 1 + deep(n + 1) end
      return deep(1)
    end)
    app:get("/number", function()
      return 7
    end)
    app:get("/who", { authenticate = function() error("who is it") end }, function() return "" end)
    app:get("/answer", { authenticate = function() return 7 end }, function() return "" end)
    app:websocket("/ws", { authenticate = function() error("no socket") end })
    app:get("/long", function() error(("<"):rep(100000)) end)
    app:post("/posted", function() error("posted") end)
    app:get("/late", function() return require("late") end)
    app:get("/made", function() assert(loadstring("error('made of text')"))() end)
  ]]

  local server
  setup(function()
    server = start(FAILING, { files = { ["late.lua"] = "\n\nerror('late')\n" } })
    server.log:allow("error in")
  end)

  local function text(path)
    local response = server:get(path):expect(500)
    assert.equal("text/plain; charset=utf-8", response.headers["content-type"])
    assert.equal("no-store", response.headers["cache-control"])
    return response.body
  end

  local function html(path)
    local response = server:get(path, { headers = HTML }):expect(500)
    assert.equal("text/html; charset=utf-8", response.headers["content-type"])
    return response.body
  end

  it("says what was raised, where, by whom, and shows the lines around it", function()
    local page = text("/raises/x")
    assert.match("main.lua:2: no <script>alert(1)</script> & ?[31m x\n", page, 1, true)
    assert.match("in the handler of GET /raises/:text, generation 1\n", page, 1, true)
    assert.match("\n>    2 |       error(", page, 1, true)
    assert.match("\n     1 | local perigee = ", page, 1, true)
    assert.match("\n     5 |       fail(request.params.text)\n", page, 1, true)
    assert.match("stack traceback:\n.*main.lua:5: in function <.*main.lua:4>", page)
    assert.not_match("\n     8 |", page, 1, true)
  end)

  it("is HTML for a browser, with everything in it escaped", function()
    local page = html("/raises/%3Cimg%20src=x%3E%22")
    assert.match("<h1>.*main.lua:2: no &lt;script&gt;alert%(1%)&lt;/script&gt; &amp; ", page)
    assert.match("&lt;img src=x&gt;&quot;", page, 1, true)
    assert.match("<mark>&gt;    2 | ", page, 1, true)
    assert.not_match("<script>", page, 1, true)
    assert.not_match("<img", page, 1, true)
    assert.match(TAG, page)
  end)

  it("knows errors of every kind", function()
    assert.match("^in a table\n.*\n>    7 |", text("/table"))
    assert.match("main.lua:10: who calls\n.*\n>   10 |       check%(%)", text("/caller"))
    assert.match("stack overflow.*\n>   13 |", text("/deep"))
    assert.match("main.lua:19: who is it.*in authenticate of GET /who,.*\n>   19 |", text("/who"))
    assert.match("late.lua:3: late.*late.lua:3\n     1 | \n.*>    3 | error", text("/late"))
    assert.match("made of text.*\n>   25 |", text("/made"))
  end)

  it("shows the handler whose result is no response", function()
    local page = text("/number")
    assert.match("^the handler returned a number; a response is a string or a table\n", page)
    assert.match("\n>   16 |     app:get(", page, 1, true)
    assert.not_match("traceback", page, 1, true)
    assert.match("^authenticate returns a table, or nil.*\n>   20 |", text("/answer"))
  end)

  it("is what a handshake gets, too", function()
    local refused = server:websocket("/ws", { any_status = true }):expect(500)
    assert.match("main.lua:21: no socket", refused.body, 1, true)
  end)

  it("has a limit, whatever an error holds", function()
    local page = html("/long")
    assert.is_true(#page < 100000)
    assert.match("&lt; …</h1>", page, 1, true)
  end)

  it("is not shown anew where that would send a form again", function()
    local page = server:post("/posted", "x", { headers = HTML }):expect(500).body
    assert.match("posted</h1>", page, 1, true)
    assert.not_match("<script", page, 1, true)
  end)

  it("says at its top that the script saved last does not load", function()
    local one = start('app:get("/", function() error("old") end)')
    one.log:allow("error in")
    one.log:allow("generation 1 stays live")
    one:edit("main.lua", "local x = = '<b>'")
    one.log:expect("generation 1 stays live")
    local page = one:get("/", { headers = HTML }):expect(500).body
    assert.match("<h2>The script that was saved last does not load</h2>", page, 1, true)
    assert.match("main.lua:1: unexpected symbol", page, 1, true)
    assert.match("= = '&lt;b&gt;'</pre>", page, 1, true)
    -- The lines are those of the code that runs.
    assert.match("<mark>&gt;    1 | .*error%(&quot;old&quot;%)", page)
    one:edit("main.lua", whole('app:get("/", function() error("new") end)'))
    one.log:expect("generation 2 live")
    page = one:get("/"):expect(500).body
    assert.match("^[^\n]*main.lua:1: new\n\n", page)
    assert.match("generation 2\n", page, 1, true)
  end)

  it("shows nothing without --dev", function()
    local plain = gateway.start({ app = 'app:get("/", function() error("secret") end)' })
    plain.log:allow("error in")
    local response = plain:get("/", { headers = HTML }):expect(500, "Internal Server Error")
    assert.equal("text/plain; charset=utf-8", response.headers["content-type"])
    plain:get("/.perigee/dev.js"):expect(404)
    plain:get("/.perigee/changes"):expect(404)
  end)
end)

describe("A page", function()
  local PAGES = [[
    app:static("/public", "public")
    app:get("/html", function() return { html = "<p>html", headers = { ETag = '"x"' } } end)
    app:get("/file", function() return { file = "public/index.html" } end)
    app:get("/missing", function() return { status = 404, file = "public/index.html" } end)
    app:get("/text", function() return "text" end)
    app:get("/json", function() return { json = { 1 } } end)
    app:post("/form", function() return { html = "<p>sent" } end)
  ]]
  local FILES = {
    ["public/index.html"] = "<p>index",
    ["public/empty.html"] = "",
    ["public/large.html"] = ("0123456789abcdef"):rep(20000),
    ["public/text.txt"] = "text",
  }
  local function start_pages(options)
    local all = { files = FILES }
    for name, value in pairs(options or {}) do
      all[name] = value
    end
    return start(PAGES, all)
  end

  -- The page without its tag, and the tag's version.
  local function open(server, path, options)
    local response = server:get(path, options)
    assert.equal("no-store", response.headers["cache-control"], path)
    local version = response.body:match(TAG)
    assert.is_not_nil(version, path .. " has no tag: " .. response.body:sub(-200))
    return response.body:gsub(TAG, ""), version, response
  end

  it("is sent whole, with a tag at its end, and kept by nobody", function()
    local server = start_pages()
    local contents = {
      ["/public/"] = "<p>index",
      ["/public/index.html"] = "<p>index",
      ["/public/empty.html"] = "",
      ["/public/large.html"] = FILES["public/large.html"],
      ["/file"] = "<p>index",
      ["/html"] = "<p>html",
    }
    for path, content in pairs(contents) do
      local body, _, response = open(server, path, {
        headers = { Range = "bytes=0-1", ["If-None-Match"] = "*" },
      })
      assert.equal(content, body, path)
      assert.equal(200, response.status, path)
      if path ~= "/html" then
        assert.is_nil(response.headers.etag, path)
        assert.is_nil(response.headers["last-modified"], path)
      end
      local head = server:head(path):expect(200)
      assert.equal(#response.body, tonumber(head.headers["content-length"]), path)
    end
    local body, _, response = open(server, "/missing")
    assert.equal("<p>index", body)
    assert.equal(404, response.status)
  end)

  it("alone has the tag: not what it fetches, not what was posted", function()
    local server = start_pages()
    server:get("/text"):expect(200, "text")
    server:get("/json"):expect(200, "[1]")
    server:post("/form", "x"):expect(200, "<p>sent")
    for _, path in ipairs({ "/html", "/file", "/public/index.html" }) do
      local response = server:get(path, { headers = { ["Sec-Fetch-Dest"] = "empty" } })
      assert.not_match("<script", response.body, 1, true)
      open(server, path, { headers = { ["Sec-Fetch-Dest"] = "document" } })
    end
    local response = server:get("/public/text.txt"):expect(200, "text")
    assert.is_not_nil(response.headers.etag)
    server
      :get("/public/text.txt", { headers = { ["If-None-Match"] = response.headers.etag } })
      :expect(304)
  end)

  it("finds the tag's script", function()
    local response = start_pages():get("/.perigee/dev.js"):expect(200)
    assert.equal("text/javascript; charset=utf-8", response.headers["content-type"])
    assert.match('new EventSource("/.perigee/changes")', response.body, 1, true)
  end)

  gateway.with_workers(describe, function(workers)
    it("is told when a file has changed: below static directories and the script's", function()
      local elsewhere = posix.temporary_directory()
      posix.write_file(elsewhere, "style.css", "p {}")
      local server = start_pages({
        workers = workers,
        script = whole(PAGES .. ('app:static("/elsewhere", %q)'):format(elsewhere)),
      })
      local _, version = open(server, "/public/", { worker = workers })
      local readers = {}
      for worker = 1, workers do
        readers[worker] = server:sse("/.perigee/changes", { worker = worker })
        readers[worker]:expect({ version = version })
      end
      local function expect_change()
        local before = version
        for _, reader in ipairs(readers) do
          version = reader:expect({ version = match.is_string() }).json.version
          assert.not_equal(before, version)
        end
        assert.equal(version, select(2, open(server, "/html")))
      end
      server:edit("public/index.html", "<p>new")
      expect_change()
      posix.write_file(elsewhere, "style.css", "p { color: red }")
      expect_change()
      posix.write_file(server.scripts_directory, "views/deep/new.html", "<p>view")
      expect_change()
      posix.write_file(server.scripts_directory, "views/deep/new.html", "<p>view 2")
      expect_change()
      server:edit("public/index.html", false)
      expect_change()
      posix.remove_directory(elsewhere)
    end)

    it("is told when a generation is live, and in between why a load has failed", function()
      local server = start_pages({ workers = workers })
      server.log:allow("generation 1 stays live")
      local _, version = open(server, "/html", { worker = workers })
      local reader = server:sse("/.perigee/changes", { worker = workers })
      reader:expect({ version = version })
      server:edit("main.lua", 'error("\255 <b>")')
      local event = reader:expect({ version = version, failure = match.is_string() })
      assert.match("main.lua:1: ? <b>", event.json.failure, 1, true)
      -- Who comes meanwhile is told too.
      local late = server:sse("/.perigee/changes", { worker = 1 })
      late:expect({ version = version, failure = event.json.failure })
      server:edit("main.lua", whole(PAGES))
      for _, each in ipairs({ reader, late }) do
        event = each:expect({ version = match.is_string() })
        assert.not_equal(version, event.json.version)
        assert.is_nil(event.json.failure)
      end
    end)
  end)

  it("hears of a storm as one change or a few, and nothing of what is no part of a page", function()
    local server = start_pages()
    local reader = server:sse("/.perigee/changes")
    local version = reader:expect({ version = match.is_string() }).json.version
    local function write(name)
      posix.write_file(server.scripts_directory, name, "x")
    end
    write("log.db")
    write("node_modules/package/index.js")
    write(".git/index.html")
    write("public/.index.html.swp")
    for i = 1, 300 do
      write(("public/storm/%d.html"):format(i))
    end
    local number = tonumber(version:match("%d+$"))
    local event = reader:expect({ version = match.is_string() })
    assert.equal(number + 1, tonumber(event.json.version:match("%d+$")))
    server:settle()
    assert.is_true(select(2, server.log:text():gsub("pages have changed", "")) <= 5)
  end)

  it("is told what it has missed", function()
    local server = start_pages()
    local _, before = open(server, "/public/")
    server:edit("public/index.html", "<p>new")
    server.log:expect("pages have changed")
    local event = server:sse("/.perigee/changes"):expect({ version = match.is_string() })
    assert.not_equal(before, event.json.version)
  end)

  it("of another site is told nothing", function()
    local server = start_pages()
    server
      :sse("/.perigee/changes", { origin = "http://evil.example", any_status = true })
      :expect(403)
  end)

  it("is told by perigee reload with --no-watch", function()
    local server = start_pages({ watch = false })
    local reader = server:sse("/.perigee/changes")
    local version = reader:expect({ version = match.is_string() }).json.version
    server:edit("public/index.html", "<p>new")
    server:settle()
    server:reload()
    assert.not_equal(version, reader:expect({ version = match.is_string() }).json.version)
  end)
end)

describe("--dev", function()
  it("is said in the log", function()
    local server = start('app:get("/", function() return "" end)')
    assert.equal(1, select(2, server.log:text():gsub("%-%-dev", "")))
  end)

  it("is PERIGEE_DEV=1 too", function()
    local server = start('app:get("/", function() return { html = "" } end)', {
      arguments = {},
      env = { PERIGEE_DEV = "1" },
    })
    assert.match(TAG, server:get("/"):expect(200).body)
  end)

  it("adds no routes to what perigee routes lists", function()
    local directory = posix.temporary_directory()
    posix.write_file(directory, "main.lua", whole('app:get("/mine", function() end)'))
    local result = gateway.run({ "routes", directory .. "/main.lua", "--dev" })
    posix.remove_directory(directory)
    assert.match("/mine", result.stdout, 1, true)
    assert.not_match(".perigee", result.stdout, 1, true)
  end)

  it("leaves the script's own routes their paths", function()
    local server = start([[
      app:get("/*rest", function(request) return "mine " .. request.params.rest end)
    ]])
    server:get("/.perigee/other"):expect(200, "mine .perigee/other")
    assert.match("EventSource", server:get("/.perigee/dev.js"):expect(200).body, 1, true)
  end)
end)
