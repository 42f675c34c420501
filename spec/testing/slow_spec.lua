-- What can be specced of a reader that is too slow, and of a close that comes while messages are unread.
local testing = require("perigee.testing")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("news", { history = 1000 })
app:websocket("/news", {
  max_outbox = 64 * 1024,
  on_open = function(conn) conn:subscribe("news", { since = conn.request.query.since }) end,
  on_message = function(conn, data)
    if data == "close" then return conn:close(4001, "as asked") end
    conn:send(data)
  end,
})
app:sse("/feed", {
  max_outbox = 64 * 1024,
  on_open = function(conn) conn:subscribe("news", { since = conn.request.since }) end,
})
app:post("/publish/:count", function(request)
  for i = 1, tonumber(request.params.count) do
    perigee.publish("news", { n = i, text = ("x"):rep(10000) })
  end
  return ""
end)
return app
]]

for name, start in pairs({ ["of a server"] = testing.start, ["of an app"] = testing.app }) do
  describe("A reader " .. name, function()
    local server
    before_each(function()
      server = start(APP)
    end)

    local function failure_of(fn, ...)
      local ok, problem = pcall(fn, ...)
      assert.is_false(ok, "it did not fail")
      return tostring(problem)
    end

    -- More is published than may wait for it, and it does not read; then it does.
    local function starve(slow)
      slow:pause()
      server:post("/publish/1000")
      server:settle()
      slow:resume()
      slow:expect({ n = 1 })
      return slow
    end

    it("that is too slow is closed with the position to come back with", function()
      local slow = starve(server:websocket("/news", { receive_buffer = 4096 }))
      local code, position = slow:expect_close_later(1013)
      assert.equal(1013, code)
      assert.equal(position, select(2, slow:expect_close_later(1013, position)))
      local back = server:websocket("/news?since=" .. position)
      back:expect({ n = slow.taken_count + 1 })
    end)

    it("of events that is too slow comes back with its last id", function()
      local slow = starve(server:sse("/feed", { receive_buffer = 4096 }))
      local position = slow:expect_close_later()
      assert.equal(slow.last_event_id, position)
      local back = server:sse("/feed", { last_event_id = position })
      back:expect({ n = slow.taken_count + 1 })
      local text = failure_of(slow.expect_close, slow, 1013)
      assert.truthy(text:find("an event stream ends without a code", 1, true), text)
    end)

    it("is told code and reason of a close", function()
      local ws = server:websocket("/news")
      ws:send("close")
      assert.same({ 4001, "as asked" }, { ws:expect_close() })
      assert.same({ 4001, "as asked" }, { ws:expect_close(4001, "as asked") })
    end)

    it("passes over messages to a close, which must be the one that is expected", function()
      local ws = server:websocket("/news")
      for _, text in ipairs({ "one", "two", "close" }) do
        ws:send(text)
      end
      local text = failure_of(ws.expect_close_later, ws, 1000)
      local expected = "  expected:  close 1000, sooner or later\n"
        .. '  got:       close 4001 "as asked" from the gateway\n'
        .. '  before it: "one"\n             "two"'
      assert.truthy(text:find(expected, 1, true), text)
      ws = server:websocket("/news")
      ws:send("one")
      text = failure_of(ws.expect_close_later, ws, nil, nil, 0.05)
      assert.truthy(text:find("got:       nothing", 1, true), text)
      assert.truthy(text:find('before it: "one"', 1, true), text)
    end)

    it("forgets what it has not read, also where it is closed", function()
      local ws = server:websocket("/news")
      ws:send("one")
      ws:discard()
      ws:expect_nothing_queued()
      ws:send("two")
      ws:send("close")
      ws:discard()
      ws:discard()
      ws:expect_close(4001)
      ws:discard()
      local gone = server:websocket("/news")
      gone:send("three")
      gone:drop()
      gone:discard()
    end)
  end)
end
