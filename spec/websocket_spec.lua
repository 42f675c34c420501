-- WebSockets as a client sees them (RFC 6455).
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local websocket = require("perigee.testing.websocket")

local ECHO = [[
  app:websocket("/echo", {
    max_message = 65536,
    on_message = function(conn, data, is_binary) conn:send(data, { binary = is_binary }) end,
  })
]]

describe("A WebSocket handshake", function()
  local server
  setup(function()
    server = gateway.start({
      app = ECHO
        .. [[
      app:websocket("/protocols", {
        protocols = { "v2", "v1" },
        on_open = function(conn) conn:send("open") end,
      })
      app:websocket("/origins", { origins = { "https://a.example" } })
      app:websocket("/anywhere", { origins = { "*" } })
      app:websocket("/refused", { authenticate = function(request)
        local code = tonumber(request.query.code)
        return nil, "not you", code
      end })
      app:websocket("/member", {
        authenticate = function(request)
          if request.query.token ~= "t" then return nil, "who are you?", 401 end
          return { name = "Ada" }
        end,
        on_open = function(conn) conn:send(conn.session.name) end,
      })
      app:websocket("/rooms/:room", { on_open = function(conn) conn:send(conn.request.params.room) end })
      app:get("/plain", function() return "plain" end)
    ]],
    })
  end)

  -- How a handshake is answered that is changed in one point.
  local function answer(opts, path)
    opts.any_status = true
    local response = server:websocket(path or "/echo", opts)
    return response
  end

  it("answers with the accept key of the specification", function()
    local ws = server:websocket("/echo")
    assert.equal(websocket.ACCEPT, ws.headers["sec-websocket-accept"])
    assert.is_nil(ws.headers["sec-websocket-extensions"])
    assert.is_nil(ws.headers["sec-websocket-protocol"])
    ws:close()
  end)

  it("hashes other keys too", function()
    local ws = server:websocket("/echo", { key = "x3JJHMbDL1EzLkh9GBhXDw==" })
    assert.equal("HSmrc0sMlYUkAGmm5OPpG2HaGWk=", ws.headers["sec-websocket-accept"])
  end)

  it("judges Upgrade and Connection as lists without case", function()
    local ws = server:websocket("/echo", {
      headers = { Upgrade = "WebSocket", Connection = "keep-alive, UPGRADE" },
    })
    ws:send("hi")
    ws:expect("hi")
  end)

  it("is 426 with the version that is spoken", function()
    for _, version in ipairs({ "8", "12", "14", "x", "" }) do
      local response = answer({ version = version })
      assert.equal(426, response.status, version)
      assert.equal("13", response.headers["sec-websocket-version"])
    end
  end)

  it("is 400 for a bad key", function()
    for _, key in ipairs({
      "",
      "short",
      "dGhlIHNhbXBsZSBub25jZQ",
      "dGhlIHNhbXBsZSBub25jZ!==",
      ("A"):rep(28),
    }) do
      assert.equal(400, answer({ key = key }).status, key)
    end
    assert.equal(400, answer({ headers = { ["Sec-WebSocket-Key"] = false } }).status)
  end)

  it("is refused without a version or by another method", function()
    local status = answer({ headers = { ["Sec-WebSocket-Version"] = false } }).status
    assert.is_true(status == 426 or status == 400)
    assert.is_true(answer({ method = "POST" }).status >= 400)
  end)

  it("is 426 without Upgrade, 404 where nothing is", function()
    assert.equal(426, answer({ headers = { Upgrade = false, Connection = false } }).status)
    assert.equal(404, answer({}, "/nowhere").status)
  end)

  it("to a plain route is answered as a plain request", function()
    local response = answer({}, "/plain")
    assert.equal(200, response.status)
    assert.equal("plain", response.body)
  end)

  it("chooses the client's first protocol that the route has", function()
    local ws = server:websocket("/protocols", { protocols = { "v0", "v1", "v2" } })
    assert.equal("v1", ws.headers["sec-websocket-protocol"])
    ws:expect("open")
    ws = server:websocket("/protocols", { protocols = { "v0" } })
    assert.is_nil(ws.headers["sec-websocket-protocol"])
  end)

  it("lets in the page's own host and who says no origin", function()
    server:websocket("/echo")
    server:websocket("/echo", { origin = "http://" .. server:host() })
    assert.equal(403, answer({ origin = "http://evil.example" }).status)
    assert.equal(403, answer({ origin = "null" }).status)
  end)

  it("lets in the origins listed, and all where * is written", function()
    server:websocket("/origins", { origin = "https://a.example" })
    assert.equal(403, answer({ origin = "https://b.example" }, "/origins").status)
    assert.equal(403, answer({ origin = "https://a.example.evil" }, "/origins").status)
    server:websocket("/anywhere", { origin = "https://b.example" })
  end)

  it("is refused with the status that authenticate says", function()
    local response = answer({}, "/member?token=x")
    assert.equal(401, response.status)
    assert.truthy(response.body:find("who are you?", 1, true))
    server:websocket("/member?token=t"):expect("Ada")
    assert.equal(403, answer({}, "/refused").status)
    assert.equal(429, answer({}, "/refused?code=429").status)
  end)

  it("succeeds and closes at once with the close code that authenticate says", function()
    for _, code in ipairs({ 1008, 1013, 3000, 4999 }) do
      server:websocket("/refused?code=" .. code):expect_close(code, "not you")
    end
  end)

  it("decodes parameters of the path", function()
    server:websocket("/rooms/a%20b"):expect("a b")
    assert.equal(400, answer({}, "/rooms/%zz").status)
  end)

  it("takes frames that come in one packet with it", function()
    local conn = server:raw()
    conn:write(
      websocket.handshake({ path = "/echo", host = "a" }) .. websocket.frame({ payload = "early" })
    )
    assert.equal(101, http.read_head(conn).status)
    assert.equal("\129\5early", conn:read(7))
  end)

  it("may come byte by byte", function()
    local conn = server:raw()
    for byte in
      (websocket.handshake({ path = "/echo", host = "a" }) .. websocket.frame({ payload = "slow" })):gmatch(
        "."
      )
    do
      conn:write(byte)
    end
    assert.equal(101, http.read_head(conn).status)
    assert.equal("\129\4slow", conn:read(6))
  end)

  it("may follow another request on its connection", function()
    local conn = server:raw()
    conn:write(
      "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"
        .. websocket.handshake({ path = "/echo", host = "a" })
    )
    assert.equal("plain", http.read_response(conn).body)
    assert.equal(101, http.read_head(conn).status)
  end)
end)

describe("WebSocket messages", function()
  local server, ws
  setup(function()
    server = gateway.start({
      app = ECHO
        .. [[
      app:websocket("/large", {
        max_message = 16 * 1024 * 1024, max_outbox = 40 * 1024 * 1024,
        on_message = function(conn, data, is_binary) conn:send(data, { binary = is_binary }) end,
      })
    ]],
    })
  end)
  before_each(function()
    ws = server:websocket("/echo")
  end)

  it("of text and of bytes keep their kind", function()
    ws:send("Grüße 👋")
    ws:expect("Grüße 👋")
    ws:send_binary("\0\255\128")
    ws:expect_binary("\0\255\128")
    ws:send("")
    ws:expect("")
    ws:send_binary("")
    ws:expect_binary("")
  end)

  it("of every length around the length forms come back", function()
    for _, length in ipairs({
      1,
      2,
      3,
      4,
      7,
      8,
      124,
      125,
      126,
      127,
      128,
      4095,
      4096,
      65534,
      65535,
      65536,
    }) do
      local text = ("abcdefg"):rep(math.ceil(length / 7)):sub(1, length)
      ws:send(text)
      ws:expect(text)
    end
  end)

  it("are unmasked with any key, at every alignment", function()
    for offset = 0, 15 do
      for _, key in ipairs({ "\0\0\0\0", "\255\255\255\255", "\1\2\3\4", "\128\0\64\127" }) do
        local payload = ("p"):rep(offset) .. "0123456789abcdefghijklmnopqrstuvwxyz"
        -- A pong of another length before it moves where the payload begins.
        ws:send_raw(
          websocket.frame({ opcode = "pong", payload = ("x"):rep(offset) })
            .. websocket.frame({ payload = payload, key = key })
        )
        ws:expect(payload)
      end
    end
  end)

  it("may come in longer length forms than needed or not, but never break the stream", function()
    local other = server:websocket("/echo")
    other:send_frame({ payload = "hi", length_bytes = 2 })
    local ok = pcall(other.expect, other, "hi")
    if not ok then
      other:expect_close(1002)
    end
  end)

  it("come whole from fragments, with control frames between", function()
    ws:send_frame({ fin = false, payload = "one " })
    ws:send_frame({ opcode = "ping", payload = "between" })
    ws:expect_pong("between")
    ws:send_frame({ opcode = "continuation", fin = false, payload = "" })
    ws:send_frame({ opcode = "pong", payload = "unasked" })
    ws:send_frame({ opcode = "continuation", fin = false, payload = "two " })
    ws:send_frame({ opcode = "continuation", payload = "three" })
    ws:expect("one two three")
  end)

  it("may cut a character between fragments and between packets", function()
    local text = "aä€😀z"
    for at = 1, #text - 1 do
      ws:send_frame({ fin = false, payload = text:sub(1, at) })
      ws:send_frame({ opcode = "continuation", payload = text:sub(at + 1) })
      ws:expect(text)
    end
    for byte in websocket.frame({ payload = text }):gmatch(".") do
      ws:send_raw(byte)
    end
    ws:expect(text)
  end)

  it("come in order, many in one packet", function()
    local parts = {}
    for i = 1, 500 do
      parts[i] = websocket.frame({ payload = "message " .. i })
    end
    ws:send_raw(table.concat(parts))
    for i = 1, 500 do
      ws:expect("message " .. i)
    end
  end)

  it("of 16 MiB pass where the limit allows", function()
    local large = server:websocket("/large")
    local text = ("0123456789abcdef"):rep(1024 * 1024)
    large:send(text)
    large:expect(text, 30)
    large:send_binary(text)
    large:expect_binary(text, 30)
    large:close()
  end)

  it("of 16 MiB in fragments pass too", function()
    local large = server:websocket("/large")
    local part = ("0123456789abcdef"):rep(16 * 1024)
    large:send_frame({ fin = false, opcode = "binary", payload = part })
    for i = 2, 64 do
      large:send_frame({ opcode = "continuation", fin = i == 64, payload = part })
    end
    large:expect_binary(part:rep(64), 30)
  end)

  it("are answered with pongs to pings, payload and all", function()
    for _, payload in ipairs({ "", "p", ("p"):rep(125), "\0\255\254" }) do
      ws:ping(payload)
      ws:expect_pong(payload)
    end
  end)

  it("ignore pongs that nobody asked for", function()
    ws:send_frame({ opcode = "pong", payload = "x" })
    ws:send("still here")
    ws:expect("still here")
  end)

  it("are not mixed up by a slow reader", function()
    local slow = server:websocket("/echo", { receive_buffer = 4096 })
    local text = ("slow "):rep(4000)
    slow:pause()
    for i = 1, 20 do
      slow:send(i .. text)
    end
    ws:send("meanwhile")
    ws:expect("meanwhile")
    slow:resume()
    for i = 1, 20 do
      slow:expect(i .. text)
    end
  end)
end)

describe("A WebSocket closes", function()
  local server, ws
  setup(function()
    server = gateway.start({
      app = ECHO .. [[
      app:websocket("/close", { on_message = function(conn, data)
        local code, reason = data:match("^(%d+) ?(.*)$")
        conn:close(tonumber(code), reason)
      end })
      app:websocket("/broken", {
        on_message = function(conn, data) error("it broke") end,
      })
      app:websocket("/broken-open", { on_open = function() error("it broke") end })
    ]],
    })
    server.log:allow("it broke")
  end)
  before_each(function()
    ws = server:websocket("/echo")
  end)

  local wrong = {
    ["an unmasked frame"] = { payload = "x", mask = false },
    ["an unmasked control frame"] = { opcode = "ping", mask = false },
    ["reserved bit 1"] = { payload = "x", rsv = 4 },
    ["reserved bit 2"] = { payload = "x", rsv = 2 },
    ["reserved bit 3"] = { payload = "x", rsv = 1 },
    ["reserved bits of a control frame"] = { opcode = "ping", rsv = 7 },
    ["opcode 3"] = { opcode = 3 },
    ["opcode 7"] = { opcode = 7, payload = "x" },
    ["opcode 11"] = { opcode = 11 },
    ["opcode 15"] = { opcode = 15, payload = "x" },
    ["a fragmented ping"] = { opcode = "ping", fin = false },
    ["a fragmented close"] = { opcode = "close", fin = false },
    ["a ping of 126 bytes"] = { opcode = "ping", payload = ("x"):rep(126) },
    ["a close of 126 bytes"] = { opcode = "close", payload = "\3\232" .. ("x"):rep(124) },
    ["a continuation of nothing"] = { opcode = "continuation", payload = "x" },
    ["a close frame of one byte"] = { opcode = "close", payload = "\3" },
  }
  for name, frame in pairs(wrong) do
    it("with 1002 for " .. name, function()
      ws:send_frame(frame)
      ws:expect_close(1002)
    end)
  end

  it("with 1002 for a new message inside another", function()
    ws:send_frame({ fin = false, payload = "a" })
    ws:send_frame({ payload = "b" })
    ws:expect_close(1002)
  end)

  it("with 1002 for a length with its top bit set", function()
    ws:send_raw("\129\255\128\0\0\0\0\0\0\1\0\0\0\0x")
    ws:expect_close(1002)
  end)

  for _, code in ipairs({ 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }) do
    it("with 1002 for the close code " .. code, function()
      ws:send_frame({ opcode = "close", payload = websocket.close_payload(code) })
      ws:expect_close(1002)
    end)
  end

  for _, code in ipairs({
    1000,
    1001,
    1002,
    1003,
    1007,
    1008,
    1009,
    1010,
    1011,
    3000,
    3999,
    4000,
    4999,
  }) do
    it("with the peer's own code " .. code, function()
      ws:send_close(code, "wegen Überfüllung")
      ws:expect_close(code)
    end)
  end

  it("without a code when the peer gave none", function()
    ws:send_close()
    ws:expect_close(1005)
  end)

  it("with 1007 for a close reason that is not UTF-8", function()
    ws:send_frame({ opcode = "close", payload = websocket.close_payload(1000, "\255") })
    ws:expect_close(1007)
  end)

  local texts = {
    ["a lone continuation byte"] = "a\128",
    ["an overlong form"] = "\192\175",
    ["an overlong form of three bytes"] = "\224\128\175",
    ["a surrogate"] = "\237\160\128",
    ["past the last character"] = "\244\144\128\128",
    ["byte 255"] = "abc\255",
    ["a character cut short"] = "abc\226\130",
    ["the encoding of 5 bytes"] = "\248\136\128\128\128",
  }
  for name, text in pairs(texts) do
    it("with 1007 for text with " .. name, function()
      ws:send(text)
      ws:expect_close(1007)
    end)
  end

  it("with 1007 as soon as a first fragment is invalid, before the second is sent", function()
    ws:send_frame({ fin = false, payload = "fine so far \237\160\128" })
    ws:expect_close(1007)
  end)

  it("with 1007 in the middle of a frame, before its end is sent", function()
    local frame = websocket.frame({ payload = "abc\244\144" .. ("x"):rep(1000) })
    ws:send_raw(frame:sub(1, 8 + 6))
    ws:expect_close(1007)
  end)

  it("with 1009 for a message past the limit, judged by its header alone", function()
    ws:send_frame({ payload = "", length = 65537 })
    ws:expect_close(1009)
  end)

  it("with 1009 for fragments that are too much together", function()
    ws:send_frame({ fin = false, payload = ("x"):rep(40000) })
    ws:send_frame({ opcode = "continuation", payload = "", length = 30000 })
    ws:expect_close(1009)
  end)

  it("with 1009 for a length of 2^62", function()
    ws:send_raw("\129\255\64\0\0\0\0\0\0\0\0\0\0\0")
    ws:expect_close(1009)
  end)

  it("with 1011 for an error in a handler, and nobody else is troubled", function()
    local broken = server:websocket("/broken")
    broken:send("x")
    broken:expect_close(1011)
    server:websocket("/broken-open"):expect_close(1011)
    ws:send("fine")
    ws:expect("fine")
  end)

  it("with the code and reason that the script says", function()
    local closing = server:websocket("/close")
    closing:send("4321 Tschüß")
    closing:expect_close(4321, "Tschüß")
    closing = server:websocket("/close")
    closing:send("1000")
    closing:expect_close(1000, "")
  end)

  it("after what was queued before", function()
    ws:send("last words")
    ws:send_close(1000)
    ws:expect("last words")
    ws:expect_close(1000)
  end)

  it("and takes nothing that comes after the peer's close frame", function()
    ws:send_raw(
      websocket.frame({ opcode = "close", payload = websocket.close_payload(1000) })
        .. websocket.frame({ payload = "too late" })
    )
    ws.close_sent = true
    ws:expect_close(1000)
  end)

  it("when TCP ends without a close frame", function()
    ws.conn:half_close()
    ws:wait_until(function()
      return ws.conn.ended or ws.closed
    end, "the end")
  end)
end)

-- Every hook of a connection is told to whoever listens on /hooks.
local HOOKS = [[
  local function tell(what, conn, more)
    more = more or {}
    more.what, more.id = what, conn.id
    perigee.publish("hooks", more)
  end
  app:websocket("/hooks", { on_open = function(conn)
    conn:subscribe("hooks")
    conn:send("listening")
  end })
  local function on_close(conn, code, reason)
    local sent, _, why = conn:send("too late")
    perigee.log.info("left: " .. conn.id)
    tell("close", conn, { code = code, reason = reason, sent = sent == true, why = why,
      session = conn.session.name })
  end
  app:websocket("/life", {
    authenticate = function(request)
      if request.query.refuse then return nil, "no", tonumber(request.query.refuse) end
      return { name = "Ada" }
    end,
    idle_timeout = 60, ping_every = 25,
    on_open = function(conn)
      tell("open", conn)
      local how = conn.request.query.open
      if how == "raise" then error("it broke") end
      if how == "close" then conn:close(3001, "not now") end
      if how == "sleep" then
        local ok, message, code = perigee.sleep(1000)
        tell("woken", conn, { ok = ok == true, code = code })
      end
    end,
    on_message = function(conn, data)
      if data == "raise" then error("it broke") end
      if data == "close" then return conn:close(3002, "enough") end
      if data == "close twice" then
        conn:close(3003, "first")
        conn:close(3004, "second")
        return
      end
      if data == "sleep" then
        tell("asleep", conn)
        local ok, message, code = perigee.sleep(1000)
        tell("woken", conn, { ok = ok == true, code = code })
        return
      end
      tell("message", conn, { data = data })
      conn:send("told " .. data)
    end,
    on_close = on_close,
  })
  app:websocket("/failing-close", { on_close = function(conn) tell("close", conn) error("it broke") end })
]]

describe("on_close is told exactly once", function()
  gateway.with_workers(describe, function(workers)
    local server, watcher
    before_each(function()
      server = gateway.start({ app = HOOKS, workers = workers })
      watcher = server:websocket("/hooks", { worker = workers })
      watcher:expect("listening")
      watcher:fence()
    end)

    local function opened(query, opts)
      local ws = server:websocket("/life" .. (query or ""), opts)
      watcher:expect({ what = "open" })
      return ws
    end

    local function expect_close_told(code, reason)
      local event = watcher:expect({
        what = "close",
        code = code,
        session = "Ada",
        sent = false,
        why = "closed",
      })
      if reason then
        assert.equal(reason, event.reason)
      end
      watcher:expect_nothing_queued()
    end

    it("when the client closes", function()
      local ws = opened()
      ws:close(4000, "bye")
      expect_close_told(4000, "bye")
    end)

    it("when the client closes without a code", function()
      local ws = opened()
      ws:send_close()
      ws:expect_close(1005)
      expect_close_told(1005)
    end)

    it("when the client goes without a word", function()
      opened():drop()
      expect_close_told(1006)
    end)

    it("when the client is reset", function()
      opened():reset()
      expect_close_told(1006)
    end)

    it("when the script closes", function()
      local ws = opened()
      ws:send("close")
      ws:expect_close(3002, "enough")
      expect_close_told(3002, "enough")
    end)

    it("when the script closes twice: the first counts", function()
      local ws = opened()
      ws:send("close twice")
      ws:expect_close(3003, "first")
      expect_close_told(3003, "first")
    end)

    it("when the script closes and the client never answers", function()
      server:freeze()
      local ws = opened("", { auto_close = false })
      ws:send("close")
      ws:wait_until(function()
        return ws.closed ~= nil
      end, "the close frame")
      watcher:expect_nothing_queued()
      server:advance(5.1)
      expect_close_told(3002, "enough")
    end)

    it("when on_open raises", function()
      local ws = opened("?open=raise")
      ws:expect_close(1011)
      expect_close_told(1011)
      server.log:expect("it broke")
    end)

    it("when on_open closes", function()
      local ws = opened("?open=close")
      ws:expect_close(3001, "not now")
      expect_close_told(3001, "not now")
    end)

    it("when on_message raises", function()
      local ws = opened()
      ws:send("raise")
      ws:expect_close(1011)
      expect_close_told(1011)
      server.log:expect("it broke")
    end)

    it("when the client breaks a rule", function()
      local ws = opened()
      ws:send_frame({ payload = "x", mask = false })
      ws:expect_close(1002)
      expect_close_told(1002)
    end)

    it("when the client is reset while on_open is suspended, after it was woken", function()
      local ws = opened("?open=sleep")
      ws:reset()
      watcher:expect({ what = "woken", ok = false, code = "closed" })
      expect_close_told(1006)
    end)

    it("when the client is reset while on_message is suspended, after it was woken", function()
      local ws = opened()
      ws:send("sleep")
      watcher:expect({ what = "asleep" })
      ws:send("waits")
      ws:reset()
      watcher:expect({ what = "woken", ok = false, code = "closed" })
      -- What had arrived before the reset may still be told, never after on_close.
      local event = watcher:expect({})
      if event.what == "message" then
        event = watcher:expect({ what = "close" })
      end
      assert.equal("close", event.what)
      assert.equal(1006, event.code)
      watcher:expect_nothing_queued()
    end)

    it("when the client closes while on_message is suspended", function()
      local ws = opened()
      ws:send("sleep")
      watcher:expect({ what = "asleep" })
      ws:close(1000, "tired")
      watcher:expect({ what = "woken", ok = false, code = "closed" })
      expect_close_told(1000, "tired")
    end)

    it("when a handler is suspended for ever", function()
      server:freeze()
      server.log:allow("handler_timeout")
      server.log:allow("timeout")
      local ws = opened()
      ws:send("sleep")
      watcher:expect({ what = "asleep" })
      server:advance(301)
      watcher:expect({ what = "woken", ok = false })
      ws:reset()
      watcher:expect({ what = "close" })
      watcher:expect_nothing_queued()
    end)

    it("when on_close itself raises", function()
      server:websocket("/failing-close"):close(1000)
      watcher:expect({ what = "close" })
      watcher:expect_nothing_queued()
      server.log:expect("it broke")
    end)

    it("when the gateway is stopped, with 1001 for all", function()
      local ws = opened()
      local other = opened("", { worker = workers })
      server:signal("TERM")
      ws:expect_close(1001)
      other:expect_close(1001)
      watcher:wait_until(function()
        return watcher.closed ~= nil
      end, "1001")
      assert.equal(1001, watcher.closed.code)
      server:expect_exit(0)
      local _, count = server.log:text():gsub("left: ", "")
      assert.equal(2, count)
    end)

    it("when the gateway is stopped while a handler is suspended", function()
      local ws = opened()
      ws:send("sleep")
      watcher:expect({ what = "asleep" })
      server:signal("TERM")
      ws:expect_close(1001)
      server:expect_exit(0)
      local _, count = server.log:text():gsub("left: ", "")
      assert.equal(1, count)
    end)

    it("but not when entry was refused", function()
      assert.equal(403, server:websocket("/life?refuse=403", { any_status = true }).status)
      server:websocket("/life?refuse=3000"):expect_close(3000, "no")
      watcher:expect_nothing_queued()
    end)
  end)
end)

describe("A quiet WebSocket", function()
  local server
  before_each(function()
    server = gateway.start({ app = HOOKS })
    server:freeze()
  end)

  it("is pinged every 25 s", function()
    local ws = server:websocket("/life")
    ws:fence()
    server:advance(24, { peers = true })
    ws:fence()
    assert.equal(0, #ws.pings)
    server:advance(1, { peers = true })
    ws:expect_ping()
  end)

  it("stays while it answers pings", function()
    local ws = server:websocket("/life")
    for _ = 1, 5 do
      server:advance(25, { peers = true })
      ws:expect_ping()
      ws:fence()
    end
    ws:send("here")
    ws:expect("told here")
  end)

  it("that does not answer is closed after idle_timeout, and on_close is told", function()
    local watcher = server:websocket("/hooks")
    watcher:expect("listening")
    watcher:fence()
    local ws = server:websocket("/life", { auto_pong = false, auto_close = false })
    watcher:expect({ what = "open" })
    for _ = 1, 7 do
      server:advance(10, { peers = true })
      watcher:fence()
    end
    -- The close frame is not answered either.
    server:advance(5.1)
    watcher:expect({ what = "close" })
    ws.conn:expect_closed()
  end)
end)

describe("A script's WebSocket", function()
  it("handles one event at a time, in order, though its handler suspends", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn, data)
        conn:send("begin " .. data)
        perigee.sleep(1)
        conn:send("end " .. data)
      end })
    ]],
    })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("1")
    ws:send("2")
    ws:expect("begin 1")
    ws:expect_nothing_queued()
    server:advance(1)
    ws:expect("end 1")
    ws:expect("begin 2")
    server:advance(1)
    ws:expect("end 2")
  end)

  it("answers pings while its handler is suspended", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_message = function(conn) perigee.sleep(1000) end })
    ]],
    })
    local ws = server:websocket("/")
    ws:send("sleep")
    ws:ping("awake?")
    ws:expect_pong("awake?")
  end)

  it("gets sends and publications in call order, across topics", function()
    local server = gateway.start({
      workers = 2,
      app = [[
      app:websocket("/", {
        on_open = function(conn)
          conn:subscribe("a") conn:subscribe("b")
          conn:send("open")
        end,
        on_message = function(conn)
          for i = 1, 20 do
            perigee.publish("a", "a" .. i)
            conn:send("s" .. i)
            perigee.publish("b", "b" .. i)
          end
        end,
      })
    ]],
    })
    local ws, other = server:websocket("/"), server:websocket("/", { worker = 2 })
    ws:expect("open")
    other:expect("open")
    other:fence()
    ws:send("go")
    for i = 1, 20 do
      ws:expect("a" .. i)
      ws:expect("s" .. i)
      ws:expect("b" .. i)
      other:expect("a" .. i)
      other:expect("b" .. i)
    end
  end)

  it("does not get its own announcement made before it subscribed", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", { on_open = function(conn)
        perigee.publish("room", "joined")
        conn:subscribe("room")
        perigee.publish("room", "welcome")
      end })
    ]],
    })
    local first = server:websocket("/")
    first:expect("welcome")
    local second = server:websocket("/")
    first:expect("joined")
    first:expect("welcome")
    second:expect("welcome")
    second:expect_nothing_queued()
  end)

  it("refuses text that is not UTF-8, before anybody gets it", function()
    local server = gateway.start({
      app = [[
      app:websocket("/", {
        on_open = function(conn) conn:subscribe("t") end,
        on_message = function(conn)
          local ok, message, code = conn:send("\255")
          conn:send({ ok = ok == true, code = code })
          ok, message, code = perigee.publish("t", "\255")
          conn:send({ ok = ok == true, code = code })
          conn:send("\255", { binary = true })
          perigee.publish("t", "\254", { binary = true })
        end,
      })
    ]],
    })
    local ws = server:websocket("/")
    ws:send("go")
    ws:expect_json({ ok = false, code = "utf8" })
    ws:expect_json({ ok = false, code = "utf8" })
    ws:expect_binary("\255")
    ws:expect_binary("\254")
  end)
end)
