-- Suspending, timers and the life of handlers.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("A handler that sleeps", function()
  it("suspends itself and nothing else", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn, data)
        if data == "slow" then perigee.sleep(5) end
        conn:send(data)
      end })
    ]],
    })
    server:freeze()
    local slow, fast = server:websocket("/"), server:websocket("/")
    slow:send("slow")
    slow:send("after")
    slow:fence()
    fast:send("fast")
    fast:expect("fast")
    slow:expect_nothing_queued()
    server:advance(4.9)
    slow:expect_nothing_queued()
    server:advance(0.1)
    slow:expect("slow")
    slow:expect("after")
  end)

  it('is woken with "closed" when its connection goes, and then on_close runs', function()
    local server = gateway.start({
      app = [[
      local told = {}
      app:websocket("/", {
        on_message = function()
          local ok, message, code = perigee.sleep(1000)
          told[#told + 1] = tostring(ok) .. " " .. message .. " " .. code
          told[#told + 1] = select(3, perigee.sleep(1))
        end,
        on_close = function(conn, code) told[#told + 1] = "on_close " .. code end,
      })
      app:get("/told", function() return table.concat(told, "|") end)
    ]],
    })
    local ws = server:websocket("/")
    ws:send("x")
    ws:fence()
    ws:drop()
    server:wait_for({ connections = 0, tasks = 0 })
    assert.equal(
      "nil the connection is closed closed|closed|on_close 1006",
      server:get("/told").body
    )
  end)

  it("ends after handler_timeout", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { handler_timeout = 10, on_message = function(conn)
        conn:send({ select(3, perigee.sleep(8)) or "woken" })
        conn:send({ select(3, perigee.sleep(8)) or "woken" })
        conn:send({ select(3, perigee.sleep(0)) or "woken" })
      end })
    ]],
    })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("x")
    ws:fence()
    server:advance(8)
    ws:expect_json({ "woken" })
    server:advance(1.9)
    ws:expect_nothing_queued()
    server:advance(0.1)
    ws:expect_json({ "timeout" })
    ws:expect_json({ "timeout" })
  end)

  it("answers 503 when an HTTP handler or authenticate takes longer than its timeout", function()
    local server = gateway.start({
      app = [[
      app:get("/handler", { timeout = 0.05 }, function() return tostring(perigee.sleep(1000)) end)
      app:get("/entry", { timeout = 0.05, authenticate = function() perigee.sleep(1000) return {} end },
        function() return "in" end)
    ]],
    })
    assert.equal(503, server:get("/handler").status)
    assert.equal(503, server:get("/entry").status)
    server.log:expect("the handler of /handler %(%S+main.lua:1%) has taken too long")
    server.log:expect("authenticate of /entry %(%S+main.lua:2%) has taken too long")
  end)

  it("is given up when it never stops suspending", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_open = function(conn)
        while true do
          pcall(perigee.sleep, 0.001)
        end
      end })
    ]],
    })
    local ws = server:websocket("/")
    ws:close()
    server:wait_for({ connections = 0, tasks = 0 })
    server.log:expect('went on suspending after it was told "closed"')
  end)

  it("is answered at once where it cannot suspend", function()
    local server = gateway.start({
      app = [[
      app:get("/", function()
        local function why(fn, ...) return (select(2, pcall(fn, ...))) end
        return { json = {
          sort = why(table.sort, { 2, 1 }, function() perigee.sleep(0) end),
          gsub = why(string.gsub, "a", "a", function() perigee.sleep(0) end),
          own = why(coroutine.wrap(function() perigee.sleep(0) end)),
          negative = why(perigee.sleep, -1),
          text = why(perigee.sleep, "1"),
          nan = why(perigee.sleep, 0 / 0),
        } }
      end)
    ]],
    })
    local value = json.decode(server:get("/").body)
    assert.truthy(value.sort:find("cannot suspend inside table.sort", 1, true))
    assert.truthy(value.gsub:find("cannot suspend inside", 1, true))
    assert.truthy(value.own:find("coroutine of your own", 1, true))
    assert.truthy(value.negative:find("seconds", 1, true))
    assert.truthy(value.text:find("seconds", 1, true))
    assert.truthy(value.nan:find("seconds", 1, true))
  end)

  it("goes on through pcall", function()
    local server = gateway.start({
      app = [[app:get("/", function()
        local ok, woken = pcall(function() return perigee.sleep(0.001) end)
        return tostring(ok) .. tostring(woken)
      end)]],
    })
    assert.equal("truetrue", server:get("/").body)
  end)

  it('is ended with "stopping" when the gateway stops', function()
    local server = gateway.start({
      app = [[
      app:on_start(function()
        perigee.spawn(function() while perigee.sleep(1000) do end perigee.log.info("loop ended") end)
        perigee.log.info("ended with %s", (select(3, perigee.sleep(1000))))
      end)
      app:on_stop(function() perigee.log.info("stopped") end)
      app:websocket("/", {
        on_open = function(conn) conn:send("hello") perigee.log.info("conn %s", (select(3, perigee.sleep(1000)))) end,
        on_close = function(_, code) perigee.log.info("on_close %d", code) end,
      })
    ]],
    })
    local ws = server:websocket("/")
    ws:expect("hello")
    server:signal("TERM")
    ws:expect_close(1001)
    server:expect_exit(0)
    local log = server.log:text()
    local stopping = log:find("ended with stopping", 1, true)
    local close = log:find("on_close 1001", 1, true)
    local stopped = log:find("info  worker 1 stopped generation=1\n", 1, true)
    assert.truthy(log:find("loop ended", 1, true), log)
    assert.truthy(log:find("conn stopping", 1, true))
    assert.truthy(stopping and close and stopped, log)
    assert.truthy(stopping < close and close < stopped)
  end)
end)

describe("Timers", function()
  it("of app:every count from the gateway's start, once for all workers or on each", function()
    for workers = 1, 4, 3 do
      local server = gateway.start({
        workers = workers,
        app = [[
        local counts = perigee.shared("counts")
        app:every(2, function() counts:incr("one") end)
        app:every(2, function() counts:incr("each") end, { everywhere = true })
        app:get("/", function() return { json = { counts:get("one") or 0, counts:get("each") or 0 } } end)
      ]],
      })
      server:freeze()
      server:advance(2)
      server:advance(2)
      local now = json.decode(server:get("/").body)
      assert.equal(now[1] * workers, now[2])
      assert.truthy(now[1] == 2)
      server:stop()
    end
  end)

  it("of app:every leave out a run while the last one is suspended", function()
    local server = gateway.start({
      app = [[
      local runs = 0
      app:every(1, function() runs = runs + 1 perigee.sleep(2.5) end)
      app:get("/", function() return tostring(runs) end)
    ]],
    })
    server:freeze()
    local before = tonumber(server:get("/").body)
    for _ = 1, 6 do
      server:advance(1)
    end
    local runs = tonumber(server:get("/").body) - before
    assert.is_true(runs == 2, tostring(runs))
  end)

  it("of perigee.after fire once, unless cancelled", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn, data)
        local timer = perigee.after(3, function() perigee.sleep(1) conn:send("fired " .. data) end)
        if data == "cancelled" then conn:send({ timer:cancel(), timer:cancel() }) end
      end })
    ]],
    })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("cancelled")
    ws:expect_json({ true, false })
    ws:send("one")
    ws:fence()
    server:advance(3)
    ws:expect_nothing_queued()
    server:advance(1)
    ws:expect("fired one")
    server:advance(10)
    ws:expect_nothing_queued()
  end)

  it("of perigee.spawn run soon, and on their own", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn)
        perigee.spawn(function() perigee.sleep(0.01) conn:send("spawned") end)
        perigee.spawn(function() error("in spawn") end)
        conn:send("first")
      end })
    ]],
    })
    local ws = server:websocket("/")
    ws:send("x")
    ws:expect("first")
    ws:expect("spawned")
    server.log:expect("error in perigee.spawn %(generation 1%): .*in spawn")
  end)

  it("are bounded", function()
    local server = gateway.start({
      arguments = { "--limit-timers", "16" },
      app = [[app:get("/", function()
        local made = 0
        for _ = 1, 20 do
          local timer, _, code = perigee.after(100, print)
          if not timer then return made .. code end
          made = made + 1
        end
      end)]],
    })
    assert.equal("16limit", server:get("/").body)
  end)

  it("of a connection tick while it is open", function()
    local server = gateway.start({
      app = [[app:websocket("/", { tick_every = 5, on_tick = function(conn) conn:send("tick") end })]],
    })
    server:freeze()
    local ws = server:websocket("/")
    ws:expect_nothing_queued()
    server:advance(5)
    ws:expect("tick")
    server:advance(5)
    ws:expect("tick")
  end)

  it('run on_start with "boot", on the first worker or on each', function()
    local server = gateway.start({
      workers = 4,
      app = [[
      local counts = perigee.shared("counts")
      app:on_start(function(why) counts:incr(why) end)
      app:on_start(function(why) counts:incr("each " .. why) end, { everywhere = true })
      app:get("/", function() return { json = { counts:get("boot"), counts:get("each boot") } } end)
    ]],
    })
    assert.same({ 1, 4 }, json.decode(server:get("/").body))
  end)
end)

describe("Handlers under way", function()
  it("are bounded: then HTTP answers 503 and a connection closes with 1013", function()
    local server = gateway.start({
      arguments = { "--limit-tasks", "16" },
      app = [[
      app:websocket("/", { on_message = function() perigee.sleep(1000) end })
      app:get("/", function() return "in" end)
    ]],
    })
    local open = {}
    for i = 1, 16 do
      open[i] = server:websocket("/")
      open[i]:send("x")
      open[i]:fence()
    end
    assert.equal(503, server:get("/").status)
    local one_more = server:websocket("/")
    one_more:send("x")
    one_more:expect_close(1013)
    open[1]:drop()
    server:wait_for({ tasks = 15 })
    assert.equal("in", server:get("/").body)
    server.log:expect("the limit of tasks is reached")
  end)

  it("leave no coroutine, reference or task behind, over many rounds", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", {
        on_open = function(conn) conn.session.name = conn.request.path conn:subscribe("all") end,
        on_message = function(conn, data) perigee.sleep(0.001) conn:send(data) end,
        on_close = function(conn) conn.session.name = nil end,
      })
    ]],
    })
    local after_round = {}
    for round = 1, 3 do
      for i = 1, 50 do
        local ws = server:websocket("/")
        ws:send("m" .. i)
        ws:expect("m" .. i)
        ws:close()
      end
      server:wait_for({ connections = 0, tasks = 0, lua_refs = 0 })
      server:collect()
      after_round[round] = server:counters().lua_bytes
    end
    if after_round[3] then
      assert.is_true(after_round[3] <= after_round[2] * 1.05)
    end
  end)

  it("make garbage that is collected as fast as it is made", function()
    local server = gateway.start({
      app = [[
      app:get("/", function()
        local list = {}
        for i = 1, 5000 do list[i] = { i, tostring(i) } end
        return tostring(#list)
      end)
    ]],
    })
    for _ = 1, 100 do
      assert.equal("5000", server:get("/").body)
    end
    assert.is_true(server:counters().lua_bytes < 16 * 1024 * 1024)
  end)
end)
