--- WebSocket frames and the handshake (RFC 6455) as a client makes them: values to bytes.
---
--- Written apart from the gateway's, so that a bug shared by both ends cannot hide.

local bit = require("bit")
local ffi = require("ffi")

local http = require("perigee.testing.http")

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

return M
