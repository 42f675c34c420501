-- Files from a directory: app:static and `file` responses.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local posix = require("perigee.testing.posix")

describe("Static files", function()
  local server
  setup(function()
    server = gateway.start({
      script = [[
        local perigee = require("perigee")
        local app = perigee.app()
        app:static("/files", "public")
        app:get("/one", function() return { file = "public/page.html" } end)
        app:get("/gone", function() return { file = "public/none.html" } end)
        app:get("/escape", function() return { file = "../../../../../../etc/passwd" } end)
        app:get("/files/dynamic", function() return "dynamic" end)
        return app
      ]],
      files = {
        ["public/page.html"] = "<!doctype html><p>ü",
        ["public/style.css"] = "p {}",
        ["public/code.js"] = "1",
        ["public/data.json"] = "{}",
        ["public/picture.svg"] = "<svg/>",
        ["public/picture.png"] = "\137PNG",
        ["public/text.txt"] = "0123456789",
        ["public/empty"] = "",
        ["public/with space.txt"] = "space",
        ["public/.hidden"] = "hidden",
        ["public/large.bin"] = ("0123456789abcdef"):rep(200000),
        ["public/deep/index.html"] = "index",
        ["public/deep/er/file.txt"] = "deep",
        ["secret.txt"] = "secret",
        ["public-not/secret.txt"] = "secret",
      },
    })
  end)

  -- A request whose path is not touched by anything on its way.
  local function get(path, headers, method)
    return server:request({ path = path, headers = headers, method = method })
  end

  it("come with the type that their name says", function()
    local types = {
      ["page.html"] = "text/html; charset=utf-8",
      ["style.css"] = "text/css; charset=utf-8",
      ["code.js"] = "text/javascript; charset=utf-8",
      ["data.json"] = "application/json",
      ["picture.svg"] = "image/svg+xml",
      ["picture.png"] = "image/png",
      ["text.txt"] = "text/plain; charset=utf-8",
      ["empty"] = "application/octet-stream",
    }
    for name, expected in pairs(types) do
      local response = get("/files/" .. name)
      assert.equal(200, response.status, name)
      local got = response.headers["content-type"]
      assert.equal(expected:gsub("; charset=utf%-8", ""), (got:gsub("; charset=utf%-8", "")), name)
      if expected:find("^text/") then
        assert.truthy(got:find("charset=utf-8", 1, true), name)
      end
    end
  end)

  it("come whole, small, empty and large", function()
    assert.equal("<!doctype html><p>ü", get("/files/page.html").body)
    assert.equal("", get("/files/empty").body)
    assert.equal("0", get("/files/empty").headers["content-length"])
    assert.equal("deep", get("/files/deep/er/file.txt").body)
    assert.equal("space", get("/files/with%20space.txt").body)
    local large = get("/files/large.bin").body
    assert.equal(3200000, #large)
    assert.equal(("0123456789abcdef"):rep(200000), large)
  end)

  it("come whole to a slow reader", function()
    local conn = server:raw({ receive_buffer = 4096 })
    conn:write(http.request({ path = "/files/large.bin" }))
    assert.equal("deep", get("/files/deep/er/file.txt").body)
    assert.equal(3200000, #http.read_response(conn, "GET", 20).body)
  end)

  it("that a reader leaves in the middle trouble nobody", function()
    local conn = server:raw({ receive_buffer = 4096 })
    conn:write(http.request({ path = "/files/large.bin" }))
    http.read_head(conn)
    conn:reset()
    assert.equal("deep", get("/files/deep/er/file.txt").body)
  end)

  it("answer HEAD with the headers alone", function()
    local response = get("/files/text.txt", nil, "HEAD")
    assert.equal("10", response.headers["content-length"])
    assert.is_not_nil(response.headers.etag)
  end)

  it("have an ETag and Last-Modified, and are 304 when they match", function()
    local first = get("/files/text.txt")
    local etag, modified = first.headers.etag, first.headers["last-modified"]
    assert.truthy(etag:find('^W?/?".+"$'))
    assert.is_not_nil(http.parse_date(modified))
    for _, match in ipairs({ etag, "*", '"other", ' .. etag, "W/" .. etag:gsub("^W/", "") }) do
      local response = get("/files/text.txt", { ["If-None-Match"] = match })
      assert.equal(304, response.status, match)
      assert.equal("", response.body)
      assert.equal(etag, response.headers.etag)
    end
    assert.equal(200, get("/files/text.txt", { ["If-None-Match"] = '"other"' }).status)
    assert.equal(304, get("/files/text.txt", { ["If-Modified-Since"] = modified }).status)
    local early = "Thu, 01 Jan 1970 00:00:00 GMT"
    assert.equal(200, get("/files/text.txt", { ["If-Modified-Since"] = early }).status)
    assert.equal(200, get("/files/text.txt", { ["If-Modified-Since"] = "yesterday" }).status)
    -- If-None-Match is judged first (RFC 9110 section 13.2.2).
    assert.equal(
      200,
      get("/files/text.txt", { ["If-None-Match"] = '"other"', ["If-Modified-Since"] = modified }).status
    )
  end)

  it("change their ETag when they change", function()
    local before = get("/files/style.css").headers.etag
    posix.write_file(server.script:match("^(.*)/"), "public/style.css", "p { color: red }")
    local after = get("/files/style.css")
    assert.equal("p { color: red }", after.body)
    assert.are_not.equal(before, after.headers.etag)
  end)

  it("come in ranges", function()
    local ranges = {
      ["bytes=0-3"] = { "0123", "bytes 0-3/10" },
      ["bytes=4-"] = { "456789", "bytes 4-9/10" },
      ["bytes=-3"] = { "789", "bytes 7-9/10" },
      ["bytes=9-9"] = { "9", "bytes 9-9/10" },
      ["bytes=5-1000"] = { "56789", "bytes 5-9/10" },
      ["bytes=-1000"] = { "0123456789", "bytes 0-9/10" },
    }
    for range, expected in pairs(ranges) do
      local response = get("/files/text.txt", { Range = range })
      assert.equal(206, response.status, range)
      assert.equal(expected[1], response.body, range)
      assert.equal(expected[2], response.headers["content-range"], range)
      assert.equal(tostring(#expected[1]), response.headers["content-length"])
    end
    assert.equal("bytes", get("/files/text.txt").headers["accept-ranges"])
  end)

  it("are 416 for a range past their end, whole for one that is nonsense", function()
    local response = get("/files/text.txt", { Range = "bytes=10-" })
    assert.equal(416, response.status)
    assert.equal("bytes */10", response.headers["content-range"])
    assert.equal(416, get("/files/text.txt", { Range = "bytes=-0" }).status)
    for _, range in ipairs({ "bytes=3-1", "bytes=a-b", "lines=1-2", "bytes", "bytes=" }) do
      response = get("/files/text.txt", { Range = range })
      assert.equal(200, response.status, range)
      assert.equal("0123456789", response.body)
    end
  end)

  it("come in ranges only of the version that If-Range names", function()
    local etag = get("/files/text.txt").headers.etag
    local function status(if_range)
      return get("/files/text.txt", { Range = "bytes=0-1", ["If-Range"] = if_range }).status
    end
    if etag:sub(1, 1) == '"' then
      assert.equal(206, status(etag))
    end
    assert.equal(200, status('"other"'))
    assert.equal(200, status("Thu, 01 Jan 1970 00:00:00 GMT"))
  end)

  it("below a directory are its index.html", function()
    assert.equal("index", get("/files/deep/").body)
    local response = get("/files/deep")
    assert.is_true(
      response.body == "index"
        or response.status == 301
        or response.status == 308
        or response.status == 404
    )
  end)

  it("never leave their directory", function()
    for _, path in ipairs({
      "/files/../secret.txt",
      "/files/%2e%2e/secret.txt",
      "/files/..%2fsecret.txt",
      "/files/%2e%2e%2fsecret.txt",
      "/files/deep/../../secret.txt",
      "/files/deep/%2e%2e/%2e%2e/secret.txt",
      "/files//../secret.txt",
      "/files/./../secret.txt",
      "/files/..\\secret.txt",
      "/files/%5c..%5csecret.txt",
      "/files//etc/passwd",
      "/files/%2fetc/passwd",
      "/files/../public-not/secret.txt",
      "/files/../../../../../../../../etc/passwd",
      "/files/text.txt%00.html",
    }) do
      local response = get(path)
      assert.is_true(
        response.status == 404 or response.status == 400 or response.status == 403,
        path .. " gave " .. response.status
      )
      assert.is_nil(response.body:find("secret", 1, true))
      assert.is_nil(response.body:find("root:", 1, true))
    end
  end)

  it("are 404 where there is none, or a directory without an index", function()
    assert.equal(404, get("/files/none.txt").status)
    assert.equal(404, get("/files/text.txt/more").status)
    assert.equal(404, get("/files/deep/er/").status)
    assert.equal(404, get("/files/TEXT.txt").status)
  end)

  it("take GET and HEAD alone", function()
    local response = server:request({ method = "POST", path = "/files/text.txt", body = "x" })
    assert.equal(405, response.status)
    assert.truthy(response.headers.allow:find("GET"))
  end)

  it("give way to a route of their own path", function()
    assert.equal("dynamic", get("/files/dynamic").body)
  end)

  it("are answered by a handler's `file` too, with ETag and Range", function()
    local response = get("/one")
    assert.equal("<!doctype html><p>ü", response.body)
    assert.is_not_nil(response.headers.etag)
    assert.equal(304, get("/one", { ["If-None-Match"] = response.headers.etag }).status)
    assert.equal("<!", get("/one", { Range = "bytes=0-1" }).body)
    assert.equal(404, get("/gone").status)
    server.log:allow("/escape")
    local escaped = get("/escape")
    assert.is_true(escaped.status >= 400)
    assert.is_nil(escaped.body:find("root:", 1, true))
  end)
end)
