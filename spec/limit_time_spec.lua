-- Limits of time and of pace: what a silent, slow or hasty peer may take.
local bit = require("bit")
local ffi = require("ffi")
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local lfs = require("lfs")
local posix = require("perigee.testing.posix")

local HELLO = [[
  app:get("/", function() return "hello" end)
  app:get("/large", function() return ("x"):rep(16 * 1024 * 1024) end)
  app:post("/", function(request) return request.body end)
  app:websocket("/", { on_message = function(conn, data) conn:send(data) end })
]]

local function start(...)
  local server = gateway.start({ app = HELLO, arguments = { ... } })
  server:freeze()
  return server
end

describe("A timeout given on the command line", function()
  it("is that of a head", function()
    local server = start("--limit-header-timeout", "3")
    local conn = server:raw()
    conn:write("GET / HTTP/1.1\r\nHost: a\r\n")
    server:advance(2.9)
    assert.equal("", conn:peek())
    server:advance(0.2)
    assert.equal(408, http.read_response(conn).status)
    conn:expect_eof()
  end)

  it("is that of a later request's head, from its first byte on", function()
    local server = start("--limit-header-timeout", "3")
    local conn = server:raw()
    conn:write(http.request({ path = "/" }))
    assert.equal("hello", http.read_response(conn).body)
    server:advance(20)
    for byte in ("GET / "):gmatch(".") do
      conn:write(byte)
      server:advance(0.45)
    end
    assert.equal("", conn:peek())
    server:advance(0.4)
    assert.equal(408, http.read_response(conn).status)
    conn:expect_eof()
  end)

  it("is that of an answer that nobody takes", function()
    local server = start("--limit-user-timeout", "7", "--limit-keep-alive-timeout", "20")
    local conn = server:raw()
    conn:write(http.request({ path = "/large" }))
    conn:read_until("\r\n\r\n")
    server:advance(6.9)
    assert.equal(1, server:counters().http)
    server:advance(0.2)
    server:wait_for({ http = 0 })
  end)

  it("is that of a body, however steadily it trickles", function()
    local server = start("--limit-body-timeout", "3")
    local conn = server:raw()
    conn:write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    for _ = 1, 5 do
      conn:write("x")
      server:advance(0.5)
    end
    server:advance(0.6)
    assert.equal(408, http.read_response(conn).status)
    conn:expect_eof()
  end)

  it("is that of a connection between two requests, and closes it without a word", function()
    local server = start("--limit-keep-alive-timeout", "3")
    local conn = server:raw()
    for _ = 1, 3 do
      conn:write(http.request({ path = "/" }))
      assert.equal("hello", http.read_response(conn).body)
      server:advance(2.9)
    end
    server:advance(0.2)
    conn:expect_eof()
  end)

  it("is that of a close frame's answer", function()
    local server = gateway.start({
      arguments = { "--limit-close-timeout", "2" },
      app = [[
        app:websocket("/", {
          on_message = function(conn) conn:close(4000) end,
          on_close = function(conn, code) perigee.log.info("closed with " .. code) end,
        })
      ]],
    })
    server:freeze()
    local ws = server:websocket("/", { auto_close = false })
    ws:send("close")
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "the close frame")
    server:advance(1.9)
    assert.equal(1, server:counters().connections)
    assert.is_nil(server.log:text():find("closed with", 1, true))
    server:advance(0.2)
    server.log:expect("closed with 4000")
    server:wait_for({ connections = 0 })
  end)

  it("is not needed after both close frames of a WebSocket", function()
    local server = start("--limit-linger-timeout", "2")
    local ws = server:websocket("/")
    ws:send_close(1000)
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "the close frame")
    ws.conn:expect_eof()
    server:wait_for({ connections = 0 })
  end)

  it("is that of the peer's end after a WebSocket has failed", function()
    local server = start("--limit-linger-timeout", "2")
    local ws = server:websocket("/")
    ws:send_frame({ opcode = 3, payload = "" })
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "the close frame")
    ws.conn:expect_eof()
    server:advance(1.9)
    assert.equal(1, server:counters().connections)
    server:advance(0.2)
    server:wait_for({ connections = 0 })
  end)

  it("is that of the peer's end after an answer that ends the connection", function()
    local server = start("--limit-linger-timeout", "2")
    local conn = server:raw()
    conn:write("GET / HTTP/1.1\r\n\r\n")
    assert.equal(400, http.read_response(conn).status)
    conn:expect_eof()
    server:advance(1.9)
    assert.equal(1, server:counters().http)
    server:advance(0.2)
    server:wait_for({ http = 0 })
  end)
end)

-- A socket of another process, seen through a descriptor of our own (pidfd_getfd).
local function option_of(pid, port, level, name)
  if not ffi.perigee_limit_time then
    ffi.perigee_limit_time = true
    ffi.cdef([[
      long syscall(long number, ...);
      int getpeername(int fd, void *address, uint32_t *len);
      int getsockopt(int fd, int level, int name, void *value, uint32_t *len);
    ]])
  end
  local PIDFD_OPEN, PIDFD_GETFD = 434, 438
  local pidfd = ffi.C.syscall(PIDFD_OPEN, ffi.cast("long", pid), ffi.cast("long", 0))
  assert(pidfd >= 0, "pidfd_open")
  local found
  for entry in lfs.dir("/proc/" .. pid .. "/fd") do
    local fd = entry:match("^%d+$")
        and ffi.C.syscall(
          PIDFD_GETFD,
          ffi.cast("long", pidfd),
          ffi.cast("long", tonumber(entry)),
          ffi.cast("long", 0)
        )
      or -1
    if fd >= 0 then
      fd = tonumber(fd)
      local address, len = ffi.new("uint8_t[28]"), ffi.new("uint32_t[1]", 28)
      -- The peer's port stands in bytes 2 and 3.
      if
        ffi.C.getpeername(fd, address, len) == 0
        and bit.lshift(address[2], 8) + address[3] == port
      then
        local value = ffi.new("int[1]")
        len[0] = 4
        assert(ffi.C.getsockopt(fd, level, name, value, len) == 0, "getsockopt")
        found = value[0]
      end
      posix.close(fd)
    end
  end
  posix.close(tonumber(pidfd))
  return found
end

describe("Data that nobody acknowledges", function()
  it("ends its connection after the user timeout, which every accepted socket has", function()
    local IPPROTO_TCP, TCP_USER_TIMEOUT = 6, 18
    local server = start("--limit-user-timeout", "7")
    local ws = server:websocket("/")
    ws:fence()
    assert.equal(7000, option_of(server.pid, ws.port, IPPROTO_TCP, TCP_USER_TIMEOUT))
  end)
end)

describe("A rate", function()
  local function rate(excess)
    local server = gateway.start({
      app = ([[
        app:websocket("/", {
          rate = { messages = 2, per = 1, excess = %q },
          on_message = function(conn, data) conn:send(data) end,
          on_close = function(conn, code) perigee.log.info("closed with " .. code) end,
        })
      ]]):format(excess),
    })
    server:freeze()
    return server, server:websocket("/")
  end

  local function expect_count(server, ws, count)
    server:settle()
    repeat
    until not ws.conn:poll_once()
    ws:parse()
    assert.equal(count, #ws.queue)
  end

  it("whose excess waits delays messages, and loses none", function()
    local server, ws = rate("wait")
    for i = 1, 6 do
      ws:send(tostring(i))
    end
    expect_count(server, ws, 2)
    server:advance(0.4)
    expect_count(server, ws, 2)
    server:advance(0.2)
    expect_count(server, ws, 3)
    server:advance(1.7)
    for i = 1, 6 do
      ws:expect(tostring(i))
    end
    -- A full bucket holds no more than the rate, however long it was idle.
    server:advance(10)
    for i = 1, 3 do
      ws:send(tostring(i))
    end
    expect_count(server, ws, 2)
    server:advance(0.6)
    for i = 1, 3 do
      ws:expect(tostring(i))
    end
  end)

  it("whose excess waits is not idleness, and the close behind it is heard", function()
    local server, ws = rate("wait")
    for i = 1, 200 do
      ws:send(tostring(i))
    end
    ws:send_close(1000, "done")
    server:advance(100.5, { peers = true })
    for i = 1, 200 do
      ws:expect(tostring(i))
    end
    ws:expect_close(1000, "done")
    server.log:expect("closed with 1000")
  end)

  it("whose excess is dropped answers pings meanwhile", function()
    local _, ws = rate("drop")
    for i = 1, 5 do
      ws:send(tostring(i))
    end
    ws:fence()
    ws:expect("1")
    ws:expect("2")
    ws:expect_nothing_queued()
  end)

  it("whose excess closes says so, after what was allowed", function()
    local server, ws = rate("close")
    for i = 1, 3 do
      ws:send(tostring(i))
    end
    ws:expect("1")
    ws:expect("2")
    ws:expect_close(1008)
    server.log:expect("closed with 1008")
  end)
end)
