-- The kit as Perigee's own specs use it: small scripts in the text of a spec, one worker, a clock that
-- runs, and everything again with four workers.
local testing = require("perigee.testing")

local M = {}

M.run = testing.run

local PRELUDE = 'local perigee = require("perigee") local app = perigee.app() '

--- Starts a gateway; see testing.start.
---
--- `script` is a path or a text; `app` is what stands between `local app` and `return app`. Clients go
--- to worker 1 of 1 unless something else is said, and the clock runs until `freeze`.
function M.start(opts)
  local options = { workers = 1, worker = 1, clock = "running" }
  for name, value in pairs(opts) do
    options[name] = value
  end
  local script = opts.script
  if opts.app then
    -- On the first line, so that line numbers are those of the spec's text.
    script = PRELUDE .. opts.app .. "\nreturn app\n"
  end
  options.script, options.app = nil, nil
  return testing.start(script, options)
end

--- Runs `fn(workers)` for 1 and 4 workers, each in a describe block of its own. `describe` is
--- busted's, which modules do not see.
function M.with_workers(describe, fn)
  for _, workers in ipairs({ 1, 4 }) do
    describe(("with %d worker%s"):format(workers, workers == 1 and "" or "s"), function()
      fn(workers)
    end)
  end
end

return M
