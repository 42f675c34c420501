-- The gateway with the applications of scripts/, as its visitors meet it.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")

local M = {}

--- Starts scripts/main.lua. The secrets of the applications are set, so that they need not make
--- and announce their own; `env` overrides them (false leaves one out).
function M.start(workers, env)
  local all = { CHAT_SECRET = "a secret of the specs", BLOG_TOKEN = false }
  for name, value in pairs(env or {}) do
    all[name] = value
  end
  return gateway.start({ script = "scripts/main.lua", workers = workers, env = all })
end

--- Unix seconds, with milliseconds, of ISO 8601 in UTC with milliseconds; raises for another form.
function M.parse_iso(text)
  local year, month, day, hour, minute, second =
    text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d%.%d%d%d)Z$")
  if not year then
    error("not ISO 8601 in UTC with milliseconds: " .. text, 2)
  end
  local days = http.day_number(tonumber(year), tonumber(month), tonumber(day))
  return days * 86400 + hour * 3600 + minute * 60 + tonumber(second)
end

--- For expectations inside JSON: a timestamp of that form.
function M.is_iso(value)
  return type(value) == "string" and pcall(M.parse_iso, value)
end

--- For expectations inside JSON: a string that is not empty.
function M.is_text(value)
  return type(value) == "string" and value ~= ""
end

return M
