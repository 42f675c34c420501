-- What server:advance promises of peers: how long they have been silent stands still, unless they are to
-- be silent. In the same words for a gateway and for one in this process.
local frames = require("perigee.testing.websocket_frame")
local testing = require("perigee.testing")

local SILENT = { peers = true }

local ROUTES = [[
  app:websocket("/plain", {})
  app:websocket("/hasty", { idle_timeout = 10, ping_every = 25 })
  app:websocket("/patient", { idle_timeout = 0, ping_every = 25 })
  app:websocket("/late", { idle_timeout = 10, ping_every = 0, authenticate = function()
    perigee.sleep(10)
    return {}
  end })
  app:websocket("/busy", { idle_timeout = 10, on_message = function(conn, data)
    if data == "sleep" then perigee.sleep(100) end
    conn:send(data)
  end })
  app:websocket("/leaver", { on_message = function(conn) conn:close(3000, "enough") end })
  app:sse("/feed", {
    on_open = function(conn)
      conn:subscribe("feed", { since = conn.request.since, from = "now" })
    end,
  })
  app:post("/feed", function(request)
    local delay = tonumber(request.body)
    perigee.after(delay, function() perigee.publish("feed", "after " .. delay) end)
    return ""
  end)
]]

-- No more and no less than this is left of what the peer has to be silent for.
local function expect_left(server, seconds, expect_before, expect_after)
  server:advance(seconds - 0.001, SILENT)
  expect_before()
  server:advance(3600)
  expect_before()
  server:advance(0.001, SILENT)
  expect_after()
end

for _, kind in ipairs({ "start", "app" }) do
  describe("The time of peers, in testing." .. kind .. ",", function()
    local function start(body)
      local text = 'local perigee = require("perigee") local app = perigee.app()\n'
      return testing[kind](text .. body .. "\nreturn app\n")
    end

    local server
    before_each(function()
      server = start(ROUTES)
    end)

    -- A handshake, and nothing more.
    local function begin_websocket(path)
      local raw = server:raw()
      raw:write(frames.handshake({ path = path, host = "a" }))
      return raw
    end

    local function expect_open(count)
      return function()
        server:wait_for({ connections = count })
      end
    end

    -- Its last bytes are a close frame, and it waits for the answer.
    local function expect_idle(raw)
      return function()
        raw:read_until("\136.\3\232idle for too long$")
      end
    end

    it("keeps pings back, exactly", function()
      local ws = server:websocket("/patient", { auto_pong = false })
      local function pings()
        ws:fence()
        return #ws.pings
      end
      server:advance(7200)
      assert.equal(0, pings())
      server:advance(20, SILENT)
      expect_left(server, 5, function()
        assert.equal(0, pings())
      end, function()
        assert.equal(1, pings())
      end)
      -- The next one is due after as long.
      expect_left(server, 25, function()
        assert.equal(1, pings())
      end, function()
        assert.equal(2, pings())
      end)
    end)

    it("keeps idle timeouts back, exactly", function()
      local ws = server:websocket("/plain", { auto_pong = false })
      server:advance(30, SILENT)
      server:advance(3600)
      server:advance(29, SILENT)
      server:wait_for({ connections = 1 })
      server:advance(2, SILENT)
      ws:expect_close(1000, "idle for too long")
    end)

    it("keeps those back that are shorter than the route's ping_every", function()
      local ws = server:websocket("/hasty")
      server:advance(3600)
      ws:fence() -- whatever comes from it begins its silence anew
      expect_left(server, 10, expect_open(1), function()
        ws:expect_close(1000, "idle for too long")
      end)
    end)

    it("keeps those of paused and of raw clients back", function()
      local paused = server:websocket("/plain")
      paused:pause()
      local raw = begin_websocket("/plain")
      raw:read_until("^HTTP/1.1 101 .*\r\n\r\n")
      server:advance(7200)
      server:wait_for({ connections = 2 })
      assert.equal("", raw:peek())
      paused:resume()
      paused:fence()
      assert.equal(0, #paused.pings)
      raw:write("\138\128\0\0\0\0") -- a pong
      expect_left(server, 60, expect_open(2), expect_idle(raw))
    end)

    it("begins for those who come while it stands still", function()
      local raw = begin_websocket("/late")
      server:settle()
      server:advance(3600)
      raw:read_until("^HTTP/1.1 101 .*\r\n\r\n")
      expect_left(server, 10, expect_open(1), expect_idle(raw))
    end)

    it("does not begin before a handler has read what waits behind it", function()
      local ws = server:websocket("/busy")
      ws:send("sleep")
      for i = 1, 150 do -- more than may wait for the handler: reading stops
        ws:send(tostring(i))
      end
      server:settle()
      server:advance(50, SILENT)
      server:advance(50)
      ws:expect("sleep")
      for i = 1, 150 do
        ws:expect(tostring(i))
      end
      expect_left(server, 10, expect_open(1), function()
        ws:expect_close(1000, "idle for too long")
      end)
    end)

    it("is none of a close's, whose patience is ours", function()
      local ws = server:websocket("/leaver", { auto_close = false })
      ws:send("?")
      ws:wait_until(function()
        return ws.closed ~= nil
      end, "the close frame")
      server:advance(4.999)
      server:wait_for({ connections = 1 })
      server:advance(0.001)
      server:wait_for({ connections = 0 })
    end)

    it("keeps an event stream's idle comments back, exactly", function()
      local feed = server:sse("/feed")
      feed:next_block() -- its first position
      local function comments()
        feed:expect_nothing_queued()
        return #feed.blocks
      end
      server:advance(3600)
      assert.equal(0, comments())
      server:advance(10, SILENT)
      expect_left(server, 5, function()
        assert.equal(0, comments())
      end, function()
        feed:expect_comment()
      end)
      -- What is written while time stands still puts the next one off, by no more than is due.
      server:advance(10, SILENT)
      server:post("/feed", "2"):expect(200)
      server:advance(60)
      feed:expect("after 2")
      expect_left(server, 15, function()
        assert.equal(0, comments())
      end, function()
        feed:expect_comment()
      end)
    end)

    it("keeps a long-poll's answer without events back, exactly", function()
      local waiting = server:begin_poll("/feed")
      server:advance(3600)
      waiting:expect_nothing_queued()
      server:advance(10, SILENT)
      expect_left(server, 5, function()
        waiting:expect_nothing_queued()
      end, function()
        assert.same({}, waiting:answer().events)
      end)
      waiting = server:begin_poll("/feed")
      server:post("/feed", "7200"):expect(200)
      server:advance(7199.999)
      waiting:expect_nothing_queued()
      server:advance(0.001)
      waiting:answer():expect("after 7200")
    end)

    it("is not visited while it stands still, however little of it is left", function()
      local ws = server:websocket("/hasty")
      server:advance(9.999, SILENT)
      -- In one command, for whose answer the kit has patience for one step, not for millions.
      server:command("advance 3600", "^advanced ")
      ws:fence()
    end)

    it("is the only one that stands still: timers and ticks have their moments", function()
      local app = start([[
        local began = perigee.now()
        local told = {}
        local function tell(what)
          told[#told + 1] = ("%s %.1f"):format(what, perigee.now() - began)
        end
        app:get("/told", function() return { json = told } end)
        app:every(4, function() tell("every") end)
        app:websocket("/ticks", {
          tick_every = 10,
          on_tick = function() tell("tick") end,
          on_message = function() perigee.after(5, function() tell("after") end) end,
        })
        app:websocket("/sleep", { handler_timeout = 7, on_message = function()
          perigee.sleep(2.5)
          tell("woken")
          perigee.sleep(60)
          tell("timeout")
        end })
        app:sse("/", { tick_every = 6, on_tick = function() tell("stream") end })
      ]])
      app.log:allow("handler_timeout")
      local ticks = app:websocket("/ticks", { worker = 1 })
      local sleep = app:websocket("/sleep", { worker = 1 })
      app:sse("/", { worker = 1 })
      app:advance(5)
      ticks:send("?")
      sleep:send("?")
      app:advance(7)
      -- Of two that are due together the one that was started first comes first.
      local expected =
        "every 4.0, stream 6.0, woken 7.5, every 8.0, tick 10.0, after 10.0, stream 12.0, "
      assert.equal(
        expected .. "timeout 12.0, every 12.0",
        table.concat(app:get("/told", { worker = 1 }).json, ", ")
      )
    end)
  end)
end
