-- What a failed expectation says: every text that an author may meet.
local testing = require("perigee.testing")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("news", { history = 10 })
app:websocket("/say", {
  on_open = function(conn) conn:subscribe("news") end,
  on_message = function(conn, data, is_binary)
    if data == "close" then return conn:close(4001, "as asked") end
    if data == "raise" then error("it broke") end
    if data == "loop" then while true do end end
    if data == "bytes" then return conn:send("\1\2", { binary = true }) end
    if data == "later" then return perigee.after(60, function() conn:send("late") end) end
    conn:send(data)
  end,
})
app:websocket("/members", { authenticate = function() return nil, "members only", 401 end })
app:sse("/feed", { on_open = function(conn)
  conn:subscribe("news", { since = conn.request.since })
end })
app:post("/publish", function(request)
  local name = request.query.event
  perigee.publish("news", request.body, { event = name })
  return { status = 201, json = { id = 7, name = request.query.event } }
end)
return app
]]

describe("A failure", function()
  local server
  before_each(function()
    server = testing.start(APP, { workers = 2 })
  end)

  -- The text, without the place, which is a line of this file.
  local function failure_of(fn, ...)
    local ok, problem = pcall(fn, ...)
    assert.is_false(ok, "it did not fail")
    local text = tostring(problem)
    return text:match("^spec/testing/failures_spec.lua:%d+: (.*)$") or text
  end

  local function says(expected, fn, ...)
    -- The text of a spec is indented; its own indentation is what it has beyond.
    local text = ("\n" .. expected):gsub("\n      ", "\n"):gsub("^\n", ""):gsub("\n%s*$", "")
    assert.equal(text, failure_of(fn, ...))
  end

  describe("of a WebSocket", function()
    local ws
    before_each(function()
      ws = server:websocket("/say")
    end)

    it("shows text that is another", function()
      ws:send("one")
      ws:send("two")
      ws:send("three")
      ws:expect("one")
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  "2"
        got:       "two"
        before it: "one"
        queued:    "three"
      ]],
        function()
          ws:fence()
          ws:expect("2")
        end
      )
    end)

    it("says where long texts differ", function()
      ws:send(("x"):rep(100) .. "a" .. ("y"):rep(5000))
      local text = failure_of(ws.expect, ws, ("x"):rep(100) .. "b" .. ("y"):rep(5000))
      assert.truthy(text:find('they differ from byte 101: "ay', 1, true), text)
      assert.truthy(text:find('yyy" … (5101 bytes)', 1, true), text)
      ws:send(("x"):rep(100))
      text = failure_of(ws.expect, ws, ("x"):rep(99))
      assert.truthy(text:find("the same for 99 bytes, then one of them ends", 1, true), text)
    end)

    it("says which member of a JSON message is another", function()
      ws:send({ type = "said", user = { name = "bob", tags = { "a", "b" } } })
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  {"type":"said","user":{"name":"ann"}}
        got:       {"type":"said","user":{"name":"bob","tags":["a","b"]}}
        because:   user.name: expected "ann", got "bob"
      ]],
        function()
          ws:expect({ type = "said", user = { name = "ann" } })
        end
      )
      local cases = {
        { { list = { 1, 2 } }, '{"list":[1,3]}', "list[2]: expected 2, got 3" },
        { { list = { 1 } }, '{"list":[1,2]}', "list[2]: expected nothing, got 2" },
        { { 1 }, '{"a":1}', 'expected an array, got an object {"a":1}' },
        { { a = 1 }, "{}", "a: expected 1, got nothing" },
        { { a = 1 }, '{"a":null}', "a: expected 1, got null" },
        { { a = testing.json.null }, '{"a":1}', "a: expected null, got 1" },
        { { a = { b = 1 } }, '{"a":2}', 'a: expected {"b":1}, got 2' },
        { { a = match.is_string() }, '{"a":2}', "a: expected match.string(), got 2" },
        { { a = match.matches("^b") }, '{"a":"c"}', 'a: expected match.matches("^b"), got "c"' },
        { { a = 1 }, "hello", "not JSON: no valid JSON value at line 1, column 1" },
      }
      for _, case in ipairs(cases) do
        ws:send(case[2])
        local text = failure_of(ws.expect, ws, case[1])
        assert.truthy(text:find("because:   " .. case[3], 1, true), text)
      end
    end)

    it("names the function that did not accept a message", function()
      ws:send("no")
      local text = failure_of(ws.expect, ws, function(data)
        return data == "yes"
      end)
      assert.truthy(
        text:find("expected:  what the function at spec/testing/failures_spec.lua:%d+ accepts"),
        text
      )
      ws:send({ n = 1 })
      text = failure_of(ws.expect, ws, {
        n = function(n)
          return n > 1
        end,
      })
      assert.truthy(text:find("because:   n: expected what the function at", 1, true), text)
    end)

    it("tells text from bytes", function()
      ws:send("bytes")
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  "\1\2"
        got:       binary "\1\2"
        because:   it is binary; see expect_binary
      ]],
        ws.expect,
        ws,
        "\1\2"
      )
      ws:send("text")
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  binary "text"
        got:       "text"
        because:   it is text
        before it: binary "\1\2"
      ]],
        ws.expect_binary,
        ws,
        "text"
      )
    end)

    it("of nothing that came reminds of the clock", function()
      ws:send("later")
      local text = failure_of(ws.expect, ws, "late", 0.05)
      assert.truthy(
        text:find(
          "got:       nothing within %S+ s %(the gateway's clock stands still: server:advance"
        ),
        text
      )
      server:advance(60)
      ws:expect("late")
    end)

    it("names a handler that does not end", function()
      ws:send("loop")
      local text = failure_of(ws.expect, ws, "an answer")
      assert.truthy(
        text:find("log:       %S+ warn  worker 1 has been stuck for %S+ s in on_message of /say"),
        text
      )
      text = failure_of(server.stop, server)
      assert.truthy(text:find("a worker is still stuck, the gateway ends without it"), text)
    end)

    it("names the handler in a loop while a command waits for it too", function()
      ws:send("loop")
      local text = failure_of(server.advance, server, 1)
      local stuck = "worker 1 has been stuck for %S+ s in on_message of /say"
      assert.truthy(text:find('it does not answer "advance 0": %S+ warn  ' .. stuck), text)
      text = failure_of(server.stop, server)
      assert.truthy(text:find("a worker is still stuck, the gateway ends without it"), text)
    end)

    it("shows how it was closed, and why in the log", function()
      ws:send("before")
      ws:send("raise")
      ws:expect("before")
      local text = failure_of(ws.expect, ws, "an answer")
      assert.truthy(text:find('got:       close 1011 "" from the gateway', 1, true), text)
      assert.truthy(text:find('before it: "before"', 1, true), text)
      assert.truthy(text:find("log:       %S+ error worker 1 error in on_message of /say"), text)
      assert.truthy(text:find("it broke", 1, true), text)
      server.log:expect("it broke")
    end)

    it("shows a close that is another, or messages before it", function()
      ws:send("first")
      ws:send("close")
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  close 1000
        got:       close 4001 "as asked" from the gateway
        queued:    "first"
      ]],
        ws.expect_close,
        ws,
        1000
      )
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  no message before the close
        got:       "first"
      ]],
        ws.expect_close,
        ws,
        4001,
        "as asked"
      )
    end)

    it("shows what came where nothing should have", function()
      ws:send("surprise")
      ws:send("another")
      says(
        [[
      WebSocket #1 /say on worker 1
        expected:  no message
        got:       "surprise"
        queued:    "another"
      ]],
        ws.expect_nothing_queued,
        ws
      )
    end)

    it("counts what expect_later has passed over", function()
      for i = 1, 8 do
        ws:send({ n = i })
      end
      ws:fence()
      local text = failure_of(ws.expect_later, ws, { n = 9 }, 0.05)
      assert.truthy(text:find('expected:  {"n":9}, sooner or later', 1, true), text)
      assert.truthy(text:find("got:       8 other messages, then nothing within", 1, true), text)
      assert.truthy(text:find("because:   of the last: n: expected 9, got 8", 1, true), text)
      assert.truthy(text:find('before it: (3 earlier)\n             {"n":4}', 1, true), text)
    end)

    it("says of a refused handshake what was answered", function()
      says(
        [[
      WebSocket #2 /members on worker 2
        expected:  a handshake that succeeds
        got:       status 401 "members only"
      ]],
        server.websocket,
        server,
        "/members"
      )
      says(
        [[
      Event stream #3 /nowhere on worker 1
        expected:  an event stream
        got:       status 404 "not found"
      ]],
        server.sse,
        server,
        "/nowhere"
      )
    end)

    it("says that the gateway does not take what is sent", function()
      local raw = server:raw()
      server:signal("STOP")
      local text = failure_of(raw.write, raw, ("x"):rep(32 * 1024 * 1024), 0.1)
      server:signal("CONT")
      assert.truthy(text:find("the gateway has taken %d+ of 33554432 bytes within"), text)
      raw:reset()
    end)

    it("reminds of a pause, and of a connection that the spec itself has closed", function()
      ws:pause()
      says(
        [[
      WebSocket #1 /say on worker 1
        problem:   this client is paused: resume it before something is expected of it
      ]],
        ws.expect,
        ws,
        "x"
      )
      ws:resume()
      ws:close()
      says(
        [[
      WebSocket #1 /say on worker 1
        problem:   the spec has closed this connection
      ]],
        ws.send,
        ws,
        "x"
      )
    end)
  end)

  describe("of an event stream", function()
    local feed
    before_each(function()
      feed = server:sse("/feed")
    end)

    it("shows name and data", function()
      server:post("/publish?event=joined", "ann")
      says(
        [[
      Event stream #1 /feed on worker 1
        expected:  "ann"
        got:       event "joined" "ann"
        because:   its name is "joined"; see expect_event
      ]],
        feed.expect,
        feed,
        "ann"
      )
      server:post("/publish", { user = "ann" })
      says(
        [[
      Event stream #1 /feed on worker 1
        expected:  event "joined" {"user":"ann"}
        got:       {"user":"ann"}
        because:   it has no name
        before it: event "joined" "ann"
      ]],
        feed.expect_event,
        feed,
        "joined",
        { user = "ann" }
      )
      server:post("/publish?event=left", { user = "ann" })
      says(
        [[
      Event stream #1 /feed on worker 1
        expected:  event "left" {"user":"bob"}
        got:       event "left" {"user":"ann"}
        because:   user: expected "bob", got "ann"
        before it: event "joined" "ann"
                   {"user":"ann"}
      ]],
        feed.expect_event,
        feed,
        "left",
        { user = "bob" }
      )
    end)

    it("says that it ended", function()
      server:signal("TERM")
      says(
        [[
      Event stream #1 /feed on worker 1
        expected:  "more"
        got:       the end of the stream
      ]],
        feed.expect,
        feed,
        "more"
      )
      server:expect_exit(0)
    end)

    it("shows what came where nothing should have", function()
      server:post("/publish", "surprise")
      says(
        [[
      Event stream #1 /feed on worker 1
        expected:  no message
        got:       "surprise"
      ]],
        feed.expect_nothing_queued,
        feed
      )
    end)
  end)

  describe("of a long-poll", function()
    it("shows name and data, and that there is no more", function()
      local waiting = server:begin_poll("/feed", { worker = 1 })
      waiting:expect_nothing_queued()
      server:post("/publish?event=joined", "ann")
      local poll = waiting:answer()
      says(
        [[
      Long-poll #1 /feed on worker 1
        expected:  "ann"
        got:       event "joined" "ann"
        because:   its name is "joined"; see expect_event
      ]],
        poll.expect,
        poll,
        "ann"
      )
      says(
        [[
      Long-poll #1 /feed on worker 1
        expected:  "more"
        got:       the end of the answer
        before it: event "joined" "ann"
      ]],
        poll.expect,
        poll,
        "more"
      )
    end)

    it("says what was answered instead", function()
      says(
        [[
      Long-poll #1 /nowhere on worker 1
        expected:  the answer of a long-poll
        got:       status 404, "not found"
      ]],
        server.poll,
        server,
        "/nowhere",
        { worker = 1 }
      )
    end)

    it("shows what came where nothing should have", function()
      local waiting = server:begin_poll("/feed", { worker = 1 })
      waiting:expect_nothing_queued()
      server:post("/publish", { n = 1 })
      local poll = waiting:answer()
      says(
        [[
      Long-poll #1 /feed on worker 1
        expected:  no message
        got:       {"n":1}
      ]],
        poll.expect_nothing_queued,
        poll
      )
    end)
  end)

  describe("of a response", function()
    it("shows status and body", function()
      local response = server:post("/publish", "x")
      says(
        [[
      POST /publish on worker 1
        expected:  status 200
        got:       status 201, {"id":7}
      ]],
        response.expect,
        response,
        200
      )
      says(
        [[
      POST /publish on worker 1
        expected:  status 201, {"id":8}
        got:       status 201, {"id":7}
        because:   id: expected 8, got 7
      ]],
        response.expect,
        response,
        201,
        { id = 8 }
      )
      says(
        [[
      POST /publish on worker 1
        expected:  status 201, "created"
        got:       status 201, {"id":7}
      ]],
        response.expect,
        response,
        201,
        "created"
      )
      assert.equal(7, response:expect(201, { id = 7 }).json.id)
      says(
        [[
      GET /nowhere on worker 2
        expected:  a body of JSON
        got:       status 404, "not found"
        because:   not JSON: no valid JSON value at line 1, column 1
      ]],
        function()
          return server:get("/nowhere").json
        end
      )
    end)

    it("comes from luassert too", function()
      local response = server:post("/publish", "x")
      assert.status(201, response)
      assert.json({ id = 7 }, response)
      assert.json({ id = match.is_number() }, '{"id":7,"more":true}')
      assert.json({ id = 7 }, { id = 7 })
      assert.is_not.status(200, response)
      local text = failure_of(assert.status, 200, response)
      assert.equal('expected status 200\ngot status 201 {"id":7}', text)
      text = failure_of(assert.json, { id = 8 }, response)
      assert.equal('expected JSON like {"id":8}\ngot {"id":7}\nbecause id: expected 8, got 7', text)
    end)
  end)

  describe("of a gateway", function()
    local function fails(expected, fn, ...)
      local text = failure_of(fn, ...)
      assert.truthy(text:find(expected, 1, true), text)
    end

    it("that does not start shows why", function()
      fails(
        "The gateway\n  problem:   it ended at its start (exit code 1)\n  log:       perigee: ",
        testing.start,
        "no/such/script.lua"
      )
      fails("main.lua:1: ", testing.start, "local = 1\n")
    end)

    it("says which option is not one", function()
      fails('unknown option "worker_count" for testing.start', function()
        testing.start(APP, { worker_count = 2 })
      end)
      fails('option "workers" for testing.start must be a number', function()
        testing.start(APP, { workers = "2" })
      end)
      fails('option "clock" for testing.start is "frozen" or "running"', function()
        testing.start(APP, { clock = "stopped" })
      end)
      fails('unknown option "header" for server:websocket', function()
        server:websocket("/say", { header = {} })
      end)
      fails('unknown option "last_id" for server:sse', function()
        server:sse("/feed", { last_id = "x" })
      end)
      fails('unknown option "json" for server:request', function()
        server:post("/publish", nil, { json = {} })
      end)
      fails('unknown option "real" for server:advance', function()
        server:advance(1, { real = true })
      end)
      fails("there is no worker 3, there are 2", function()
        server:get("/", { worker = 3 })
      end)
    end)

    it("that was stopped says so", function()
      server:stop()
      fails("the gateway was stopped", server.advance, server, 1)
    end)

    it("shows the counters that it did not come to", function()
      server:websocket("/say")
      local text = failure_of(server.wait_for, server, { connections = 0 }, 0.05)
      assert.truthy(text:find('expected:  {"connections":0}', 1, true), text)
      assert.truthy(text:find('got:       {"blocks":', 1, true), text)
    end)

    it("that ends otherwise than it should says how, and what it said last", function()
      local text = failure_of(function()
        server:signal("KILL")
        server:expect_exit(0)
      end)
      assert.truthy(text:find("has ended: it ended with signal 9, not exit code 0", 1, true), text)
    end)
  end)
end)
