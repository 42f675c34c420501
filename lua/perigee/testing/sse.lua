--- A reader of server-sent events for specs (WHATWG HTML, section "Server-sent events"), over chunked
--- and unchunked HTTP.
---
--- Beside events it keeps what a browser hides: comments, blocks that only carry an id, retry.

local connection = require("perigee.testing.connection")
local failure = require("perigee.testing.failure")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")
local reader = require("perigee.testing.reader")

--- @class perigee.testing.Event
--- @field data string
--- @field event? string its name; nil for a default event
--- @field id? string the position: what a returning reader passes as `last_event_id`
--- @field retry? integer milliseconds
--- @field json? any the data decoded, where a table was expected

--- @class perigee.testing.EventStream
--- @field status integer 200
--- @field headers table<string, string>
--- @field last_event_id string as a browser would send it when it comes back
local Stream = setmetatable({}, { __index = reader })
Stream.__index = Stream

local M = {}

local function read_refusal(conn, head, opts)
  head.conn = conn
  head.body = conn:read(tonumber(head.headers["content-length"] or 0))
  if opts.any_status then
    return head
  end
  conn:report({
    { "expected", "an event stream" },
    { "got", ("status %d %s"):format(head.status, failure.quote(head.body)) },
  })
end

--- Opens a stream. Fails unless it is answered with 200 and text/event-stream; with `any_status`
--- another response is returned. Options beside those of connection.open: path, host, headers,
--- last_event_id, version, origin.
function M.open(target, opts)
  local conn = connection.open(target, opts)
  local headers = { { "Accept", "text/event-stream" } }
  if opts.last_event_id then
    headers[#headers + 1] = { "Last-Event-ID", opts.last_event_id }
  end
  conn:write(http.request({
    path = opts.path,
    host = opts.host,
    version = opts.version,
    headers = http.add_headers(headers, opts),
  }))
  local head = http.read_head(conn)
  local is_stream = (head.headers["content-type"] or ""):find("^text/event%-stream")
  if head.status ~= 200 or not is_stream then
    return read_refusal(conn, head, opts)
  end
  local self = setmetatable({
    conn = conn,
    port = conn.port,
    status = head.status,
    headers = head.headers,
    chunked = head.headers["transfer-encoding"] == "chunked",
    -- Everything decoded so far, as sent; and what of it is not yet parsed.
    raw = {},
    text = "",
    block = {},
    id = "",
    last_event_id = opts.last_event_id or "",
  }, Stream)
  reader.begin(self)
  -- Blocks of every kind, of which `queue` has the events.
  self.blocks = {}
  return self
end

-- Decoding ---------------------------------------------------------------------------------------

-- Moves what was received through the chunk decoder. Returns whether there was anything.
function Stream:take_body()
  local data
  if not self.chunked then
    data = self.conn.received:get()
  else
    local received = self.conn:peek()
    local size, at = received:match("^(%x+)\r\n()")
    if not size then
      return false
    end
    local count = tonumber(size, 16)
    if #received < at - 1 + count + 2 then
      return false
    end
    if received:sub(at + count, at + count + 1) ~= "\r\n" then
      self.conn:fail("a chunk does not end in CRLF")
    end
    data = received:sub(at, at + count - 1)
    self.conn.received:skip(at - 1 + count + 2)
    if count == 0 then
      self.finished = true
      return true
    end
  end
  if data == "" then
    return false
  end
  self.raw[#self.raw + 1] = data
  self.text = self.text .. data
  return true
end

function Stream:field(name, value)
  local block = self.block
  if name == "data" then
    block.data = block.data and block.data .. "\n" .. value or value
  elseif name == "event" then
    block.event = value
  elseif name == "id" then
    if not value:find("%z") then
      self.id = value
      block.id = value
    end
  elseif name == "retry" then
    block.retry = tonumber(value:match("^%d+$"))
  elseif name == "" then
    block.comment = value
  else
    self.conn:fail(("the gateway sent an unknown field %q"):format(name))
  end
end

function Stream:end_block()
  local block = self.block
  self.block = {}
  self.last_event_id = self.id ~= "" and self.id or self.last_event_id
  if next(block) then
    self.blocks[#self.blocks + 1] = block
    if block.data then
      self.queue[#self.queue + 1] = block
    end
  end
end

function Stream:line(line)
  if line == "" then
    self:end_block()
    return
  end
  local name, value = line:match("^([^:]*): ?(.*)$")
  self:field(name or line, value or "")
end

--- Takes apart every whole line that has come.
function Stream:parse()
  while self:take_body() and not self.finished do
    local at = 1
    while true do
      local from, to = self.text:find("\r?\n", at)
      local lone = self.text:find("\r", at, true)
      if lone and (not from or lone < from) then
        from, to = lone, lone
      end
      if not from then
        break
      end
      self:line(self.text:sub(at, from - 1))
      at = to + 1
    end
    self.text = self.text:sub(at)
  end
end

function Stream:pump(deadline)
  if self.finished then
    return nil, "finished"
  end
  local ok, why = self.conn:fill(deadline)
  self:parse()
  return ok or self.finished, why
end

function Stream:describe(event, show)
  local name = event.event and ("event %q "):format(event.event) or ""
  return name .. show(event.data)
end

function Stream:text_of(block)
  return block.data
end

function Stream:is_binary()
  return false
end

function Stream:describe_end(why, seconds)
  if why == "finished" then
    return "the end of the stream"
  end
  return self.conn:describe_end(why, seconds)
end

-- Taking -------------------------------------------------------------------------------------------

-- A block of `blocks` that was taken as an event is there no more, nor is what came before it.
function Stream:forget_blocks(event)
  repeat
    local block = table.remove(self.blocks, 1)
  until block == event or block == nil
  return event
end

--- The next block of any kind: `{ data, event, id, retry, comment }`.
function Stream:next_block(seconds)
  self:wait_until(function()
    return #self.blocks > 0
  end, "an event, a comment or an id", seconds)
  local block = table.remove(self.blocks, 1)
  if block == self.queue[1] then
    table.remove(self.queue, 1)
  end
  return block
end

--- Takes the next event, whatever it is.
---
--- @param seconds? number
--- @return perigee.testing.Event
function Stream:next(seconds)
  return self:forget_blocks(self:take("an event", seconds))
end

local function give(self, block, value, expected)
  self:forget_blocks(block)
  if json.is_pattern(expected) then
    block.json = value
  end
  return block
end

--- Waits for the next event, which must be one without a name (what a browser hands to `onmessage`)
--- and whose data must be this.
---
--- @param expected perigee.testing.Pattern
--- @param seconds? number 2 by default
--- @return perigee.testing.Event
function Stream:expect(expected, seconds)
  local shown = failure.show(expected)
  local block, value = self:expect_next(expected, shown, seconds, reader.has_name(nil))
  return give(self, block, value, expected)
end

--- Waits for the next event, which must have this name and whose data must be this, when given.
---
--- @param name string
--- @param expected? perigee.testing.Pattern
--- @param seconds? number
--- @return perigee.testing.Event
function Stream:expect_event(name, expected, seconds)
  local shown = ("event %q %s"):format(name, expected ~= nil and failure.show(expected) or "")
  local pattern = expected
  if pattern == nil then
    pattern = reader.anything
  end
  local block, value = self:expect_next(pattern, shown, seconds, reader.has_name(name))
  return give(self, block, value, expected)
end

--- Waits until the data of an event, of whatever name, is this, and drops those before it.
---
--- @param expected perigee.testing.Pattern
--- @param seconds? number
--- @return perigee.testing.Event
function Stream:expect_later(expected, seconds)
  local block, value = self:expect_some(expected, failure.show(expected), seconds)
  return give(self, block, value, expected)
end

--- Waits for the next block, which must not be an event: a comment, an id, a retry.
function Stream:expect_comment(seconds)
  local block = self:next_block(seconds)
  if block.data then
    self:fail_expected("a comment or an id", block)
  end
  return block
end

--- No event has come that no expectation took, and all workers have come to rest.
function Stream:expect_nothing_queued()
  if self.conn.settle then
    self.conn.settle()
  end
  while self:pump(posix.now()) do
  end
  self:expect_empty()
end

local function expect_end(self, seconds, is_passed_over)
  -- A code of a WebSocket would be waited for, for that many seconds.
  if type(seconds) == "number" and seconds >= 1000 then
    failure.misuse("an event stream ends without a code: expect_close takes seconds alone")
  end
  local deadline = posix.deadline(seconds)
  local ok, why
  repeat
    ok, why = self:pump(deadline)
    if is_passed_over then
      self:pass_over()
    end
  until not ok
  self:expect_empty(" before the end of the stream")
  if why ~= (self.chunked and "finished" or "eof") then
    self:fail_expected("the end of the stream", self:describe_end(why, seconds))
  end
  return self.last_event_id
end

--- Waits until the gateway ends the stream in good order: the last chunk where it is chunked, then
--- the connection or not. Fails when events came that no expectation took.
---
--- @param seconds? number 2 by default
--- @return string position what a browser would come back with: `last_event_id`
function Stream:expect_close(seconds)
  return expect_end(self, seconds, false)
end

--- The same, and passes over events that come before the end.
---
--- @param seconds? number 2 by default
--- @return string position
function Stream:expect_close_later(seconds)
  return expect_end(self, seconds, true)
end

--- All decoded bytes so far.
function Stream:bytes()
  return table.concat(self.raw)
end

function Stream:close()
  self.conn:close()
end

--- The network is gone. An event stream has no other way to end from this side.
function Stream:drop()
  self.conn:close()
end

--- Ends the connection with RST.
function Stream:reset()
  self.conn:reset()
end

--- From here on nothing is read, until resume: a reader that is too slow.
function Stream:pause()
  self.conn.paused = true
end

function Stream:resume()
  self.conn.paused = false
end

return M
