--- Options of declarations: which names there are, of what type and in what range.
---
--- A wrong option is the commonest mistake with an interface of this kind, so each is answered at
--- the line that has it, by name.

local _, core = ...

local M = {}

--- Raises `message` with the file and line of the script that declares.
---
--- @param message string
function M.fail(message, ...)
  error(core.where() .. ": " .. message:format(...), 0)
end
local fail = M.fail

local function check_number(name, value, where, option)
  if type(value) ~= "number" or value ~= value then
    fail('option "%s" for %s must be a number', name, where)
  end
  local least, most = option.min or 0, option.max or 1e15
  if option.limit then
    most = core.limit(option.limit)
    if value > most then
      fail('option "%s" for %s is above the limit %s (%.0f)', name, where, option.limit, most)
    end
  end
  if value < least or value > most or (option.above and value <= option.above) then
    fail('option "%s" for %s must be from %g to %.15g', name, where, option.above or least, most)
  end
end

local checks = {}

function checks.seconds(name, value, where, option)
  check_number(name, value, where, { min = option.min, above = option.above, max = 1e8 })
end

function checks.count(name, value, where, option)
  check_number(name, value, where, option)
  if value ~= math.floor(value) then
    fail('option "%s" for %s must be a whole number', name, where)
  end
end

checks["function"] = function(name, value, where)
  if type(value) ~= "function" then
    fail('option "%s" for %s must be a function', name, where)
  end
end

function checks.boolean(name, value, where)
  if type(value) ~= "boolean" then
    fail('option "%s" for %s must be true or false', name, where)
  end
end

function checks.strings(name, value, where)
  if type(value) ~= "table" then
    fail('option "%s" for %s must be a list of strings', name, where)
  end
  local count = 0
  for _, text in pairs(value) do
    count = count + 1
    if type(text) ~= "string" then
      fail('option "%s" for %s must be a list of strings', name, where)
    end
  end
  if count ~= #value then
    fail('option "%s" for %s must be a list of strings', name, where)
  end
end

function checks.one_of(name, value, where, option)
  for _, known in ipairs(option) do
    if value == known then
      return
    end
  end
  for _, known in ipairs(option.later or {}) do
    if value == known then
      fail('not yet: %s = "%s"', name, known)
    end
  end
  fail('option "%s" for %s must be "%s"', name, where, table.concat(option, '" or "'))
end

function checks.rate(name, value, where)
  if type(value) ~= "table" then
    fail('option "%s" for %s must be { messages = …, per = … }', name, where)
  end
  M.check(value, where .. " " .. name, {
    messages = { "count", min = 1, max = 1e9 },
    per = { "seconds", above = 0 },
    excess = { "one_of", "close", "drop", "wait" },
  })
  if not value.messages then
    fail('option "%s" for %s needs messages', name, where)
  end
end

--- Not there yet; `false`, its default, is what happens anyway.
function checks.later(name, value)
  if value ~= false then
    fail("not yet: %s", name)
  end
end

--- Raises for an option that is unknown, of the wrong type or out of its range.
---
--- @param options table
--- @param where string what they are for: "app:topic"
--- @param known table name to { check, … }
function M.check(options, where, known)
  if type(options) ~= "table" then
    fail("options for %s must be a table", where)
  end
  for name, value in pairs(options) do
    local option = known[name]
    if not option then
      fail('unknown option "%s" for %s', tostring(name), where)
    end
    checks[option[1]](name, value, where, option)
  end
end

return M
