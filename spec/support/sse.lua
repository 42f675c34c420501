-- The specs' own reader of server-sent events (WHATWG HTML, section "Server-sent events"), over
-- chunked and unchunked HTTP.
--
-- Beside events it keeps what a browser hides: comments, blocks that only carry an id, retry.
local connection = require("spec.support.connection")
local http = require("spec.support.http")
local json = require("spec.support.json")
local posix = require("spec.support.posix")

local Stream = {}
Stream.__index = Stream

local M = {}

--- Opens a stream. Raises unless it is answered with 200 and text/event-stream; with `any_status`
--- another response is returned (`status`, `headers`, `body`). Options: path, host, headers,
--- last_event_id, version, origin, receive_buffer, describe.
function M.open(target, opts)
  local conn = connection.open(target, opts)
  local headers = { { "Accept", "text/event-stream" } }
  if opts.last_event_id then
    headers[#headers + 1] = { "Last-Event-ID", opts.last_event_id }
  end
  if opts.origin then
    headers[#headers + 1] = { "Origin", opts.origin }
  end
  for name, value in pairs(opts.headers or {}) do
    headers[#headers + 1] = { name, value }
  end
  conn:write(http.request({
    path = opts.path,
    host = opts.host,
    version = opts.version,
    headers = headers,
  }))
  local head = http.read_head(conn)
  local is_stream = (head.headers["content-type"] or ""):find("^text/event%-stream")
  if head.status ~= 200 or not is_stream then
    head.conn = conn
    head.body = conn:read(tonumber(head.headers["content-length"] or 0))
    if opts.any_status then
      return head
    end
    conn:fail(("not an event stream: %d %s"):format(head.status, head.body), 2)
  end
  return setmetatable({
    conn = conn,
    port = conn.port,
    status = head.status,
    headers = head.headers,
    chunked = head.headers["transfer-encoding"] == "chunked",
    -- Everything decoded so far, as sent; and what of it is not yet parsed.
    raw = {},
    text = "",
    blocks = {},
    block = {},
    id = "",
    last_event_id = opts.last_event_id or "",
  }, Stream)
end

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

function Stream:line(line)
  if line == "" then
    local block = self.block
    self.block = {}
    self.last_event_id = self.id ~= "" and self.id or self.last_event_id
    if next(block) then
      self.blocks[#self.blocks + 1] = block
    end
    return
  end
  local name, value = line:match("^([^:]*): ?(.*)$")
  self:field(name or line, value or "")
end

function Stream:parse()
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

-- Waits for more of the stream. Returns true, or nil and why not.
function Stream:pump(deadline)
  while not self:take_body() do
    if self.finished then
      return nil, "finished"
    end
    local ok, why = self.conn:fill(deadline)
    if not ok then
      return nil, why
    end
  end
  self:parse()
  return true
end

--- The next block of any kind: `{ data, event, id, retry, comment }`.
function Stream:next_block(seconds, what)
  local deadline = posix.deadline(seconds)
  while #self.blocks == 0 do
    local ok, why = self:pump(deadline)
    if not ok then
      self.conn:fail(("%s while waiting for %s"):format(why, what or "a block"), 2)
    end
  end
  return table.remove(self.blocks, 1)
end

--- The next event, skipping what a browser would not show.
function Stream:next(seconds, what)
  local block
  repeat
    block = self:next_block(seconds, what or "an event")
  until block.data
  return block
end

local function describe(block)
  return ("event %s, id %s, data %q"):format(
    tostring(block.event),
    tostring(block.id),
    tostring(block.data):sub(1, 500)
  )
end

--- Waits for the next event, which must be this: a string is the data of a default event; a table
--- has `data`, `event` (default event when absent), `id`, `json` (its data decoded, of which at
--- least the named members match); a function judges. Returns the event, with `json` decoded.
function Stream:expect(expected, seconds)
  local block = self:next(seconds)
  if type(expected) == "function" then
    if not expected(block) then
      self.conn:fail("not the event expected: " .. describe(block))
    end
    return block
  end
  if type(expected) == "string" then
    expected = { data = expected }
  end
  if
    (expected.data and block.data ~= expected.data)
    or block.event ~= expected.event
    or (expected.id and block.id ~= expected.id)
  then
    self.conn:fail(("expected %s, got %s"):format(describe(expected), describe(block)))
  end
  if expected.json then
    block.json = json.decode(block.data)
    local ok, why = json.matches(expected.json, block.json, true)
    if not ok then
      self.conn:fail(why .. " in " .. describe(block))
    end
  end
  return block
end

--- Waits for the next block, which must not be an event: a comment, an id, a retry.
function Stream:expect_comment(seconds)
  local block = self:next_block(seconds, "a comment or an id")
  if block.data then
    self.conn:fail("expected a comment or an id, got " .. describe(block))
  end
  return block
end

--- The stream ends in good order: the last chunk where it is chunked, then the connection or not.
function Stream:expect_end(seconds)
  local deadline = posix.deadline(seconds)
  local ok, why
  repeat
    ok, why = self:pump(deadline)
  until not ok
  for _, block in ipairs(self.blocks) do
    if block.data then
      self.conn:fail("expected the end, got " .. describe(block))
    end
  end
  if why ~= (self.chunked and "finished" or "eof") then
    self.conn:fail("expected the end, got " .. why)
  end
end

--- All decoded bytes so far.
function Stream:bytes()
  return table.concat(self.raw)
end

function Stream:close()
  self.conn:close()
end

function Stream:reset()
  self.conn:reset()
end

return M
