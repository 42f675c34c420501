-- Everything a client can grow has a limit, and a script that misbehaves hurts only itself.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local system_calls = require("spec.support.system_calls")
local websocket = require("perigee.testing.websocket")

describe("A limit", function()
  it("bounds connections in all: more are answered with 503", function()
    local server = gateway.start({
      arguments = { "--limit-connections", "3" },
      app = [[app:websocket("/", {}) app:get("/", function() return "hello" end)]],
    })
    local open = {}
    for i = 1, 3 do
      open[i] = server:websocket("/")
    end
    local conn = server:raw()
    conn:write(http.request({ path = "/" }))
    local bytes = conn:expect_closed()
    assert.truthy(bytes == "" or bytes:find("^HTTP/1.1 503 "), bytes)
    conn:close()
    open[1]:close()
    server:wait_for({ connections = 2, http = 0 })
    assert.equal(200, server:get("/").status)
  end)

  it(
    "bounds event streams too: more are asked to come back, which a browser understands",
    function()
      local server = gateway.start({
        arguments = { "--limit-connections", "1" },
        app = [[
        app:websocket("/ws", {})
        app:sse("/feed", { origins = { "http://other.example" } })
      ]],
      })
      local open = server:websocket("/ws")
      local headers = { Origin = "http://other.example" }
      local retries = {}
      for i = 1, 5 do
        local refused = server:get("/feed", { headers = headers }):expect(200)
        assert.equal("text/event-stream", refused.headers["content-type"])
        assert.equal("http://other.example", refused.headers["access-control-allow-origin"])
        retries[i] = tonumber(refused.body:match("^retry: (%d+)\n\n$"))
        assert.is_true(retries[i] >= 5000 and retries[i] < 15000, refused.body)
      end
      assert.is_true(math.max(unpack(retries)) > math.min(unpack(retries)))
      server:get("/ws"):expect(426)
      local other = server:websocket("/ws", { any_status = true })
      assert.equal(503, other.status)
      open:close()
      server:wait_for({ connections = 0, http = 0 })
      server:sse("/feed")
    end
  )

  it("bounds those who are heard beyond the limit of connections", function()
    local server = gateway.start({
      arguments = { "--limit-connections", "1" },
      app = [[app:websocket("/ws", {}) app:sse("/feed", {})]],
    })
    server:websocket("/ws")
    local silent = {}
    for i = 1, 8 do
      silent[i] = server:raw()
    end
    server:wait_for({ http = 8 })
    assert.truthy(server:raw():expect_closed():find("^HTTP/1.1 503 "))
    silent[1]:close()
    server:wait_for(function(counters)
      return counters.http == 7
    end)
    server:get("/feed"):expect(200)
  end)

  it("bounds a message, by the route's own size", function()
    local server = gateway.start({
      app = [[
      app:websocket("/small", { max_message = 10, on_message = function(conn, data) conn:send(data) end })
      app:websocket("/usual", { on_message = function(conn, data) conn:send(tostring(#data)) end })
    ]],
    })
    local ws = server:websocket("/small")
    ws:send("0123456789")
    ws:expect("0123456789")
    ws:send("0123456789a")
    ws:expect_close(1009)
    ws = server:websocket("/usual")
    ws:send(("x"):rep(65536))
    ws:expect("65536")
    ws:send(("x"):rep(65537))
    ws:expect_close(1009)
  end)

  it("bounds the topics of a connection", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { max_topics = 3, on_open = function(conn)
        for i = 1, 4 do
          local result, message, code = conn:subscribe("t" .. i)
          conn:send({ ok = result ~= nil, code = code })
        end
        conn:unsubscribe("t1")
        conn:send({ ok = conn:subscribe("t4") ~= nil })
      end })
    ]],
    })
    local ws = server:websocket("/")
    for _ = 1, 3 do
      ws:expect_json({ ok = true })
    end
    ws:expect_json({ ok = false, code = "limit" })
    ws:expect_json({ ok = true })
  end)

  it("bounds the subscribers of a topic, over all workers", function()
    local server = gateway.start({
      workers = 4,
      app = [[
      app:topic("room", { max_subscribers = 3 })
      app:websocket("/", { on_open = function(conn)
        local result, message, code = conn:subscribe("room")
        conn:send(code or "in")
      end })
    ]],
    })
    local all = {}
    for worker = 1, 3 do
      all[worker] = server:websocket("/", { worker = worker })
      all[worker]:expect("in")
    end
    local late = server:websocket("/", { worker = 4 })
    late:expect("full")
    all[1]:close()
    server:wait_for({ connections = 3 })
    server:websocket("/", { worker = 4 }):expect("in")
  end)

  it("bounds what waits for a slow reader: 1013, and the others go on", function()
    local server = gateway.start({
      workers = 2,
      app = [[
      app:websocket("/", {
        max_message = 1024 * 1024, max_outbox = 512 * 1024,
        on_open = function(conn) conn:subscribe("flood") end,
        on_message = function(conn, data) perigee.publish("flood", data, { except = conn }) end,
      })
    ]],
    })
    server.log:allow("slow")
    local slow = server:websocket("/", { worker = 2, receive_buffer = 4096 })
    local quick = server:websocket("/", { worker = 2 })
    local speaker = server:websocket("/")
    slow:fence()
    quick:fence()
    slow:pause()
    local text = ("x"):rep(100 * 1024)
    for i = 1, 200 do
      speaker:send(i .. text)
      quick:expect(i .. text)
    end
    slow:resume()
    slow:wait_until(function()
      return slow.closed ~= nil
    end, "1013", 10)
    assert.equal(1013, slow.closed.code)
    -- What it did get is the beginning, whole and in order.
    for i, message in ipairs(slow.queue) do
      assert.is_true(message.payload == i .. text)
    end
    assert.is_true(#slow.queue < 200)
  end)

  it("bounds a send in the same way", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", {
        max_outbox = 100 * 1024,
        on_message = function(conn)
          local sent, message, code
          for i = 1, 10000 do
            sent, message, code = conn:send(("x"):rep(1024))
            if not sent then break end
          end
          perigee.log.info("refused: " .. tostring(code))
        end,
      })
    ]],
    })
    local ws = server:websocket("/", { receive_buffer = 4096 })
    ws:pause()
    ws:send("go")
    server.log:expect("refused: too_large")
    ws:resume()
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "1013", 10)
    assert.equal(1013, ws.closed.code)
  end)

  it("bounds messages per second where a route asks for it: 1008", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", {
        rate = { messages = 5, per = 1 },
        on_message = function(conn, data) conn:send(data) end,
      })
      app:websocket("/drop", {
        rate = { messages = 2, per = 1, excess = "drop" },
        on_message = function(conn, data) conn:send(data) end,
      })
    ]],
    })
    server:freeze()
    local ws = server:websocket("/")
    for i = 1, 5 do
      ws:send(tostring(i))
      ws:expect(tostring(i))
    end
    server:advance(1)
    for i = 1, 6 do
      ws:send(tostring(i))
    end
    for i = 1, 5 do
      ws:expect(tostring(i))
    end
    ws:expect_close(1008)
    local drop = server:websocket("/drop")
    for i = 1, 4 do
      drop:send(tostring(i))
    end
    drop:expect("1")
    drop:expect("2")
    drop:expect_nothing_queued()
    server:advance(1)
    drop:send("5")
    drop:expect("5")
  end)

  it("bounds how deep JSON may nest", function()
    local server = gateway.start({
      app = [[
      app:post("/", function(request)
        local value, message, code = request:json()
        return value and "fine" or code
      end)
    ]],
    })
    local function nested(depth)
      return server:request({
        method = "POST",
        path = "/",
        body = ("["):rep(depth) .. ("]"):rep(depth),
      }).body
    end
    assert.equal("fine", nested(100))
    assert.equal("json", nested(200))
    assert.equal("json", nested(100000))
  end)

  it(
    "bounds the events that wait behind a suspended handler: reading pauses, nothing is lost",
    function()
      local server = gateway.start({
        arguments = { "--limit-suspended-events", "10" },
        app = [[
        local first = true
        app:websocket("/", { on_message = function(conn, data)
          if data == "1" then perigee.sleep(1) end
          conn:send(data)
        end })
      ]],
      })
      server:freeze()
      local ws = server:websocket("/")
      for i = 1, 1000 do
        ws:send(tostring(i))
      end
      server:wait_for(function(counters)
        return counters.tasks > 0
      end)
      server:advance(1)
      for i = 1, 1000 do
        ws:expect(tostring(i))
      end
    end
  )

  it("bounds fragments", function()
    local server = gateway.start({
      arguments = { "--limit-fragments", "4" },
      app = [[app:websocket("/", { on_message = function(conn, data) conn:send(data) end })]],
    })
    local function fragments(count)
      local ws = server:websocket("/")
      ws:send_frame({ fin = false, payload = "x" })
      for i = 2, count do
        ws:send_frame({ opcode = "continuation", fin = i == count, payload = "x" })
      end
      return ws
    end
    fragments(4):expect("xxxx")
    fragments(5):expect_close(1009)
  end)

  it("bounds shared dictionaries: full", function()
    local server = gateway.start({
      arguments = { "--limit-shared-bytes", "65536" },
      app = [[
        app:get("/", function()
          local shared = perigee.shared("s")
          for i = 1, 1000 do
            local ok, message, code = shared:set("k" .. i, ("x"):rep(1000))
            if not ok then return code end
          end
          return "no end"
        end)
      ]],
    })
    assert.equal("full", server:get("/").body)
  end)

  it("bounds history by count, and by refusing where asked", function()
    local server = gateway.start({
      app = [[
      app:topic("short", { history = 2 })
      app:topic("strict", { history = 2, full = "refuse" })
      app:get("/", function()
        local codes = {}
        for i = 1, 3 do
          perigee.publish("short", tostring(i))
          local ok, message, code = perigee.publish("strict", tostring(i))
          codes[i] = code or "ok"
        end
        local function list(topic)
          local texts = {}
          for i, entry in ipairs((perigee.history(topic))) do texts[i] = entry.data end
          return table.concat(texts, " ")
        end
        return { json = { codes = codes, short = list("short"), strict = list("strict") } }
      end)
    ]],
    })
    local value = json.decode(server:get("/").body)
    assert.equal("ok ok full", table.concat(value.codes, " "))
    assert.equal("2 3", value.short)
    assert.equal("1 2", value.strict)
  end)

  it("ends a silent handshake after 10 s", function()
    local server = gateway.start({ app = [[app:get("/", function() return "hello" end)]] })
    server:freeze()
    local silent = server:raw()
    -- A later connection was answered, so the earlier one was accepted.
    assert.equal("hello", server:get("/").body)
    server:advance(10.1)
    local bytes = silent:expect_closed()
    assert.truthy(bytes == "" or bytes:find("^HTTP/1.1 408 "))
  end)
end)

describe("Lua that misbehaves", function()
  local APP = [[
    app:get("/hello", function() return "hello" end)
    app:get("/raise", function() error("it broke") end)
    app:get("/raise-table", function() error({ code = 1 }) end)
    app:get("/raise-nil", function() error() end)
    app:get("/number", function() return 7 end)
    app:get("/boolean", function() return true end)
    app:get("/bad-status", function() return { status = 99 } end)
    app:get("/bad-body", function() return { body = {} } end)
    app:get("/two-bodies", function() return { body = "a", json = {} } end)
    app:get("/bad-json", function() return { json = { f = function() end } } end)
    app:get("/loop-json", function() local t = {} t.t = t return { json = t } end)
    app:get("/reserved", function() return { body = "", headers = { ["Content-Length"] = "7" } } end)
    app:get("/overflow", function() local function f() return 1 + f() end return f() end)
    app:get("/yield", function() coroutine.yield(1) return "back" end)
    app:get("/sort", function()
      table.sort({ 3, 2, 1 }, function(a, b) perigee.sleep(0.01) return a < b end)
      return ""
    end)
    app:get("/bad-call", function() perigee.publish() return "" end)
    app:get("/bad-option", function() perigee.publish("t", "x", { excpet = 1 }) return "" end)
    app:get("/bad-topic", function()
      local ok, message, code = perigee.publish("a\nb", "x")
      return tostring(code)
    end)
    app:get("/huge", function() return ("x"):rep(20 * 1024 * 1024) end)
    app:get("/global", function() undeclared = 1 return "" end)
    app:get("/errors-in-close", function() return "" end)
    app:get("/sleep-for-ever", function() perigee.sleep(1e9) return "" end)
    app:get("/spawn", function() perigee.spawn(function() error("spawned and broke") end) return "spawned" end)
    app:get("/after", function() perigee.after(0.01, function() error("later and broke") end) return "planned" end)
    local tick = 0
    app:every(5, function() tick = tick + 1 error("tick " .. tick .. " broke") end)
    app:websocket("/echo", { on_message = function(conn, data) conn:send(data) end })
    app:websocket("/broken", {
      authenticate = function(request) if request.query.auth then error("it broke") end return {} end,
      on_open = function(conn) conn:subscribe("signals") if conn.request.query.open then error("it broke") end end,
      on_message = function(conn, data)
        if data == "huge" then conn:send(("x"):rep(100 * 1024 * 1024)) end
        if data == "bad" then conn:send(function() end) end
        if data == "code" then conn:close(1) end
        if data == "signal" then perigee.signal("signals", "x") end
        if data == "tick" then return end
      end,
      on_signal = function() error("it broke") end,
      on_close = function() error("on_close broke") end,
    })
    app:sse("/broken-stream", { on_open = function() error("it broke") end })
    app:websocket("/bad-auth", { authenticate = function() return "yes" end })
  ]]
  local server, bystander
  before_each(function()
    server = gateway.start({ app = APP, workers = 2 })
    server:freeze()
    server.log:allow(".")
    bystander = server:websocket("/echo", { worker = 1 })
  end)

  local function still_well()
    bystander:send("still here")
    bystander:expect("still here")
    assert.equal("hello", server:get("/hello").body)
  end

  it("in an HTTP handler is a 500 and nothing more", function()
    for _, name in ipairs({
      "raise",
      "raise-table",
      "raise-nil",
      "number",
      "boolean",
      "bad-status",
      "bad-body",
      "two-bodies",
      "bad-json",
      "loop-json",
      "reserved",
      "overflow",
      "sort",
      "bad-call",
      "bad-option",
      "global",
    }) do
      assert.equal(500, server:get("/" .. name).status, name)
    end
    assert.equal("topic", server:get("/bad-topic").body)
    still_well()
  end)

  it("by a yield of its own or a huge answer does no harm", function()
    local conn = server:raw()
    conn:write(http.request({ path = "/yield" }))
    still_well()
    conn:close()
    assert.equal(20 * 1024 * 1024, #server:request({ path = "/huge", seconds = 20 }).body)
    still_well()
  end)

  it("in what it spawns, plans or repeats is logged, and repeated again", function()
    assert.equal("spawned", server:get("/spawn").body)
    server.log:expect("spawned and broke")
    assert.equal("planned", server:get("/after").body)
    server:advance(5)
    server.log:expect("later and broke")
    server.log:expect("tick 1 broke")
    server:advance(5)
    server.log:expect("tick 2 broke")
    still_well()
  end)

  it("is logged with file, line, traceback and route", function()
    server:get("/raise")
    local line = server.log:expect("it broke")
    assert.truthy(line:find("main%.lua:2"), line)
    assert.truthy(
      line:find("/raise", 1, true) or server.log:text():find("route=?[^\n]*/raise"),
      server.log:text()
    )
    assert.truthy(server.log:text():find("stack traceback"))
  end)

  it("in any hook of a WebSocket ends that one alone, with 1011", function()
    server:websocket("/broken?open=1"):expect_close(1011)
    assert.equal(500, server:websocket("/broken?auth=1", { any_status = true }).status)
    assert.equal(500, server:websocket("/bad-auth", { any_status = true }).status)
    local ws = server:websocket("/broken")
    ws:send("bad")
    ws:expect_close(1011)
    ws = server:websocket("/broken")
    ws:send("code")
    ws:expect_close(1011)
    ws = server:websocket("/broken")
    ws:send("signal")
    ws:expect_close(1011)
    ws = server:websocket("/broken")
    ws:send("huge")
    ws:expect_close(1013)
    still_well()
  end)

  it("in an event stream ends that one alone", function()
    local stream = server:sse("/broken-stream", { any_status = true })
    if stream.blocks then
      stream:expect_close()
    else
      assert.equal(500, stream.status)
    end
    still_well()
  end)

  it("by suspending for ever is ended by the route's timeout", function()
    local conn = server:raw()
    conn:write(http.request({ path = "/sleep-for-ever" }))
    server:wait_for(function(counters)
      return counters.tasks > 0
    end)
    still_well()
    server:advance(30.1)
    assert.equal(503, http.read_response(conn).status)
    still_well()
  end)
end)

describe("Everything that was taken is given back", function()
  gateway.with_workers(describe, function(workers)
    it("after connections of every kind, ended in every way", function()
      local server = gateway.start({
        workers = workers,
        app = [[
        app:topic("kept:*", { history = 10, linger = 60 })
        app:websocket("/ws/:room", {
          on_open = function(conn)
            conn:subscribe({ "kept:" .. conn.request.params.room, "live" })
            conn.session.list = { conn }
          end,
          on_message = function(conn, data)
            if data == "sleep" then perigee.sleep(1000) end
            perigee.publish("kept:" .. conn.request.params.room, data)
            perigee.publish("live", { data = data })
          end,
          on_close = function(conn) perigee.after(0.001, function() return conn.id end) end,
        })
        app:sse("/sse/:room", { on_open = function(conn)
          conn:subscribe("kept:" .. conn.request.params.room, { from = "start" })
        end })
        app:get("/", function() return "hello" end)
      ]],
      })
      for round = 1, 3 do
        local clients = {}
        for i = 1, 20 do
          local worker = i % workers + 1
          local ws = server:websocket("/ws/" .. i % 3, { worker = worker })
          local stream = server:sse("/sse/" .. i % 3, { worker = worker })
          ws:send("hello " .. i)
          if i % 5 == 0 then
            ws:send("sleep")
          end
          ws:fence()
          server:request({ path = "/", worker = worker })
          clients[#clients + 1] = ws
          clients[#clients + 1] = stream
        end
        for i, client in ipairs(clients) do
          if i % 2 == 0 then
            client:reset()
          elseif client.send then
            (client.drop or client.close)(client)
          else
            client:close()
          end
        end
        server:wait_for({ connections = 0, tasks = 0, subscriptions = 0 }, 5)
        assert.is_true(round > 0)
      end
    end)
  end)
end)

describe("Writes", function()
  gateway.with_workers(describe, function(workers)
    it("of 100 publications in one turn to 10 subscribers are 10", function()
      local server = gateway.start({
        workers = workers,
        app = [[
        app:websocket("/", { on_open = function(conn) conn:subscribe("room") end })
        app:sse("/sse", { on_open = function(conn) conn:subscribe("room") end })
        app:websocket("/speaker", { on_message = function()
          for i = 1, 100 do perigee.publish("room", "publication " .. i) end
        end })
      ]],
      })
      local readers = {}
      for i = 1, 10 do
        readers[i] = server:websocket("/", { worker = i % workers + 1 })
        readers[i]:fence()
      end
      local stream = server:sse("/sse", { worker = workers })
      stream:next_block()
      local speaker = server:websocket("/speaker")
      speaker:fence()
      local counts, trace = system_calls.writes(server, function()
        speaker:send("go")
        for _, reader in ipairs(readers) do
          for i = 1, 100 do
            reader:expect("publication " .. i)
          end
        end
        for i = 1, 100 do
          stream:expect("publication " .. i)
        end
      end)
      if workers == 1 then
        for _, reader in ipairs(readers) do
          assert.equal(1, counts[reader.port], trace)
        end
        assert.equal(1, counts[stream.port], trace)
      else
        -- Another worker may wake while the turn that publishes is still under way.
        for _, reader in ipairs(readers) do
          assert.is_true(counts[reader.port] <= 100 and counts[reader.port] >= 1, trace)
        end
      end
    end)
  end)

  it("of messages that came in one packet are one answer", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn, data) conn:send(data) end })
    ]],
    })
    local ws = server:websocket("/")
    ws:fence()
    local parts = {}
    for i = 1, 32 do
      parts[i] = websocket.frame({ payload = "message " .. i })
    end
    local counts, trace = system_calls.writes(server, function()
      ws:send_raw(table.concat(parts))
      for i = 1, 32 do
        ws:expect("message " .. i)
      end
    end)
    assert.equal(1, counts[ws.port], trace)
  end)
end)
