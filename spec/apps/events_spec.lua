-- GET /events: the server's time every 2 s.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")

describe("/events", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
      server:freeze()
    end)

    local function time_of(event)
      return apps.parse_iso(assert(event.data:match("^Server time: (%S+)$"), event.data))
    end

    it("says the time every 2 s, to every reader the same", function()
      local near, far = server:sse("/events"), server:sse("/events", { worker = workers })
      server:advance(2)
      local first = near:next()
      assert.is_nil(first.event)
      assert.equal(first.data, far:next().data)
      for _ = 1, 3 do
        server:advance(2)
        local event = near:next()
        assert.equal(event.data, far:next().data)
        assert.is_true(math.abs(time_of(event) - time_of(first) - 2) < 0.01)
        first = event
      end
    end)

    it("says the gateway's own time", function()
      local stream = server:sse("/events")
      server:advance(2)
      assert.is_true(math.abs(time_of(stream:next()) - os.time()) < 30)
    end)

    it("runs on a common clock: one who comes in between waits for the next", function()
      local early = server:sse("/events")
      server:advance(2)
      early:next()
      server:advance(1)
      local late = server:sse("/events", { worker = workers })
      server:advance(1)
      assert.equal(early:next().data, late:next().data)
    end)
  end)
end)
