local support = require("spec.core.support")
local ffi = require("ffi")

support.cdef([[
  void digest_sha1(slice data, uint8_t *out);
  void digest_sha256(slice data, uint8_t *out);
  void digest_hmac_sha256(slice key, slice data, uint8_t *out);
  size_t digest_base64_encode(slice data, bool url_safe, char *out);
  long digest_base64_decode(slice text, char *out);
  bool digest_is_equal(slice a, slice b);
]])

local lib = support.lib

local function hex(bytes, len)
  local text = ffi.string(bytes, len)
  return (text:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

local function sha256(text)
  local out = support.exact(("\0"):rep(32))
  lib.digest_sha256(support.slice(text), out)
  return hex(out, 32)
end

local function hmac(key, text)
  local out = support.exact(("\0"):rep(32))
  lib.digest_hmac_sha256(support.slice(key), support.slice(text), out)
  return hex(out, 32)
end

local function encode(bytes, url_safe)
  local room = math.floor((#bytes + 2) / 3) * 4
  local out = support.exact(("\0"):rep(room))
  local len = tonumber(lib.digest_base64_encode(support.slice(bytes), url_safe or false, out))
  return ffi.string(out, len)
end

local function decode(text)
  local room = math.floor(#text / 4) * 3 + 3
  local out = support.exact(("\0"):rep(room))
  local len = tonumber(lib.digest_base64_decode(support.slice(text), out))
  if len >= 0 then
    return ffi.string(out, len)
  end
end

describe("digests", function()
  it("agree with the examples of FIPS 180", function()
    local out = support.exact(("\0"):rep(20))
    lib.digest_sha1(support.slice("abc"), out)
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", hex(out, 20))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", sha256("abc"))
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", sha256(""))
  end)

  it("agree with the HMAC examples of RFC 4231", function()
    assert.equal(
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      hmac(("\11"):rep(20), "Hi There")
    )
    assert.equal(
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      hmac("Jefe", "what do ya want for nothing?")
    )
    assert.equal(
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      hmac(("\170"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First")
    )
  end)

  it("take an empty key and keys of one block and one byte more", function()
    assert.equal("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", hmac("", ""))
    assert.equal(
      "0414bb1d8c0c4556cdb2028727b16610ae377b1a194b6db1f853d4297f2329bc",
      hmac(("k"):rep(64), "text")
    )
    assert.equal(
      "5b69580123e3d7e788b7e8352ac37a3247b911c5ec0837147b74109a6382d3f5",
      hmac(("k"):rep(65), "text")
    )
  end)

  it("compare by contents and length", function()
    local function is_equal(a, b)
      return lib.digest_is_equal(support.slice(a), support.slice(b))
    end
    assert.is_true(is_equal("", ""))
    assert.is_true(is_equal("secret", "secret"))
    assert.is_false(is_equal("secret", "secreT"))
    assert.is_false(is_equal("secret", "secre"))
  end)
end)

describe("base64", function()
  it("agrees with the examples of RFC 4648", function()
    local plain = { "", "f", "fo", "foo", "foob", "fooba", "foobar" }
    local coded = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" }
    for i, text in ipairs(plain) do
      assert.equal(coded[i], encode(text))
      assert.equal(text, decode(coded[i]))
    end
  end)

  it("has an alphabet for addresses, without padding", function()
    assert.equal("+/++/w==", encode("\251\255\190\255"))
    assert.equal("-_--_w", encode("\251\255\190\255", true))
  end)

  it("reads both alphabets, padded or not", function()
    for _, text in ipairs({ "+/++/w==", "-_--_w", "-_--_w==", "+/++/w" }) do
      assert.equal("\251\255\190\255", decode(text))
    end
  end)

  it("gives back every byte at every place", function()
    for byte = 0, 255 do
      for before = 0, 3 do
        local bytes = ("x"):rep(before) .. string.char(byte)
        assert.equal(bytes, decode(encode(bytes)))
        assert.equal(bytes, decode(encode(bytes, true)))
      end
    end
  end)

  it("refuses other characters, wrong padding and a lone last character", function()
    for _, text in ipairs({ "Zg=", "Z", "Zg===", "=", "====", "Zg==Zg==", "Z=g=", "Zm 9v", "Zm9v=" }) do
      assert.is_nil(decode(text), text)
    end
    for byte = 0, 255 do
      local c = string.char(byte)
      if not c:find("[%w+/_=-]") then
        assert.is_nil(decode("Zm9" .. c), "byte " .. byte)
      end
    end
  end)

  it("refuses a second spelling of the same bytes", function()
    assert.equal("f", decode("Zg"))
    assert.is_nil(decode("Zh"))
    assert.is_nil(decode("Zm9"))
  end)
end)
