local support = require("spec.core.support")
local ffi = require("ffi")
local bit = require("bit")

support.cdef([[
  struct ws_decoder {
    uint64_t max_message_bytes; struct ws_partial *partial; uint64_t frame_remaining;
    uint32_t max_fragments; uint32_t fragments;
    uint8_t mask[4]; uint8_t mask_phase; uint8_t header_len; uint8_t header[14];
    uint8_t frame_opcode; uint8_t message_opcode; uint8_t utf8;
    bool is_final; bool is_in_frame; bool is_delivered; bool is_over;
  };
  typedef struct { int kind; uint16_t code; slice data; const char *error; } ws_event;
  void ws_decoder_init(struct ws_decoder *decoder, uint64_t max_message_bytes,
                       uint32_t max_fragments);
  void ws_decoder_deinit(struct ws_decoder *decoder);
  size_t ws_decoder_next(struct ws_decoder *decoder, char *data, size_t len, ws_event *event);
  size_t ws_decoder_buffered(const struct ws_decoder *decoder);
]])

local lib = support.lib
local NONE, ERROR = 0, 6
local NAMES = { [0] = "none", "text", "binary", "ping", "pong", "close", "error" }

--- A client's frame, built without the code under test. `options`: `len` claims another length,
--- `mask` is four bytes or false for none.
local function frame(first, payload, options)
  options = options or {}
  local mask = options.mask
  if mask == nil then
    mask = "\55\250\33\61"
  end
  local len = options.len or #payload
  local second, extended
  if len < 126 then
    second, extended = len, ""
  elseif len < 65536 then
    second, extended = 126, string.char(math.floor(len / 256), len % 256)
  else
    second, extended = 127, ""
    for shift = 7, 0, -1 do
      extended = extended .. string.char(math.floor(len / 256 ^ shift) % 256)
    end
  end
  if not mask then
    return string.char(first, second) .. extended .. payload
  end
  local masked, key = {}, { mask:byte(1, 4) }
  for i = 1, #payload do
    masked[i] = string.char(bit.bxor(payload:byte(i), key[(i - 1) % 4 + 1]))
  end
  return string.char(first, second + 128) .. extended .. mask .. table.concat(masked)
end

local FINAL = 128
local function text(payload)
  return frame(FINAL + 1, payload)
end
local function binary(payload)
  return frame(FINAL + 2, payload)
end
local function ping(payload)
  return frame(FINAL + 9, payload or "")
end
local function pong(payload)
  return frame(FINAL + 10, payload or "")
end
local function close(code, reason)
  local payload = code and string.char(math.floor(code / 256), code % 256) or ""
  return frame(FINAL + 8, payload .. (reason or ""))
end
--- A message in as many frames as there are payloads; `between` follows each but the last.
local function fragments(opcode, payloads, between)
  local bytes = {}
  for i, payload in ipairs(payloads) do
    local first = (i == #payloads and FINAL or 0) + (i == 1 and opcode or 0)
    bytes[#bytes + 1] = frame(first, payload)
    bytes[#bytes + 1] = i < #payloads and between or nil
  end
  return table.concat(bytes)
end

local function new_decoder(max_bytes, max_fragments)
  local decoder = ffi.gc(ffi.new("struct ws_decoder"), lib.ws_decoder_deinit)
  lib.ws_decoder_init(decoder, max_bytes or 1024 * 1024, max_fragments or 1000)
  return decoder
end

local function describe_event(event)
  local name = NAMES[event.kind]
  if event.kind == ERROR then
    return ("error %d %s"):format(event.code, ffi.string(event.error))
  elseif name == "close" then
    return ("close %d %s"):format(event.code, support.string(event.data) or "")
  end
  return name .. " " .. (support.string(event.data) or "")
end

--- The next event, and the bytes it took.
local function next_event(decoder, memory, len)
  local event = ffi.new("ws_event")
  local taken = tonumber(lib.ws_decoder_next(decoder, memory, len, event))
  return event, taken
end

--- Feeds one read and appends what came of it to `events`, as strings.
local function feed(decoder, bytes, events)
  events = events or {}
  local memory, len = support.exact(bytes)
  local at = 0
  while true do
    local event, taken = next_event(decoder, memory + at, len - at)
    at = at + taken
    assert(at <= len, "more consumed than there was")
    if event.kind == NONE then
      assert.equal(len, at)
      return events
    end
    events[#events + 1] = describe_event(event)
  end
end

--- Feeds pieces of the given size to a new decoder.
local function feed_pieces(bytes, size, max_bytes, max_fragments)
  local decoder, events = new_decoder(max_bytes, max_fragments), {}
  for piece in support.pieces(bytes, size) do
    feed(decoder, piece, events)
  end
  return events
end

--- Expects the same events in one read, cut in two anywhere, and byte by byte.
local function expect(expected, bytes, max_bytes, max_fragments)
  assert.same(expected, feed(new_decoder(max_bytes, max_fragments), bytes))
  assert.same(expected, feed_pieces(bytes, 1, max_bytes, max_fragments))
  for first, second in support.splits(bytes) do
    local decoder = new_decoder(max_bytes, max_fragments)
    assert.same(expected, feed(decoder, second, feed(decoder, first)))
  end
end

--- Expects the error exactly when the last byte has come, not before.
local function expect_error_at_end(expected, bytes, max_bytes, max_fragments)
  local decoder, events = new_decoder(max_bytes, max_fragments), {}
  feed(decoder, bytes:sub(1, -2), events)
  for _, event in ipairs(events) do
    assert.is_nil(event:match("^error"))
  end
  feed(decoder, bytes:sub(-1), events)
  assert.equal("error " .. expected, events[#events])
end

describe("ws_decoder", function()
  it("gives whole messages, short and long, empty ones too", function()
    expect({ "text Hello" }, text("Hello"))
    expect({ "binary \0\255" }, binary("\0\255"))
    expect({ "text ", "binary " }, text("") .. binary(""))
    expect({ "binary " .. ("x"):rep(126) }, binary(("x"):rep(126)))
    expect({ "ping ", "ping hi", "pong ", "pong hi" }, ping() .. ping("hi") .. pong() .. pong("hi"))
  end)

  it("gives one event at a time and leaves the rest", function()
    local decoder = new_decoder()
    local memory, len = support.exact(text("one") .. text("two"))
    local event, taken = next_event(decoder, memory, len)
    assert.equal("text one", describe_event(event))
    assert.equal(9, taken)
    event = next_event(decoder, memory + 9, len - 9)
    assert.equal("text two", describe_event(event))
  end)

  it("allocates nothing for what lies whole in the input, and gives a slice of it", function()
    local decoder = new_decoder()
    local memory, len = support.exact(text(("x"):rep(1000)))
    local event = next_event(decoder, memory, len)
    assert.is_true(event.data.data == memory + 8)
    assert.is_true(decoder.partial == nil)
    -- A last fragment behind empty ones is as good as a whole message.
    memory, len = support.exact(fragments(1, { "", "", "payload" }))
    event = next_event(decoder, memory, len)
    assert.is_true(event.data.data == memory + 18)
    assert.is_true(decoder.partial == nil)
  end)

  it("fits in 64 bytes while idle", function()
    assert.is_true(ffi.sizeof("struct ws_decoder") <= 64)
  end)

  it("joins fragments, with control frames between them handled at once", function()
    expect({ "text Hello" }, fragments(1, { "Hel", "lo" }))
    expect({ "binary abc" }, fragments(2, { "a", "", "b", "c", "" }))
    expect({ "text " }, fragments(1, { "", "", "" }))
    local between = ping("p") .. pong()
    local expected = { "ping p", "pong ", "ping p", "pong ", "text Hello", "text next" }
    expect(expected, fragments(1, { "He", "l", "lo" }, between) .. text("next"))
    -- A whole message must not be mixed up with a control frame held before it.
    expect({ "ping p", "text abc" }, fragments(1, { "", "abc" }, ping("p")))
  end)

  it("joins text that is cut within a character, by frames and by reads", function()
    expect(
      { "text κό€😀" },
      fragments(1, { "\206", "\186ό\226", "\130", "\172\240\159", "\152\128" })
    )
    expect({ "text κό€😀" }, text("κό€😀"))
  end)

  it("judges each text from its own start", function()
    expect({ "text é", "binary \255", "text é" }, text("é") .. binary("\255") .. text("é"))
    expect({ "binary \206", "text ok" }, fragments(2, { "\206", "" }) .. text("ok"))
  end)

  it("says how much it holds, and nothing between messages", function()
    local decoder = new_decoder()
    feed(decoder, frame(2, "abc"))
    assert.equal(3, tonumber(lib.ws_decoder_buffered(decoder)))
    feed(decoder, frame(FINAL, "12345678"):sub(1, 10))
    assert.equal(7, tonumber(lib.ws_decoder_buffered(decoder)))
    feed(decoder, frame(FINAL, "12345678"):sub(11))
    assert.equal(0, tonumber(lib.ws_decoder_buffered(decoder)))
    assert.is_true(decoder.partial == nil)
  end)

  it("gives memory back as soon as it is asked for the next event", function()
    local decoder = new_decoder(16 * 1024 * 1024)
    local payload = ("0123456789abcdef"):rep(1024 * 1024)
    local bytes = frame(FINAL + 2, payload, { mask = "\0\0\0\0" })
    local event
    for piece in support.pieces(bytes, 65536) do
      event = next_event(decoder, (support.exact(piece)), #piece)
    end
    assert.equal("binary " .. payload, describe_event(event))
    assert.is_true(decoder.partial ~= nil)
    assert.equal(NONE, next_event(decoder, nil, 0).kind)
    assert.is_true(decoder.partial == nil)
  end)

  it("keeps a held message while a held control frame comes and goes", function()
    local decoder = new_decoder()
    local events = feed(decoder, frame(1, "one "))
    for piece in support.pieces(ping("first") .. ping("second")) do
      feed(decoder, piece, events)
    end
    feed(decoder, frame(FINAL, "two"), events)
    assert.same({ "ping first", "ping second", "text one two" }, events)
  end)

  it("grows with what arrives, not with what is announced", function()
    local decoder = new_decoder(1024 * 1024 * 1024 * 1024)
    feed(decoder, frame(FINAL + 2, "few", { len = 2 ^ 39 }))
    assert.equal(3, tonumber(lib.ws_decoder_buffered(decoder)))
  end)
end)

describe("ws_decoder refuses with 1002", function()
  it("a frame that is not masked, at its second byte", function()
    expect({ "error 1002 the frame is not masked" }, frame(FINAL + 1, "Hello", { mask = false }))
    expect_error_at_end("1002 the frame is not masked", "\129\5")
  end)

  it("reserved bits and unknown opcodes, at the first byte", function()
    for _, bits in ipairs({ 0x10, 0x20, 0x40, 0x70 }) do
      expect_error_at_end("1002 reserved bits are set", string.char(FINAL + bits + 1))
    end
    for _, opcode in ipairs({ 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 }) do
      expect_error_at_end("1002 the opcode is unknown", text("ok") .. string.char(FINAL + opcode))
    end
  end)

  it("control frames that are fragmented or long", function()
    expect_error_at_end("1002 a control frame is fragmented", "\9")
    expect_error_at_end("1002 a control frame has more than 125 bytes", "\137\254")
    expect({ "ping " .. ("x"):rep(125) }, ping(("x"):rep(125)))
  end)

  it("a continuation that continues nothing, at its first byte", function()
    expect_error_at_end("1002 a continuation without a message to continue", "\128")
    local bytes = fragments(1, { "a", "b" }) .. "\0"
    expect_error_at_end("1002 a continuation without a message to continue", bytes)
    expect_error_at_end("1002 a continuation without a message to continue", text("a") .. "\128")
  end)

  it("a new message within a fragmented one, at its first byte", function()
    local bytes = frame(1, "a") .. ping() .. "\129"
    expect_error_at_end("1002 a new message within a fragmented one", bytes)
    expect_error_at_end("1002 a new message within a fragmented one", frame(2, "") .. "\2")
  end)

  it("a length that is not in its shortest form", function()
    expect_error_at_end("1002 the length is not in its shortest form", "\130\254\0\125")
    expect_error_at_end("1002 the length has its top bit set", "\130\255\128")
  end)

  it("half a close code and codes that nobody may send", function()
    expect({ "error 1002 a close frame has half a code" }, frame(FINAL + 8, "\3"))
    local codes = { 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }
    for _, code in ipairs(codes) do
      expect({ "error 1002 the close code is not allowed" }, close(code))
    end
  end)
end)

describe("ws_decoder refuses with 1007", function()
  it("text at the very byte that is wrong, in a frame that is not complete", function()
    local bytes = frame(FINAL + 1, "κόσμε\237\160", { len = 1000 })
    expect_error_at_end("1007 the text is not UTF-8", bytes)
    expect_error_at_end("1007 the text is not UTF-8", frame(FINAL + 1, "\244\144", { len = 9 }))
  end)

  it("text in its first fragment, before the second is sent", function()
    expect_error_at_end("1007 the text is not UTF-8", frame(1, "fine\255"))
    expect_error_at_end("1007 the text is not UTF-8", frame(1, "\206") .. frame(0, "\206"))
  end)

  it("text with one wrong byte anywhere, however short", function()
    local wrong = { "error 1007 the text is not UTF-8" }
    for len = 1, 40 do
      for at = 1, len do
        local bytes = ("x"):rep(at - 1) .. "\255" .. ("x"):rep(len - at)
        assert.same(wrong, feed(new_decoder(), text(bytes)))
      end
    end
  end)

  it("text that ends within a character", function()
    expect({ "error 1007 the text ends within a character" }, text("\206"))
    expect({ "error 1007 the text ends within a character" }, fragments(1, { "a\226", "\130", "" }))
  end)

  it("a close reason that is not UTF-8, or is cut", function()
    expect({ "error 1007 the close reason is not UTF-8" }, close(1000, "\206\186\225\189\185\207"))
    expect({ "error 1007 the close reason is not UTF-8" }, close(1000, "\255"))
  end)

  it("but never binary messages or pings", function()
    expect({ "binary \255\254", "ping \255" }, binary("\255\254") .. ping("\255"))
  end)
end)

describe("ws_decoder refuses with 1009", function()
  it("a message above the limit, by its header alone", function()
    expect({ "binary " .. ("x"):rep(200) }, binary(("x"):rep(200)), 200)
    local header = frame(FINAL + 2, "", { len = 201 })
    expect_error_at_end("1009 the message is too large", header:sub(1, 4), 200)
    -- Three length bytes that are not zero are enough to know.
    header = frame(FINAL + 2, "", { len = 2 ^ 40 })
    expect_error_at_end("1009 the message is too large", header:sub(1, 5), 16 * 1024 * 1024)
  end)

  it("the fragment that would pass the limit, before its payload", function()
    local bytes = frame(1, ("x"):rep(60)) .. ping() .. frame(0, ("x"):rep(40))
    local last = frame(FINAL, "", { len = 1 })
    expect_error_at_end("1009 the message is too large", bytes .. last:sub(1, 2), 100)
    expect({ "ping ", "text " .. ("x"):rep(100) }, bytes .. frame(FINAL, ""), 100)
  end)

  it("not a control frame, which has a limit of its own", function()
    expect({ "ping hello", "text " }, ping("hello") .. text(""), 0)
    expect({ "error 1009 the message is too large" }, text("x"), 0)
  end)

  it("messages in too many fragments, counted anew for each", function()
    local three = fragments(1, { "a", "b", "c" }, ping())
    local events = { "ping ", "ping ", "text abc" }
    expect({ "ping ", "ping ", "text abc", "ping ", "ping ", "text abc" }, three .. three, 100, 3)
    table.remove(events)
    events[3] = "error 1009 the message has too many fragments"
    expect(events, three, 100, 2)
    expect({ "text a" }, text("a"), 100, 1)
  end)
end)

describe("ws_decoder closes", function()
  it("with the peer's code and reason, or 1005 without", function()
    expect({ "close 1005 " }, close())
    expect({ "close 1000 " }, close(1000))
    expect({ "close 4321 tschüß" }, close(4321, "tschüß"))
    expect({ "close 1000 " .. ("x"):rep(123) }, close(1000, ("x"):rep(123)))
    for _, code in ipairs({ 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999 }) do
      expect({ ("close %d "):format(code) }, close(code))
    end
  end)

  it("within a fragmented message, which is given up", function()
    local bytes = frame(1, "never finished") .. close(1001, "bye")
    expect({ "close 1001 bye" }, bytes)
    local decoder = new_decoder()
    feed(decoder, bytes)
    assert.equal(0, tonumber(lib.ws_decoder_buffered(decoder)))
    assert.is_true(decoder.partial == nil)
  end)

  it("for good: what follows a close frame or an error is discarded", function()
    expect({ "text a", "close 1000 " }, text("a") .. close(1000) .. text("b") .. "\255\255")
    expect({ "error 1002 reserved bits are set" }, "\255" .. text("b"))
    expect({ "error 1007 the text is not UTF-8" }, frame(1, "\255") .. frame(FINAL, "x") .. ping())
  end)
end)

describe("ws_decoder, fed at random", function()
  it("gives the same events however a long conversation is cut", function()
    math.randomseed(1)
    local bytes, expected = {}, {}
    for i = 1, 60 do
      local payload = ("é"):rep(math.random(0, 200)) .. ("a"):rep(math.random(0, 100))
      local mask = string.char(math.random(0, 255), math.random(0, 255), i, 0)
      if i % 5 == 0 then
        local cut = math.random(0, #payload)
        bytes[#bytes + 1] = frame(1, payload:sub(1, cut), { mask = mask })
        bytes[#bytes + 1] = ping(tostring(i))
        bytes[#bytes + 1] = frame(FINAL, payload:sub(cut + 1), { mask = mask })
        expected[#expected + 1] = "ping " .. i
      else
        bytes[#bytes + 1] = frame(FINAL + 1, payload, { mask = mask })
      end
      expected[#expected + 1] = "text " .. payload
    end
    bytes = table.concat(bytes)
    for _, size in ipairs({ 1, 2, 3, 7, 16, 61, 128, 509, 1024, 4093, #bytes }) do
      assert.same(expected, feed_pieces(bytes, size))
    end
  end)

  it("never reads or writes outside of its input, whatever that is", function()
    math.randomseed(2)
    local good = text("Hello") .. fragments(1, { "a", "é" }, ping("x")) .. close(1000, "bye")
    for _ = 1, 1000 do
      local bytes = {}
      for byte in support.pieces(good) do
        bytes[#bytes + 1] = math.random(12) == 1 and string.char(math.random(0, 255)) or byte
      end
      bytes = table.concat(bytes)
      -- The verdict too must not depend on how the bytes arrive.
      assert.same(feed(new_decoder(100), bytes), feed_pieces(bytes, math.random(1, 9), 100))
    end
  end)
end)
