--- JSON for specs (dkjson, which comes with busted, and not the gateway's own, so that a bug shared by
--- both ends cannot hide), and comparing it to what a spec expects.

local dkjson = require("dkjson")

local failure = require("perigee.testing.failure")

local M = {}

M.null = dkjson.null

local encode

-- dkjson's own encoder takes { n = 2 } for an array of two.
local function encode_table(value)
  local parts = {}
  local meta = getmetatable(value)
  local kind = meta and meta.__jsontype or (value[1] ~= nil and "array" or "object")
  if kind == "array" then
    for i, item in ipairs(value) do
      parts[i] = encode(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = tostring(key)
    parts[tostring(key)] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do
    parts[i] = dkjson.quotestring(key) .. ":" .. encode(value[parts[key]])
  end
  return "{" .. table.concat(parts, ",", 1, #keys) .. "}"
end

function encode(value)
  if value == M.null then
    return "null"
  elseif type(value) == "table" then
    return encode_table(value)
  elseif type(value) == "string" then
    return dkjson.quotestring(value)
  elseif type(value) == "number" and value - value == 0 then
    local short = ("%.15g"):format(value)
    return tonumber(short) == value and short or ("%.17g"):format(value)
  elseif type(value) == "boolean" then
    return tostring(value)
  end
  failure.raise(("JSON cannot say %s"):format(tostring(value)))
end

--- A value as JSON, keys in order. A table with something at 1, or from `json.array`, is an array.
---
--- @param value any
--- @return string
function M.encode(value)
  return encode(value)
end

--- Decodes one whole text. Arrays and objects can be told apart, `null` is `json.null`.
---
--- @param text string
--- @return any value, string? problem
function M.try_decode(text)
  local value, position, message = dkjson.decode(text, 1, M.null)
  if message then
    return nil, "not JSON: " .. message
  elseif text:find("%S", position) then
    return nil, "not JSON: there is text after the value"
  end
  return value
end

--- A text as a failure shows it where JSON was expected: with its members in order, so that it can be
--- compared with what was; as it is where it is no object or list.
---
--- @param text string
--- @param max_bytes? integer
--- @return string
function M.show(text, max_bytes)
  local value, problem = M.try_decode(text)
  if problem or type(value) ~= "table" or value == M.null then
    return failure.quote(text, max_bytes)
  end
  return failure.show(value, max_bytes)
end

--- The same, raising for what is not JSON.
---
--- @param text string
--- @return any
function M.decode(text)
  local value, problem = M.try_decode(text)
  if problem then
    failure.raise(problem .. " in " .. failure.quote(text))
  end
  return value
end

--- An empty array (a Lua table alone could be either).
---
--- @param list? table
--- @return table
function M.array(list)
  return setmetatable(list or {}, { __jsontype = "array" })
end

--- @param value any
--- @return boolean
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
  local where = path == "" and "" or path .. ": "
  return false, ("%sexpected %s, got %s"):format(where, expected, actual)
end

local function show_briefly(value)
  return failure.show(value, failure.BRIEF_BYTES)
end

local function step(path, key)
  if type(key) == "number" then
    return path .. "[" .. key .. "]"
  end
  return path == "" and key or path .. "." .. key
end

local function is_callable(value)
  local meta = type(value) == "table" and getmetatable(value)
  return type(value) == "function" or (meta and meta.__call ~= nil) or false
end
M.is_callable = is_callable

--- Whether a pattern is of JSON.
---
--- @param pattern any
--- @return boolean
function M.is_pattern(pattern)
  return type(pattern) == "table" and not is_callable(pattern)
end

-- In order, so that the same difference is told each time.
local function sorted_keys(object)
  local keys = {}
  for key in pairs(object) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return type(a) == type(b) and a < b or type(a) ~= type(b) and type(a) == "number"
  end)
  return keys
end

local function match_tables(expected, actual, is_subset, path)
  local wanted, got = kind(expected), kind(actual)
  if wanted and got and wanted ~= got then
    return differ(path, "an " .. wanted, "an " .. got .. " " .. show_briefly(actual))
  end
  for _, key in ipairs(sorted_keys(expected)) do
    local ok, why = M.matches(expected[key], actual[key], is_subset, step(path, key))
    if not ok then
      return false, why
    end
  end
  if not is_subset or wanted == "array" then
    for _, key in ipairs(sorted_keys(actual)) do
      if expected[key] == nil then
        return differ(step(path, key), "nothing", show_briefly(actual[key]))
      end
    end
  end
  return true
end

--- Whether `actual` is what is expected: equal values, tables member by member, lists whole; a
--- function or a luassert matcher is asked. With `is_subset` objects may have more members.
---
--- @param expected any
--- @param actual any
--- @param is_subset? boolean
--- @param path? string
--- @return boolean ok, string? why where they differ: `user.name: expected "ann", got "bob"`
function M.matches(expected, actual, is_subset, path)
  path = path or ""
  if is_callable(expected) then
    if expected(actual) then
      return true
    end
  elseif type(expected) == "table" and expected ~= M.null and type(actual) == "table" then
    return match_tables(expected, actual, is_subset, path)
  elseif expected == actual then
    return true
  end
  local got = actual == nil and "nothing" or show_briefly(actual)
  return differ(path, show_briefly(expected), got)
end

return M
