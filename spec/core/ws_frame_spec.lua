local support = require("spec.core.support")
local ffi = require("ffi")
local bit = require("bit")

support.cdef([[
  typedef struct {
    uint64_t payload_len; uint8_t opcode; bool is_final; bool is_masked; uint8_t mask[4];
  } ws_frame_header;
  int ws_frame_decode(slice in, uint64_t max_payload, ws_frame_header *out);
  const char *ws_frame_error(slice in);
  size_t ws_frame_encode(char *out, int opcode, bool is_final, uint64_t payload_len);
  char *ws_frame_encode_before(char *payload, int opcode, bool is_final, uint64_t payload_len);
  size_t ws_frame_encode_close(char *out, uint16_t code, slice reason);
  bool ws_frame_is_close_code(uint16_t code);
  void ws_frame_unmask(char *data, size_t len, const uint8_t *mask, uint64_t offset);
]])

local lib = support.lib
local PARTIAL, INVALID, TOO_LARGE = 0, -1, -2
local UNLIMITED = 0x7FFFFFFFFFFFFFFFULL
local header = ffi.new("ws_frame_header")

local function decode(bytes, max_payload)
  return lib.ws_frame_decode(support.slice(bytes), max_payload or UNLIMITED, header)
end

local function encode(opcode, is_final, payload_len)
  local out = ffi.gc(ffi.cast("char *", ffi.C.malloc(10)), ffi.C.free)
  return ffi.string(out, lib.ws_frame_encode(out, opcode, is_final, payload_len))
end

--- Feeds ever longer beginnings: partial up to the last byte but one, then `expected`.
local function expect_at_last_byte(expected, bytes, max_payload)
  for len = 0, #bytes - 1 do
    assert.equal(PARTIAL, decode(bytes:sub(1, len), max_payload))
  end
  assert.equal(expected, decode(bytes, max_payload))
end

describe("ws_frame_decode", function()
  it("reads each length form, masked and not, with whatever follows", function()
    local forms = {
      { "\0", 0 },
      { "\1", 1 },
      { "\125", 125 },
      { "\126\0\126", 126 },
      { "\126\1\0", 256 },
      { "\126\255\255", 65535 },
      { "\127\0\0\0\0\0\1\0\0", 65536 },
      { "\127\0\0\0\1\2\3\4\5", 0x0102030405 },
      { "\127\127\255\255\255\255\255\255\255", 0x7FFFFFFFFFFFFFFFULL },
    }
    for _, form in ipairs(forms) do
      local len = ffi.new("uint64_t", form[2])
      local plain = "\130" .. form[1]
      expect_at_last_byte(#plain, plain)
      assert.is_true(header.payload_len == len and not header.is_masked and header.is_final)
      assert.equal("\0\0\0\0", ffi.string(header.mask, 4))

      local masked = "\1" .. string.char(form[1]:byte() + 128) .. form[1]:sub(2) .. "\1\2\254\255"
      expect_at_last_byte(#masked, masked)
      assert.is_true(header.payload_len == len and header.is_masked and not header.is_final)
      assert.equal("\1\2\254\255", ffi.string(header.mask, 4))
      assert.equal(#masked, decode(masked .. "payload"))
    end
  end)

  it("judges the first byte alone: reserved bits, opcodes, fragmented control frames", function()
    for first = 0, 255 do
      local opcode, is_final = first % 16, first >= 128
      local is_known = opcode <= 2 or opcode >= 8 and opcode <= 10
      local is_valid = is_known and bit.band(first, 0x70) == 0 and (opcode < 8 or is_final)
      local bytes = string.char(first)
      assert.equal(is_valid and PARTIAL or INVALID, decode(bytes))
      assert.equal(is_valid, lib.ws_frame_error(support.slice(bytes)) == nil)
      if is_valid then
        assert.equal(2, decode(bytes .. "\5"))
        assert.equal(opcode, header.opcode)
        assert.equal(is_final, header.is_final)
      end
    end
  end)

  it("refuses control frames above 125 bytes at the second byte", function()
    for _, opcode in ipairs({ 8, 9, 10 }) do
      local first = string.char(128 + opcode)
      assert.equal(2, decode(first .. "\125"))
      for _, second in ipairs({ "\126", "\127", "\254", "\255" }) do
        assert.equal(INVALID, decode(first .. second))
      end
    end
  end)

  it("refuses a length that is not in its shortest form as soon as it shows", function()
    expect_at_last_byte(INVALID, "\130\126\0\125")
    expect_at_last_byte(INVALID, "\130\254\0\0")
    -- After six zeros the length cannot pass 65,535 any more.
    expect_at_last_byte(INVALID, "\130\127\0\0\0\0\0\0")
    assert.equal(INVALID, decode("\130\127\0\0\0\0\0\0\255\255"))
  end)

  it("refuses the top bit of a 64-bit length at its first byte", function()
    expect_at_last_byte(INVALID, "\130\127\128")
    assert.equal(INVALID, decode("\130\255\255\255\255\255\255\255\255\255"))
  end)

  it("refuses a frame above the limit before its length is complete", function()
    expect_at_last_byte(TOO_LARGE, "\130\11", 10)
    assert.equal(2, decode("\130\10", 10))
    -- The form itself tells that at least 126 or 65,536 bytes are meant.
    expect_at_last_byte(TOO_LARGE, "\130\126", 125)
    expect_at_last_byte(TOO_LARGE, "\130\127", 65535)
    expect_at_last_byte(TOO_LARGE, "\130\126\4", 1023)
    expect_at_last_byte(TOO_LARGE, "\130\127\0\0\0\0\1", 0xFFFFFF)
    expect_at_last_byte(TOO_LARGE, "\130\254\4\1", 1024)
    assert.equal(4, decode("\130\126\4\0", 1024))
  end)

  it("holds control frames to their own limit, not to that of messages", function()
    assert.equal(2, decode("\137\125", 0))
  end)

  it("writes nothing unless the header is whole and right", function()
    header.payload_len = 77
    decode("\130\254\1\0\1\2\3")
    decode("\255\0")
    decode("\130\11", 10)
    assert.is_true(header.payload_len == 77)
  end)

  it("gives a reason for what is invalid and none for what is too large", function()
    local function reason(bytes)
      local text = lib.ws_frame_error(support.slice(bytes))
      return text ~= nil and ffi.string(text) or nil
    end
    assert.equal("reserved bits are set", reason("\194"))
    assert.equal("the opcode is unknown", reason("\131"))
    assert.equal("a control frame is fragmented", reason("\9"))
    assert.equal("a control frame has more than 125 bytes", reason("\137\126"))
    assert.equal("the length is not in its shortest form", reason("\130\126\0\1"))
    assert.equal("the length has its top bit set", reason("\130\127\128"))
    assert.is_nil(reason(""))
    assert.is_nil(reason("\130\127\127\255"))
  end)
end)

describe("ws_frame_encode", function()
  it("writes what section 5.7 shows", function()
    assert.equal("\129\5", encode(1, true, 5))
    assert.equal("\1\3", encode(1, false, 3))
    assert.equal("\128\2", encode(0, true, 2))
    assert.equal("\130\126\1\0", encode(2, true, 256))
    assert.equal("\130\127\0\0\0\0\0\1\0\0", encode(2, true, 65536))
  end)

  it("uses the shortest form, which decodes to the same length", function()
    local sizes = { [0] = 2, 2, [125] = 2, [126] = 4, [127] = 4, [65535] = 4, [65536] = 10 }
    sizes[2 ^ 40 + 3] = 10
    for len, size in pairs(sizes) do
      local bytes = encode(2, true, len)
      assert.equal(size, #bytes)
      assert.equal(size, decode(bytes))
      assert.equal(len, tonumber(header.payload_len))
    end
  end)

  it("writes in front of a payload what it writes elsewhere", function()
    for _, len in ipairs({ 0, 5, 125, 126, 65535, 65536 }) do
      local whole = support.exact(("."):rep(10) .. "payload")
      local start = lib.ws_frame_encode_before(whole + 10, 1, true, len)
      local expected = encode(1, true, len)
      assert.equal(expected .. "payload", ffi.string(start, #expected + 7))
      assert.equal(10 - #expected, start - whole)
    end
  end)
end)

describe("ws_frame_encode_close", function()
  local function close(code, reason)
    local out = ffi.gc(ffi.cast("char *", ffi.C.malloc(127)), ffi.C.free)
    return ffi.string(out, lib.ws_frame_encode_close(out, code, support.slice(reason)))
  end

  it("writes the code, then the reason", function()
    assert.equal("\136\2\3\232", close(1000, ""))
    assert.equal("\136\6\3\240room", close(1008, "room"))
  end)

  it("writes an empty frame where there is no code", function()
    assert.equal("\136\0", close(1005, "not said"))
  end)

  it("cuts a long reason to 123 bytes, never within a character", function()
    assert.equal("\136\125\3\232" .. ("a"):rep(123), close(1000, ("a"):rep(123)))
    assert.equal("\136\125\3\232" .. ("a"):rep(123), close(1000, ("a"):rep(500)))
    assert.equal("\136\124\3\232" .. ("é"):rep(61), close(1000, ("é"):rep(62)))
    assert.equal("\136\123\3\232a" .. ("😀"):rep(30), close(1000, "a" .. ("😀"):rep(31)))
  end)
end)

describe("ws_frame_is_close_code", function()
  it("knows which codes may be sent", function()
    local function is_allowed(code)
      return code >= 1000 and code <= 1003
        or code >= 1007 and code <= 1014
        or code >= 3000 and code <= 4999
    end
    for code = 0, 65535 do
      if lib.ws_frame_is_close_code(code) ~= is_allowed(code) then
        error(("%d is judged wrongly"):format(code))
      end
    end
  end)
end)

describe("ws_frame_unmask", function()
  local MASK = { 0x37, 0xFA, 0x21, 0x3D }
  local mask = ffi.new("uint8_t[4]", MASK)

  local function pattern(len)
    local bytes = {}
    for i = 1, len do
      bytes[i] = string.char((i * 7 + 3) % 256)
    end
    return table.concat(bytes)
  end

  local function reference(bytes, offset)
    local out = {}
    for i = 1, #bytes do
      out[i] = string.char(bit.bxor(bytes:byte(i), MASK[(offset + i - 1) % 4 + 1]))
    end
    return table.concat(out)
  end

  it("is right at every alignment, every phase and every length up to 200", function()
    local text = pattern(200)
    local expected = {}
    for phase = 0, 3 do
      expected[phase] = reference(text, phase)
    end
    -- 17 alignments cover the widest step; the memory ends with the payload.
    for alignment = 0, 16 do
      for phase = 0, 3 do
        for len = 0, 200 do
          local bytes = ("#"):rep(alignment) .. text:sub(1, len)
          local memory = support.exact(bytes)
          lib.ws_frame_unmask(memory + alignment, len, mask, phase)
          local result = ffi.string(memory, #bytes)
          if result ~= ("#"):rep(alignment) .. expected[phase]:sub(1, len) then
            error(("wrong at alignment %d, phase %d, length %d"):format(alignment, phase, len))
          end
        end
      end
    end
  end)

  it("is right where it is long enough for the widest step", function()
    local text = pattern(1400)
    for phase = 0, 3 do
      local expected = reference(text, phase)
      for _, len in ipairs({ 1023, 1024, 1025, 1151, 1152, 1279, 1280, 1399 }) do
        for alignment = 0, 32 do
          local memory = support.exact(("#"):rep(alignment) .. text:sub(1, len))
          lib.ws_frame_unmask(memory + alignment, len, mask, phase)
          local result = ffi.string(memory, alignment + len)
          if result ~= ("#"):rep(alignment) .. expected:sub(1, len) then
            error(("wrong at alignment %d, phase %d, length %d"):format(alignment, phase, len))
          end
        end
      end
    end
  end)

  it("gives the same in two pieces, whatever the cut, and in single bytes", function()
    local text = pattern(150)
    local expected = reference(text, 0)
    for first in support.splits(text) do
      local memory = support.exact(text)
      lib.ws_frame_unmask(memory, #first, mask, 0)
      lib.ws_frame_unmask(memory + #first, #text - #first, mask, #first)
      assert.equal(expected, ffi.string(memory, #text))
    end
    local memory = support.exact(text)
    for at = 0, #text - 1 do
      lib.ws_frame_unmask(memory + at, 1, mask, at)
    end
    assert.equal(expected, ffi.string(memory, #text))
  end)

  it("counts only the last two bits of the offset, however large", function()
    local memory = support.exact("abcdefgh")
    lib.ws_frame_unmask(memory, 8, mask, 0xFFFFFFFFFFFFFFFEULL)
    assert.equal(reference("abcdefgh", 2), ffi.string(memory, 8))
  end)
end)
