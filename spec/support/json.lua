-- JSON for the specs (dkjson, not the gateway's own), and comparing it to what a spec expects.
local dkjson = require("dkjson")

local M = {}

M.null = dkjson.null

function M.encode(value)
  return assert(dkjson.encode(value))
end

--- Decodes one whole text; raises when it is not JSON. Arrays and objects can be told apart.
function M.decode(text)
  local value, position, message = dkjson.decode(text, 1, M.null)
  if message then
    error(("not JSON: %s in %q"):format(message, text:sub(1, 500)), 2)
  end
  if text:find("%S", position) then
    error(("text after JSON in %q"):format(text:sub(1, 500)), 2)
  end
  return value
end

--- An empty array (a Lua table alone could be either).
function M.array(list)
  return setmetatable(list or {}, { __jsontype = "array" })
end

function M.is_array(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and meta.__jsontype == "array" or false
end

local function kind(value)
  local meta = getmetatable(value)
  if meta and meta.__jsontype then
    return meta.__jsontype
  end
  if next(value) == nil then
    return nil
  end
  return value[1] ~= nil and "array" or "object"
end

local function differ(path, expected, actual)
  return false, ("%s: expected %s, got %s"):format(path, tostring(expected), tostring(actual))
end

--- Whether `actual` is what is expected: equal values, tables member by member; a function is asked.
--- With `subset`, objects may have more members. Returns false and where they differ.
function M.matches(expected, actual, subset, path)
  path = path or "value"
  if type(expected) == "function" then
    if expected(actual) then
      return true
    end
    return differ(path, "what the spec's function accepts", actual)
  end
  if type(expected) ~= "table" or expected == M.null then
    if expected == actual then
      return true
    end
    return differ(path, expected, actual)
  end
  if type(actual) ~= "table" then
    return differ(path, "a table", actual)
  end
  local wanted, got = kind(expected), kind(actual)
  if wanted and got and wanted ~= got then
    return differ(path, wanted, got)
  end
  for key, value in pairs(expected) do
    local ok, why = M.matches(value, actual[key], subset, path .. "." .. tostring(key))
    if not ok then
      return false, why
    end
  end
  if not subset or wanted == "array" then
    for key in pairs(actual) do
      if expected[key] == nil then
        return differ(path .. "." .. tostring(key), nil, actual[key])
      end
    end
  end
  return true
end

return M
