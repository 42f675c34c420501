-- GET /updates: a count of seconds; each third one is the number of readers instead.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("/updates", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
      server:freeze()
    end)

    it("counts seconds, each third one as the number of readers over all workers", function()
      local streams = { server:sse("/updates"), server:sse("/updates", { worker = workers }) }
      local last, since
      for _ = 1, 9 do
        server:advance(1)
        local event = streams[1]:next()
        local other = streams[2]:next()
        assert.equal(event.data, other.data)
        assert.equal(event.event, other.event)
        if event.event == "user-count" then
          assert.same({ users = 2 }, { users = json.decode(event.data).users })
          assert.is_true(last == nil or (last + 1) % 3 == 0)
          last = last and last + 1
        else
          assert.is_nil(event.event)
          local n = tonumber(event.data:match("^Update #(%d+)$"))
          assert.is_not_nil(n, event.data)
          assert.is_true(n % 3 ~= 0)
          assert.is_true(last == nil or n == last + 1)
          since = since or n
          last = n
        end
      end
      assert.is_true(last - since >= 6)
    end)

    it("counts only those who are there", function()
      local stream = server:sse("/updates")
      local others = {}
      for i = 1, 4 do
        others[i] = server:sse("/updates", { worker = (i - 1) % workers + 1 })
      end
      local function users()
        local event
        for _ = 1, 3 do
          server:advance(1)
          event = stream:next()
          if event.event == "user-count" then
            return json.decode(event.data).users
          end
        end
        error("no user-count among three: " .. event.data)
      end
      assert.equal(5, users())
      others[1]:close()
      others[2]:reset()
      server:wait_for({ connections = 3 })
      assert.equal(3, users())
    end)

    it("lets a reader begin anywhere", function()
      local early = server:sse("/updates")
      server:advance(5)
      local late = server:sse("/updates", { worker = workers })
      server:advance(1)
      local event = late:next()
      local seen
      repeat
        seen = early:next()
      until seen.data == event.data
      assert.equal(event.event, seen.event)
    end)
  end)
end)
