local ffi = require("ffi")
local support = require("spec.core.support")

support.cdef([[
  int http1_range_decode(slice value, uint64_t total, uint64_t *offset, uint64_t *len);
  size_t http1_range_encode(uint64_t offset, uint64_t len, uint64_t total, char *out);
]])

local lib = support.lib
local WHOLE, PART, UNSATISFIABLE = 0, 1, 2
local LARGEST = 18446744073709551615ULL

--- The result, and for a part where it begins and how long it is.
local function decode(text, total)
  local offset = ffi.new("uint64_t[1]", 77)
  local len = ffi.new("uint64_t[1]", 77)
  local value = support.slice(text)
  local result = lib.http1_range_decode(value, total, offset, len)
  if result == PART then
    return result, offset[0], len[0]
  end
  assert.is_true(offset[0] == 77 and len[0] == 77)
  return result
end

local function assert_part(text, total, offset, len)
  local result, got_offset, got_len = decode(text, total)
  assert.equal(PART, result, text)
  assert.equal(tostring(offset + 0ULL), tostring(got_offset), text)
  assert.equal(tostring(len + 0ULL), tostring(got_len), text)
end

describe("a Range header", function()
  it("asks for a part from the beginning, the middle or the end", function()
    assert_part("bytes=0-3", 10, 0, 4)
    assert_part("bytes=4-", 10, 4, 6)
    assert_part("bytes=-3", 10, 7, 3)
    assert_part("bytes=9-9", 10, 9, 1)
    assert_part("bytes=0-0", 1, 0, 1)
    assert_part("bytes=0-", 10, 0, 10)
  end)

  it("never gets more than there is", function()
    assert_part("bytes=5-1000", 10, 5, 5)
    assert_part("bytes=-1000", 10, 0, 10)
    assert_part("bytes=0-99999999999999999999999999", 10, 0, 10)
    assert_part("bytes=-99999999999999999999999999", 10, 0, 10)
    assert_part("bytes=0-18446744073709551615", LARGEST, 0, LARGEST)
    assert_part("bytes=18446744073709551614-", LARGEST, LARGEST - 1, 1)
  end)

  it("names its unit in any case", function()
    assert_part("BYTES=1-2", 10, 1, 2)
    assert_part("bytes= 1-2\t", 10, 1, 2)
  end)

  it("cannot be satisfied past the end", function()
    for _, text in ipairs({ "bytes=10-", "bytes=10-12", "bytes=99999999999999999999-", "bytes=-0" }) do
      assert.equal(UNSATISFIABLE, decode(text, 10), text)
    end
    assert.equal(UNSATISFIABLE, decode("bytes=0-", 0))
    assert.equal(UNSATISFIABLE, decode("bytes=0-0", 0))
  end)

  it("is ignored when it is nonsense, of another unit, or several", function()
    for _, text in ipairs({
      "",
      "=",
      "bytes",
      "bytes=",
      "bytes=-",
      "bytes=3-1",
      "bytes=a-b",
      "bytes=1",
      "bytes=1-2-3",
      "bytes=--1",
      "bytes=+1-2",
      "bytes=1 -2",
      "bytes =1-2",
      "bytes=0x1-2",
      "bytes=1-2x",
      "bytes=-5x",
      "lines=1-2",
      "bytes=0-1,3-4",
      "bytes=0-1,",
      "bytes=-1,-2",
    }) do
      assert.equal(WHOLE, decode(text, 10), text)
    end
    assert.equal(WHOLE, decode("bytes=-5", 0))
  end)

  it("is never read past its end", function()
    local text = "bytes=123-456"
    for head in support.splits(text) do
      decode(head, 1000)
    end
  end)
end)

describe("Content-Range", function()
  local function encode(offset, len, total)
    local out = ffi.new("char[72]")
    return ffi.string(out, lib.http1_range_encode(offset, len, total, out))
  end

  it("tells which part of how much it is", function()
    assert.equal("bytes 0-3/10", encode(0, 4, 10))
    assert.equal("bytes 9-9/10", encode(9, 1, 10))
    assert.equal(
      "bytes 18446744073709551614-18446744073709551614/18446744073709551615",
      encode(LARGEST - 1, 1, LARGEST)
    )
  end)

  it("tells only how much there is where no part could be sent", function()
    assert.equal("bytes */10", encode(0, 0, 10))
    assert.equal("bytes */18446744073709551615", encode(0, 0, LARGEST))
  end)
end)
