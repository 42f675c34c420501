-- Limits of number: connections of an address, topics, handlers under way, nesting; and that no
-- route is given more than the gateway's limit.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

describe("A gateway without a descriptor left", function()
  local function set_descriptors(server, soft)
    local words = { "prlimit", "--pid", tostring(server.pid), ("--nofile=%s:"):format(soft) }
    local process = posix.spawn(words, {})
    assert.equal(0, (posix.wait_exit(process.pid, posix.deadline(5))))
    posix.close(process.stdin)
    posix.close(process.stdout)
  end

  it("serves those it has, and accepts who waits once there is one", function()
    local server = gateway.start({ app = [[app:get("/", function() return "hello" end)]] })
    local open = server:raw()
    open:write(http.request({ path = "/" }))
    assert.equal("hello", http.read_response(open).body)
    set_descriptors(server, 3) -- below what is open already
    local waiting = server:raw()
    waiting:write(http.request({ path = "/" }))
    server.log:expect("cannot accept a connection")
    open:write(http.request({ path = "/" }))
    assert.equal("hello", http.read_response(open).body)
    set_descriptors(server, 1000)
    assert.equal("hello", http.read_response(waiting).body)
  end)
end)

describe("The limit of connections from one address", function()
  local directory
  before_each(function()
    directory = posix.temporary_directory()
  end)
  after_each(function()
    posix.remove_directory(directory)
  end)

  it("refuses the next one, leaves others alone, and counts those that go", function()
    local server = gateway.start({
      listen = { "127.0.0.1:0", "unix:" .. directory .. "/socket" },
      workers = 2,
      arguments = { "--limit-connections-per-address", "3" },
      app = [[app:websocket("/", {}) app:get("/", function() return "hello" end)]],
    })
    local open = {}
    for i = 1, 3 do
      open[i] = server:websocket("/", { worker = i % 2 + 1 })
    end
    local conn = server:raw()
    conn:write(http.request({ path = "/" }))
    local bytes = conn:expect_closed()
    assert.truthy(bytes == "" or bytes:find("^HTTP/1.1 503 "), bytes)
    conn:close()
    -- Whoever comes by the Unix socket has no address to share.
    for _ = 1, 5 do
      open[#open + 1] = server:websocket("/", { listener = 2 })
    end
    open[2]:close()
    server:wait_for({ connections = 7, http = 0 })
    assert.equal(200, server:get("/").status)
  end)
end)

describe("The limit of topics", function()
  it("refuses to make more, over all workers, until one is gone", function()
    local server = gateway.start({
      workers = 4,
      arguments = { "--limit-topics", "3" },
      app = [[
        app:topic("kept:*", { history = 1 })
        app:websocket("/", { on_message = function(conn, text)
          local verb, topic = text:match("(%S+) (%S+)")
          local result, _, code
          if verb == "subscribe" then
            result, _, code = conn:subscribe(topic)
          elseif verb == "publish" then
            result, _, code = perigee.publish(topic, "x")
          elseif verb == "clear" then
            result, _, code = perigee.clear(topic)
          end
          conn:send(verb .. " " .. topic .. " " .. (code or result and "ok" or "?"))
        end })
      ]],
    })
    local clients = {}
    for worker = 1, 4 do
      clients[worker] = server:websocket("/", { worker = worker })
    end
    local function ask(worker, text, answer)
      clients[worker]:send(text)
      clients[worker]:expect(text .. " " .. answer)
    end
    ask(1, "subscribe a", "ok")
    ask(2, "subscribe b", "ok")
    ask(3, "publish kept:c", "ok")
    ask(4, "subscribe d", "limit")
    ask(4, "publish kept:d", "limit")
    -- What nobody hears and nothing keeps needs no topic; those that exist go on.
    ask(4, "publish d", "ok")
    ask(4, "publish kept:c", "ok")
    ask(4, "clear kept:c", "ok")
    ask(4, "subscribe d", "ok")
    ask(1, "publish kept:c", "limit")
    clients[2]:close()
    server:wait_for({ connections = 3 })
    ask(1, "publish kept:c", "ok")
    assert.equal(3, server:counters().hub_topics)
  end)

  it("refuses a list as a whole", function()
    local server = gateway.start({
      arguments = { "--limit-topics", "3" },
      app = [[
        app:websocket("/", { on_open = function(conn)
          local result, _, code = conn:subscribe({ "a", "b", "c", "d" })
          conn:send(code or "ok")
          conn:send(tostring(conn:is_subscribed("a")))
          conn:send(conn:subscribe({ "a", "b", "c", "a" }) and "ok" or "?")
        end })
      ]],
    })
    local ws = server:websocket("/")
    ws:expect("limit")
    ws:expect("false")
    ws:expect("ok")
  end)
end)

describe("A route that asks for nothing gets no more than the gateway's limit", function()
  it("of topics", function()
    local server = gateway.start({
      arguments = { "--limit-topics-per-connection", "2" },
      app = [[
        app:websocket("/", { on_open = function(conn)
          for i = 1, 3 do
            local _, _, code = conn:subscribe("t" .. i)
            conn:send(code or "ok")
          end
        end })
      ]],
    })
    local ws = server:websocket("/")
    ws:expect("ok")
    ws:expect("ok")
    ws:expect("limit")
  end)

  it("of a message", function()
    local server = gateway.start({
      arguments = { "--limit-message-bytes", "1024" },
      app = [[app:websocket("/", { on_message = function(conn, data) conn:send(data) end })]],
    })
    local ws = server:websocket("/")
    ws:send(("x"):rep(1024))
    ws:expect(("x"):rep(1024))
    ws:send(("x"):rep(1025))
    ws:expect_close(1009)
  end)

  it("of a body", function()
    local server = gateway.start({
      arguments = { "--limit-body-bytes", "10" },
      app = [[app:post("/", function(request) return request.body end)]],
    })
    assert.equal(
      "0123456789",
      server:request({ method = "POST", path = "/", body = "0123456789" }).body
    )
    assert.equal(413, server:request({ method = "POST", path = "/", body = "0123456789a" }).status)
  end)

  it("of an outbox", function()
    local server = gateway.start({
      arguments = { "--limit-outbox-bytes", "65536", "--limit-message-bytes", "65536" },
      app = [[
        app:websocket("/", { on_message = function(conn)
          -- Far more than the kernel takes for one who does not read.
          for i = 1, 1000 do
            local sent = conn:send(("x"):rep(10000))
            if not sent then return end
            if conn:buffered() > 65536 + 10 * 1000 then perigee.log.info("too much is queued") end
          end
        end })
      ]],
    })
    local ws = server:websocket("/", { receive_buffer = 4096 })
    ws:pause()
    ws:send("go")
    server:counters()
    ws:resume()
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "1013", 5)
    assert.equal(1013, ws.closed.code)
    assert.is_nil(server.log:text():find("too much is queued", 1, true))
  end)
end)

describe("The limit of handlers under way", function()
  it("answers a request with 503 and goes on when one is done", function()
    local server = gateway.start({
      arguments = { "--limit-tasks", "16" },
      app = [[
        app:get("/sleep", function() perigee.sleep(1) return "slept" end)
        app:get("/", function() return "hello" end)
      ]],
    })
    server:freeze()
    local sleepers = {}
    for i = 1, 16 do
      sleepers[i] = server:raw()
      sleepers[i]:write(http.request({ path = "/sleep" }))
    end
    server:wait_for({ tasks = 16 })
    assert.equal(503, server:get("/").status)
    server:advance(1)
    for i = 1, 16 do
      assert.equal("slept", http.read_response(sleepers[i]).body)
    end
    assert.equal(200, server:get("/").status)
  end)

  it("tells a connection of both its ends or of neither", function()
    local server = gateway.start({
      arguments = { "--limit-tasks", "16" },
      app = [[
        app:get("/sleep", function() perigee.sleep(1) return "slept" end)
        app:websocket("/:name", {
          on_open = function(conn)
            conn:send("open")
            perigee.log.info("told open " .. conn.request.params.name)
          end,
          on_close = function(conn) perigee.log.info("told close " .. conn.request.params.name) end,
        })
      ]],
    })
    server.log:allow("the limit of tasks is reached")
    server:freeze()
    local early, leaving = server:websocket("/early"), server:websocket("/leaving")
    early:expect("open")
    leaving:expect("open")
    local sleepers = {}
    for i = 1, 16 do
      sleepers[i] = server:raw()
      sleepers[i]:write(http.request({ path = "/sleep" }))
    end
    server:wait_for({ tasks = 16 })
    leaving:close()
    local late = server:websocket("/late")
    late:wait_until(function()
      return late.closed ~= nil
    end, "1013")
    assert.equal(1013, late.closed.code)
    server:advance(1)
    for i = 1, 16 do
      assert.equal("slept", http.read_response(sleepers[i]).body)
    end
    late:close()
    early:close()
    server:wait_for({ connections = 0 })
    local function told(text)
      return select(2, server.log:text():gsub("told " .. text, ""))
    end
    assert.equal(1, told("close early"))
    assert.equal(1, told("close leaving"))
    assert.equal(told("open late"), told("close late"))
  end)
end)

describe("The limit of JSON's depth", function()
  it("holds wherever JSON is read", function()
    local server = gateway.start({
      arguments = { "--limit-json-depth", "4" },
      app = [[
        app:post("/", function(request)
          local function verdict(value, message, code) return value and "fine" or code end
          return { json = {
            body = verdict(request:json()),
            message = verdict(perigee.json.decode(request.body)),
          } }
        end)
      ]],
    })
    local function nested(depth)
      local body = ("["):rep(depth) .. ("]"):rep(depth)
      return json.decode(server:request({ method = "POST", path = "/", body = body }).body)
    end
    assert.same({ body = "fine", message = "fine" }, nested(4))
    assert.same({ body = "json", message = "json" }, nested(5))
  end)
end)
