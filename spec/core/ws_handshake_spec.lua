local support = require("spec.core.support")
local ffi = require("ffi")

support.cdef([[
  typedef struct {
    bool has_upgrade; bool has_connection; uint16_t key_count; uint16_t version_count;
    slice key; slice version;
  } ws_handshake;
  typedef struct { int status; const char *reason; } ws_handshake_result;
  void ws_handshake_add(ws_handshake *handshake, slice name, slice value);
  ws_handshake_result ws_handshake_judge(const ws_handshake *handshake, slice method,
                                         int http_major, int http_minor);
  void ws_handshake_accept(slice key, char *out);
  bool ws_handshake_key_is_valid(slice key);
  bool ws_handshake_has_token(slice header_value, slice token);
  slice ws_handshake_choose_protocol(slice offered, const slice *ours, size_t count);
]])

local lib = support.lib
local KEY = "dGhlIHNhbXBsZSBub25jZQ=="

--- Judges a request; `changes` replaces headers by name (false: none, a list: one each).
local function judge(changes, method, major, minor)
  local headers = {
    Host = "example.org",
    Upgrade = "websocket",
    Connection = "Upgrade",
    ["Sec-WebSocket-Key"] = KEY,
    ["Sec-WebSocket-Version"] = "13",
  }
  for name, value in pairs(changes or {}) do
    headers[name] = value
  end
  local handshake, kept = ffi.new("ws_handshake"), {}
  for name, values in pairs(headers) do
    for _, value in ipairs(type(values) == "table" and values or { values or nil }) do
      local bytes = support.slice(value)
      kept[#kept + 1] = bytes
      lib.ws_handshake_add(handshake, support.slice(name), bytes)
    end
  end
  method = support.slice(method or "GET")
  local result = lib.ws_handshake_judge(handshake, method, major or 1, minor or 1)
  assert.equal(result.status == 101, result.reason == nil)
  assert.is_true(#kept > 0)
  return result.status
end

describe("ws_handshake_accept", function()
  it("answers the key of section 1.3 with its accept value", function()
    local out = ffi.gc(ffi.cast("char *", ffi.C.malloc(28)), ffi.C.free)
    lib.ws_handshake_accept(support.slice(KEY), out)
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ffi.string(out, 28))
  end)
end)

describe("ws_handshake_key_is_valid", function()
  local function is_valid(key)
    return lib.ws_handshake_key_is_valid(support.slice(key))
  end

  it("takes 16 bytes in base64", function()
    assert.is_true(is_valid(KEY))
    assert.is_true(is_valid("AAAAAAAAAAAAAAAAAAAAAA=="))
    assert.is_true(is_valid("+/+/+/+/+/+/+/+/+/+/+w=="))
  end)

  it("refuses other lengths, other characters and other padding", function()
    for i = 0, #KEY - 1 do
      assert.is_false(is_valid(KEY:sub(1, i)))
    end
    assert.is_false(is_valid(KEY .. "="))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub25jZQ=A"))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub25jZQA="))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub25jZQAA"))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub2-jZQ=="))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub25jZ==="))
    assert.is_false(is_valid("=GhlIHNhbXBsZSBub25jZQ=="))
    assert.is_false(is_valid("dGhlIHNhbXBsZSBub25j Q=="))
  end)
end)

describe("ws_handshake_has_token", function()
  local function has(value, token)
    return lib.ws_handshake_has_token(support.slice(value), support.slice(token))
  end

  it("finds a token anywhere in the list, without case", function()
    assert.is_true(has("Upgrade", "upgrade"))
    assert.is_true(has("keep-alive, Upgrade", "upgrade"))
    assert.is_true(has("upgrade,keep-alive", "Upgrade"))
    assert.is_true(has(" \tkeep-alive\t ,\t UPGRADE ", "upgrade"))
    assert.is_true(has(",,upgrade,", "upgrade"))
  end)

  it("does not find a part of a token", function()
    assert.is_false(has("upgraded", "upgrade"))
    assert.is_false(has("no-upgrade", "upgrade"))
    assert.is_false(has("keep-alive upgrade", "upgrade"))
    assert.is_false(has("", "upgrade"))
    assert.is_false(has(",", "upgrade"))
  end)
end)

describe("ws_handshake_choose_protocol", function()
  local function choose(offered, ...)
    local names, held = { ... }, {}
    local ours = ffi.new("slice[?]", math.max(#names, 1))
    for i, name in ipairs(names) do
      held[i] = support.slice(name)
      ours[i - 1] = held[i]
    end
    offered = support.slice(offered)
    local chosen = support.string(lib.ws_handshake_choose_protocol(offered, ours, #names))
    assert.equal(#names, #held)
    return chosen
  end

  it("takes the client's first choice among ours", function()
    assert.equal("chat", choose("chat", "chat"))
    assert.equal("b", choose("c, b ,a", "a", "b"))
    assert.equal("a", choose("a,b", "b", "a"))
  end)

  it("chooses nothing where nothing fits, and compares with case", function()
    assert.is_nil(choose("chat", "Chat"))
    assert.is_nil(choose("chat", "cha", "chats"))
    assert.is_nil(choose("chat"))
    assert.is_nil(choose("", "chat"))
    assert.is_nil(choose(" , ", ""))
  end)
end)

describe("ws_handshake_judge", function()
  it("accepts what browsers send", function()
    assert.equal(101, judge())
    assert.equal(101, judge({ Connection = "keep-alive, Upgrade", Upgrade = "WebSocket" }))
    assert.equal(101, judge({ Connection = { "keep-alive", "upgrade" } }))
    assert.equal(101, judge({ Upgrade = { "h2c", "websocket" } }))
    assert.equal(101, judge({ ["Sec-WebSocket-Key"] = " " .. KEY .. "\t" }))
    assert.equal(101, judge({ ["SEC-WEBSOCKET-KEY"] = KEY, ["Sec-WebSocket-Key"] = false }))
  end)

  it("answers 405 to other methods", function()
    for _, method in ipairs({ "POST", "HEAD", "PUT", "get", "" }) do
      assert.equal(405, judge(nil, method))
    end
  end)

  it("answers 400 to versions of HTTP before 1.1", function()
    assert.equal(400, judge(nil, "GET", 1, 0))
    assert.equal(400, judge(nil, "GET", 0, 9))
  end)

  it("answers 426 to a plain request", function()
    assert.equal(426, judge({ Upgrade = false, Connection = "keep-alive" }))
    assert.equal(426, judge({ Upgrade = "h2c" }))
  end)

  it("answers 400 where Connection does not list Upgrade", function()
    assert.equal(400, judge({ Connection = false }))
    assert.equal(400, judge({ Connection = "keep-alive" }))
  end)

  it("answers 426 to another version, 400 to none or two", function()
    for _, version in ipairs({ "8", "7", "0", "14", "013", "13.0", "13, 8", "" }) do
      assert.equal(426, judge({ ["Sec-WebSocket-Version"] = version }))
    end
    assert.equal(400, judge({ ["Sec-WebSocket-Version"] = false }))
    assert.equal(400, judge({ ["Sec-WebSocket-Version"] = { "13", "13" } }))
  end)

  it("answers 400 to a key that is missing, doubled or malformed", function()
    assert.equal(400, judge({ ["Sec-WebSocket-Key"] = false }))
    assert.equal(400, judge({ ["Sec-WebSocket-Key"] = { KEY, KEY } }))
    assert.equal(400, judge({ ["Sec-WebSocket-Key"] = "" }))
    assert.equal(400, judge({ ["Sec-WebSocket-Key"] = "short" }))
  end)

  it("tells a client of an early draft its version's fault first", function()
    local changes = { ["Sec-WebSocket-Key"] = false, ["Sec-WebSocket-Version"] = "8" }
    assert.equal(426, judge(changes))
  end)
end)
