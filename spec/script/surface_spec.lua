-- What a script declares and answers: SURFACE's requests, responses, authenticate and misuse.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

--- Runs `perigee serve` with this body of a script, which must not load. Returns its one line.
local function load_error(body, files)
  local directory = posix.temporary_directory()
  for name, content in pairs(files or {}) do
    posix.write_file(directory, name, content)
  end
  posix.write_file(
    directory,
    "main.lua",
    'local perigee = require("perigee") local app = perigee.app() ' .. body .. "\nreturn app\n"
  )
  local result = gateway.run(
    { "serve", "main.lua", "--listen", "127.0.0.1:0" },
    { directory = directory }
  )
  posix.remove_directory(directory)
  assert.equal(1, result.code, result.stderr)
  local line, rest = result.stderr:match("^([^\n]+)\n(.*)$")
  assert.equal("", rest)
  return line
end

describe("A declaration that is wrong", function()
  local function it_says(what, body, expected)
    it("is named with file and line: " .. what, function()
      local line = load_error(body)
      assert.truthy(line:find(expected, 1, true), line)
      assert.truthy(line:find("main.lua:%d+: "), line)
    end)
  end
  it_says(
    "an unknown option",
    '\napp:topic("a", { hystory = 1 })',
    'main.lua:2: unknown option "hystory" for app:topic'
  )
  it_says(
    "a wrong type",
    'app:websocket("/", { on_open = 1 })',
    'main.lua:1: option "on_open" for app:websocket must be a function'
  )
  it_says(
    "a size above the limit",
    'app:websocket("/", { max_message = 2^40 })',
    "above the limit message_bytes (16777216)"
  )
  it_says(
    "a handler that is none",
    'app:get("/", {}, "hello")',
    "the handler for app:get must be a function, not a string"
  )
  it_says("a pattern that is none", 'app:get("x", print)', 'begins with "/"')
  it_says("a duplicate, at the second", 'app:get("/", print)\napp:get("/", print)', "main.lua:2: ")
  it_says(
    "an event stream and a page on one path",
    'app:get("/", print)\n\napp:sse("/", {})',
    "main.lua:3: "
  )
  it_says("two policies of one pattern", 'app:topic("a", {})\napp:topic("a", {})', "main.lua:2: ")
  it_says("a topic pattern with a star inside", 'app:topic("a*b", {})', "main.lua:1: ")
  it_says("on_tick without its period", 'app:sse("/", { on_tick = print })', "needs tick_every")
  it_says("an app in itself", 'app:use("/x", app)', "mounted in itself")

  for _, case in ipairs({
    { 'app:topic("a", { durable = true, history = 1 })', "durable" },
    { 'app:topic("a", { presence = true })', "presence" },
    { 'app:topic("a", { slow = "drop" })', "slow" },
    { 'app:topic("a", { slow = "conflate" })', "slow" },
    { 'app:websocket("/", { compress = true })', "compress" },
    { 'perigee.fetch("http://localhost/")', "perigee.fetch" },
    { 'perigee.presence("x")', "perigee.presence" },
    { "perigee.jwt.sign({})", "perigee.jwt" },
  }) do
    it("is not yet there, and says so: " .. case[1], function()
      assert.truthy(load_error(case[1]):find("main.lua:1: not yet: " .. case[2], 1, true))
    end)
  end

  it("does not load a script that has effects while it loads", function()
    for _, name in ipairs({ "publish", "signal", "clear", "after", "spawn", "sleep" }) do
      local line = load_error(
        ("perigee.%s(%s, function() end)"):format(name, name:find("^[ass][fpl]") and "1" or '"a"')
      )
      assert.truthy(line:find("main.lua:1: ", 1, true), line)
    end
    assert.truthy(load_error('perigee.publish("a", "b")'):find("while the script loads", 1, true))
  end)
end)

describe("A request", function()
  local DESCRIBE = [[
    local function describe(request)
      return { json = {
        method = request.method, path = request.path, host = request.host,
        params = request.params, query = request.query, all = json_array(request:query_all("a")),
        header = request.headers["X-Thing"], cookies = request.cookies, body = request.body,
        remote_address = request.remote_address, tls = request.tls == nil, session = request.session,
        since = request.since,
      } }
    end
  ]]
  local HEAD = "local json_array = perigee.json.array " .. DESCRIBE

  it("shows all its fields", function()
    local server = gateway.start({ app = HEAD .. [[app:post("/a/:name/*rest", describe)]] })
    local response = server:request({
      method = "POST",
      path = "/a/b%20c/d/e%2Ff?a=1&a=2&b=x+y%21&c&since=p1",
      headers = { { "X-Thing", "1" }, { "x-thing", "2" }, { "Cookie", "k=v; k=w; l=m=n" } },
      body = "data",
    })
    local value = json.decode(response.body)
    assert.equal("POST", value.method)
    assert.equal("/a/b%20c/d/e%2Ff", value.path)
    assert.equal(server:host(), value.host)
    assert.same({ name = "b c", rest = "d/e/f" }, value.params)
    assert.same({ a = "1", b = "x y!", c = "", since = "p1" }, value.query)
    assert.same({ "1", "2" }, value.all)
    assert.equal("1, 2", value.header)
    assert.same({ k = "v", l = "m=n" }, value.cookies)
    assert.equal("data", value.body)
    assert.equal("127.0.0.1", value.remote_address)
    assert.is_true(value.tls)
    assert.same({}, value.session)
    assert.equal("p1", value.since)
  end)

  it("is decoded on demand, as JSON or as a form", function()
    local server = gateway.start({
      app = [[
      app:post("/json", function(request)
        local value, message, code = request:json()
        return { json = { value = value, code = code, has_message = message ~= nil } }
      end)
      app:post("/form", function(request)
        local value, message, code = request:form()
        return { json = { value = value, code = code, has_message = message ~= nil } }
      end)
    ]],
    })
    local function post(path, body)
      return json.decode(server:request({ method = "POST", path = path, body = body }).body)
    end
    assert.same({ a = { 1, 2 } }, post("/json", '{"a":[1,2]}').value)
    assert.equal("json", post("/json", "{").code)
    assert.equal("json", post("/json", "").code)
    assert.same({ a = "1 2", b = "" }, post("/form", "a=1+2&b&a=3").value)
    assert.equal("form", post("/form", "a=%zz").code)
  end)

  it("is given to every handler that can look at it", function()
    local server = gateway.start({
      app = [[
      app:get("/one", function(request) return request.path end)
      app:get("/several", function(request, more) return request.path .. tostring(more) end)
      app:get("/any", function(...) return select("#", ...) .. (...).path end)
      app:get("/builtin", tostring)
      app:get("/none", function() perigee.sleep(0) return "none" end)
    ]],
    })
    assert.equal("/one", server:get("/one").body)
    assert.equal("/severalnil", server:get("/several").body)
    assert.equal("1/any", server:get("/any").body)
    assert.truthy(server:get("/builtin").body:find("^userdata"))
    assert.equal("none", server:get("/none").body)
  end)

  it("is good while its handler is suspended, and over when the client has left", function()
    local server = gateway.start({
      app = [[
      local kept
      app:get("/wait", function(request)
        kept = request
        request = nil
        collectgarbage()
        local slept, _, code = perigee.sleep(100)
        perigee.shared("left"):set("left", tostring(slept) .. code .. kept.path)
      end)
      app:get("/left", function() return perigee.shared("left"):get("left") or "" end)
      app:get("/read", function() return tostring(select(2, pcall(function() return kept.path end))) end)
    ]],
    })
    local client = server:raw()
    client:write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    server:wait_for({ requests = 1 })
    client:reset()
    server:wait_for({ requests = 0 })
    assert.equal("nilclosed/wait", server:get("/left").body)
    assert.truthy(server:get("/read").body:find("the request is over", 1, true))
  end)

  it("is read-only, and over when it is answered", function()
    local server = gateway.start({
      app = [[
      local kept
      app:get("/keep", function(request) kept = request return request.path end)
      app:get("/read", function() return tostring(select(2, pcall(function() return kept.path end))) end)
      app:get("/write", function(request)
        return tostring(select(2, pcall(function() request.path = "x" end)))
      end)
    ]],
    })
    server:get("/keep")
    assert.truthy(server:get("/read").body:find("the request is over", 1, true))
    assert.truthy(server:get("/write").body:find("read-only", 1, true))
  end)

  it(
    "keeps its headers on a connection until on_open has returned, and the named ones longer",
    function()
      local server = gateway.start({
        app = [[
      app:websocket("/", {
        keep_headers = { "X-Kept" },
        on_open = function(conn) conn:send(conn.request.headers["x-gone"]) end,
        on_message = function(conn)
          conn:send(conn.request.headers["x-kept"])
          conn:send(tostring(select(2, pcall(function() return conn.request.headers["x-gone"] end))))
        end,
      })
    ]],
      })
      local ws = server:websocket("/", { headers = { ["X-Gone"] = "a", ["X-Kept"] = "b" } })
      ws:expect("a")
      ws:send("x")
      ws:expect("b")
      ws:expect_match("headers of this connection are gone; name them in keep_headers")
    end
  )
end)

describe("A response", function()
  local function answer(body)
    local server = gateway.start({
      app = 'app:get("/", function(request) ' .. body .. " end)",
      files = { ["page.txt"] = "a page" },
    })
    return server, server:get("/")
  end

  it("is a string", function()
    local _, response = answer('return "hello"')
    assert.equal(200, response.status)
    assert.equal("hello", response.body)
    assert.equal("text/plain; charset=utf-8", response.headers["content-type"])
  end)

  it("is a table", function()
    local _, response = answer([[return {
      status = 201, headers = { ["X-A"] = "b", ["X-N"] = 3, ["X-L"] = { "1", 2 } },
      json = { a = perigee.json.array({}) },
    }]])
    assert.equal(201, response.status)
    assert.equal('{"a":[]}', response.body)
    assert.equal("application/json", response.headers["content-type"])
    assert.equal("b", response.headers["x-a"])
    assert.equal("3", response.headers["x-n"])
    assert.equal("1, 2", response.headers["x-l"])
  end)

  it("is html, or a body of a type of its own", function()
    local _, response = answer('return { html = "<p>" }')
    assert.equal("text/html; charset=utf-8", response.headers["content-type"])
    _, response = answer('return { body = "a,b", headers = { ["content-type"] = "text/csv" } }')
    assert.equal("text/csv", response.headers["content-type"])
  end)

  it("is a redirect", function()
    local _, response = answer('return { redirect = "/there" }')
    assert.equal(303, response.status)
    assert.equal("/there", response.headers.location)
  end)

  it("is a file below the script's directory", function()
    local server, response = answer('return { file = "page.txt", status = 200 }')
    assert.equal("a page", response.body)
    assert.is_not_nil(response.headers.etag)
    local again =
      server:request({ path = "/", headers = { ["If-None-Match"] = response.headers.etag } })
    assert.equal(304, again.status)
  end)

  it("sets and deletes cookies", function()
    local _, response = answer([[return { body = "", cookies = {
      a = { value = "1", max_age = 60, secure = true, same_site = "Strict" }, b = false,
    } }]])
    local cookies = {}
    for _, header in ipairs(response.list) do
      if header[1]:lower() == "set-cookie" then
        cookies[#cookies + 1] = header[2]
      end
    end
    table.sort(cookies)
    assert.same({
      "a=1; Max-Age=60; Path=/; SameSite=Strict; Secure; HttpOnly",
      "b=; Max-Age=0; Path=/; SameSite=Lax; HttpOnly",
    }, cookies)
  end)

  for what, case in pairs({
    ["nil"] = { "return nil", "main.lua:1): the handler returned a nil" },
    ["nothing"] = { "", "the handler returned a nil" },
    ["an unknown key"] = { 'return { token = "x" }', 'unknown response key "token"' },
    ["two bodies"] = { 'return { body = "", html = "" }', "not both" },
    ["a status out of range"] = { "return { status = 42 }", 'key "status"' },
    ["a header with a newline"] = {
      'return { headers = { a = "b\\r\\nc: d" } }',
      "CR, LF or NUL",
    },
    ["a header of the gateway's"] = {
      'return { headers = { ["Content-Length"] = 3 } }',
      "is the gateway's to send",
    },
    ["a file outside"] = { 'return { file = "../secret" }', "below the script's directory" },
    ["a cookie that splits"] = {
      'return { cookies = { a = { value = "x; Path=/" } } }',
      "characters that a cookie cannot have",
    },
    ["a body that JSON cannot say"] = { "return { json = print }", 'response key "json"' },
    ["an error"] = { 'error("boom")', "main.lua:1: boom" },
    ["an error of any type"] = { "error({})", "an error value of type table" },
  }) do
    it("is 500, with a line in the log, for " .. what, function()
      local server, response = answer(case[1])
      server.log:expect(case[2])
      assert.equal(500, response.status)
      assert.equal(500, server:get("/").status)
    end)
  end
end)

describe("authenticate", function()
  local ENTRY = [[
    local function authenticate(request)
      local query = request.query
      if query.as then return { user = query.as } end
      if query.bad then return true end
      if query.fail then error("no entry") end
      return nil, query.reason, tonumber(query.code)
    end
    app:get("/", { authenticate = authenticate }, function(request) return request.session.user end)
    app:websocket("/ws", {
      authenticate = authenticate,
      on_open = function(conn)
        conn:send(conn.session.user .. " " .. tostring(conn.session == conn.request.session))
      end,
    })
  ]]

  it("gives the session to handlers and connections", function()
    local server = gateway.start({ app = ENTRY })
    assert.equal("ann", server:get("/?as=ann").body)
    server:websocket("/ws?as=bob"):expect("bob true")
  end)

  it("refuses with a status, 403 without one", function()
    local server = gateway.start({ app = ENTRY })
    assert.equal(403, server:get("/").status)
    assert.equal(401, server:get("/?code=401").status)
    assert.equal(403, server:get("/?code=3000").status)
    assert.equal(403, server:websocket("/ws", { any_status = true }).status)
  end)

  it("refuses a WebSocket with a close code after the handshake", function()
    local server = gateway.start({ app = ENTRY })
    server:websocket("/ws?code=1008&reason=Go+away"):expect_close(1008, "Go away")
    server:websocket("/ws?code=3000"):expect_close(3000)
  end)

  it("that errs or returns something else is 500", function()
    local server = gateway.start({ app = ENTRY })
    assert.equal(500, server:get("/?fail=1").status)
    assert.equal(500, server:get("/?bad=1").status)
    assert.equal(500, server:get("/?code=200").status)
    server.log:expect("no entry")
    server.log:expect("authenticate returns a table, or nil, reason and code")
    server.log:expect("the code is not 204")
  end)
end)

describe("A connection", function()
  it("keeps its identity, session, id and transport", function()
    local server = gateway.start({
      app = [[
      local kept
      app:websocket("/", {
        on_open = function(conn)
          kept = conn
          conn.session.count = 0
          conn:send({ id = conn.id, transport = conn.transport, is_same = conn == kept })
        end,
        on_message = function(conn)
          conn.session.count = conn.session.count + 1
          conn:send({ is_same = conn == kept, count = conn.session.count })
        end,
      })
    ]],
    })
    local ws = server:websocket("/")
    local first = ws:expect({ transport = "websocket", is_same = true })
    assert.truthy(first.id:find("^%w+$"))
    ws:send("x")
    ws:expect_json({ is_same = true, count = 1 })
    local other = server:websocket("/")
    assert.not_equal(first.id, other:expect({}).id)
  end)

  it('answers "closed" when it is gone, and its fields stay', function()
    local server = gateway.start({
      app = [[
      local kept
      local function state()
        local ok, message, code = kept:send("x")
        local subscribed, _, why = kept:subscribe("topic")
        return { json = {
          ok = ok == nil, message = message, code = code, why = why, subscribed = subscribed == nil,
          id = kept.id, name = kept.session.name, path = kept.request.path,
          is_subscribed = kept:is_subscribed("topic"), unsubscribed = kept:unsubscribe("topic"),
          closed = select(3, kept:close()), buffered = kept:buffered(), transport = kept.transport,
        } }
      end
      app:websocket("/ws", {
        on_open = function(conn) kept = conn conn.session.name = "n" conn:send(conn.request.path) end,
        on_close = function(conn) conn.session.path = conn.request.path end,
      })
      app:get("/state", state)
    ]],
    })
    local ws = server:websocket("/ws")
    ws:expect("/ws")
    ws:close()
    server:wait_for({ connections = 0 })
    server:collect()
    local value = json.decode(server:get("/state").body)
    assert.equal("the connection is closed", value.message)
    assert.equal("closed", value.code)
    assert.equal("closed", value.why)
    assert.equal("closed", value.closed)
    assert.is_true(value.ok and value.subscribed)
    assert.is_false(value.is_subscribed or value.unsubscribed)
    assert.equal("n", value.name)
    assert.equal("/ws", value.path)
    assert.equal("websocket", value.transport)
    assert.equal(0, value.buffered)
    assert.truthy(value.id)
  end)

  it("is closed with 1011 by an error in its handler, and the gateway goes on", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn, data)
        if data == "nil" then local t = nil; t.x = 1 end
        if data == "table" then error({ message = "a table" }) end
        if data == "yield" then coroutine.yield() end
        conn:send(data)
      end })
    ]],
    })
    for _, kind in ipairs({ "nil", "table", "yield" }) do
      local ws = server:websocket("/")
      ws:send(kind)
      ws:expect_close(1011)
    end
    local ws = server:websocket("/")
    ws:send("fine")
    ws:expect("fine")
    server.log:expect(
      "error in on_message of / %(generation 1, connection %w+%): .-main.lua:2: attempt to index"
    )
    server.log:expect("a table")
    server.log:expect("the handler yielded")
  end)

  it("is told of text that is not UTF-8, and of misuse by an error", function()
    local server = gateway.start({
      app = [[
      local function try(fn, ...)
        local results = { pcall(fn, ...) }
        return tostring(results[results[1] and 4 or 2])
      end
      app:websocket("/", { on_open = function(conn)
        conn:send(try(conn.send, conn, "\255"))
        conn:send(try(conn.send, conn, 1))
        conn:send(try(conn.send, conn, "x", { evnt = "y" }))
        conn:send(try(conn.send, nil, "x"))
        conn:send(try(conn.subscribe, conn, "x", { relay = "all" }))
        conn:send(try(conn.close, conn, 1005))
        conn:send(try(function() conn.user = 1 end))
        conn:send("\255", { binary = true })
      end })
    ]],
    })
    local ws = server:websocket("/")
    ws:expect("utf8")
    ws:expect_match("string or table expected")
    ws:expect_match('unknown option "evnt" for conn:send')
    ws:expect_match("connection %(call with a colon")
    ws:expect_match('option "relay" must be true, false or "others"')
    ws:expect_match("close codes are")
    ws:expect_match("keep it in conn.session")
    ws:expect_binary("\255")
  end)
end)

describe("An app", function()
  it("is mounted with its routes below the prefix", function()
    local server = gateway.start({
      files = {
        ["rooms.lua"] = [[
          local perigee = require("perigee")
          local app = perigee.app()
          app:get("/", function() return "rooms" end)
          app:get("/:name", function(request) return request.params.name end)
          app:topic("room:*", { history = 1 })
          return app
        ]],
        ["inner/init.lua"] = 'return require("inner.text")',
        ["inner/text.lua"] = 'return "inner"',
      },
      app = [[
      app:use("/rooms", require("rooms"))
      app:get("/", function() return require("inner") end)
      app:get("/kept", function() return type((perigee.publish("room:a", "x"))) end)
    ]],
    })
    assert.equal("rooms", server:get("/rooms").body)
    assert.equal("blue", server:get("/rooms/blue").body)
    assert.equal("inner", server:get("/").body)
    assert.equal("string", server:get("/kept").body)
  end)

  it("answers a pipelined pair of requests whose handlers suspend, in order", function()
    local server = gateway.start({
      app = [[app:get("/:n", function(request) perigee.sleep(0.01) return request.params.n end)]],
    })
    local conn = server:raw()
    conn:write(http.request({ path = "/1" }) .. http.request({ path = "/2" }))
    assert.equal("1", http.read_response(conn).body)
    assert.equal("2", http.read_response(conn).body)
  end)
end)
