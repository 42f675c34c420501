local support = require("spec.core.support")
local bit = require("bit")

support.cdef([[
  typedef uint8_t utf8_state;
  utf8_state utf8_check(utf8_state state, slice piece);
]])

local lib = support.lib
local BOUNDARY, INVALID = 0, 1

local function check(bytes, state)
  return lib.utf8_check(state or BOUNDARY, support.slice(bytes))
end

local function is_valid(bytes)
  return check(bytes) == BOUNDARY
end

--- The state after each byte was fed alone.
local function check_bytewise(bytes)
  local state = BOUNDARY
  for byte in support.pieces(bytes) do
    state = check(byte, state)
  end
  return state
end

--- How many bytes are accepted one by one before one is refused; nil if none is.
local function refused_after(bytes)
  local state = BOUNDARY
  for i = 1, #bytes do
    state = check(bytes:sub(i, i), state)
    if state == INVALID then
      return i - 1
    end
  end
  return nil
end

--- Encodes without asking whether the code point is allowed.
local function encode(code)
  local function tail(shift)
    return 0x80 + bit.band(bit.rshift(code, shift), 0x3F)
  end
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + bit.rshift(code, 6), tail(0))
  elseif code < 0x10000 then
    return string.char(0xE0 + bit.rshift(code, 12), tail(6), tail(0))
  end
  return string.char(0xF0 + bit.rshift(code, 18), tail(12), tail(6), tail(0))
end

--- The rule in plain words: decode, then judge the number. Returns "valid", "invalid" or "partial"
--- for bytes that hold one character or less.
local function reference(bytes)
  local first = bytes:byte(1)
  local size = first < 0x80 and 1
    or first >= 0xC0 and first < 0xE0 and 2
    or first >= 0xE0 and first < 0xF0 and 3
    or first >= 0xF0 and first < 0xF8 and 4
  if not size or #bytes > size then
    return "invalid"
  end
  -- The smallest and the largest code point that the bytes at hand may still become.
  local smallest = size == 1 and first or first % 2 ^ (7 - size)
  local largest = smallest
  for i = 2, size do
    local byte = bytes:byte(i)
    if byte and (byte < 0x80 or byte > 0xBF) then
      return "invalid"
    end
    smallest = smallest * 64 + (byte and byte - 0x80 or 0)
    largest = largest * 64 + (byte and byte - 0x80 or 63)
  end
  local shortest = ({ 0, 0x80, 0x800, 0x10000 })[size]
  smallest = math.max(smallest, shortest)
  largest = math.min(largest, 0x10FFFF)
  if smallest > largest or smallest >= 0xD800 and largest <= 0xDFFF then
    return "invalid"
  end
  return #bytes == size and "valid" or "partial"
end

local function verdict(state)
  return state == BOUNDARY and "valid" or state == INVALID and "invalid" or "partial"
end

--- Every pair of bytes, as the reference sees it.
local function expected_of_pair(pair)
  local first = reference(pair:sub(1, 1))
  if first == "valid" then
    return reference(pair:sub(2, 2))
  end
  return first == "invalid" and first or reference(pair)
end

-- Bytes at which the rule changes.
local EDGES = { 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xFF }

local function expect_verdict(expected, bytes)
  local whole, bytewise = verdict(check(bytes)), verdict(check_bytewise(bytes))
  if whole ~= expected or bytewise ~= expected then
    local hex = bytes:gsub(".", function(c)
      return ("%02X "):format(c:byte())
    end)
    error(("%s: expected %s, whole %s, bytewise %s"):format(hex, expected, whole, bytewise), 2)
  end
end

describe("utf8", function()
  it("agrees with the rule on every byte and every pair of bytes", function()
    for first = 0, 255 do
      expect_verdict(reference(string.char(first)), string.char(first))
      for second = 0, 255 do
        local pair = string.char(first, second)
        expect_verdict(expected_of_pair(pair), pair)
      end
    end
  end)

  it("agrees with the rule on longer forms with every lead and tails at the edges", function()
    for first = 0xE0, 0xFF do
      for _, second in ipairs(EDGES) do
        for _, third in ipairs(EDGES) do
          local three = string.char(first, second, third)
          local expected = reference(three:sub(1, 1))
          expected = expected == "invalid" and expected or reference(three:sub(1, 2))
          expected = expected == "invalid" and expected or reference(three)
          expect_verdict(expected, three)
          if first >= 0xF0 and expected ~= "invalid" then
            for _, fourth in ipairs(EDGES) do
              local four = three .. string.char(fourth)
              expect_verdict(reference(four), four)
            end
          end
        end
      end
    end
  end)

  it("accepts every code point but the surrogates", function()
    for code = 0, 0x10FFFF do
      -- All below U+3000 and around the surrogates, then a sample and both ends of each plane.
      local is_dense = code < 0x3000 or (code >= 0xD700 and code <= 0xE0FF)
      if is_dense or code % 251 == 0 or code % 0x10000 <= 1 or code % 0x10000 >= 0xFFFE then
        local is_surrogate = code >= 0xD800 and code <= 0xDFFF
        local state = check(encode(code))
        if (state == BOUNDARY) == is_surrogate then
          error(("U+%04X is judged wrongly"):format(code))
        end
      end
    end
  end)

  it("refuses at the very byte that cannot be continued", function()
    local kosme = "κόσμε"
    local cases = {
      { kosme .. "\237\160\128edited", #kosme + 1 }, -- a surrogate
      { kosme .. "\244\144\128\128edited", #kosme + 1 }, -- above U+10FFFF
      { "\128", 0 },
      { "\191", 0 },
      { "\192\175", 0 }, -- overlong in two bytes
      { "\193\191", 0 },
      { "\224\128\175", 1 }, -- overlong in three
      { "\224\159\191", 1 },
      { "\240\128\128\175", 1 }, -- overlong in four
      { "\240\143\191\191", 1 },
      { "\248\136\128\128\128", 0 }, -- five and six bytes
      { "\252\132\128\128\128\128", 0 },
      { "\237\160\128\237\176\128", 1 }, -- a pair of surrogates
      { "\244\144\128\128", 1 },
      { "\245\128\128\128", 0 },
      { "\254", 0 },
      { "\255", 0 },
      { kosme .. " and ASCII", nil },
      { "\206\32", 1 }, -- a character cut short by ASCII
      { "\226\130\65", 2 },
      { "\240\159\152\65", 3 },
      { "a\226\130\226", 3 },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[2], refused_after(case[1]))
    end
  end)

  it("stays invalid, whatever comes", function()
    assert.equal(INVALID, check("fine", check("\255")))
    assert.equal(INVALID, check("", INVALID))
    assert.equal(INVALID, check("\255" .. ("a"):rep(1000)))
  end)

  it("keeps its place over empty pieces", function()
    assert.equal(BOUNDARY, check(""))
    local within = check("\226\130")
    assert.equal(within, check("", within))
    assert.equal(BOUNDARY, check("\172", within))
  end)

  it("does not take an unfinished character for a whole one", function()
    for _, character in ipairs({ "é", "€", "😀" }) do
      for at = 1, #character - 1 do
        assert.equal("partial", verdict(check(character:sub(1, at))))
        assert.equal("partial", verdict(check(("a"):rep(64) .. character:sub(1, at))))
      end
    end
  end)

  it("judges a text alike however it is cut", function()
    local text = ("plain ASCII, long enough for the wide step; "):rep(3)
      .. "Größe, Привет, 漢字, 😀, \u{10FFFF}\0"
      .. ("x"):rep(70)
      .. "é"
    for first, second in support.splits(text) do
      assert.equal(BOUNDARY, check(second, check(first)))
    end
    for _, size in ipairs({ 1, 2, 3, 5, 7, 15, 16, 17, 63, 64, 65 }) do
      local state = BOUNDARY
      for piece in support.pieces(text, size) do
        state = check(piece, state)
      end
      assert.equal(BOUNDARY, state)
    end
  end)

  local function expect_bad_byte_seen(len)
    assert.is_true(is_valid(("a"):rep(len)))
    for at = 1, len do
      local text = ("a"):rep(at - 1) .. "\255" .. ("a"):rep(len - at)
      if check(text) ~= INVALID then
        error(("byte %d of %d went unseen"):format(at, len))
      end
    end
  end

  it("finds one bad byte at any place of any length", function()
    for len = 1, 150 do
      expect_bad_byte_seen(len)
    end
  end)

  it("finds one bad byte at any place of what is long enough for the widest step", function()
    for _, len in ipairs({ 1024, 1151, 1300 }) do
      expect_bad_byte_seen(len)
    end
  end)

  it("finds a character's missing tail at any place", function()
    for at = 0, 150 do
      local before = ("a"):rep(at)
      assert.equal(INVALID, check(before .. "\226\130" .. ("a"):rep(80)))
      assert.equal(BOUNDARY, check(before .. "\226\130\172" .. ("a"):rep(80)))
    end
  end)
end)
