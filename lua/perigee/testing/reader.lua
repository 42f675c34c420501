--- What WebSockets and event streams of a spec have in common: messages that came and were not
--- expected yet, those that were, and the verbs that judge them.
---
--- A client has `conn`, a `pump(deadline)` that reads once and returns true or nil and why nothing
--- more comes, a `text_of(message)` that gives the bytes to judge, and a `describe(message, show)` in
--- which `show` is given these bytes.

local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

-- How much of what came before and after a failure tells.
local SHOWN_MESSAGES = 5

local Reader = {}

--- Gives a client the state that the verbs work on.
function Reader.begin(self)
  self.queue = {}
  -- The last of them, of which there were so many.
  self.taken = {}
  self.taken_count = 0
end

local function taken_lines(self, show)
  local lines = {}
  if self.taken_count > #self.taken then
    lines[1] = ("(%d earlier)"):format(self.taken_count - #self.taken)
  end
  for _, message in ipairs(self.taken) do
    lines[#lines + 1] = self:describe(message, show)
  end
  return lines
end

local function queued_lines(self, show)
  local lines = {}
  for i = 1, math.min(SHOWN_MESSAGES, #self.queue) do
    lines[i] = self:describe(self.queue[i], show)
  end
  if #self.queue > SHOWN_MESSAGES then
    lines[#lines + 1] = ("(%d more)"):format(#self.queue - SHOWN_MESSAGES)
  end
  return lines
end

local function note(self, message)
  self.taken_count = self.taken_count + 1
  self.taken[#self.taken + 1] = message
  if #self.taken > SHOWN_MESSAGES then
    table.remove(self.taken, 1)
  end
end

--- Fails the spec: what was expected, what came instead (a text, or the message, which is taken then),
--- what came around it. Where `pattern` is of JSON, messages are shown with their members in order.
function Reader:fail_expected(expected, got, why, pattern)
  local show = json.is_pattern(pattern) and json.show or failure.quote
  local function show_briefly(text)
    return show(text, failure.BRIEF_BYTES)
  end
  local rows = {
    { "expected", expected },
    { "got", type(got) == "table" and self:describe(got, show) or got },
    { "because", why },
    { "before it", taken_lines(self, show_briefly) },
    { "queued", queued_lines(self, show_briefly) },
  }
  if type(got) == "table" then
    note(self, got)
  end
  self.conn:report(rows)
end

--- Waits until `is_done()`; fails at the deadline, or when nothing more can come.
function Reader:wait_until(is_done, expected, seconds, pattern)
  if self.conn.paused then
    self.conn:fail("this client is paused: resume it before something is expected of it")
  end
  local deadline = posix.deadline(seconds)
  self:parse()
  while not is_done() do
    local ok, why = self:pump(deadline)
    if not ok and not is_done() then
      self:fail_expected(expected, self:describe_end(why, seconds), nil, pattern)
    end
  end
end

--- Whether something can still come.
function Reader:is_live()
  local conn = self.conn
  return conn.fd ~= nil and not conn.ended and not self.closed
end

--- Reads what has come, without waiting; not when it is paused. For advance.
function Reader:catch_up()
  while self:is_live() and not self.conn.paused and self:pump(posix.now()) do
  end
end

-- Takes the next message, which `note` is still to be told of.
local function take(self, expected, seconds, pattern)
  self:wait_until(function()
    return #self.queue > 0 or self.closed ~= nil
  end, expected, seconds, pattern)
  if #self.queue == 0 then
    self:fail_expected(expected, self:describe_end("eof", seconds), nil, pattern)
  end
  return table.remove(self.queue, 1)
end

--- The next message, whatever it is.
function Reader:take(expected, seconds)
  local message = take(self, expected, seconds)
  note(self, message)
  return message
end

-- Whether `message` is what is expected, and why not; the third is the value that it stands for.
local function judge(self, message, expected)
  local text = self:text_of(message)
  if json.is_callable(expected) then
    return expected(text, message) and true or false, nil, text
  elseif type(expected) == "table" then
    local value, problem = json.try_decode(text)
    if problem then
      return false, problem
    end
    local ok, why = json.matches(expected, value, true)
    return ok, why, value
  elseif self:is_binary(message) then
    return false, "it is binary; see expect_binary"
  end
  return text == expected, failure.difference(expected, text), text
end

--- Takes the next message, which must be `expected`: a string exactly, a table as JSON with at least
--- these members, a function (or luassert matcher) that accepts it. `accepts(message)` may say why
--- not for other reasons. Returns the message and its value.
function Reader:expect_next(expected, shown, seconds, accepts)
  failure.check_pattern(expected)
  local message = take(self, shown, seconds, expected)
  local reason = accepts and accepts(message)
  local ok, why, value
  if not reason then
    ok, why, value = judge(self, message, expected)
  end
  if not ok then
    self:fail_expected(shown, message, reason or why, expected)
  end
  note(self, message)
  return message, value
end

--- Passes over messages until one is `expected`; those before it are dropped.
function Reader:expect_some(expected, shown, seconds)
  failure.check_pattern(expected)
  local passed = 0
  local first_why
  local deadline = posix.deadline(seconds)
  while true do
    self:parse()
    while #self.queue > 0 do
      local message = table.remove(self.queue, 1)
      local ok, why, value = judge(self, message, expected)
      note(self, message)
      if ok then
        return message, value
      end
      passed = passed + 1
      first_why = why or first_why
    end
    local ok, why = self:pump(deadline)
    if not ok and #self.queue == 0 then
      local which = passed == 1 and "1 other message" or passed .. " other messages"
      local got = passed > 0 and which .. ", then " or ""
      local because = first_why and "of the last: " .. first_why
      self:fail_expected(
        shown .. ", sooner or later",
        got .. self:describe_end(why, seconds),
        because,
        expected
      )
    end
  end
end

--- Drops what is queued.
function Reader:pass_over()
  for _, message in ipairs(self.queue) do
    note(self, message)
  end
  self.queue = {}
end

--- Fails when something is queued that no expectation took.
function Reader:expect_empty(when)
  if #self.queue > 0 then
    local got = table.remove(self.queue, 1)
    self:fail_expected("no message" .. (when or ""), got)
  end
end

--- The pattern that every message is.
function Reader.anything()
  return true
end

--- For expect_next, of events: what is wrong with one that has another name; nil is none.
function Reader.has_name(name)
  return function(event)
    if event.event == name then
      return nil
    elseif event.event == nil then
      return "it has no name"
    end
    return ("its name is %q; see expect_event"):format(event.event)
  end
end

return Reader
