--- The module that scripts require: `local perigee = require("perigee")`.
---
--- Most of it is written in C (core/script/); `_meta/perigee.lua` describes it. Here is what puts
--- the pieces together.

local name, core = ...

if not core then
  -- So that whoever requires it next is told the same, instead of "loop or previous error".
  package.loaded[name] = nil
  local text = "perigee is there inside the gateway only: a spec runs a module's functions there, "
    .. "by server:exec of perigee.testing"
  -- Level 2 is require: what is named is the module that called it.
  error(text, 3)
end

local M = {}

for key, value in pairs(core.perigee) do
  M[key] = value
end

--- Makes an app: what a script declares its routes, topics and timers on, and returns.
---
--- @return perigee.App
function M.app()
  return require("perigee.app").new()
end

-- What later versions bring. A name that is there but does nothing would be worse than none.
local later = { "fetch", "presence" }
for _, key in ipairs(later) do
  M[key] = function()
    error(core.where() .. ": not yet: perigee." .. key, 0)
  end
end
M.jwt = setmetatable({}, {
  __index = function()
    error(core.where() .. ": not yet: perigee.jwt", 0)
  end,
})

return M
