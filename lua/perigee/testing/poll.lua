--- A long-poll for specs: one request, and its answer as a list of events that the verbs of the other
--- clients judge.

local connection = require("perigee.testing.connection")
local failure = require("perigee.testing.failure")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local pending_request = require("perigee.testing.pending_request")
local reader = require("perigee.testing.reader")

--- @class perigee.testing.PollEvent
--- @field data any a string, or what the table was that was published
--- @field topic? string nil for what was sent to this connection alone
--- @field id? string its position; nil when it was not kept
--- @field event? string its name

--- An answer.
---
--- @class perigee.testing.Poll
--- @field status integer 200
--- @field headers table<string, string>
--- @field body string
--- @field events perigee.testing.PollEvent[] all of them, whatever was expected since
--- @field position string what the next poll passes as `since`
local Poll = setmetatable({}, { __index = reader })
Poll.__index = Poll

--- A poll that was sent and is not answered yet.
---
--- @class perigee.testing.PendingPoll
local PendingPoll = {}
PendingPoll.__index = PendingPoll

local M = {}

local function escape(text)
  return (text:gsub("[^%w._~-]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

--- Sends the request. Options beside those of connection.open: path, host, headers, since, version,
--- origin, any_status.
function M.send(target, opts)
  local path = opts.path
  if opts.since then
    path = path .. (path:find("?", 1, true) and "&" or "?") .. "since=" .. escape(opts.since)
  end
  local request = pending_request.send(connection.open(target, opts), {
    path = path,
    host = opts.host,
    version = opts.version,
    headers = http.add_headers({ { "Accept", "application/json" } }, opts),
  })
  return setmetatable({ request = request, any_status = opts.any_status }, PendingPoll)
end

-- What an answer may be: nothing else than this is in it.
local function check_answer(conn, body)
  local answer, problem = json.try_decode(body)
  local is_whole = not problem
    and type(answer) == "table"
    and json.is_array(answer.events)
    and type(answer.position) == "string"
  if not is_whole then
    conn:report({ { "expected", "the answer of a long-poll" }, { "got", failure.quote(body) } })
  end
  return answer
end

--- Waits for the answer. Fails unless it is one of a long-poll; with `any_status` another response is
--- returned.
---
--- @param seconds? number 2 by default
--- @return perigee.testing.Poll
function PendingPoll:answer(seconds)
  local response = self.request:response(seconds)
  local conn = response.conn
  local is_json = response.headers["content-type"] == "application/json"
  if response.status ~= 200 or not is_json then
    if self.any_status then
      return response
    end
    response:fail_expected("the answer of a long-poll")
  end
  local answer = check_answer(conn, response.body)
  local poll = setmetatable({
    conn = conn,
    status = response.status,
    headers = response.headers,
    body = response.body,
    events = answer.events,
    position = answer.position,
  }, Poll)
  reader.begin(poll)
  for i, event in ipairs(answer.events) do
    poll.queue[i] = event
  end
  return poll
end

--- Nothing of an answer has come, and all workers have come to rest: it waits.
function PendingPoll:expect_nothing_queued()
  self.request:expect_nothing_queued()
end

--- The client goes away, in good order.
function PendingPoll:close()
  self.request.conn:close()
end

--- The client goes away, and the connection ends with RST.
function PendingPoll:reset()
  self.request:reset()
end

-- What reader needs ------------------------------------------------------------------------------

function Poll.parse() end

function Poll.pump()
  return nil, "finished"
end

function Poll.describe_end()
  return "the end of the answer"
end

function Poll:text_of(event)
  return type(event.data) == "string" and event.data or json.encode(event.data)
end

function Poll:is_binary()
  return false
end

function Poll:describe(event, show)
  local name = event.event and ("event %q "):format(event.event) or ""
  return name .. show(self:text_of(event))
end

-- Taking -----------------------------------------------------------------------------------------

--- Takes the next event, whatever it is.
---
--- @return perigee.testing.PollEvent
function Poll:next()
  return self:take("an event")
end

--- The next event of the answer must be one without a name, whose data must be this.
---
--- @param expected perigee.testing.Pattern
--- @return perigee.testing.PollEvent
function Poll:expect(expected)
  return (self:expect_next(expected, failure.show(expected), nil, reader.has_name(nil)))
end

--- The next event must have this name, and its data must be this, when given.
---
--- @param name string
--- @param expected? perigee.testing.Pattern
--- @return perigee.testing.PollEvent
function Poll:expect_event(name, expected)
  local shown = ("event %q %s"):format(name, expected ~= nil and failure.show(expected) or "")
  local pattern = expected
  if pattern == nil then
    pattern = reader.anything
  end
  return (self:expect_next(pattern, shown, nil, reader.has_name(name)))
end

--- The data of an event further on, of whatever name, must be this; drops those before it.
---
--- @param expected perigee.testing.Pattern
--- @return perigee.testing.PollEvent
function Poll:expect_later(expected)
  return (self:expect_some(expected, failure.show(expected)))
end

--- The answer has no event that no expectation took.
function Poll:expect_nothing_queued()
  self:expect_empty()
end

return M
