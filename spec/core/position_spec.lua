local support = require("spec.core.support")
local ffi = require("ffi")

support.cdef([[
  typedef struct { char epoch[6]; uint64_t number; } position_part;
  size_t position_encode(const position_part *parts, size_t count, char *out);
  int position_decode(slice text, position_part *out, size_t max);
  bool position_find(slice text, const char *epoch, uint64_t *number);
]])

local lib = support.lib
local LARGEST = 18446744073709551615ULL

--- Takes { epoch, number }, …
local function encode(...)
  local parts = ffi.new("position_part[?]", math.max(select("#", ...), 1))
  for i, part in ipairs({ ... }) do
    ffi.copy(parts[i - 1].epoch, part[1], 6)
    parts[i - 1].number = part[2]
  end
  local out = support.exact(("\0"):rep(64))
  local len = tonumber(lib.position_encode(parts, select("#", ...), out))
  return len > 0 and ffi.string(out, len) or nil
end

--- Gives "epoch=number" for each part, with a space between.
local function decode(text, max)
  local parts = ffi.new("position_part[?]", 8)
  local count = lib.position_decode(support.slice(text), parts, max or 8)
  local list = {}
  for i = 0, count - 1 do
    local number = tostring(parts[i].number):gsub("ULL", "")
    list[#list + 1] = ffi.string(parts[i].epoch, 6) .. "=" .. number
  end
  return table.concat(list, " ")
end

local function find(text, epoch)
  local number = ffi.new("uint64_t[1]")
  if lib.position_find(support.slice(text), epoch, number) then
    return tonumber(number[0])
  end
end

describe("a position", function()
  it("is the epoch and the number in base 36", function()
    assert.equal("abc123.0", encode({ "abc123", 0 }))
    assert.equal("abc123.z", encode({ "abc123", 35 }))
    assert.equal("abc123.10", encode({ "abc123", 36 }))
    assert.equal("abc123.3w5e11264sgsf", encode({ "abc123", LARGEST }))
  end)

  it("joins the parts of several logs", function()
    assert.equal(
      "memory.1~sqlite.2~redis1.3",
      encode({ "memory", 1 }, { "sqlite", 2 }, { "redis1", 3 })
    )
  end)

  it("gives back what it was made of", function()
    local text = encode({ "memory", 12345678901 }, { "Sqlite", LARGEST }, { "000000", 0 })
    assert.equal("memory=12345678901 Sqlite=18446744073709551615 000000=0", decode(text))
  end)

  it("never passes 64 characters: what does not fit has no text", function()
    local largest = { "abc123", LARGEST }
    assert.equal(62, #encode(largest, largest, largest))
    assert.is_nil(encode(largest, largest, largest, { "abc123", 1 }))
    local small = { "abc123", 1 }
    assert.equal(62, #encode(small, small, small, small, small, small, small))
    assert.is_nil(encode(small, small, small, small, small, small, small, small))
    assert.is_nil(encode())
  end)

  it("takes no epoch that would break its alphabet", function()
    for _, epoch in ipairs({ "abc.23", "abc~23", "abc 23", "abc\n23", "abc\19523" }) do
      assert.is_nil(encode({ epoch, 1 }), epoch)
    end
  end)

  it("makes no claim when it is foreign text", function()
    local foreign = {
      "",
      "42",
      "~~~",
      ".",
      "abc123",
      "abc123.",
      "abc123.~",
      "abc12.1",
      "abc1234.1",
      "abc123.A",
      "abc123.-1",
      "abc123.1 ",
      " abc123.1",
      "abc123.01",
      "abc123.00",
      "abc-23.1",
      "abc123,1",
      "1-1700000000-0",
      "\0\0\0\0\0\0.1",
    }
    for _, text in ipairs(foreign) do
      assert.equal("", decode(text), text)
    end
  end)

  it("skips ill-formed parts and keeps the others", function()
    assert.equal("memory=1 redis1=3", decode("memory.1~sqlite.X~redis1.3"))
    assert.equal("memory=1", decode("~memory.1~"))
  end)

  it("skips a number that does not fit 64 bits", function()
    assert.equal("memory=18446744073709551615", decode("memory.3w5e11264sgsf"))
    assert.equal("", decode("memory.3w5e11264sgsg"))
    assert.equal("", decode("memory.zzzzzzzzzzzzz"))
    assert.equal("", decode("memory.10000000000000"))
  end)

  it("makes no claim beyond 64 characters", function()
    assert.equal("memory=1", decode(("x"):rep(55) .. "~memory.1"))
    assert.equal("", decode(("x"):rep(56) .. "~memory.1"))
  end)

  it("reads no more parts than there is room for", function()
    assert.equal("memory=1", decode("memory.1~sqlite.2", 1))
    assert.equal("", decode("memory.1", 0))
  end)

  it("finds the part of one log, wherever it stands", function()
    assert.equal(37, find("memory.1~sqlite.11", "sqlite"))
    assert.equal(1, find("memory.1~sqlite.11~memory.2", "memory"))
    assert.is_nil(find("memory.1~sqlite.11", "redis1"))
    assert.is_nil(find("memory.X", "memory"))
    assert.is_nil(find("MEMORY.1", "memory"))
    assert.is_nil(find("", "memory"))
  end)
end)
