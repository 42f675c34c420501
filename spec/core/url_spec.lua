local ffi = require("ffi")
local support = require("spec.core.support")

-- The struct of base/buf.h under a name of our own, so that no other spec's declaration meets it.
support.cdef([[
  struct url_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
]])
support.cdef([[
  bool url_decode(slice text, bool plus_is_space, void *out);
  bool url_is_decodable(slice text);
  bool url_next_pair(slice *rest, slice *name, slice *value);
  bool url_encode(slice text, void *out);
]])

local lib = support.lib

local function buf(max_bytes)
  return ffi.gc(ffi.new("struct url_spec_buf", { max_bytes = max_bytes or 0 }), function(b)
    ffi.C.free(b.data)
  end)
end

local function decode(text, plus_is_space)
  local out = buf()
  local ok = lib.url_decode(support.slice(text), plus_is_space or false, out)
  return ok and ffi.string(out.data, out.len) or nil, tonumber(out.len)
end

local function encode(text)
  local out = buf()
  assert.is_true(lib.url_encode(support.slice(text), out))
  return ffi.string(out.data, out.len)
end

local function pairs_of(text)
  local input = support.slice(text)
  local rest = ffi.new("slice[1]")
  rest[0] = input
  local name, value = ffi.new("slice[1]"), ffi.new("slice[1]")
  local found = {}
  while lib.url_next_pair(rest, name, value) do
    found[#found + 1] = (support.string(name[0]) or "") .. "=" .. (support.string(value[0]) or "")
  end
  assert.is_not_nil(input)
  return found
end

describe("percent-decoding", function()
  it("turns escapes of either case into bytes", function()
    assert.equal("a b", decode("a%20b"))
    assert.equal("/", decode("%2f"))
    assert.equal("/", decode("%2F"))
    assert.equal("\255\1", decode("%fF%01"))
    assert.equal("%41", decode("%2541"))
  end)

  it("leaves everything else as it is", function()
    local text = "abc/def?x=1&y=~\200\201"
    assert.equal(text, decode(text))
    assert.equal("", decode(""))
  end)

  it("reads a plus as a space only where it is asked to", function()
    assert.equal("a+b", decode("a+b"))
    assert.equal("a b", decode("a+b", true))
    assert.equal("a+b", decode("a%2Bb", true))
  end)

  it("refuses bad escapes and NUL, and appends nothing then", function()
    for _, text in ipairs({
      "%",
      "%4",
      "ab%",
      "ab%4",
      "%g0",
      "%0g",
      "%%41",
      "%-1",
      "%+1",
      "%00",
      "a\0b",
    }) do
      local decoded, len = decode(text)
      assert.is_nil(decoded, text)
      assert.equal(0, len)
      assert.is_false(lib.url_is_decodable(support.slice(text)))
    end
  end)

  it("says beforehand what it would decode", function()
    for _, text in ipairs({ "", "abc", "%41", "%ff" }) do
      assert.is_true(lib.url_is_decodable(support.slice(text)))
    end
  end)

  it("keeps to the buffer's limit", function()
    assert.is_false(lib.url_decode(support.slice("abcd"), false, buf(3)))
    assert.is_true(lib.url_decode(support.slice("abc"), false, buf(3)))
  end)
end)

describe("a query", function()
  it("is taken apart pair by pair", function()
    assert.same({ "a=1", "b=2", "c=" }, pairs_of("a=1&b=2&c"))
    assert.same({ "a=1=2", "=x", "a=" }, pairs_of("a=1=2&=x&a="))
  end)

  it("may have empty pairs, which are skipped", function()
    assert.same({ "a=1", "b=2" }, pairs_of("&&a=1&&b=2&"))
    assert.same({}, pairs_of(""))
    assert.same({}, pairs_of("&"))
  end)
end)

describe("percent-encoding", function()
  it("keeps unreserved characters and escapes the rest", function()
    assert.equal("AZaz09-._~", encode("AZaz09-._~"))
    assert.equal("%20%2B%2F%3F%25%00%FF", encode(" +/?%\0\255"))
  end)

  it("is undone by decoding, for every byte but NUL", function()
    local bytes = {}
    for byte = 1, 255 do
      bytes[byte] = string.char(byte)
    end
    local text = table.concat(bytes)
    assert.equal(text, decode(encode(text), true))
  end)
end)
