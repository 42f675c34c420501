--- What a gateway wrote to its standard error, for a spec: waiting for a line, and judging at the end
--- that nothing is there that should not be.

local failure = require("perigee.testing.failure")
local posix = require("perigee.testing.posix")

--- @class perigee.testing.Log
local Log = {}
Log.__index = Log

local M = {}

-- What a failure shows of it.
local TAIL_LINES = 12

local SANITIZERS = { "AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:" }

--- A log whose text so far `read()` gives. `can_wait(deadline)` pauses for a moment, and returns false
--- when nothing can come any more.
---
--- @return perigee.testing.Log
function M.new(read, can_wait)
  return setmetatable({ read = read, can_wait = can_wait, allowed = {} }, Log)
end

--- The log in this file.
---
--- @return perigee.testing.Log
function M.open(path)
  return M.new(function()
    return posix.read_file(path)
  end, posix.can_wait)
end

--- Everything so far; also after the gateway's end.
---
--- @return string
function Log:text()
  return self.final or self.read()
end

--- Keeps what is there, as its place is about to go.
function Log:finish()
  self.final = self:text()
end

-- As it stands there, or as a Lua pattern: most of what one looks for has a "-" or a "(" in it.
local function is_match(line, pattern)
  if line:find(pattern, 1, true) then
    return true
  end
  local ok, at = pcall(string.find, line, pattern)
  return ok and at ~= nil
end

local function find(self, pattern)
  for line in self:text():gmatch("[^\n]+") do
    if is_match(line, pattern) then
      return line
    end
  end
end

-- Whether the line is a warning or an error that nobody announced.
local function is_unexpected(self, line)
  local level = line:match("^%S+ (%a+) ")
  if level ~= "warn" and level ~= "error" then
    return false
  end
  for _, pattern in ipairs(self.allowed) do
    if is_match(line, pattern) then
      return false
    end
  end
  return true
end

local function last_lines(self)
  local lines = {}
  for line in self:text():gmatch("[^\n]+") do
    lines[#lines + 1] = line
  end
  local tail = {}
  for i = math.max(1, #lines - TAIL_LINES + 1), #lines do
    tail[#tail + 1] = lines[i]
  end
  return tail
end

-- Worth showing with a failure, but none in itself: on a busy machine a worker may just wait for the
-- processor.
local STUCK = "worker %d+ has been stuck for"

-- From the first unexpected line on, or nil.
local function unexpected_lines(self, is_tolerant)
  local lines
  for line in self:text():gmatch("[^\n]+") do
    if lines or (is_unexpected(self, line) and not (is_tolerant and line:find(STUCK))) then
      lines = lines or {}
      lines[#lines + 1] = line
    end
  end
  return lines
end

--- What is in the log from the first unexpected warning or error on; nothing where there is none. For
--- failures.
---
--- @return string[]
function Log:tail()
  local lines = unexpected_lines(self) or {}
  local shown = {}
  for i = 1, math.min(TAIL_LINES, #lines) do
    shown[i] = lines[i]
  end
  if #lines > TAIL_LINES then
    shown[#shown + 1] = ("(%d more lines)"):format(#lines - TAIL_LINES)
  end
  return shown
end

--- The line of a worker that has been stuck and does not go on; nil where there is none.
---
--- @return string?
function Log:stuck()
  local stuck = {}
  for line in self:text():gmatch("[^\n]+") do
    local worker = line:match("(worker %d+) has been stuck for")
    if worker then
      stuck[worker] = line
    end
    worker = line:match("(worker %d+) goes on after")
    if worker then
      stuck[worker] = nil
    end
  end
  local _, line = next(stuck)
  return line
end

--- The last lines, whatever they are.
---
--- @return string[]
function Log:last_lines()
  return last_lines(self)
end

--- Waits until a line of the log has this in it: as it stands there, or as a Lua pattern. Such lines
--- are then no surprise at the end.
---
--- @param pattern string
--- @param seconds? number 2 by default
--- @return string line
function Log:expect(pattern, seconds)
  local deadline = posix.deadline(seconds)
  local line = find(self, pattern)
  while not line do
    if not self.can_wait(deadline) then
      failure.report("The gateway's log", {
        { "expected", "a line with " .. failure.quote(pattern) },
        { "last", #last_lines(self) > 0 and last_lines(self) or "nothing was logged" },
      })
    end
    line = find(self, pattern)
  end
  self.allowed[#self.allowed + 1] = pattern
  return line
end

--- Warnings and errors with this in them may be there, now or later.
---
--- @param pattern string
function Log:allow(pattern)
  self.allowed[#self.allowed + 1] = pattern
end

--- The first thing in the log that should not be there, or nil.
---
--- @return string? problem
function Log:problem()
  local text = self:text()
  for _, name in ipairs(SANITIZERS) do
    local at = text:find(name, 1, true)
    if at then
      return "a sanitizer reports:\n" .. text:sub(math.max(1, at - 200), at + 4000)
    end
  end
  if unexpected_lines(self, true) then
    return "unexpected in its log (server.log:expect or :allow announces what is meant)\n  "
      .. table.concat(self:tail(), "\n  ")
  end
  return nil
end

return M
