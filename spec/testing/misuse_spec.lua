-- What is said to an author who asks the kit for what it cannot do: at once, at the spec's own line.
local testing = require("perigee.testing")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("news", { history = 10 })
app:websocket("/echo", { on_message = function(conn, data) conn:send(data) end })
app:sse("/feed", { on_open = function(conn)
  conn:subscribe("news", { since = conn.request.since })
end })
app:get("/", function() return "hello" end)
return app
]]

-- The same of a gateway that is a process, and of one in this process.
for name, start in pairs({ ["A server"] = testing.start, ["An app"] = testing.app }) do
  describe(name, function()
    local server
    before_each(function()
      server = start(APP)
    end)

    local function refuses(expected, fn, ...)
      local ok, problem = pcall(fn, ...)
      assert.is_false(ok, "it was taken")
      local place, text = tostring(problem):match("^(spec/testing/misuse_spec.lua:%d+): (.*)$")
      assert.is_string(place, problem)
      assert.equal(expected, text:sub(1, #expected), text)
    end

    local NOT_TIMES = { [-5] = "-5", x = '"x"', [math.huge] = "inf" }

    it("advances by seconds, and not backwards", function()
      local expected = "server:advance takes seconds, 0 or more, not "
      for value, shown in pairs(NOT_TIMES) do
        refuses(expected .. shown, function()
          server:advance(value)
        end)
      end
      refuses(expected .. "nil", function()
        server:advance()
      end)
      refuses(expected, function()
        server:advance(0 / 0)
      end)
      server:advance(0)
    end)

    it("knows its counters", function()
      refuses('server:wait_for: there is no counter "conections"; there are blocks, ', function()
        server:wait_for({ conections = 0 })
      end)
      refuses("server:wait_for takes counters by their names, or a function, not nil", function()
        server:wait_for()
      end)
      server:wait_for({ connections = 0 })
    end)

    it("edits what there is", function()
      local function upper(text)
        return text:upper()
      end
      refuses('server:edit: there is no "nope.lua", and only a text makes a new file', function()
        server:edit("nope.lua", upper)
      end)
      refuses('server:edit: there is no "nope.lua"', function()
        server:edit("nope.lua", false)
      end)
      local expected = "server:edit takes a text, a function that returns one, or false, not nil"
      refuses(expected, function()
        server:edit("main.lua", function() end)
      end)
      server:edit("nope.lua", "return 1")
      server:edit("nope.lua", upper)
      server:edit("nope.lua", false)
    end)

    it("has clients that expect patterns", function()
      local ws, feed = server:websocket("/echo"), server:sse("/feed")
      local waiting = server:begin_poll("/feed")
      waiting:expect_nothing_queued()
      for _ = 1, 2 do
        server:exec(function(perigee)
          perigee.publish("news", "one")
        end)
      end
      local poll = waiting:answer()
      ws:send("one")
      for _, client in ipairs({ ws, feed, poll }) do
        for _, verb in ipairs({ "expect", "expect_later" }) do
          for _, case in ipairs({ { 5, "5" }, { nil, "nil" }, { true, "true" } }) do
            local expected = "a pattern is a string, a table or a function, not " .. case[2]
            refuses(expected, function()
              client[verb](client, case[1])
            end)
          end
        end
        client:expect("one")
      end
      for _, client in ipairs({ feed, poll }) do
        refuses("a pattern is a string, a table or a function, not false", function()
          client:expect_event("named", false)
        end)
      end
      refuses("a pattern is a string, a table or a function, not false", function()
        server:get("/"):expect(200, false)
      end)
    end)
  end)
end

describe("server:stall", function()
  it("takes seconds", function()
    local server = testing.start(APP)
    for _, value in ipairs({ -5, "x" }) do
      local ok, problem = pcall(function()
        server:stall(1, value)
      end)
      assert.is_false(ok)
      local text = tostring(problem):match("^spec/testing/misuse_spec.lua:%d+: (.*)$")
      assert.truthy(text:find("server:stall takes seconds, 0 or more, not ", 1, true), text)
    end
  end)
end)
