--- The module that scripts require: `local perigee = require("perigee")`.
---
--- Most of it is written in C (core/script/); `_meta/perigee.lua` describes it. Here is what puts
--- the pieces together.

local _, core = ...

local M = {}

for name, value in pairs(core.perigee) do
  M[name] = value
end

--- Makes an app: what a script declares its routes, topics and timers on, and returns.
---
--- @return perigee.App
function M.app()
  return require("perigee.app").new()
end

-- What later versions bring. A name that is there but does nothing would be worse than none.
local later = { "fetch", "presence" }
for _, name in ipairs(later) do
  M[name] = function()
    error(core.where() .. ": not yet: perigee." .. name, 0)
  end
end
M.jwt = setmetatable({}, {
  __index = function()
    error(core.where() .. ": not yet: perigee.jwt", 0)
  end,
})

return M
