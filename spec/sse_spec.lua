-- Server-sent events as a reader sees them (WHATWG HTML).
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")

local FEED = [[
  app:topic("feed", { history = 100 })
  app:sse("/feed", {
    on_open = function(conn) conn:subscribe("feed", { since = conn.request.since, from = "start" }) end,
  })
  app:post("/feed", function(request)
    local position = perigee.publish("feed", request.body, { event = request.query.event })
    return position
  end)
]]

describe("An event stream", function()
  it("has the headers that browsers and proxies need, at once", function()
    local server = gateway.start({ app = [[app:sse("/quiet", {})]] })
    local stream = server:sse("/quiet")
    assert.equal("text/event-stream", (stream.headers["content-type"]:gsub(";.*", "")))
    assert.equal("no-cache", stream.headers["cache-control"])
    assert.equal("no", stream.headers["x-accel-buffering"])
    assert.is_nil(stream.headers["content-length"])
  end)

  it("begins with the reader's position", function()
    local server = gateway.start({ app = FEED })
    local stream = server:sse("/feed")
    local block = stream:next_block()
    assert.is_nil(block.data)
    assert.truthy(block.id:find("^[%w._~-]+$"))
    assert.is_true(#block.id <= 64)
  end)

  it("splits data at CR, LF and CRLF", function()
    local server = gateway.start({
      app = [[
      app:sse("/", { on_open = function(conn)
        conn:send("one\rtwo\nthree\r\nfour\n\nsix")
        conn:send("")
        conn:send(" leading space")
        conn:send(": not a comment")
        conn:send("ends\n")
        conn:send({ a = 1 })
        conn:send("named", { event = "kind", retry = 5 })
      end })
    ]],
    })
    local stream = server:sse("/")
    stream:expect("one\ntwo\nthree\nfour\n\nsix")
    stream:expect("")
    stream:expect(" leading space")
    stream:expect(": not a comment")
    stream:expect("ends\n")
    stream:expect({ a = 1 })
    local block = stream:expect_event("kind", "named")
    assert.equal(5000, block.retry)
    assert.is_nil(stream:bytes():find("\r[^\n]"))
  end)

  it("sends the route's retry", function()
    local server = gateway.start({
      app = [[
      app:sse("/", { retry = 2.5, on_open = function(conn) conn:send("x") end })
    ]],
    })
    local stream = server:sse("/")
    stream:expect("x")
    assert.truthy(stream:bytes():find("retry: ?2500"))
  end)

  it("gives ids to what is kept, and resumes there", function()
    local server = gateway.start({ app = FEED, workers = 4 })
    for i = 1, 3 do
      server:request({ method = "POST", path = "/feed", body = "post " .. i, worker = i })
    end
    local stream = server:sse("/feed")
    stream:expect("post 1")
    local second = stream:expect("post 2")
    stream:expect("post 3")
    stream:close()
    server:request({ method = "POST", path = "/feed?event=news", body = "post 4", worker = 4 })
    for worker = 1, 4 do
      local again = server:sse("/feed", { last_event_id = second.id, worker = worker })
      again:expect("post 3")
      local fourth = again:expect_event("news", "post 4")
      assert.is_not_nil(fourth.id)
      again:close()
    end
    local by_query = server:sse("/feed?last-event-id=" .. second.id)
    by_query:expect("post 3")
  end)

  it("resumes from the position that an idle reader was given", function()
    local server = gateway.start({ app = FEED })
    local stream = server:sse("/feed")
    local id = stream:next_block().id
    stream:close()
    server:request({ method = "POST", path = "/feed", body = "missed" })
    server:sse("/feed", { last_event_id = id }):expect("missed")
  end)

  it("returns what publish returned as the id", function()
    local server = gateway.start({ app = FEED })
    local stream = server:sse("/feed")
    local position = server:request({ method = "POST", path = "/feed", body = "x" }).body
    assert.equal(position, stream:expect("x").id)
  end)

  it("starts over, and says so, for an id that it does not know", function()
    local server = gateway.start({
      app = [[
      app:topic("feed", { history = 2 })
      app:sse("/feed", { on_open = function(conn)
        local result = conn:subscribe("feed", { since = conn.request.since, from = "start", reset = "reset" })
        conn:send({ complete = result.complete })
      end })
      app:post("/feed", function(request) return (perigee.publish("feed", request.body)) end)
    ]],
    })
    local first = server:request({ method = "POST", path = "/feed", body = "1" }).body
    for i = 2, 4 do
      server:request({ method = "POST", path = "/feed", body = tostring(i) })
    end
    for _, id in ipairs({ "foreign", first, "zzzzzz.9" }) do
      local stream = server:sse("/feed", { last_event_id = id })
      assert.equal("reset", stream:next().data)
      stream:expect("3")
      stream:expect("4")
      stream:expect({ complete = false })
      stream:close()
    end
  end)

  it("gets a comment or its position every 15 s when idle", function()
    local server = gateway.start({ app = FEED })
    server:freeze()
    local stream = server:sse("/feed")
    assert.is_not_nil(stream:next_block().id)
    for _ = 1, 3 do
      server:advance(15, { peers = true })
      stream:expect_comment()
    end
    server:request({ method = "POST", path = "/feed", body = "x" })
    stream:expect("x")
  end)

  it("allows the origins listed, and only those", function()
    local server = gateway.start({
      app = [[
      app:sse("/listed", { origins = { "https://a.example" } })
      app:sse("/all", { origins = { "*" } })
      app:sse("/own", {})
    ]],
    })
    local stream = server:sse("/listed", { origin = "https://a.example" })
    assert.equal("https://a.example", stream.headers["access-control-allow-origin"])
    assert.truthy((stream.headers.vary or ""):lower():find("origin"))
    assert.equal(
      403,
      server:sse("/listed", { origin = "https://b.example", any_status = true }).status
    )
    stream = server:sse("/all", { origin = "https://b.example" })
    assert.is_not_nil(stream.headers["access-control-allow-origin"])
    stream = server:sse("/own", { origin = "http://" .. server:host() })
    assert.equal(200, stream.status)
    assert.equal(
      403,
      server:sse("/own", { origin = "https://b.example", any_status = true }).status
    )
  end)

  it("is refused by authenticate with a status", function()
    local server = gateway.start({
      app = [[
      app:sse("/", { authenticate = function(request)
        return nil, "no", tonumber(request.query.code)
      end })
    ]],
    })
    assert.equal(401, server:sse("/?code=401", { any_status = true }).status)
    assert.equal(204, server:sse("/?code=204", { any_status = true }).status)
    assert.equal(403, server:sse("/?code=3000", { any_status = true }).status)
    assert.equal(403, server:sse("/", { any_status = true }).status)
  end)

  it("may follow another request on its connection", function()
    local server = gateway.start({
      app = [[
      app:get("/plain", function() return "plain" end)
      app:sse("/", { on_open = function(conn) conn:send("first") end })
    ]],
    })
    local conn = server:raw()
    conn:write("GET /plain HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.equal("plain", http.read_response(conn).body)
    assert.equal("text/event-stream", http.read_head(conn).headers["content-type"])
    conn:read_until("data: ?first\n")
  end)

  it("is read over HTTP/1.0 without chunks", function()
    local server = gateway.start({ app = FEED })
    local stream = server:sse("/feed", { version = "1.0" })
    assert.is_false(stream.chunked)
    server:request({ method = "POST", path = "/feed", body = "x" })
    stream:expect("x")
  end)

  it("is ended by the script, and by SIGTERM", function()
    local server = gateway.start({
      app = FEED .. [[
      app:sse("/short", { on_open = function(conn) conn:send("only") conn:close() end })
    ]],
    })
    local short = server:sse("/short")
    short:expect("only")
    short:expect_close()
    local stream = server:sse("/feed")
    server:signal("TERM")
    stream:expect_close()
    server:expect_exit(0)
  end)

  it("answers HEAD without a stream, and other methods with 405", function()
    local server = gateway.start({ app = FEED .. [[app:sse("/only", {})]] })
    assert.equal(405, server:request({ method = "PUT", path = "/only", body = "" }).status)
  end)

  it("of other content is refused by its Accept only where nothing fits", function()
    local server = gateway.start({ app = FEED })
    local stream = server:sse("/feed", { headers = { ["Cache-Control"] = "no-cache" } })
    assert.equal(200, stream.status)
  end)
end)

describe("A reader that goes", function()
  local HOOKS = [[
    app:websocket("/hooks", { on_open = function(conn) conn:subscribe("hooks") conn:send("listening") end })
    app:sse("/life", {
      on_open = function(conn) perigee.publish("hooks", { what = "open" }) end,
      on_close = function(conn, code)
        perigee.log.info("a reader left")
        perigee.publish("hooks", { what = "close", code = code })
      end,
    })
  ]]
  local server, watcher
  before_each(function()
    server = gateway.start({ app = HOOKS, workers = 2 })
    watcher = server:websocket("/hooks", { worker = 2 })
    watcher:expect("listening")
    watcher:fence()
  end)

  it("with FIN is noticed at once though nothing is published", function()
    local stream = server:sse("/life")
    watcher:expect({ what = "open" })
    stream:close()
    watcher:expect({ what = "close" }, 1)
    watcher:expect_nothing_queued()
  end)

  it("with RST is noticed at once too", function()
    local stream = server:sse("/life")
    watcher:expect({ what = "open" })
    stream:reset()
    watcher:expect({ what = "close" }, 1)
    watcher:expect_nothing_queued()
  end)

  it("may have sent a pipelined request before, which is ignored", function()
    local stream = server:sse("/life")
    watcher:expect({ what = "open" })
    stream.conn:write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    stream:close()
    watcher:expect({ what = "close" }, 1)
    watcher:expect_nothing_queued()
  end)

  it("when the gateway stops has its on_close", function()
    local stream = server:sse("/life")
    watcher:expect({ what = "open" })
    server:signal("TERM")
    stream:expect_close()
    server:expect_exit(0)
    local _, count = server.log:text():gsub("a reader left", "")
    assert.equal(1, count)
  end)
end)
