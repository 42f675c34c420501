local ffi = require("ffi")
local support = require("spec.core.support")

-- The struct of base/buf.h under a name of our own, so that no other spec's declaration meets it.
support.cdef([[
  struct http1_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
]])
support.cdef([[
  typedef struct {
    int status; int http_minor; bool keep_alive; bool is_head; int framing;
    uint64_t content_length; slice date;
  } http1_response;
  bool http1_response_begin(void *out, const http1_response *response);
  bool http1_response_header(void *out, slice name, slice value);
  bool http1_response_end(void *out);
  bool http1_response_has_body(const http1_response *response);
  bool http1_response_is_chunked(const http1_response *response);
  bool http1_response_keeps_alive(const http1_response *response);
  bool http1_chunk_begin(void *out, size_t chunk_bytes);
  const char *http1_status_text(int status);
  bool http1_header_is_valid(slice name, slice value);
  bool http1_header_is_reserved(slice name);
]])

local lib = support.lib
local LENGTH, CHUNKED, UNTIL_CLOSE = 0, 1, 2
local DATE = "Sun, 06 Nov 1994 08:49:37 GMT"

local function buf(max_bytes)
  return ffi.gc(ffi.new("struct http1_spec_buf", { max_bytes = max_bytes or 0 }), function(b)
    ffi.C.free(b.data)
  end)
end

local function text_of(out)
  return ffi.string(out.data, out.len)
end

local function response(fields)
  local value = ffi.new("http1_response", {
    status = fields.status or 200,
    http_minor = fields.http_minor or 1,
    keep_alive = fields.keep_alive ~= false,
    is_head = fields.is_head or false,
    framing = fields.framing or LENGTH,
    content_length = fields.content_length or 0,
  })
  local date = support.slice(fields.date or "")
  value.date = date
  return value, date
end

--- The lines that http1_response_begin writes.
local function begin(fields)
  local out = buf()
  local value, date = response(fields)
  assert.is_true(lib.http1_response_begin(out, value))
  assert.is_not_nil(date)
  return text_of(out)
end

describe("a response head", function()
  it("has status line, date, length and the caller's headers", function()
    local out = buf()
    local value, date = response({ content_length = 12, date = DATE })
    assert.is_true(lib.http1_response_begin(out, value))
    assert.is_not_nil(date)
    lib.http1_response_header(out, support.slice("Content-Type"), support.slice("text/plain"))
    lib.http1_response_header(out, support.slice("X-Empty"), support.slice(""))
    lib.http1_response_end(out)
    assert.equal(
      "HTTP/1.1 200 OK\r\nDate: "
        .. DATE
        .. "\r\nContent-Length: 12\r\nContent-Type: text/plain\r\nX-Empty: \r\n\r\n",
      text_of(out)
    )
  end)

  it("writes lengths of any size", function()
    for _, length in ipairs({ "0", "7", "10", "4294967296", "18446744073709551615" }) do
      local value = response({})
      value.content_length = loadstring("return " .. length .. "ULL")()
      local out = buf()
      lib.http1_response_begin(out, value)
      assert.equal("HTTP/1.1 200 OK\r\nContent-Length: " .. length .. "\r\n", text_of(out))
    end
  end)

  it("says when the connection will not stay, to HTTP/1.1", function()
    assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", begin({}))
    assert.equal(
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n",
      begin({ keep_alive = false })
    )
  end)

  it("says when the connection will stay, to HTTP/1.0", function()
    assert.equal(
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n",
      begin({ http_minor = 0 })
    )
    assert.equal(
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n",
      begin({ http_minor = 0, keep_alive = false })
    )
  end)

  it("uses chunks with HTTP/1.1 and the connection's end with HTTP/1.0", function()
    assert.equal("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", begin({ framing = CHUNKED }))
    assert.equal(
      "HTTP/1.1 200 OK\r\nConnection: close\r\n",
      begin({ framing = CHUNKED, http_minor = 0 })
    )
    assert.equal("HTTP/1.1 200 OK\r\nConnection: close\r\n", begin({ framing = UNTIL_CLOSE }))
    assert.is_true(lib.http1_response_is_chunked((response({ framing = CHUNKED }))))
    assert.is_false(
      lib.http1_response_is_chunked((response({ framing = CHUNKED, http_minor = 0 })))
    )
    assert.is_false(
      lib.http1_response_keeps_alive((response({ framing = CHUNKED, http_minor = 0 })))
    )
    assert.is_true(lib.http1_response_keeps_alive((response({ framing = CHUNKED }))))
    assert.is_false(lib.http1_response_keeps_alive((response({ framing = UNTIL_CLOSE }))))
    assert.is_false(lib.http1_response_keeps_alive((response({ keep_alive = false }))))
  end)

  it("has no length where there is no body", function()
    assert.equal("HTTP/1.1 204 No Content\r\n", begin({ status = 204, content_length = 3 }))
    assert.equal("HTTP/1.1 204 No Content\r\n", begin({ status = 204, framing = CHUNKED }))
    assert.equal(
      "HTTP/1.1 304 Not Modified\r\nDate: " .. DATE .. "\r\n",
      begin({ status = 304, date = DATE, content_length = 3 })
    )
    for _, status in ipairs({ 100, 101, 103, 204, 304 }) do
      assert.is_false(lib.http1_response_has_body((response({ status = status }))))
      assert.is_true(
        lib.http1_response_keeps_alive((response({ status = status, framing = UNTIL_CLOSE })))
      )
    end
    assert.is_true(lib.http1_response_has_body((response({ status = 404 }))))
  end)

  it("leaves the connection of 1xx to the caller", function()
    assert.equal(
      "HTTP/1.1 101 Switching Protocols\r\n",
      begin({ status = 101, keep_alive = false, date = DATE })
    )
    assert.equal("HTTP/1.1 100 Continue\r\n", begin({ status = 100, http_minor = 0 }))
  end)

  it("has for HEAD what GET would have, without a body", function()
    assert.equal(
      "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n",
      begin({ is_head = true, content_length = 99 })
    )
    assert.equal(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
      begin({ is_head = true, framing = CHUNKED })
    )
    assert.is_false(lib.http1_response_has_body((response({ is_head = true }))))
    assert.is_true(
      lib.http1_response_keeps_alive((response({ is_head = true, framing = UNTIL_CLOSE })))
    )
  end)

  it("knows the registered statuses and copes with others", function()
    for status, text in pairs({
      [200] = "OK",
      [400] = "Bad Request",
      [404] = "Not Found",
      [408] = "Request Timeout",
      [413] = "Content Too Large",
      [426] = "Upgrade Required",
      [431] = "Request Header Fields Too Large",
      [511] = "Network Authentication Required",
      [599] = "Unknown",
    }) do
      assert.equal(text, ffi.string(lib.http1_status_text(status)))
      assert.equal(
        "HTTP/1.1 " .. status .. " " .. text .. "\r\nContent-Length: 0\r\n",
        begin({ status = status })
      )
    end
  end)

  it("appends nothing past the buffer's limit", function()
    local out = buf(20)
    assert.is_false(lib.http1_response_begin(out, (response({}))))
    local long = support.slice(("v"):rep(30))
    assert.is_false(lib.http1_response_header(out, support.slice("n"), long))
    assert.equal(0, tonumber(out.len))
  end)
end)

describe("a chunk", function()
  it("begins with its size in hexadecimal", function()
    local out = buf()
    for _, size in ipairs({ 1, 9, 10, 255, 256, 65536 }) do
      lib.http1_chunk_begin(out, size)
    end
    lib.http1_chunk_begin(out, 0xffffffffffffffffULL)
    assert.equal("1\r\n9\r\na\r\nff\r\n100\r\n10000\r\nffffffffffffffff\r\n", text_of(out))
  end)
end)

describe("a header of the caller's", function()
  local function is_valid(name, value)
    return lib.http1_header_is_valid(support.slice(name), support.slice(value))
  end

  it("has a token as its name", function()
    assert.is_true(is_valid("X-Name_1!#$%&'*+.^`|~", "value"))
    for _, name in ipairs({ "", "a b", "a:", "a\r\nb", "ä", "a\0", "(a)", "a/b", 'a"', " a" }) do
      assert.is_false(is_valid(name, "value"), name)
    end
  end)

  it("has no control characters in its value, wherever they stand", function()
    assert.is_true(is_valid("a", ""))
    assert.is_true(is_valid("a", "text\twith tab and \195\164 \255"))
    for byte = 0, 255 do
      local control = (byte < 32 and byte ~= 9) or byte == 127
      for at = 0, 17 do
        local value = ("x"):rep(at) .. string.char(byte) .. ("y"):rep(17 - at)
        assert.equal(not control, is_valid("a", value))
      end
    end
  end)

  it("may not be one that the gateway sets", function()
    for _, name in ipairs({ "date", "Content-Length", "TRANSFER-ENCODING", "connection" }) do
      assert.is_true(lib.http1_header_is_reserved(support.slice(name)))
    end
    assert.is_false(lib.http1_header_is_reserved(support.slice("content-type")))
  end)
end)
