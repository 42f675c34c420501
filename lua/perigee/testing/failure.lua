--- What a failed expectation says: where in the spec, what was expected, what came instead, and what
--- else helps.

local M = {}

-- Values are cut here; a failure is read by people.
local SHOWN_BYTES = 2000

--- Where a value is not what failed, but beside it, less of it is shown.
M.BRIEF_BYTES = 200

-- The kit's own files: failures are placed at the line that called them.
local kit = debug.getinfo(1, "S").source:match("^(.*/)")

local function is_spec(frame)
  local source = frame.source
  return source:sub(1, 1) == "@" and source:sub(1, #kit) ~= kit and frame.currentline > 0
end

--- The line of the spec that called the kit, "spec/rooms_spec.lua:12", or nil where none did.
---
--- @return string?
function M.place()
  local level = 2
  local frame = debug.getinfo(level, "Sl")
  -- Specs are called by busted: what is above it is not theirs.
  while frame and not frame.source:find("/busted/", 1, true) do
    if is_spec(frame) then
      return frame.short_src .. ":" .. frame.currentline
    end
    level = level + 1
    frame = debug.getinfo(level, "Sl")
  end
  return nil
end

local function placed(text, fallback)
  local place = M.place() or fallback
  return place and place .. ": " .. text or text
end

--- Fails the spec with this text, at the line that called the kit. Under busted it is a failure, not
--- an error.
---
--- @param text string
--- @param fallback? string where, when no line of a spec is being run
function M.raise(text, fallback)
  local message = placed(text, fallback)
  local busted = package.loaded.busted
  if busted and busted.fail then
    busted.fail(message, 0)
  end
  error(message, 0)
end

--- Raises for misuse of the kit, at the line that called it: an error, not a failure.
---
--- @param text string
function M.misuse(text)
  error(placed(text), 0)
end

-- The text, or as much of it as is shown, and how long it is where that is not all.
local function cut(text, max_bytes)
  max_bytes = max_bytes or SHOWN_BYTES
  if #text <= max_bytes then
    return text, ""
  end
  -- Not within a character: the bytes of UTF-8 that go on are 10xxxxxx.
  while max_bytes > 0 and text:find("^[\128-\191]", max_bytes + 1) do
    max_bytes = max_bytes - 1
  end
  return text:sub(1, max_bytes), (" … (%d bytes)"):format(#text)
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escape(byte)
  return ESCAPES[byte] or ("\\%d"):format(byte:byte())
end

local function quote(text, remark)
  return '"' .. text:gsub('[%c"\\]', escape) .. '"' .. (remark or "")
end

--- Bytes as a failure shows them: in quotes, JSON as it is; see also json.show.
---
--- @param text string
--- @param max_bytes? integer 2000 by default; of a longer one the beginning, and its length
--- @return string
function M.quote(text, max_bytes)
  local is_json = text:find("^%s*[{%[]") and not text:find("%c")
  local shown, remark = cut(text, max_bytes)
  return is_json and shown .. remark or quote(shown, remark)
end

local function is_list(value)
  local meta = getmetatable(value)
  if meta and meta.__jsontype then
    return meta.__jsontype == "array"
  end
  return #value > 0
end

local show

local function show_table(value, depth)
  if depth > 8 then
    return "{ … }"
  end
  local parts = {}
  if is_list(value) then
    for i, item in ipairs(value) do
      parts[i] = show(item, depth + 1)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for i, key in ipairs(keys) do
    parts[i] = quote(tostring(key)) .. ":" .. show(value[key], depth + 1)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- A luassert matcher by its name; not all have one.
local function show_matcher(matcher, depth)
  if not matcher.name then
    return "what the matcher accepts"
  end
  local arguments = {}
  for i = 1, matcher.arguments and matcher.arguments.n or 0 do
    arguments[i] = show(matcher.arguments[i], depth + 1)
  end
  return ("match.%s(%s)"):format(matcher.name, table.concat(arguments, ", "))
end

function show(value, depth)
  local meta = type(value) == "table" and getmetatable(value)
  if type(value) == "string" then
    return quote(value)
  elseif type(value) == "function" then
    local info = debug.getinfo(value, "S")
    return ("what the function at %s:%d accepts"):format(info.short_src, info.linedefined)
  elseif meta and meta.__tojson then
    return meta.__tojson(value)
  elseif meta and meta.__tostring then
    return tostring(value)
  elseif meta and meta.__call then
    return show_matcher(value, depth)
  elseif type(value) == "table" then
    return show_table(value, depth)
  elseif type(value) == "number" and value == math.floor(value) and math.abs(value) < 2 ^ 53 then
    return ("%.0f"):format(value)
  end
  return tostring(value)
end

--- A value as a failure shows it: a table as JSON with its keys in order, a function by its place.
---
--- @param value any
--- @param max_bytes? integer 2000 by default, as for quote
--- @return string
function M.show(value, max_bytes)
  if type(value) == "string" then
    return quote(cut(value, max_bytes))
  end
  local shown, remark = cut(show(value, 1), max_bytes)
  return shown .. remark
end

--- How two texts differ, where that is not seen at a glance; nil where it is.
---
--- @param expected string
--- @param got string
--- @return string?
function M.difference(expected, got)
  if #expected < 40 and #got < 40 then
    return nil
  end
  local at = 1
  while at <= #expected and expected:byte(at) == got:byte(at) do
    at = at + 1
  end
  if at > #got or at > #expected then
    return ("the same for %d bytes, then one of them ends"):format(at - 1)
  end
  return ("they differ from byte %d: %s, not %s"):format(
    at,
    quote(got:sub(at, at + 30)),
    quote(expected:sub(at, at + 30))
  )
end

--- Fails the spec with a headline and labelled rows.
---
--- @param headline string
--- @param rows { [1]: string, [2]: string|string[]|nil }[] label and lines; left out without lines
function M.report(headline, rows)
  local out = { headline }
  for _, row in ipairs(rows) do
    local lines = type(row[2]) == "string" and { row[2] } or row[2] or {}
    local label = row[1] .. ":"
    for _, line in ipairs(lines) do
      out[#out + 1] = ("  %-11s%s"):format(label, line)
      label = ""
    end
  end
  M.raise(table.concat(out, "\n"))
end

--- Raises where these are no seconds.
---
--- @param seconds any
--- @param where string "server:advance"
function M.check_seconds(seconds, where)
  local is_time = type(seconds) == "number" and seconds >= 0 and seconds < math.huge
  if not is_time then
    M.misuse(("%s takes seconds, 0 or more, not %s"):format(where, M.show(seconds)))
  end
end

--- Raises for a counter that does not exist, which would be waited for in vain.
---
--- @param expected table<string, any>
--- @param counters table<string, integer> those there are
--- @param where string "server:wait_for"
function M.check_counters(expected, counters, where)
  for name in pairs(expected) do
    if counters[name] == nil then
      local names = {}
      for known in pairs(counters) do
        names[#names + 1] = known
      end
      table.sort(names)
      local text = '%s: there is no counter "%s"; there are %s'
      M.misuse(text:format(where, tostring(name), table.concat(names, ", ")))
    end
  end
end

--- Raises where nothing can be expected of a message in this way.
---
--- @param pattern any
function M.check_pattern(pattern)
  local kind = type(pattern)
  if kind ~= "string" and kind ~= "table" and kind ~= "function" then
    local text = "a pattern is a string, a table or a function, not %s"
    M.misuse(text:format(M.show(pattern)))
  end
end

--- Raises for options with unknown names or values of another type; misuse of the kit, so an error.
---
--- @param options table?
--- @param where string "testing.start"
--- @param known table<string, string> name to the types that it may have: "string table"
function M.check_options(options, where, known)
  if options == nil then
    return
  end
  if type(options) ~= "table" then
    M.misuse(("the options for %s must be a table"):format(where))
  end
  for name, value in pairs(options) do
    local types = known[name]
    if not types then
      M.misuse(('unknown option "%s" for %s'):format(tostring(name), where))
    end
    if not (" " .. types .. " "):find(" " .. type(value) .. " ", 1, true) then
      local wanted = types:gsub(" ", " or ")
      local text = 'option "%s" for %s must be a %s'
      M.misuse(text:format(name, where, wanted))
    end
  end
end

return M
