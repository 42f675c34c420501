-- One raw connection of a spec: bytes out, bytes in, with deadlines. The protocols build on it.
local buffer = require("string.buffer")
local posix = require("spec.support.posix")

local Connection = {}
Connection.__index = Connection

local M = {}

--- Connects to `{ host =, port = }` or `{ path = }`. Options: `receive_buffer` in bytes,
--- `describe`, a function whose text is added to failures.
function M.open(target, opts)
  opts = opts or {}
  local fd, message = posix.connect(target, opts.receive_buffer)
  if not fd then
    error(
      "connecting to " .. (target.path or target.host .. ":" .. target.port) .. ": " .. message,
      2
    )
  end
  return setmetatable({
    fd = fd,
    port = not target.path and posix.local_port(fd) or nil,
    received = buffer.new(),
    describe = opts.describe,
    -- "eof" or "reset" when nothing more can come.
    ended = nil,
  }, Connection)
end

--- Raises with what the gateway said last.
function Connection:fail(text, level)
  local more = self.describe and self.describe() or ""
  error(text .. more, (level or 1) + 1)
end

--- Reads once, waiting until the deadline. Returns true, or nil and "timeout", "eof" or "reset".
function Connection:fill(deadline)
  if self.ended then
    return nil, self.ended
  end
  assert(self.fd, "this connection was closed by the spec")
  while true do
    local count, why = posix.receive(self.fd, self.received)
    if count then
      return true
    elseif why ~= "again" then
      self.ended = why
      return nil, why
    elseif not posix.wait(self.fd, true, false, deadline) then
      return nil, "timeout"
    end
  end
end

--- Writes all of `bytes`, reading meanwhile what comes (not on a paused connection), so that two
--- ends that both speak cannot block each other. Returns true, or nil and "reset" or "timeout".
function Connection:write(bytes, seconds)
  assert(self.fd, "this connection was closed by the spec")
  local deadline, offset = posix.deadline(seconds or 10), 0
  while offset < #bytes do
    local count, why = posix.send(self.fd, bytes, offset)
    if count then
      offset = offset + count
    elseif why == "reset" then
      return nil, "reset"
    else
      local wants = not self.paused and not self.ended
      local readable, writable = posix.wait(self.fd, wants, true, deadline)
      if not readable and not writable then
        return nil, "timeout"
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

--- Takes exactly `count` bytes; raises when they do not come.
function Connection:read(count, seconds)
  local deadline = posix.deadline(seconds)
  while #self.received < count do
    local ok, why = self:fill(deadline)
    if not ok then
      self:fail(
        ("%s while waiting for %d bytes, got %q"):format(why, count, self:peek():sub(1, 500)),
        2
      )
    end
  end
  return self.received:get(count)
end

--- Takes everything up to and including the first match of a Lua pattern.
function Connection:read_until(pattern, seconds)
  local deadline = posix.deadline(seconds)
  while true do
    local _, last = self:peek():find(pattern)
    if last then
      return self.received:get(last)
    end
    local ok, why = self:fill(deadline)
    if not ok then
      self:fail(
        ("%s while waiting for %q, got %q"):format(why, pattern, self:peek():sub(1, 500)),
        2
      )
    end
  end
end

--- Takes everything until the peer has closed. Returns the bytes and "eof" or "reset".
function Connection:read_all(seconds)
  local deadline = posix.deadline(seconds)
  while true do
    local ok, why = self:fill(deadline)
    if why == "timeout" then
      self:fail(("still open; got %q"):format(self:peek():sub(1, 500)), 2)
    elseif not ok then
      return self.received:get(), why
    end
  end
end

--- The peer closes in good order (FIN, no RST) and has nothing more to say.
function Connection:expect_eof(seconds)
  local rest, why = self:read_all(seconds)
  if why ~= "eof" or rest ~= "" then
    self:fail(("expected the end, got %s after %q"):format(why, rest:sub(1, 500)), 2)
  end
end

--- The peer closes, in whatever manner. Returns what it still said, and "eof" or "reset".
function Connection:expect_closed(seconds)
  return self:read_all(seconds)
end

--- Says that no more will be written (FIN), and goes on reading.
function Connection:half_close()
  posix.half_close(self.fd)
end

function Connection:close()
  if self.fd then
    posix.close(self.fd)
    self.fd = nil
  end
end

--- Ends the connection with RST.
function Connection:reset()
  if self.fd then
    posix.close(self.fd, true)
    self.fd = nil
  end
end

--- What the kernel has ready now, without waiting for more.
function Connection:poll_once()
  return self:fill(posix.now())
end

return M
