-- How much a failure shows, in which order and in which words: it is read by people, who compare.
local testing = require("perigee.testing")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("news", { history = 10 })
app:websocket("/echo", { on_message = function(conn, data) conn:send(data) end })
app:sse("/feed", { on_open = function(conn)
  conn:subscribe("news", { since = conn.request.since })
end })
app:get("/later", function() perigee.sleep(5) return "late" end)
app:post("/publish", function(request)
  perigee.publish("news", request.body)
  return { body = request.body }
end)
return app
]]

local MIXED = '{"z":1,"a":{"y":[{"d":1,"c":"\\u00e4\\n"}],"b":null},"m":{}}'
local SORTED = '{"a":{"b":null,"y":[{"c":"\195\164\\n","d":1}]},"m":{},"z":1}'

describe("A failure shows", function()
  local app
  before_each(function()
    app = testing.app(APP)
  end)

  local function failure_of(fn, ...)
    local ok, problem = pcall(fn, ...)
    assert.is_false(ok, "it did not fail")
    return tostring(problem)
  end

  -- The rows of a failure with these labels.
  local function shows(text, rows)
    for label, expected in pairs(rows) do
      local row = ("\n  %-11s%s"):format(label .. ":", expected)
      assert.truthy((text .. "\n"):find(row .. "\n", 1, true), row .. "\nnot in\n" .. text)
    end
  end

  it("members in their order where JSON was expected, of all messages", function()
    local ws = app:websocket("/echo")
    for _, text in ipairs({ MIXED, MIXED, MIXED, "[" .. MIXED .. "]", '{"b":1,"a":2} x' }) do
      ws:send(text)
    end
    ws:expect(MIXED)
    local text = failure_of(ws.expect, ws, { z = 2, a = 1 })
    shows(text, { expected = '{"a":1,"z":2}', got = SORTED, ["before it"] = SORTED })
    shows(text, { queued = SORTED .. "\n             [" .. SORTED .. "]" })
    assert.truthy(text:find('\n             {"b":1,"a":2} x', 1, true), text)
    text = failure_of(ws.expect_json, ws, { z = 1 })
    shows(text, { expected = 'exactly {"z":1}', got = SORTED })
    text = failure_of(ws.expect_later, ws, { z = 3 })
    assert.truthy(text:find("\n             [" .. SORTED .. "]\n", 1, true), text)
  end)

  it("members as they came where their text was expected, or nothing", function()
    local ws = app:websocket("/echo")
    ws:send(MIXED)
    ws:send(MIXED)
    shows(failure_of(ws.expect, ws, "x"), { got = MIXED, queued = MIXED })
    shows(failure_of(ws.expect_nothing_queued, ws), { got = MIXED, ["before it"] = MIXED })
  end)

  it("events, answers and bodies in the same manner", function()
    local feed, waiting = app:sse("/feed"), app:begin_poll("/feed")
    local response = app:post("/publish", MIXED)
    local event = failure_of(feed.expect, feed, { z = 2 })
    shows(event, { expected = '{"z":2}', got = SORTED })
    local poll = waiting:answer()
    shows(failure_of(poll.expect, poll, { z = 2 }), { got = SORTED })
    shows(failure_of(response.expect, response, 200, { z = 2 }), { got = "status 200, " .. SORTED })
    shows(failure_of(response.expect, response, 201, { z = 2 }), { got = "status 200, " .. SORTED })
    shows(failure_of(response.expect, response, 200, "x"), { got = "status 200, " .. MIXED })
    local text = failure_of(assert.json, { z = 2 }, response)
    assert.truthy(text:find("got " .. SORTED, 1, true), text)
  end)

  it("the beginning of what came before and waits, and how long it is", function()
    local ws = app:websocket("/echo")
    local long = ("x"):rep(900)
    local object = '{"text":"' .. long .. '"}'
    for _, text in ipairs({ long, long, object }) do
      ws:send(text)
    end
    ws:expect(long)
    local shown = '"' .. ("x"):rep(200) .. '" … (900 bytes)'
    shows(failure_of(ws.expect, ws, "y"), {
      got = '"' .. long .. '"',
      ["before it"] = shown,
      queued = object:sub(1, 200) .. " … (911 bytes)",
    })
    local text = failure_of(ws.expect, ws, { text = "y" })
    shows(text, { got = object, because = ('text: expected "y", got %s'):format(shown) })
  end)

  it("of the message that failed more, and whole characters", function()
    local ws = app:websocket("/echo")
    ws:send(("\195\164"):rep(2000))
    ws:send("x" .. ("\195\164"):rep(2000))
    shows(failure_of(ws.expect, ws, "y"), {
      got = '"' .. ("\195\164"):rep(1000) .. '" … (4000 bytes)',
      queued = '"x' .. ("\195\164"):rep(99) .. '" … (4001 bytes)',
    })
  end)

  it("that no answer has come, where one was expected", function()
    local server = testing.start(APP)
    local asked = server:begin({ path = "/later" })
    local text = failure_of(asked.response, asked, 0.05)
    shows(text, { expected = "an answer" })
    server:advance(5)
    asked:response():expect(200, "late")
  end)

  it("that a gateway does not end, and not that it has", function()
    local server = testing.start(APP)
    server:signal("STOP")
    local text = failure_of(server.expect_exit, server, 0, 0.05)
    local expected = "The gateway %(started at spec/testing/shown_spec.lua:%d+%) "
      .. "does not end within 0.05 s\n  "
    assert.truthy(text:find(expected), text)
    assert.is_false(server:is_running())
  end)
end)
