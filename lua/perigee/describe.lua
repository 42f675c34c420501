--- What a script has declared, as text: for `perigee check` and `perigee routes`.
---
--- The core calls it after a load, with the defaults in the units of scripts, so that only what
--- differs from them is shown.

local declared = require("perigee.app").declared

local M = {}

local METHODS = { [1] = "GET", [4] = "POST", [8] = "PUT", [16] = "PATCH", [32] = "DELETE" }

-- In the order in which a connection meets them.
local HANDLERS = {
  "authenticate",
  "on_open",
  "on_message",
  "on_signal",
  "on_tick",
  "on_drain",
  "on_close",
  "handler",
}

local BYTES = { bytes = true, max_message = true, max_outbox = true, max_body = true }
local SECONDS = {
  age = true,
  linger = true,
  timeout = true,
  idle_timeout = true,
  ping_every = true,
  handler_timeout = true,
  tick_every = true,
  retry = true,
}

local STYLES = { heading = "1", kind = "36", place = "2" }

local function paint(text, style, has_colour)
  if not has_colour or not style then
    return text
  end
  return ("\27[%sm%s\27[0m"):format(STYLES[style], text)
end

-- One line and nothing for a terminal to obey, whatever a pattern holds.
local function plain(text)
  return (text:gsub("%c", "?"))
end

local function characters(text)
  local _, count = text:gsub("[^\128-\191]", "")
  return count
end

local function kind_of(route)
  return route.kind == "http" and METHODS[route.methods] or route.kind:upper()
end

local function handlers_of(route)
  local names = {}
  for _, name in ipairs(HANDLERS) do
    if route.options[name] then
      names[#names + 1] = name
    end
  end
  return table.concat(names, " ")
end

local function format_bytes(count)
  for _, unit in ipairs({ { 1024 ^ 3, "GiB" }, { 1024 ^ 2, "MiB" }, { 1024, "KiB" } }) do
    if count > 0 and count % unit[1] == 0 then
      return ("%.0f %s"):format(count / unit[1], unit[2])
    end
  end
  return ("%.0f bytes"):format(count)
end

local function format_value(name, value)
  if name == "rate" then
    local excess = value.excess and ", excess " .. value.excess or ""
    return ("%.15g in %.15g s%s"):format(value.messages, value.per or 1, excess)
  elseif type(value) == "table" then
    return #value > 0 and table.concat(value, " ") or "none"
  elseif BYTES[name] then
    return format_bytes(value)
  elseif SECONDS[name] then
    return ("%.15g s"):format(value)
  end
  return type(value) == "number" and ("%.15g"):format(value) or tostring(value)
end

-- "name value, name value" of the options that say something else than the defaults.
local function differences(options, defaults)
  local names, parts = {}, {}
  for name, value in pairs(options) do
    if type(value) ~= "function" and value ~= false and value ~= defaults[name] then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    parts[i] = name .. " " .. format_value(name, options[name])
  end
  return table.concat(parts, ", ")
end

-- Rows of cells, aligned; `styles` are the columns'. A row of no cells at the end is "none".
local function append_table(out, heading, rows, styles, has_colour)
  out[#out + 1] = paint(heading, "heading", has_colour)
  local widths = {}
  for _, row in ipairs(rows) do
    for column, cell in ipairs(row) do
      row[column] = plain(cell)
      widths[column] = math.max(widths[column] or 0, characters(row[column]))
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    local last = #row
    while row[last] == "" do
      last = last - 1
    end
    for column = 1, last do
      local padding = column < last and widths[column] - characters(row[column]) or 0
      cells[column] = paint(row[column], styles[column], has_colour) .. (" "):rep(padding)
    end
    out[#out + 1] = "  " .. table.concat(cells, "  ")
  end
  if #rows == 0 then
    out[#out + 1] = "  none"
  end
end

local function route_rows(defaults)
  local rows = {}
  for i, entry in ipairs(declared.routes) do
    local route = entry.route
    local given = differences(route.options, defaults[route.kind])
    if route.directory then
      given = "directory " .. route.directory
    end
    rows[i] = { kind_of(route), entry.pattern, handlers_of(route), route.where, given }
  end
  return rows
end

local function topic_rows(defaults)
  local rows = {}
  for i, topic in ipairs(declared.topics) do
    rows[i] = { topic.pattern, topic.where, differences(topic.policy, defaults.topic) }
  end
  return rows
end

local function limit_rows(limits)
  local rows = {}
  for i, limit in ipairs(limits) do
    local value = ("%.0f %s"):format(limit.value, limit.unit)
    rows[i] = { limit.name, value, ("default %.0f"):format(limit.initial) }
  end
  return rows
end

--- Everything, for people.
---
--- @param defaults table<string, table> by kind of route, and "topic"
--- @param limits { name: string, value: number, initial: number, unit: string }[] those that were set
--- @param has_colour boolean
--- @return string
function M.check(defaults, limits, has_colour)
  local out = {}
  append_table(out, "Routes", route_rows(defaults), { "kind", nil, nil, "place" }, has_colour)
  out[#out + 1] = ""
  append_table(out, "Topics", topic_rows(defaults), { nil, "place" }, has_colour)
  if #limits > 0 then
    out[#out + 1] = ""
    append_table(out, "Limits", limit_rows(limits), {}, has_colour)
  end
  return table.concat(out, "\n") .. "\n"
end

--- The routes alone, a line each, by pattern. A line depends on its route only, so that `diff` shows
--- what has changed and nothing else.
---
--- @param has_colour boolean
--- @return string
function M.routes(_, _, has_colour)
  local lines = {}
  for i, entry in ipairs(declared.routes) do
    local kind, pattern = kind_of(entry.route), plain(entry.pattern)
    local text = paint(kind, "kind", has_colour) .. (" "):rep(10 - #kind) .. pattern
    local handlers = handlers_of(entry.route)
    lines[i] = {
      key = pattern .. "\0" .. kind,
      text = handlers == "" and text or text .. "  " .. handlers,
    }
  end
  table.sort(lines, function(a, b)
    return a.key < b.key
  end)
  local out = {}
  for i, line in ipairs(lines) do
    out[i] = line.text .. "\n"
  end
  return table.concat(out)
end

return M
