-- What testing.app promises: the gateway itself, in this process.
local testing = require("perigee.testing")

local PRELUDE = 'local perigee = require("perigee") local app = perigee.app()\n'

-- Starts what stands between `local app` and `return app`.
local function start(body, options)
  return testing.app(PRELUDE .. body .. "\nreturn app\n", options)
end

local CHAT = [[
  app:topic("room", { history = 100 })
  app:websocket("/chat", {
    on_open = function(conn) conn:subscribe("room") end,
    on_message = function(conn, data)
      if data == "raise" then error("it broke") end
      if data == "sleep" then perigee.sleep(60) end
      perigee.publish("room", data)
    end,
    max_outbox = 64 * 1024,
  })
  app:sse("/feed", {
    on_open = function(conn) conn:subscribe("room", { since = conn.request.since }) end,
  })
  app:get("/", function() return "hello" end)
  app:get("/large", function() return ("x"):rep(5 * 1024 * 1024) end)
  app:post("/", function(request) return tostring(#request.body) end)
]]

-- The text of a failure, without its place.
local function failure_of(fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok, "it did not fail")
  local text = tostring(problem)
  return text:match("^spec/testing/app_spec.lua:%d+: (.*)$") or text
end

describe("An app", function()
  describe("with clients", function()
    local app
    before_each(function()
      app = start(CHAT)
    end)

    it("carries a chat", function()
      local ann, bob = app:websocket("/chat"), app:websocket("/chat")
      ann:send({ text = "hi" })
      ann:expect({ text = "hi" })
      bob:expect({ text = "hi" })
      bob:send("there")
      ann:expect("there")
      bob:expect("there")
      ann:expect_nothing_queued()
      bob:close(1000, "bye")
      ann:reset()
      app:wait_for({ connections = 0, subscriptions = 0 })
    end)

    it("gives a returning reader exactly what it missed", function()
      local ann, feed = app:websocket("/chat"), app:sse("/feed")
      ann:send("one")
      local position = feed:expect("one").id
      feed:drop()
      ann:send("two")
      feed = app:sse("/feed", { last_event_id = position })
      feed:expect("two")
      feed:expect_nothing_queued()
    end)

    it("closes a reader that is too slow, and the others go on", function()
      local ann = app:websocket("/chat")
      local slow = app:websocket("/chat", { receive_buffer = 4096 })
      slow:pause()
      local text = ("x"):rep(10000)
      for _ = 1, 20 do
        ann:send(text)
        ann:expect(text)
      end
      slow:resume()
      slow:expect(text)
      slow:expect_close_later(1013)
      assert.is_true(slow.taken_count < 20)
    end)

    it("waits for a reader that is slow, but not too slow", function()
      local ann = app:websocket("/chat")
      local slow = app:websocket("/chat", { receive_buffer = 1000 })
      slow:pause()
      for i = 1, 5 do
        ann:send(i .. ("x"):rep(5000))
      end
      app:advance(10)
      slow:resume()
      for i = 1, 5 do
        slow:expect(i .. ("x"):rep(5000))
      end
    end)

    it("takes and gives what no buffer holds at once", function()
      app:post("/", ("x"):rep(900 * 1024)):expect(200, tostring(900 * 1024))
      assert.equal(5 * 1024 * 1024, #app:get("/large").body)
      assert.equal(5 * 1024 * 1024, #app:get("/large", { receive_buffer = 10000 }).body)
      app:websocket("/chat", { receive_buffer = 1 }):fence()
    end)

    it("has connections of bytes, which end as sockets do", function()
      local raw = app:raw()
      raw:write("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
      raw:half_close()
      raw:read_until("hello")
      raw:read_until("hello")
      raw:expect_eof()
      raw = app:raw()
      raw:write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
      raw:read_until("hello")
      raw:close()
      app:wait_for({ http = 0 })
    end)

    it("tells at once what does not come, and what the log says", function()
      local ann = app:websocket("/chat")
      local text = failure_of(ann.expect, ann, "hello")
      assert.equal(
        table.concat({
          "WebSocket #1 /chat on worker 1",
          '  expected:  "hello"',
          "  got:       nothing, and nothing is left to do "
            .. "(the gateway's clock stands still: server:advance moves it)",
        }, "\n"),
        text
      )
      ann:send("raise")
      text = failure_of(ann.expect, ann, "raise")
      assert.truthy(text:find('got:       close 1011 "" from the gateway', 1, true), text)
      assert.truthy(text:find("log:       %d+%-%d%d%-%S+ error worker 1 error in "), text)
      assert.truthy(text:find("main.lua:6: it broke", 1, true), text)
      app.log:expect("it broke")
    end)

    it("ends what is left in good order", function()
      local ann = app:websocket("/chat")
      app:sse("/feed")
      ann:send("one")
      ann:send("sleep")
      local counters = app:counters()
      assert.equal(2, counters.connections)
      assert.equal(1, counters.tasks)
      assert.equal(1, counters.history_messages)
      app:stop()
    end)
  end)

  describe("and time", function()
    it("moves from timer to timer", function()
      local app = start([[
        local began = perigee.time()
        app:topic("beats", { history = 10 })
        app:every(60, function()
          perigee.publish("beats", ("%.0f"):format(perigee.time() - began))
          perigee.after(1, function() perigee.publish("beats", "after") end)
        end)
        app:sse("/", { on_open = function(conn) conn:subscribe("beats") end })
      ]])
      local feed = app:sse("/")
      app:advance(59)
      feed:expect_nothing_queued()
      app:advance(62)
      for _, text in ipairs({ "60", "after", "120", "after" }) do
        feed:expect(text)
      end
      feed:expect_nothing_queued()
    end)

    it("forgets histories and shared values as it passes", function()
      local app = start([[
        app:topic("short", { history = 10, age = 30 })
        app:get("/", function()
          perigee.shared("s"):set("k", "v", 30)
          perigee.publish("short", "one")
          return ""
        end)
      ]])
      app:get("/")
      assert.equal(1, app:counters().history_messages)
      app:advance(31)
      assert.equal(0, app:counters().history_messages)
      assert.is_nil(app:exec(function(perigee)
        return perigee.shared("s"):get("k")
      end))
    end)

    it("begins now, whatever an app before it has done", function()
      local app = start("")
      app:advance(30 * 86400)
      app:stop()
      app = start("")
      local time = app:exec(function(perigee)
        return perigee.time()
      end)
      assert.is_true(math.abs(os.time() - time) < 60)
    end)

    it("ends clients that are not there any more", function()
      local app = start('app:websocket("/", { idle_timeout = 60, ping_every = 25 })')
      local ws = app:websocket("/")
      app:advance(3600)
      ws:fence()
      app:advance(90, { peers = true })
      app:wait_for({ connections = 0 })
    end)

    it("is what a request waits for", function()
      local app = start('app:get("/", function() perigee.sleep(5) return "done" end)')
      local slow = app:begin({ path = "/" })
      slow:expect_nothing_queued()
      app:advance(5)
      slow:response():expect(200, "done")
    end)
  end)

  it("reloads, and keeps who is connected", function()
    local text = PRELUDE
      .. 'app:websocket("/", { on_message = function(c) c:send("VERSION") end }) return app'
    local app = testing.app(text)
    local ann = app:websocket("/")
    ann:send("?")
    ann:expect("VERSION")
    app:edit("main.lua", function(before)
      return (before:gsub("VERSION", "2"))
    end)
    assert.equal(2, app:reload())
    ann:send("?")
    ann:expect("2")
    app:edit("main.lua", "local x = = 1")
    app:expect_reload_error("unexpected symbol")
    ann:send("?")
    ann:expect("2")
  end)

  it("runs functions of the spec inside", function()
    local app = start(CHAT)
    assert.equal(
      7,
      app:exec(function(_, a, b)
        return a + b
      end, 3, 4)
    )
    local text = failure_of(app.exec, app, function()
      error("no")
    end)
    assert.truthy(text:find("no", 1, true))
    text = failure_of(app.exec, app, function(perigee)
      perigee.sleep(1)
    end)
    local suspended = "it has not returned, and nothing is left to do: it suspends"
    assert.truthy(text:find(suspended, 1, true), text)
  end)

  it("has its own environment, options and files", function()
    local app = start('app:post("/", function() return os.getenv("APP_SPEC") or "unset" end)', {
      env = { APP_SPEC = "here" },
      arguments = { "--limit-body-bytes", "1000" },
      files = { ["page.html"] = "<p>" },
    })
    app:post("/"):expect(200, "here")
    app:post("/", ("x"):rep(1001)):expect(413)
    assert.is_string(os.getenv("PERIGEE"))
    local other = start('app:get("/", function() return os.getenv("APP_SPEC") or "unset" end)')
    other:get("/"):expect(200, "unset")
    assert.is_nil(os.getenv("APP_SPEC"))
  end)

  it("keeps its log to itself", function()
    local app = start([[perigee.log.info("loaded") app:get("/", function()
      perigee.log.warn("careful")
      return ""
    end)]])
    app.log:expect("loaded")
    app:get("/")
    assert.truthy(app.log:expect("careful"):find("worker 1"))
    app:stop()
    assert.truthy(app.log:text():find("stopping"))
  end)

  it("runs beside others, and shares neither time nor topics with them", function()
    local first, second = start(CHAT), start(CHAT)
    local ann, bob = first:websocket("/chat"), second:websocket("/chat")
    local function time(perigee)
      return perigee.time()
    end
    ann:send("one")
    ann:expect("one")
    bob:expect_nothing_queued()
    local before = second:exec(time)
    first:advance(3600)
    assert.equal(before, second:exec(time))
    assert.is_true(first:exec(time) > before + 3590)
    assert.equal(1, first:counters().history_messages)
    assert.equal(0, second:counters().messages)
    first:stop()
    bob:send("two")
    bob:expect("two")
    second:stop()
    assert.is_nil(first.log:text():find("\n.*\n"))
  end)

  describe("is judged:", function()
    it("an error in its log that nobody announced fails its stop", function()
      local app = start('app:get("/", function() error("it broke") end)')
      app:get("/"):expect(500)
      local text = failure_of(app.stop, app)
      assert.truthy(text:find("has ended: unexpected in its log", 1, true), text)
      assert.truthy(text:find("main.lua:2: it broke", 1, true), text)
      assert.is_false(app:is_running())
    end)

    it("what is left of it fails its stop", function()
      local app = start("")
      local core = app.core
      app.core = {
        stop = function() end,
        answers = function()
          return 'counters {"connections":0,"requests":0,"messages":2}\n'
        end,
        log = core.log,
      }
      local text = failure_of(app.stop, app)
      core:stop()
      assert.truthy(text:find("2 messages are left at its end, which is a leak", 1, true), text)
    end)
  end)

  describe("does not start", function()
    it("where the script does not load, and says why", function()
      for _ = 1, 2 do
        local text = failure_of(start, "local x = y.z")
        local expected = "because:   .*/main.lua:2: attempt to index global 'y' %(a nil value%)"
        assert.truthy(text:find(expected), text)
      end
      start(CHAT):get("/"):expect(200, "hello")
    end)

    it("where there is no such script or option", function()
      local text = failure_of(testing.app, "nowhere.lua")
      assert.truthy(text:find("nowhere.lua", 1, true), text)
      text = failure_of(start, "", { arguments = { "--limit-none", "1" } })
      assert.truthy(text:find("limit", 1, true), text)
    end)

    it("with what only a process has", function()
      local wrong = {
        workers = 2,
        clock = "running",
        listen = { "127.0.0.1:0" },
        test_mode = false,
      }
      for name, value in pairs(wrong) do
        local text = failure_of(start, "", { [name] = value })
        assert.truthy(text:find('"' .. name .. '"', 1, true), text)
      end
      local impossible = {
        { "--workers", "2" },
        { "--listen", ":0" },
        { "--control", "socket" },
        { "--supervise" },
      }
      for _, arguments in ipairs(impossible) do
        local text = failure_of(start, "", { arguments = arguments })
        assert.truthy(text:find("it does not start", 1, true), text)
      end
    end)
  end)

  it("has no process to signal, kill or wait for", function()
    local app = start("")
    for _, name in ipairs({ "kill", "signal", "expect_exit", "stall", "url" }) do
      local text = failure_of(app[name], app)
      assert.truthy(text:find(name .. " is for testing.start", 1, true), text)
    end
    local text = failure_of(app.websocket, app, "/", { worker = 2 })
    assert.equal("there is no worker 2, there are 1", text)
  end)

  it("can be stopped while clients and connections are kept by the spec", function()
    local app = start(CHAT)
    local ann = app:websocket("/chat")
    app:stop()
    app:stop()
    assert.is_false(pcall(ann.send, ann, "late"))
    assert.equal("the app was stopped", failure_of(app.counters, app))
  end)
end)
