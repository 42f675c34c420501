-- Reload under load, in small: what `make soak` proves with 11,000 connections, of which this asserts
-- all that does not depend on how fast the machine is.
local soak = require("bench.soak")

describe("Reloads under load", function()
  local function run(asked)
    asked.build = os.getenv("PERIGEE"):match("^(.*)/perigee$")
    asked.warmup = 0.2
    local missed = {}
    for _, row in ipairs(soak.run(asked)) do
      if not row.is_met and not row.is_timing then
        table.insert(missed, ("%s: %s %s"):format(row.name, row.value, row.detail))
      end
    end
    assert.same({}, missed)
  end

  it("are noticed by nobody, when files are watched", function()
    run({ conns = 200, streams = 20, workers = 4, rate = 600, seconds = 2, every = 0.05 })
  end)

  it("are noticed by nobody, when a signal asks for them as fast as they can be", function()
    run({
      conns = 100,
      streams = 10,
      workers = 2,
      rate = 600,
      seconds = 2,
      every = 0,
      is_watched = false,
    })
  end)
end)
