-- The specs' own WebSocket client (RFC 6455): handshake, framing, masking, UTF-8 and the close
-- handshake, written apart from the gateway's so that a bug shared by both ends cannot hide.
local bit = require("bit")
local ffi = require("ffi")

local connection = require("spec.support.connection")
local http = require("spec.support.http")
local json = require("spec.support.json")
local posix = require("spec.support.posix")

local WebSocket = {}
WebSocket.__index = WebSocket

local M = {}

-- RFC 6455 section 1.3: the one pair that the specification works out by hand.
M.KEY = "dGhlIHNhbXBsZSBub25jZQ=="
M.ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

M.opcodes = { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 }

--- Whether `bytes` are UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing past 10FFFF).
function M.is_utf8(bytes)
  local data, len, at = ffi.cast("const uint8_t *", bytes), #bytes, 0
  while at < len do
    local first = data[at]
    local count, low, high = 0, 0x80, 0xBF
    if first >= 0xC2 and first <= 0xDF then
      count = 1
    elseif first >= 0xE0 and first <= 0xEF then
      count = 2
      low = first == 0xE0 and 0xA0 or low
      high = first == 0xED and 0x9F or high
    elseif first >= 0xF0 and first <= 0xF4 then
      count = 3
      low = first == 0xF0 and 0x90 or low
      high = first == 0xF4 and 0x8F or high
    elseif first >= 0x80 then
      return false
    end
    for i = 1, count do
      local byte = at + i < len and data[at + i] or 0
      if byte < low or byte > high then
        return false
      end
      low, high = 0x80, 0xBF
    end
    at = at + 1 + count
  end
  return true
end

local function masked(payload, key)
  local len = #payload
  local out = ffi.new("uint8_t[?]", len)
  local from = ffi.cast("const uint8_t *", payload)
  for i = 0, len - 1 do
    out[i] = bit.bxor(from[i], key[bit.band(i, 3)])
  end
  return ffi.string(out, len)
end

local function big_endian(value, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(out)
end

--- A frame as bytes. `opcode` is a name or a number; default: one whole masked text frame. `length`
--- claims another length than the payload's; `length_bytes` (0, 2 or 8) takes a longer form than
--- needed; `key` is four bytes; `mask = false` leaves out masking, as only a server may.
function M.frame(opts)
  local payload = opts.payload or ""
  local opcode = M.opcodes[opts.opcode] or opts.opcode or 1
  local first = (opts.fin == false and 0 or 0x80) + bit.lshift(opts.rsv or 0, 4) + opcode
  local mask_bit = opts.mask == false and 0 or 0x80
  local length = opts.length or #payload
  local form = opts.length_bytes or (length < 126 and 0 or length < 65536 and 2 or 8)
  local head
  if form == 0 then
    head = string.char(first, mask_bit + length)
  elseif form == 2 then
    head = string.char(first, mask_bit + 126) .. big_endian(length, 2)
  else
    head = string.char(first, mask_bit + 127) .. big_endian(length, 8)
  end
  if opts.mask == false then
    return head .. payload
  end
  local key = ffi.new("uint8_t[4]")
  for i = 0, 3 do
    key[i] = opts.key and opts.key:byte(i + 1) or math.random(0, 255)
  end
  return head .. ffi.string(key, 4) .. masked(payload, key)
end

--- The payload of a close frame.
function M.close_payload(code, reason)
  return code and big_endian(code, 2) .. (reason or "") or ""
end

--- The bytes of a handshake. A header whose value is false is left out.
function M.handshake(opts)
  local headers = {
    { "Upgrade", "websocket" },
    { "Connection", "Upgrade" },
    { "Sec-WebSocket-Key", opts.key or M.KEY },
    { "Sec-WebSocket-Version", opts.version or "13" },
  }
  if opts.origin then
    headers[#headers + 1] = { "Origin", opts.origin }
  end
  if opts.protocols then
    headers[#headers + 1] = { "Sec-WebSocket-Protocol", table.concat(opts.protocols, ", ") }
  end
  local replaced = {}
  for name, value in pairs(opts.headers or {}) do
    replaced[name:lower()] = true
    if value then
      headers[#headers + 1] = { name, value }
    end
  end
  for i = 4, 1, -1 do
    if replaced[headers[i][1]:lower()] then
      table.remove(headers, i)
    end
  end
  return http.request({
    path = opts.path,
    host = opts.host,
    method = opts.method,
    headers = headers,
  })
end

--- Opens a WebSocket. Raises unless the handshake succeeds; with `any_status` a refusal is returned
--- as a response (`status`, `headers`, `body`). Options: path, host, headers, origin, protocols,
--- key, version, receive_buffer, describe, `auto_pong = false`, `auto_close = false`.
function M.open(target, opts)
  local conn = connection.open(target, opts)
  conn:write(M.handshake(opts))
  local response = http.read_head(conn)
  if response.status ~= 101 then
    response.conn = conn
    local length = tonumber(response.headers["content-length"] or 0)
    response.body = conn:read(length)
    if opts.any_status then
      return response
    end
    conn:fail(("the handshake was refused: %d %s"):format(response.status, response.body), 2)
  end
  local headers = response.headers
  if
    (headers.upgrade or ""):lower() ~= "websocket"
    or (headers.connection or ""):lower() ~= "upgrade"
    or (headers["sec-websocket-accept"] ~= M.ACCEPT and not opts.key)
    or headers["content-length"]
    or headers["transfer-encoding"]
  then
    conn:fail("not an answer to a WebSocket handshake", 2)
  end
  return setmetatable({
    conn = conn,
    port = conn.port,
    status = 101,
    headers = headers,
    queue = {},
    pongs = {},
    pings = {},
    auto_pong = opts.auto_pong ~= false,
    auto_close = opts.auto_close ~= false,
    -- `{ code, reason }` of the gateway's close frame.
    closed = nil,
    fences = 0,
  }, WebSocket)
end

-- Sending --------------------------------------------------------------------------------------

--- Writes bytes as they are. Returns true, or nil and "reset".
function WebSocket:send_raw(bytes)
  return self.conn:write(bytes)
end

--- See M.frame for the options.
function WebSocket:send_frame(opts)
  return self.conn:write(M.frame(opts))
end

--- Sends a text message; a table as JSON.
function WebSocket:send(data)
  if type(data) == "table" then
    data = json.encode(data)
  end
  return self:send_frame({ payload = data })
end

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
  if frame.opcode == M.opcodes.ping then
    self.pings[#self.pings + 1] = frame.payload
    if self.auto_pong and not self.close_sent then
      self:send_frame({ opcode = "pong", payload = frame.payload })
    end
  elseif frame.opcode == M.opcodes.pong then
    self.pongs[#self.pongs + 1] = frame.payload
  elseif frame.opcode == M.opcodes.close then
    local payload = frame.payload
    local code = #payload >= 2 and payload:byte(1) * 256 + payload:byte(2) or 1005
    if #payload == 1 or not M.is_utf8(payload:sub(3)) then
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
  message = message or { parts = {}, binary = frame.opcode == M.opcodes.binary }
  message.parts[#message.parts + 1] = frame.payload
  self.message = message
  if frame.fin then
    local payload = table.concat(message.parts)
    if not message.binary and not M.is_utf8(payload) then
      self.conn:fail("the gateway sent text that is not UTF-8")
    end
    self.queue[#self.queue + 1] = { payload = payload, binary = message.binary }
    self.message = nil
  end
end

-- Handles every whole frame that has come.
function WebSocket:handle_frames()
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

-- Waits until `is_done()`; raises at the deadline or when the connection ends first.
function WebSocket:wait_until(is_done, what, seconds)
  assert(not self.conn.paused, "this WebSocket is paused")
  local deadline = posix.deadline(seconds)
  self:handle_frames()
  while not is_done() do
    local ok, why = self.conn:fill(deadline)
    self:handle_frames()
    if not ok and not is_done() then
      local closed = self.closed
        and (", closed with %d %q"):format(self.closed.code, self.closed.reason)
      self.conn:fail(
        ("%s while waiting for %s%s%s"):format(why, what, closed or "", self:queued()),
        3
      )
    end
  end
end

-- What came and was not expected yet, for failures.
function WebSocket:queued()
  local parts = {}
  for i = 1, math.min(5, #self.queue) do
    parts[i] = ("%q"):format(self.queue[i].payload:sub(1, 200))
  end
  return #parts > 0 and "; queued: " .. table.concat(parts, ", ") or ""
end

--- The next message, whatever it is. Returns its bytes and whether it is binary.
function WebSocket:next(seconds, what)
  self:wait_until(function()
    return #self.queue > 0 or (self.closed ~= nil)
  end, what or "a message", seconds)
  local message = table.remove(self.queue, 1)
  if not message then
    local closed = self.closed
    self.conn:fail(
      ("closed with %d %q while waiting for %s"):format(
        closed.code,
        closed.reason,
        what or "a message"
      ),
      2
    )
  end
  return message.payload, message.binary
end

--- Waits for the next message, which must be this: a string exactly, a table as JSON of which at
--- least the named members match, a function that says so. Returns the message, decoded for a table.
function WebSocket:expect(expected, seconds)
  local payload, is_binary = self:next(
    seconds,
    type(expected) == "string" and ("%q"):format(expected:sub(1, 200)) or "a message"
  )
  if type(expected) == "table" then
    local value = json.decode(payload)
    local ok, why = json.matches(expected, value, true)
    if not ok then
      self.conn:fail(("%s in %s"):format(why, payload:sub(1, 500)))
    end
    return value
  elseif type(expected) == "function" then
    if not expected(payload, is_binary) then
      self.conn:fail(("not the message expected: %q"):format(payload:sub(1, 500)))
    end
  elseif expected ~= payload or is_binary then
    self.conn:fail(
      ("expected %q, got %s%q"):format(
        expected:sub(1, 500),
        is_binary and "binary " or "",
        payload:sub(1, 500)
      )
    )
  end
  return payload
end

--- Waits for the next message, which must match a Lua pattern. Returns the captures.
function WebSocket:expect_match(pattern, seconds)
  local payload = self:next(seconds, pattern)
  if not payload:find(pattern) then
    self.conn:fail(("expected a match of %q, got %q"):format(pattern, payload:sub(1, 500)))
  end
  return payload:match(pattern)
end

--- Waits for the next message, which must be JSON with exactly these members. Functions inside
--- judge their member. Returns the value.
function WebSocket:expect_json(expected, seconds)
  local payload = self:next(seconds, "JSON")
  local value = json.decode(payload)
  local ok, why = json.matches(expected, value)
  if not ok then
    self.conn:fail(("%s in %s"):format(why, payload:sub(1, 500)))
  end
  return value
end

--- Waits for the next message, which must be binary and exactly this.
function WebSocket:expect_binary(expected, seconds)
  local payload, is_binary = self:next(seconds, "a binary message")
  if not is_binary or payload ~= expected then
    self.conn:fail(
      ("expected %d bytes of binary, got %d%s: %q"):format(
        #expected,
        #payload,
        is_binary and "" or " of text",
        payload:sub(1, 200)
      )
    )
  end
  return payload
end

--- Waits for a pong with this payload.
function WebSocket:expect_pong(payload, seconds)
  self:wait_until(function()
    return #self.pongs > 0
  end, "a pong", seconds)
  local got = table.remove(self.pongs, 1)
  if got ~= payload then
    self.conn:fail(("expected the pong %q, got %q"):format(payload, got))
  end
end

--- Waits for a ping. Returns its payload.
function WebSocket:expect_ping(seconds)
  self:wait_until(function()
    return #self.pings > 0
  end, "a ping", seconds)
  return table.remove(self.pings, 1)
end

--- Two round trips: what this connection sent has been handled, and what its worker had for it
--- when the first ping arrived has been received.
function WebSocket:fence(seconds)
  for _ = 1, 2 do
    self.fences = self.fences + 1
    local payload = "fence " .. self.fences
    self:ping(payload)
    self:wait_until(function()
      return self.pongs[#self.pongs] == payload
    end, "the fence", seconds)
    table.remove(self.pongs)
  end
end

--- Nothing has come that no expectation took, up to a fence.
function WebSocket:expect_silence()
  self:fence()
  if #self.queue > 0 then
    self.conn:fail("expected silence" .. self:queued())
  end
end

--- Forgets what is queued, after a fence.
function WebSocket:discard()
  self:fence()
  self.queue = {}
end

-- Closing --------------------------------------------------------------------------------------

--- Sends a close frame and does not wait for the answer.
function WebSocket:send_close(code, reason)
  self.close_sent = true
  return self:send_frame({ opcode = "close", payload = M.close_payload(code, reason) })
end

--- Waits for the gateway's close frame, answers it, and waits for the end of the connection. Raises
--- when messages came that no expectation took. `reason` is judged when given.
function WebSocket:expect_close(code, reason, seconds)
  self:wait_until(function()
    return self.closed ~= nil
  end, "close " .. tostring(code), seconds)
  if self.closed.code ~= code or (reason and self.closed.reason ~= reason) then
    self.conn:fail(
      ("expected close %s %q, got %d %q"):format(
        tostring(code),
        reason or "",
        self.closed.code,
        self.closed.reason
      )
    )
  end
  if #self.queue > 0 then
    self.conn:fail("closed with messages that nobody expected" .. self:queued())
  end
  self.conn:expect_eof(seconds)
  self.conn:close()
end

--- The connection ends without a close frame.
function WebSocket:expect_abort(seconds)
  self:wait_until(function()
    return self.conn.ended ~= nil or self.closed ~= nil
  end, "the end", seconds)
  if self.closed then
    self.conn:fail("expected no close frame, got " .. self.closed.code)
  end
  self.conn:close()
end

--- Closes in good order: the close frame, the gateway's answer with the same code, the end.
--- Messages still under way are dropped.
function WebSocket:close(code, reason)
  if not self.conn.fd then
    return
  end
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

--- Ends the TCP connection (FIN) without a close frame.
function WebSocket:drop()
  self.conn:close()
end

--- From here on nothing is read, until resume.
function WebSocket:pause()
  self.conn.paused = true
end

function WebSocket:resume()
  self.conn.paused = false
end

return M
