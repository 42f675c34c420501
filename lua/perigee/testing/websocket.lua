--- A WebSocket client for specs (RFC 6455), strict about what a server may send.

local bit = require("bit")
local ffi = require("ffi")

local connection = require("perigee.testing.connection")
local failure = require("perigee.testing.failure")
local frames = require("perigee.testing.websocket_frame")
local http = require("perigee.testing.http")
local json = require("perigee.testing.json")
local reader = require("perigee.testing.reader")

--- What an expectation takes: a string is exactly this text, a table JSON with at least these
--- members (functions and luassert matchers inside judge theirs), a function or matcher accepts it.
--- @alias perigee.testing.Pattern string|table|fun(text: string): any

--- @class perigee.testing.WebSocket
--- @field status integer 101
--- @field headers table<string, string> of the handshake's answer, by lower-case name
--- @field closed { code: integer, reason: string }? the gateway's close frame
local WebSocket = setmetatable({}, { __index = reader })
WebSocket.__index = WebSocket

-- With the codec, for specs of the protocol: frame, handshake, close_payload, is_utf8, KEY, ACCEPT.
local M = setmetatable({}, { __index = frames })

local OPCODES = frames.opcodes

local function read_refusal(conn, response, opts)
  response.conn = conn
  response.body = conn:read(tonumber(response.headers["content-length"] or 0))
  if opts.any_status then
    return response
  end
  conn:report({
    { "expected", "a handshake that succeeds" },
    { "got", ("status %d %s"):format(response.status, failure.quote(response.body)) },
  })
end

--- Opens a WebSocket. Fails unless the handshake succeeds; with `any_status` a refusal is returned as
--- a response. Options beside those of connection.open: path, host, headers, origin, protocols, key,
--- version, `auto_pong = false`, `auto_close = false`.
function M.open(target, opts)
  local conn = connection.open(target, opts)
  conn:write(frames.handshake(opts))
  local response = http.read_head(conn)
  if response.status ~= 101 then
    return read_refusal(conn, response, opts)
  end
  local headers = response.headers
  if
    (headers.upgrade or ""):lower() ~= "websocket"
    or (headers.connection or ""):lower() ~= "upgrade"
    or (headers["sec-websocket-accept"] ~= frames.ACCEPT and not opts.key)
    or headers["content-length"]
    or headers["transfer-encoding"]
  then
    conn:fail("not an answer to a WebSocket handshake")
  end
  local self = setmetatable({
    conn = conn,
    port = conn.port,
    status = 101,
    headers = headers,
    pongs = {},
    pings = {},
    auto_pong = opts.auto_pong ~= false,
    auto_close = opts.auto_close ~= false,
    closed = nil,
    fences = 0,
  }, WebSocket)
  reader.begin(self)
  return self
end

-- Sending --------------------------------------------------------------------------------------

--- Writes bytes as they are. Returns true, or nil and "reset".
function WebSocket:send_raw(bytes)
  return self.conn:write(bytes)
end

--- Writes a frame: `opcode` (a name or number), `payload`, `fin`, `rsv`, `mask = false`, `key`,
--- `length` (claims another) and `length_bytes` (a longer form than needed).
function WebSocket:send_frame(opts)
  return self.conn:write(frames.frame(opts))
end

--- Sends a text message.
---
--- @param data string|table a table is sent as JSON
function WebSocket:send(data)
  if type(data) == "table" then
    data = json.encode(data)
  end
  return self:send_frame({ payload = data })
end

--- Sends a binary message.
---
--- @param data string
function WebSocket:send_binary(data)
  return self:send_frame({ opcode = "binary", payload = data })
end

function WebSocket:ping(payload)
  return self:send_frame({ opcode = "ping", payload = payload })
end

-- Receiving ------------------------------------------------------------------------------------

-- Decodes the frame at the start of what was received; nil while it is partial.
function WebSocket:take_frame()
  local received = self.conn.received
  local data, len = received:ref()
  data = ffi.cast("const uint8_t *", data)
  if len < 2 then
    return nil
  end
  local first, second = data[0], data[1]
  local size, head = bit.band(second, 127), 2
  if size == 126 then
    if len < 4 then
      return nil
    end
    size, head = data[2] * 256 + data[3], 4
  elseif size == 127 then
    if len < 10 then
      return nil
    end
    size, head = 0, 10
    for i = 2, 9 do
      size = size * 256 + data[i]
    end
  end
  if len < head + size then
    return nil
  end
  if second >= 128 then
    self.conn:fail("the gateway sent a masked frame")
  elseif (head == 4 and size < 126) or (head == 10 and size < 65536) then
    self.conn:fail("the gateway did not take the shortest length form")
  elseif bit.band(first, 0x70) ~= 0 then
    self.conn:fail("the gateway set a reserved bit")
  end
  received:skip(head)
  return {
    fin = first >= 128,
    opcode = bit.band(first, 15),
    payload = size > 0 and received:get(size) or "",
  }
end

function WebSocket:handle_control(frame)
  if not frame.fin or #frame.payload > 125 then
    self.conn:fail("the gateway sent a long or fragmented control frame")
  end
  if frame.opcode == OPCODES.ping then
    self.pings[#self.pings + 1] = frame.payload
    if self.auto_pong and not self.close_sent then
      self:send_frame({ opcode = "pong", payload = frame.payload })
    end
  elseif frame.opcode == OPCODES.pong then
    self.pongs[#self.pongs + 1] = frame.payload
  elseif frame.opcode == OPCODES.close then
    local payload = frame.payload
    local code = #payload >= 2 and payload:byte(1) * 256 + payload:byte(2) or 1005
    if #payload == 1 or not frames.is_utf8(payload:sub(3)) then
      self.conn:fail("the gateway sent a bad close frame")
    end
    self.closed = { code = code, reason = payload:sub(3) }
    if self.auto_close and not self.close_sent then
      self:send_close(code ~= 1005 and code or nil)
    end
  else
    self.conn:fail("the gateway sent opcode " .. frame.opcode)
  end
end

function WebSocket:handle_data(frame)
  local message = self.message
  if (frame.opcode == 0) ~= (message ~= nil) then
    self.conn:fail("the gateway mixed up its fragments")
  end
  message = message or { parts = {}, binary = frame.opcode == OPCODES.binary }
  message.parts[#message.parts + 1] = frame.payload
  self.message = message
  if frame.fin then
    local payload = table.concat(message.parts)
    if not message.binary and not frames.is_utf8(payload) then
      self.conn:fail("the gateway sent text that is not UTF-8")
    end
    self.queue[#self.queue + 1] = { payload = payload, binary = message.binary }
    self.message = nil
  end
end

--- Handles every whole frame that has come.
function WebSocket:parse()
  local frame = self:take_frame()
  while frame do
    if self.closed then
      self.conn:fail("the gateway sent a frame after its close frame")
    end
    if frame.opcode >= 8 then
      self:handle_control(frame)
    else
      self:handle_data(frame)
    end
    frame = self:take_frame()
  end
end

function WebSocket:pump(deadline)
  if self.closed and self.conn.ended then
    return nil, self.conn.ended
  end
  local ok, why = self.conn:fill(deadline)
  self:parse()
  return ok, why
end

function WebSocket:describe(message, show)
  return (message.binary and "binary " or "") .. show(message.payload)
end

function WebSocket:text_of(message)
  return message.payload
end

function WebSocket:is_binary(message)
  return message.binary
end

function WebSocket:describe_end(why, seconds)
  local closed = self.closed
  if closed and why ~= "timeout" then
    return ("close %d %q from the gateway"):format(closed.code, closed.reason)
  end
  return self.conn:describe_end(why, seconds)
end

--- Takes the next message, whatever it is. Returns its bytes and whether it is binary.
---
--- @param seconds? number
--- @return string data, boolean is_binary
function WebSocket:next(seconds)
  local message = self:take("a message", seconds)
  return message.payload, message.binary
end

--- Waits for the next message, which must be this. Returns it, decoded where a table was expected.
---
--- @param expected perigee.testing.Pattern
--- @param seconds? number 2 by default
--- @return any
function WebSocket:expect(expected, seconds)
  return (select(2, self:expect_next(expected, failure.show(expected), seconds)))
end

--- Waits until a message is this, and drops those before it. Returns it as `expect` does.
---
--- @param expected perigee.testing.Pattern
--- @param seconds? number
--- @return any
function WebSocket:expect_later(expected, seconds)
  return (select(2, self:expect_some(expected, failure.show(expected), seconds)))
end

--- Waits for the next message, which must match a Lua pattern. Returns the captures.
---
--- @param pattern string
--- @param seconds? number
--- @return string ...
function WebSocket:expect_match(pattern, seconds)
  local message = self:expect_next(function(text)
    return text:find(pattern) ~= nil
  end, "a match of " .. failure.quote(pattern), seconds)
  return message.payload:match(pattern)
end

--- Waits for the next message, which must be JSON with these members and no others. Returns it.
---
--- @param expected any
--- @param seconds? number
--- @return any
function WebSocket:expect_json(expected, seconds)
  local value
  self:expect_next(
    json.is_pattern(expected) and expected or reader.anything,
    "exactly " .. failure.show(expected),
    seconds,
    function(message)
      local problem, ok, why
      value, problem = json.try_decode(message.payload)
      if problem then
        return problem
      end
      ok, why = json.matches(expected, value)
      return not ok and why or nil
    end
  )
  return value
end

--- Waits for the next message, which must be binary and exactly this.
---
--- @param expected string
--- @param seconds? number
function WebSocket:expect_binary(expected, seconds)
  local message = self:expect_next(
    reader.anything,
    "binary " .. failure.quote(expected),
    seconds,
    function(message)
      if not message.binary then
        return "it is text"
      end
      local is_same = message.payload == expected
      return not is_same and (failure.difference(expected, message.payload) or "") or nil
    end
  )
  return message.payload
end

--- Waits for a pong with this payload.
function WebSocket:expect_pong(payload, seconds)
  local shown = "the pong " .. failure.quote(payload)
  self:wait_until(function()
    return #self.pongs > 0
  end, shown, seconds)
  local got = table.remove(self.pongs, 1)
  if got ~= payload then
    self:fail_expected(shown, "the pong " .. failure.quote(got))
  end
end

--- Waits for a ping. Returns its payload.
function WebSocket:expect_ping(seconds)
  self:wait_until(function()
    return #self.pings > 0
  end, "a ping", seconds)
  return table.remove(self.pings, 1)
end

-- Two round trips, of which `is_over` may be the end sooner.
local function fence(self, seconds, is_over)
  for _ = 1, 2 do
    self.fences = self.fences + 1
    local payload = "fence " .. self.fences
    self:ping(payload)
    local function is_back()
      return self.pongs[#self.pongs] == payload
    end
    self:wait_until(function()
      return is_back() or is_over()
    end, "the pong of a fence", seconds)
    if not is_back() then
      return
    end
    table.remove(self.pongs)
  end
end

--- Two round trips: what this client sent has been handled, and what its worker had for it when the
--- first ping arrived has been received.
function WebSocket:fence(seconds)
  fence(self, seconds, function()
    return false
  end)
end

--- Nothing has come that no expectation took: what this client sent has been handled, and all
--- workers have come to rest.
function WebSocket:expect_nothing_queued()
  self:fence()
  if self.conn.settle then
    self.conn.settle()
    self:fence()
  end
  self:expect_empty()
end

--- Forgets what is queued, after a fence. Of a connection that is closed, or is closed meanwhile, it
--- forgets what came before the close.
function WebSocket:discard()
  if self:is_live() then
    fence(self, nil, function()
      return not self:is_live()
    end)
  end
  self.queue = {}
end

-- Closing --------------------------------------------------------------------------------------

--- Sends a close frame and does not wait for the answer.
function WebSocket:send_close(code, reason)
  self.close_sent = true
  return self:send_frame({ opcode = "close", payload = frames.close_payload(code, reason) })
end

local function show_close(code, reason)
  return ("close %s%s"):format(code or "", reason and (" %q"):format(reason) or "")
end

-- The close frame that came must be this one.
local function check_close(self, code, reason, shown)
  local closed = self.closed
  if (code and closed.code ~= code) or (reason and closed.reason ~= reason) then
    self:fail_expected(shown, self:describe_end("eof"))
  end
end

-- What follows a close frame is the end of the connection.
local function finish_close(self, seconds)
  self.conn:expect_eof(seconds)
  self.conn:close()
  return self.closed.code, self.closed.reason
end

--- Waits until the gateway closes with this code (and reason, when given), and for the end of the
--- connection. Fails when messages came that no expectation took.
---
--- @param code? integer any by default
--- @param reason? string any by default
--- @param seconds? number 2 by default
--- @return integer code 1005 where the gateway gave none
--- @return string reason "" where the gateway gave none
function WebSocket:expect_close(code, reason, seconds)
  local shown = show_close(code, reason)
  self:wait_until(function()
    return self.closed ~= nil
  end, shown, seconds)
  check_close(self, code, reason, shown)
  self:expect_empty(" before the close")
  return finish_close(self, seconds)
end

--- The same, and passes over messages that come before the close. Of a reader that was too slow the
--- reason is the position to come back with:
---
---     local _, position = slow:expect_close_later(1013)
---
--- @param code? integer any by default
--- @param reason? string any by default
--- @param seconds? number 2 by default
--- @return integer code
--- @return string reason
function WebSocket:expect_close_later(code, reason, seconds)
  local shown = show_close(code, reason) .. ", sooner or later"
  self:wait_until(function()
    self:pass_over()
    return self.closed ~= nil
  end, shown, seconds)
  check_close(self, code, reason, shown)
  return finish_close(self, seconds)
end

--- Waits until the connection ends without a close frame.
function WebSocket:expect_abort(seconds)
  local shown = "the end of the connection without a close frame"
  self:wait_until(function()
    return self.conn.ended ~= nil or self.closed ~= nil
  end, shown, seconds)
  if self.closed then
    self:fail_expected(shown, self:describe_end("eof"))
  end
  self.conn:close()
end

--- Closes in good order: the close frame, the gateway's answer with the same code, the end. Messages
--- still under way are dropped.
---
--- @param code? integer 1000 by default
--- @param reason? string
function WebSocket:close(code, reason)
  if not self.conn.fd then
    return
  end
  self.conn.paused = false
  if not self.closed then
    self:send_close(code or 1000, reason)
    self:wait_until(function()
      return self.closed ~= nil
    end, "the answer to close")
  end
  self.queue = {}
  self:expect_close(self.closed.code)
end

--- Ends the connection with RST.
function WebSocket:reset()
  self.conn:reset()
end

--- The network is gone: the connection ends without a close frame.
function WebSocket:drop()
  self.conn:close()
end

--- From here on nothing is read, until resume: a reader that is too slow.
function WebSocket:pause()
  self.conn.paused = true
end

function WebSocket:resume()
  self.conn.paused = false
end

return M
