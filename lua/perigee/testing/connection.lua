--- One raw connection of a spec: bytes out, bytes in, with deadlines. The protocols build on it.
---
--- Bytes go by the functions of `io`: a socket's, which are perigee.testing.posix, or what the target
--- brings (perigee.testing.app).

local buffer = require("string.buffer")

local failure = require("perigee.testing.failure")
local posix = require("perigee.testing.posix")

--- @class perigee.testing.Connection
--- @field ended "eof"|"reset"|nil why nothing more can come
--- @field port integer? of this end
local Connection = {}
Connection.__index = Connection

local M = {}

local ENDS = { eof = "the end of the connection", reset = "a reset of the connection" }

--- Connects to `{ host =, port = }`, `{ path = }` or `{ io = }`. Options: `receive_buffer` in bytes,
--- and of the server that failures are told about: `name`, `log` (a function that gives lines),
--- `clock` (one that gives a remark on time, or nil), `in_vain` (see Server:in_vain) and `settle`.
---
--- @return perigee.testing.Connection
function M.open(target, opts)
  opts = opts or {}
  local io = target.io or posix
  local fd, message = io.connect(target, opts.receive_buffer)
  local self = setmetatable({
    io = io,
    fd = fd,
    port = fd and not target.path and io.local_port(fd) or nil,
    received = buffer.new(),
    name = opts.name or "The connection",
    log = opts.log,
    clock = opts.clock,
    in_vain = opts.in_vain or posix.in_vain,
    settle = opts.settle,
    ended = nil,
  }, Connection)
  if not fd then
    self:fail(
      ("cannot connect to %s: %s"):format(target.url or target.path or target.port, message)
    )
  end
  return self
end

--- Fails the spec with labelled rows, and the end of the gateway's log when there is something in it.
function Connection:report(rows)
  rows[#rows + 1] = { "log", self.log and self.log() }
  failure.report(self.name, rows)
end

--- Fails the spec with one sentence.
function Connection:fail(text)
  self:report({ { "problem", text } })
end

--- Why a wait was in vain, as a failure says it: `why` is what `fill` gave, after `seconds`.
function Connection:describe_end(why, seconds)
  if why ~= "timeout" then
    return ENDS[why] or why
  end
  local note = self.clock and self.clock()
  local text = self.in_vain("nothing", seconds)
  return note and text .. " (" .. note .. ")" or text
end

--- Reads once, waiting until the deadline. Returns true, or nil and "timeout", "eof" or "reset".
function Connection:fill(deadline)
  if self.ended then
    return nil, self.ended
  elseif not self.fd then
    self:fail("the spec has closed this connection")
  end
  while true do
    local count, why = self.io.receive(self.fd, self.received)
    if count then
      return true
    elseif why ~= "again" then
      self.ended = why
      return nil, why
    elseif not self.io.wait(self.fd, true, false, deadline) then
      return nil, "timeout"
    end
  end
end

--- Writes all of `bytes`, reading meanwhile what comes (not on a paused connection), so that two
--- ends that both speak cannot block each other. Returns true, or nil and "reset". Fails when they
--- are not taken within `seconds`, 10 by default.
function Connection:write(bytes, seconds)
  if not self.fd then
    self:fail("the spec has closed this connection")
  end
  local deadline, offset = posix.deadline(seconds or 10), 0
  while offset < #bytes do
    local count, why = self.io.send(self.fd, bytes, offset)
    if count then
      offset = offset + count
    elseif why == "reset" then
      return nil, "reset"
    else
      local wants = not self.paused and not self.ended
      local readable, writable = self.io.wait(self.fd, wants, true, deadline)
      if not readable and not writable then
        local text = "the gateway has taken %d of %d bytes within %g s"
        self:fail(text:format(offset, #bytes, (seconds or 10) * posix.time_scale))
      end
      if readable then
        self:fill(deadline)
      end
    end
  end
  return true
end

--- Everything received and not yet taken.
function Connection:peek()
  return tostring(self.received)
end

function Connection:fail_waiting(expected, why, seconds)
  local got = self:peek()
  self:report({
    { "expected", expected },
    { "got", self:describe_end(why, seconds) },
    { "before", got ~= "" and failure.quote(got) or nil },
  })
end

--- Takes exactly `count` bytes.
function Connection:read(count, seconds)
  local deadline = posix.deadline(seconds)
  while #self.received < count do
    local ok, why = self:fill(deadline)
    if not ok then
      self:fail_waiting(count .. " bytes", why, seconds)
    end
  end
  return self.received:get(count)
end

--- Takes everything up to and including the first match of a Lua pattern.
---
--- @param pattern string
--- @param seconds? number 2 by default
--- @param expected? string what that is, for a failure
--- @return string
function Connection:read_until(pattern, seconds, expected)
  local deadline = posix.deadline(seconds)
  while true do
    local _, last = self:peek():find(pattern)
    if last then
      return self.received:get(last)
    end
    local ok, why = self:fill(deadline)
    if not ok then
      self:fail_waiting(expected or "a match of " .. failure.quote(pattern), why, seconds)
    end
  end
end

--- Takes everything until the peer has closed. Returns the bytes and "eof" or "reset".
function Connection:read_all(seconds)
  local deadline = posix.deadline(seconds)
  while true do
    local ok, why = self:fill(deadline)
    if why == "timeout" then
      self:fail_waiting(ENDS.eof, why, seconds)
    elseif not ok then
      return self.received:get(), why
    end
  end
end

--- The peer closes in good order (FIN, no RST) and has nothing more to say.
function Connection:expect_eof(seconds)
  local rest, why = self:read_all(seconds)
  if why ~= "eof" or rest ~= "" then
    self:report({
      { "expected", ENDS.eof .. " and nothing before it" },
      { "got", rest ~= "" and failure.quote(rest) .. ", then " .. ENDS[why] or ENDS[why] },
    })
  end
end

--- The peer closes, in whatever manner. Returns what it still said, and "eof" or "reset".
function Connection:expect_closed(seconds)
  return self:read_all(seconds)
end

--- Says that no more will be written (FIN), and goes on reading.
function Connection:half_close()
  self.io.half_close(self.fd)
end

function Connection:close()
  if self.fd then
    self.io.close(self.fd)
    self.fd = nil
  end
end

--- Ends the connection with RST.
function Connection:reset()
  if self.fd then
    self.io.close(self.fd, true)
    self.fd = nil
  end
end

--- What the kernel has ready now, without waiting for more.
function Connection:poll_once()
  return self:fill(posix.now())
end

return M
