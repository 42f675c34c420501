local ffi = require("ffi")
local support = require("spec.core.support")

-- The struct of base/buf.h under a name of our own, so that no other spec's declaration meets it.
support.cdef([[
  struct http1_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
]])
-- Of the decoder only what its header says may be read; llhttp's part differs between versions.
support.cdef([[
  typedef struct { int status; const char *reason; } http1_fault;
  typedef struct { uint32_t at; uint32_t len; } http1_span;
  typedef struct {
    uint32_t max_head_bytes, max_target_bytes, max_headers;
    uint64_t max_body_bytes;
  } http1_limits;
  struct http1_head {
    struct http1_spec_buf bytes;
    void *fields;
    uint32_t field_capacity;
    uint8_t known_host_len; char known_host[63];
    uint32_t field_count;
    http1_span target, path, query, host;
    uint64_t content_length;
    int method;
    uint8_t http_minor;
    bool keep_alive, is_chunked, expects_continue, is_upgrade;
    uint8_t bookkeeping[14];
  };
  void http1_head_deinit(struct http1_head *head);
  slice http1_method_name(int method);
  slice http1_head_target(const struct http1_head *head);
  slice http1_head_path(const struct http1_head *head);
  slice http1_head_query(const struct http1_head *head);
  slice http1_head_host(const struct http1_head *head);
  bool http1_head_has_escapes(const struct http1_head *head);
  bool http1_head_field(const struct http1_head *head, size_t index, slice *name, slice *value);
  bool http1_head_find(const struct http1_head *head, slice name, slice *value);
  size_t http1_head_count(const struct http1_head *head, slice name);
  size_t http1_head_join(const struct http1_head *head, slice name, void *out);
  bool http1_head_has_token(const struct http1_head *head, slice name, slice token);

  struct http1_decoder {
    struct http1_head head;
    http1_fault fault;
    char opaque[1024];
  };
  void http1_decoder_init(struct http1_decoder *decoder, const http1_limits *limits);
  void http1_decoder_deinit(struct http1_decoder *decoder);
  void http1_decoder_reset(struct http1_decoder *decoder);
  int http1_decode(struct http1_decoder *decoder, slice in, size_t *consumed, slice *piece);
  void http1_set_max_body(struct http1_decoder *decoder, uint64_t max_body_bytes);
  bool http1_decoder_is_idle(const struct http1_decoder *decoder);
]])

local lib = support.lib
local PARTIAL, HEAD, BODY, DONE, ERROR = 0, 1, 2, 3, 4

local function slice_text(slice)
  return support.string(slice) or ""
end

local function decoder_new(limits)
  limits = limits or {}
  local decoder = ffi.gc(ffi.new("struct http1_decoder"), lib.http1_decoder_deinit)
  lib.http1_decoder_init(
    decoder,
    ffi.new("http1_limits", {
      max_head_bytes = limits.head or 2048,
      max_target_bytes = limits.target or 1024,
      max_headers = limits.headers or 20,
      max_body_bytes = limits.body or 4096,
    })
  )
  return decoder
end

--- One event as text, with what a caller would read at that moment.
local function describe_head(head)
  return ("head %s %s"):format(
    slice_text(lib.http1_method_name(head.method)),
    slice_text(lib.http1_head_target(head))
  )
end

--- Feeds `bytes` and appends the events to `trace`; pieces of a body that follow one another are
--- one event. Returns what was left behind once `on_head` said "stop".
local function feed(decoder, bytes, trace, on_head)
  local consumed, piece = ffi.new("size_t[1]"), ffi.new("slice[1]")
  while true do
    local input = support.slice(bytes)
    local result = lib.http1_decode(decoder, input, consumed, piece)
    assert.is_true(consumed[0] <= #bytes)
    if result == BODY then
      assert.is_true(piece[0].data >= input.data)
      assert.is_true(piece[0].data + piece[0].len <= input.data + #bytes)
      local data = ffi.string(piece[0].data, piece[0].len)
      local last = trace[#trace]
      if last:find("^body ") then
        trace[#trace] = last .. data
      else
        trace[#trace + 1] = "body " .. data
      end
    end
    bytes = bytes:sub(tonumber(consumed[0]) + 1)
    if result == PARTIAL then
      assert.equal("", bytes)
      return bytes
    elseif result == HEAD then
      local head = decoder.head
      trace[#trace + 1] = describe_head(head)
      if on_head and on_head(head, decoder) == "stop" then
        return bytes
      end
    elseif result == DONE then
      trace[#trace + 1] = "done"
    elseif result == ERROR then
      if not trace[#trace] or not trace[#trace]:find("^error") then
        local fault = decoder.fault
        trace[#trace + 1] = ("error %d %s"):format(fault.status, ffi.string(fault.reason))
      end
      return bytes
    end
  end
end

--- The events of `bytes` given in one piece.
local function decode(bytes, limits, on_head)
  local trace = {}
  local left = feed(decoder_new(limits), bytes, trace, on_head)
  return trace, left
end

--- The same, having made sure that every cut in two and byte-at-a-time give the same.
local function decode_every_way(bytes, limits, on_head)
  local expected = decode(bytes, limits, on_head)
  for first, second in support.splits(bytes) do
    local trace, decoder = {}, decoder_new(limits)
    feed(decoder, first, trace, on_head)
    feed(decoder, second, trace, on_head)
    assert.same(expected, trace, ("cut after %d of %q"):format(#first, bytes))
  end
  local trace, decoder = {}, decoder_new(limits)
  for byte in support.pieces(bytes) do
    feed(decoder, byte, trace, on_head)
  end
  assert.same(expected, trace, ("byte by byte: %q"):format(bytes))
  return expected
end

local function accepts(bytes, events, limits)
  assert.same(events, decode_every_way(bytes, limits))
end

local function refuses(bytes, status, reason, limits)
  local trace = decode_every_way(bytes, limits)
  local last = trace[#trace] or "nothing"
  local message = ("%q gave %q"):format(bytes, last)
  assert.equal("error " .. status, last:match("^error %d+"), message)
  if reason then
    assert.equal(("error %d %s"):format(status, reason), last, message)
  end
end

--- A head of lines, with Host first unless it is given as false.
local function request(line, ...)
  local lines = { line, "Host: example.com", ... }
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function get(...)
  return request("GET / HTTP/1.1", ...)
end

local function post(...)
  return request("POST / HTTP/1.1", ...)
end

local function chunked(body)
  return post("Transfer-Encoding: chunked") .. body
end

--- Calls `check` with the head of `bytes`.
local function with_head(bytes, check)
  local seen = 0
  decode_every_way(bytes, nil, function(head)
    seen = seen + 1
    check(head)
  end)
  assert.is_true(seen > 0)
end

describe("an HTTP/1.1 decoder", function()
  it("reads a request without a body", function()
    accepts(get(), { "head GET /", "done" })
    accepts(request("OPTIONS * HTTP/1.1"), { "head OPTIONS *", "done" })
  end)

  it("reads a body of a given length", function()
    accepts(post("Content-Length: 5") .. "hello", { "head POST /", "body hello", "done" })
    accepts(post("Content-Length: 0005") .. "hello", { "head POST /", "body hello", "done" })
    accepts(post("Content-Length: 0"), { "head POST /", "done" })
    accepts(get("Content-Length: 3") .. "\r\n\r", { "head GET /", "body \r\n\r", "done" })
  end)

  it("reads a body in chunks", function()
    accepts(chunked("5\r\nhello\r\n0\r\n\r\n"), { "head POST /", "body hello", "done" })
    accepts(chunked("0\r\n\r\n"), { "head POST /", "done" })
    accepts(
      chunked("1\r\nh\r\n00a\r\n\r\n0\r\nello!\r\n000\r\n\r\n"),
      { "head POST /", "body h\r\n0\r\nello!", "done" }
    )
    accepts(
      post("Transfer-Encoding: CHUNKED") .. "A\r\n0123456789\r\n0\r\n\r\n",
      { "head POST /", "body 0123456789", "done" }
    )
  end)

  it("ignores chunk extensions and trailers", function()
    accepts(
      chunked('5;name="a;b";x\r\nhello\r\n0 ;last\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n'),
      { "head POST /", "body hello", "done" }
    )
  end)

  it("reads requests that were sent ahead, one at a time", function()
    accepts(get() .. post("Content-Length: 2") .. "hi" .. chunked("1\r\nx\r\n0\r\n\r\n") .. get(), {
      "head GET /",
      "done",
      "head POST /",
      "body hi",
      "done",
      "head POST /",
      "body x",
      "done",
      "head GET /",
      "done",
    })
  end)

  it("leaves what follows an event to the caller", function()
    local decoder = decoder_new()
    local consumed, piece = ffi.new("size_t[1]"), ffi.new("slice[1]")
    local head = post("Content-Length: 2")
    local function step(bytes)
      local input = support.slice(bytes)
      return lib.http1_decode(decoder, input, consumed, piece), tonumber(consumed[0])
    end
    assert.same({ HEAD, #head }, { step(head .. "hiGET /") })
    assert.equal(#head, tonumber(decoder.head.bytes.len))
    assert.same({ BODY, 2 }, { step("hiGET /") })
    assert.same({ DONE, 0 }, { step("GET /") })
    assert.is_true(lib.http1_decoder_is_idle(decoder))
    assert.same({ PARTIAL, 0 }, { step("") })
    assert.equal("POST", slice_text(lib.http1_method_name(decoder.head.method)))
    assert.same({ PARTIAL, 5 }, { step("GET /") })
    assert.is_false(lib.http1_decoder_is_idle(decoder))
  end)

  it("tolerates a few empty lines before a request, and no more", function()
    accepts("\r\n\r\n" .. get() .. "\r\n" .. get(), { "head GET /", "done", "head GET /", "done" })
    refuses(("\r\n"):rep(5) .. get(), 400, "empty lines")
    accepts(
      ("\r\n"):rep(4) .. get() .. ("\r\n"):rep(4) .. get(),
      { "head GET /", "done", "head GET /", "done" }
    )
    accepts(("\r\n"):rep(4), {})
  end)

  it("says whether the connection stays", function()
    local function keeps_alive(bytes)
      local result
      with_head(bytes, function(head)
        result = head.keep_alive
      end)
      return result
    end
    assert.is_true(keeps_alive(get()))
    assert.is_true(keeps_alive(get("Connection: keep-alive")))
    assert.is_false(keeps_alive(get("Connection: close")))
    assert.is_false(keeps_alive(get("Connection: Upgrade , CLOSE")))
    assert.is_false(keeps_alive(get("Connection: keep-alive", "Connection: close")))
    assert.is_true(keeps_alive(get("Connection: closed")))
    assert.is_false(keeps_alive("GET / HTTP/1.0\r\n\r\n"))
    assert.is_true(keeps_alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"))
    assert.is_false(keeps_alive("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"))
  end)

  it("ignores what follows the last request", function()
    accepts(get("Connection: close") .. get() .. "\0\n", { "head GET /", "done" })
    accepts("GET / HTTP/1.0\r\n\r\n" .. get(), { "head GET /", "done" })
  end)

  it("takes a higher minor version as 1.1", function()
    for _, version in ipairs({ "HTTP/1.1", "HTTP/1.2", "HTTP/1.9" }) do
      with_head(request("GET / " .. version), function(head)
        assert.equal(1, head.http_minor)
        assert.is_true(head.keep_alive)
      end)
    end
    with_head(request("GET / HTTP/1.0"), function(head)
      assert.equal(0, head.http_minor)
    end)
  end)

  it("says when the client waits to be told to go on", function()
    local function expects(bytes)
      local result
      with_head(bytes, function(head)
        result = head.expects_continue
      end)
      return result
    end
    assert.is_true(expects(post("Content-Length: 1", "Expect: 100-Continue") .. "x"))
    assert.is_true(expects(post("Expect: 100-continue", "Transfer-Encoding: chunked")))
    assert.is_false(expects(post("Content-Length: 1") .. "x"))
    assert.is_false(expects(get("Expect: 100-continue")))
    assert.is_false(
      expects("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx")
    )
  end)
end)

describe("a request head", function()
  local function parts(line, ...)
    local result
    with_head(request(line, ...), function(head)
      result = {
        slice_text(lib.http1_head_path(head)),
        slice_text(lib.http1_head_query(head)),
        slice_text(lib.http1_head_host(head)),
      }
    end)
    return result
  end

  it("has path, query and host as they were sent", function()
    assert.same({ "/a%20b//c", "x=1?y&z", "example.com" }, parts("GET /a%20b//c?x=1?y&z HTTP/1.1"))
    assert.same({ "/", "", "example.com" }, parts("GET /? HTTP/1.1"))
    assert.same({ "//x", "", "example.com" }, parts("GET //x HTTP/1.1"))
    assert.same({ "*", "", "example.com" }, parts("OPTIONS * HTTP/1.1"))
    assert.same({ '/{|}^"<>\\`', "[]", "example.com" }, parts('GET /{|}^"<>\\`?[] HTTP/1.1'))
  end)

  it("says whether anything in the target is escaped", function()
    local function has_escapes(target)
      local result
      with_head(request("GET " .. target .. " HTTP/1.1"), function(head)
        result = lib.http1_head_has_escapes(head)
      end)
      return result
    end
    assert.is_true(has_escapes("/a%20"))
    assert.is_true(has_escapes("/?a=%zz"))
    assert.is_true(has_escapes("http://a/?%"))
    assert.is_false(has_escapes("/a+b?c+d"))
  end)

  it("takes path and host from an absolute target", function()
    assert.same({ "/p", "q", "other:81" }, parts("GET http://other:81/p?q HTTP/1.1"))
    assert.same({ "/", "", "other" }, parts("GET HTTPS://other HTTP/1.1"))
    assert.same({ "/", "q=/", "other" }, parts("GET http://other?q=/ HTTP/1.1"))
    assert.same({ "/x", "", "[::1]:80" }, parts("GET http://[::1]:80/x HTTP/1.1"))
  end)

  it("knows its method", function()
    for index, name in ipairs({ "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" }) do
      with_head(request(name .. " / HTTP/1.1"), function(head)
        assert.equal(index - 1, head.method)
        assert.equal(name, slice_text(lib.http1_method_name(head.method)))
      end)
    end
  end)

  it("finds headers by name, whatever their case", function()
    local name, value = ffi.new("slice[1]"), ffi.new("slice[1]")
    with_head(get("X-One:  first\t ", "x-one:second", "X-ONE:", "X-Text: \200 a\tb"), function(head)
      assert.is_true(lib.http1_head_find(head, support.slice("x-oNe"), value))
      assert.equal("first", slice_text(value[0]))
      assert.is_true(lib.http1_head_find(head, support.slice("x-text"), value))
      assert.equal("\200 a\tb", slice_text(value[0]))
      assert.is_false(lib.http1_head_find(head, support.slice("x-on"), value))
      assert.equal(3, tonumber(lib.http1_head_count(head, support.slice("x-one"))))
      assert.equal(0, tonumber(lib.http1_head_count(head, support.slice("absent"))))
      assert.is_true(lib.http1_head_field(head, 0, name, value))
      assert.equal("Host=example.com", slice_text(name[0]) .. "=" .. slice_text(value[0]))
      assert.is_true(lib.http1_head_field(head, 2, name, value))
      assert.equal("x-one=second", slice_text(name[0]) .. "=" .. slice_text(value[0]))
      assert.is_false(lib.http1_head_field(head, 5, name, value))
    end)
  end)

  it("tells names of every length apart by each of their letters", function()
    local value = ffi.new("slice[1]")
    for len = 1, 20 do
      local name = ("abcdefghijklmnopqrst"):sub(1, len)
      decode(get(name:upper() .. ": 1"), nil, function(head)
        assert.is_true(lib.http1_head_find(head, support.slice(name), value))
        for at = 1, len do
          local other = name:sub(1, at - 1) .. "z" .. name:sub(at + 1)
          assert.is_false(lib.http1_head_find(head, support.slice(other), value), other)
        end
      end)
    end
  end)

  it("joins the values of a repeated header", function()
    with_head(get("A: 1", "B: x", "a: 2", "A:"), function(head)
      local out = ffi.new("struct http1_spec_buf")
      assert.equal(3, tonumber(lib.http1_head_join(head, support.slice("a"), out)))
      assert.equal("1, 2, ", ffi.string(out.data, out.len))
      ffi.C.free(out.data)
      local small = ffi.new("struct http1_spec_buf", { max_bytes = 3 })
      assert.equal(3, tonumber(lib.http1_head_join(head, support.slice("a"), small)))
      assert.equal("1", ffi.string(small.data, small.len))
      ffi.C.free(small.data)
      assert.equal(0, tonumber(lib.http1_head_join(head, support.slice("c"), out)))
    end)
  end)

  it("finds tokens in lists", function()
    with_head(get("Upgrade: a/1 ,WebSocket", "Upgrade: h2c", "Connection:"), function(head)
      local function has(name, token)
        return lib.http1_head_has_token(head, support.slice(name), support.slice(token))
      end
      assert.is_true(has("upgrade", "websocket"))
      assert.is_true(has("upgrade", "H2C"))
      assert.is_false(has("upgrade", "web"))
      assert.is_false(has("connection", "upgrade"))
    end)
  end)
end)

describe("a decoder that begins anew", function()
  it("judges each Host, whatever it has found valid before", function()
    local decoder = decoder_new()
    local function answer_to(host)
      lib.http1_decoder_reset(decoder)
      local trace = {}
      feed(decoder, "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n", trace)
      return trace[1]
    end
    for _, host in ipairs({ "a.example", "a.example", "a.example:80", ("long"):rep(20), "b" }) do
      assert.equal("head GET /", answer_to(host))
      assert.equal(host, slice_text(lib.http1_head_host(decoder.head)))
    end
    for _, host in ipairs({ "b b", "b:port", "b/", "b@" }) do
      assert.is_truthy(answer_to(host):find("400", 1, true), host)
      assert.equal("head GET /", answer_to("b"))
    end
  end)

  it("knows nothing of what came before, wherever that broke off", function()
    local head = "POST /first HTTP/1.1\r\nHost: a\r\n"
    local in_chunks = head .. "Transfer-Encoding: chunked\r\n\r\n"
    for _, before in ipairs({
      "\r\n\r\nGET /fi",
      head .. "Expect: 100-continue\r\nContent-Le",
      head .. "Content-Length: 5\r\n\r\nab",
      in_chunks .. "a;exten",
      in_chunks .. "2\r\nab\r",
      in_chunks .. "0\r\nTrailer: a",
      head .. "Connection: close\r\n\r\n",
      "GET /\0 HTTP/1.1\r\n",
    }) do
      local decoder = decoder_new()
      feed(decoder, before, {})
      lib.http1_decoder_reset(decoder)
      assert.is_true(lib.http1_decoder_is_idle(decoder))
      local trace = {}
      feed(decoder, request("POST /next HTTP/1.1", "Content-Length: 2") .. "hi", trace)
      assert.same({ "head POST /next", "body hi", "done" }, trace, ("after %q"):format(before))
      assert.equal("example.com", slice_text(lib.http1_head_host(decoder.head)))
      assert.is_true(decoder.head.keep_alive)
      assert.is_false(decoder.head.expects_continue)
    end
  end)
end)

describe("a request to upgrade", function()
  local websocket = get("Connection: keep-alive, Upgrade", "Upgrade: websocket")

  local function is_upgrade(bytes)
    local result
    with_head(bytes, function(head)
      result = head.is_upgrade
    end)
    return result
  end

  it("is recognized by both headers, in HTTP/1.1", function()
    assert.is_true(is_upgrade(websocket))
    assert.is_false(is_upgrade(get("Upgrade: websocket")))
    assert.is_false(is_upgrade(get("Connection: upgrade")))
    assert.is_false(is_upgrade(get("Connection: upgrade", "Upgrade:")))
    assert.is_false(
      is_upgrade("GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n")
    )
  end)

  it("leaves the bytes behind the head to the caller, who takes the connection over", function()
    local trace, left = decode(websocket .. "\129\0\10\13", nil, function()
      return "stop"
    end)
    assert.same({ "head GET /" }, trace)
    assert.equal("\129\0\10\13", left)
  end)

  it("is a plain request when the caller goes on", function()
    accepts(websocket .. get(), { "head GET /", "done", "head GET /", "done" })
    accepts(
      post("Connection: upgrade", "Upgrade: x", "Content-Length: 2") .. "hi" .. get(),
      { "head POST /", "body hi", "done", "head GET /", "done" }
    )
    accepts(
      post("Connection: upgrade", "Upgrade: x", "Transfer-Encoding: chunked")
        .. "2\r\nhi\r\n0\r\n\r\n"
        .. get(),
      { "head POST /", "body hi", "done", "head GET /", "done" }
    )
  end)
end)

describe("limits of a request", function()
  it("let through what just fits", function()
    local head = get("X: " .. ("x"):rep(100))
    accepts(head, { "head GET /", "done" }, { head = #head })
    refuses(head, 431, "request head too long", { head = #head - 1 })
    accepts(request("GET /1234567 HTTP/1.1"), { "head GET /1234567", "done" }, { target = 8 })
    refuses(request("GET /12345678 HTTP/1.1"), 414, "request target too long", { target = 8 })
    accepts(get("A: 1", "B: 2"), { "head GET /", "done" }, { headers = 3 })
    refuses(get("A: 1", "B: 2", "C: 3"), 431, "too many headers", { headers = 3 })
  end)

  --- How many bytes of `first` and then of `x` without end are taken before the refusal.
  local function refused_after(first, limits, x)
    local decoder, trace, fed = decoder_new(limits), {}, 0
    feed(decoder, first, trace)
    while not (trace[#trace] or ""):find("^error") do
      fed = fed + 1
      assert.is_true(fed < 10000)
      feed(decoder, x or "x", trace)
    end
    return #first + fed, trace[#trace]
  end

  it("are judged while the bytes arrive", function()
    assert.same({ 513, "error 414 request target too long" }, {
      refused_after("GET /", { target = 508 }),
    })
    assert.same({ 33, "error 501 method not implemented" }, { refused_after("PING", {}) })
    assert.same({ 600, "error 431 request head too long" }, {
      refused_after("GET / HTTP/1.1\r\nA: ", { head = 600 }),
    })
    assert.same({ 600, "error 431 request head too long" }, {
      refused_after("GET / HTTP/1.1\r\n", { head = 600 }),
    })
  end)

  it("hold for a long line given at once", function()
    local trace, left = decode("GET / HTTP/1.1\r\nA: " .. ("x"):rep(1000000))
    assert.same({ "error 431 request head too long" }, trace)
    assert.is_true(#left > 990000)
    refuses("GET /" .. ("x"):rep(1500), 414, "request target too long")
    refuses(("x"):rep(300), 501, "method not implemented")
    refuses(("x"):rep(300) .. " / HTTP/1.1\r\n", 501)
    refuses(("\200"):rep(300), 400, "invalid request line")
  end)

  it("refuse a body before it arrives", function()
    local trace, left = decode(post("Content-Length: 4097") .. "x")
    assert.same({ "head POST /", "error 413 request body too large" }, trace)
    assert.equal("x", left)
    accepts(
      post("Content-Length: 4") .. "1234",
      { "head POST /", "body 1234", "done" },
      { body = 4 }
    )
    local four = post("Content-Length: 4") .. "1234"
    local events = { "head POST /", "body 1234", "done", "head POST /", "body 1234", "done" }
    accepts(four .. four, events, { body = 4 })
    refuses(post("Content-Length: 18446744073709551615"), 413)
    refuses(chunked("1001\r\n"), 413)
    refuses(chunked("2\r\nab\r\n3\r\n"), 413, "request body too large", { body = 4 })
    refuses(chunked("2\r\nab\r\nffffffffffffffff\r\n"), 413, nil, { body = 4 })
    accepts(
      chunked("2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
      { "head POST /", "body abcd", "done" },
      { body = 4 }
    )
  end)

  it("may be changed for one request, once its head is known", function()
    local function allow(bytes)
      return function(_, decoder)
        lib.http1_set_max_body(decoder, bytes)
      end
    end
    local small = post("Content-Length: 3") .. "abc"
    assert.same(
      { "head POST /", "body abc", "done" },
      decode_every_way(small, { body = 0 }, allow(3))
    )
    assert.same({ "head POST /", "error 413 request body too large" }, decode(small, {}, allow(2)))
    local first = true
    local trace = decode(small .. small, { body = 2 }, function(_, decoder)
      if first then
        lib.http1_set_max_body(decoder, 3)
      end
      first = false
    end)
    assert.equal("error 413 request body too large", trace[#trace])
  end)

  it("hold for chunk lines, extensions and trailers", function()
    refuses(chunked("5;" .. ("x"):rep(300) .. "\r\n"), 400, "chunk size line too long")
    refuses(
      chunked(("1;" .. ("x"):rep(200) .. "\r\na\r\n"):rep(12)),
      431,
      "chunk extensions too long"
    )
    refuses(chunked("0\r\nA: " .. ("x"):rep(2100) .. "\r\n\r\n"), 431, "trailers too long")
    refuses(chunked("0\r\n" .. ("A: 1234567890123456789012\r\n"):rep(99)), 431, nil, {
      head = 512,
      headers = 100,
    })
    refuses(chunked("0\r\n" .. ("A: 1\r\n"):rep(21) .. "\r\n"), 431, "too many trailers")
  end)
end)

describe("a request that could be read in two ways is refused:", function()
  it("both lengths", function()
    refuses(
      post("Content-Length: 5", "Transfer-Encoding: chunked") .. "0\r\n\r\n",
      400,
      "both Content-Length and Transfer-Encoding"
    )
    refuses(post("Transfer-Encoding: chunked", "Content-Length: 0"), 400)
    refuses(post("Transfer-Encoding: identity", "Content-Length: 5"), 400)
  end)

  it("several lengths, equal ones too", function()
    refuses(post("Content-Length: 5", "Content-Length: 6"), 400, "more than one Content-Length")
    refuses(post("Content-Length: 5", "content-length: 5"), 400, "more than one Content-Length")
    refuses(post("Content-Length: 5, 5"), 400, "invalid Content-Length")
    refuses(post("Content-Length: 5,6"), 400)
  end)

  it("a length that is not a number", function()
    for _, length in ipairs({
      "-1",
      "+5",
      "",
      "5 5",
      "0x5",
      "5.0",
      "5a",
      "a",
      "1e3",
      "\t",
      "5;x",
      '"5"',
      "٥",
      "18446744073709551616",
      "99999999999999999999999999",
      "-123456789123456789123456789",
    }) do
      refuses(post("Content-Length: " .. length), 400, "invalid Content-Length")
    end
  end)

  it("a transfer coding other than one last chunked", function()
    for _, codings in ipairs({
      "gzip",
      "identity",
      "chunked, gzip",
      "chunked, identity",
      "xchunked",
      "chunkedx",
      "chunked;q=1",
      "chunked,",
      ", chunked",
      "",
      "chunked, chunked",
      '"chunked"',
      "'chunked'",
      "chunked chunked",
    }) do
      refuses(post("Transfer-Encoding: " .. codings), 400)
    end
    refuses(post("Transfer-Encoding: gzip, chunked"), 501, "unknown transfer coding")
    refuses(post("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), 501)
    refuses(post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400, "chunked twice")
    refuses(post("Transfer-Encoding: chunked", "Transfer-Encoding: gzip"), 400)
    refuses(post("Transfer-Encoding:\vchunked"), 400)
    refuses(post("Transfer-Encoding\v: chunked"), 400)
    refuses(request("POST / HTTP/1.0", "Transfer-Encoding: chunked"), 400)
  end)

  it("line ends other than CRLF", function()
    refuses("GET / HTTP/1.1\nHost: a\n\n", 400, "LF without CR")
    refuses("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "LF without CR")
    refuses("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "LF without CR")
    refuses("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "LF without CR")
    refuses("GET / HTTP/1.1\rHost: a\r\r", 400, "CR without LF")
    refuses("GET / HTTP/1.1\r\nHost: a\r\rX: y\r\n\r\n", 400, "CR without LF")
    refuses("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, "CR without LF")
    refuses("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "CR without LF")
    refuses("GET / HTTP/1.1\r\nHost: a\r\n\rX", 400, "CR without LF")
    refuses("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "LF without CR")
    refuses("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "CR without LF")
  end)

  it("folded lines and white space before a header", function()
    refuses(get("X: a", " b"), 400, "folded header line")
    refuses(get("X: a", "\tb: c"), 400, "folded header line")
    refuses("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "folded header line")
    refuses(get("X: a", " ", "Y: b"), 400, "folded header line")
    refuses(post("Transfer-Encoding:", " chunked") .. "0\r\n\r\n", 400)
  end)

  it("header names that are not tokens", function()
    for _, line in ipairs({
      "X : a",
      "X\t: a",
      "Content-Length : 5",
      ": a",
      "X Y: a",
      "X[]: a",
      "X(: a",
      "\200: a",
      "X/: a",
      'X": a',
      "X,Y: a",
      "{X}: a",
      "X@: a",
      "X\\: a",
    }) do
      refuses(get(line), 400, "invalid header name")
    end
    refuses(get("no colon"), 400, "header line without a colon")
    refuses("GET / HTTP/1.1\r\n:\r\n\r\n", 400, "invalid header name")
  end)

  it("control characters anywhere in the head", function()
    for _, byte in ipairs({ 0, 1, 7, 8, 11, 12, 27, 31, 127 }) do
      local char = string.char(byte)
      refuses(get("X: a" .. char .. "b"), 400, "control character")
      refuses(get("X" .. char .. "Y: a"), 400, "control character")
      refuses(request("GET /" .. char .. " HTTP/1.1"), 400, "control character")
      refuses(char .. get(), 400, "control character")
    end
    refuses("\22\3\1\2\0\1\0", 400, "control character")
    for before = 0, 40 do
      local head = get("X: " .. ("a"):rep(before) .. "\1", "Y: b")
      assert.equal("error 400 control character", decode(head)[1])
    end
  end)

  it("but neither tabs nor bytes beyond ASCII", function()
    for before = 0, 40 do
      accepts(get("X: " .. ("\t\200\255"):rep(before) .. "a"), { "head GET /", "done" })
    end
  end)

  it("no Host, two of them, or one that is none", function()
    refuses("GET / HTTP/1.1\r\n\r\n", 400, "no Host")
    refuses("GET http://a/ HTTP/1.1\r\n\r\n", 400, "no Host")
    refuses(get("Host: example.com"), 400, "more than one Host")
    refuses(request("GET / HTTP/1.0", "host: example.com"), 400, "more than one Host")
    for _, host in ipairs({
      "",
      " ",
      "a b",
      "a/b",
      "user@a",
      "user:pass@a",
      "a:b",
      "a:80:80",
      "a:65536",
      "a:-1",
      "a:+80",
      "a:000080",
      ":80",
      "http://a",
      "a?b",
      "a#b",
      "a\\b",
      "[::1",
      "::1",
      "[::1]x",
      "[::1]:x",
      "[]",
      "[1.2.3.4]",
      "[fe80::1%25eth0]",
      "[::1]]",
      "a[b]",
      "a%",
      "a%4",
      "a%zz",
      "\200",
      "a\tb",
      "a<b",
      'a"b',
    }) do
      refuses("GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n", 400, "invalid Host")
    end
    for _, host in ipairs({
      "a",
      "a.b-c_d~",
      "127.0.0.1",
      "127.0.0.1:3000",
      "[::1]",
      "[::1]:3000",
      "[2001:db8::1.2.3.4]:0",
      "a:",
      "a:65535",
      "%41",
      "localhost.",
      "LOCALHOST:80",
    }) do
      accepts("GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n", { "head GET /", "done" })
    end
    accepts("GET / HTTP/1.0\r\n\r\n", { "head GET /", "done" })
  end)

  it("targets of no known form", function()
    for _, target in ipairs({
      "path",
      "*",
      "**",
      "/a#b",
      "/#",
      "#",
      "?a",
      "example.com:80",
      "http:/a",
      "http:a",
      "http://",
      "http:///a",
      "http://u@a/",
      "http://a:b/",
      "http://a b/",
      "ftp://a/",
      "://a/",
      "/\200",
      "\\",
    }) do
      refuses(request("GET " .. target .. " HTTP/1.1"), 400)
    end
    refuses(request("OPTIONS ** HTTP/1.1"), 400, "invalid request target")
    refuses(request("POST * HTTP/1.1"), 400, "invalid request target")
  end)

  it("request lines of another shape", function()
    for _, line in ipairs({
      "GET /",
      "GET / ",
      "GET",
      "GET  / HTTP/1.1",
      "GET /  HTTP/1.1",
      "GET / HTTP/1.1 ",
      " GET / HTTP/1.1",
      "GET\t/ HTTP/1.1",
      "GET /\tHTTP/1.1",
      "GET / HTTP/1.1 x",
      "GET /a b HTTP/1.1",
      "G@T / HTTP/1.1",
      "GET / http/1.1",
      "GET / HTTP/1",
      "GET / HTTP/11",
      "GET / HTTP/1.10",
      "GET / HTTP/01.1",
      "GET / HTTP/1,1",
      "GET / HTTP/-1.1",
      "GET / HTTP/a.b",
      "GET / HTTPS/1.1",
      "GET / FOO/1.1",
      "HTTP/1.1 200 OK",
    }) do
      refuses(request(line), 400)
    end
  end)

  it("chunks that do not fit their frame", function()
    for _, body in ipairs({
      "5\nhello\r\n0\r\n\r\n",
      "5\r\nhello\n0\r\n\r\n",
      "5\r\nhello\r\n0\n\r\n",
      "5\r\nhello\r\n0\r\n\n",
      "5\r\nhelloX\r\n0\r\n\r\n",
      "5\r\nhello0\r\n\r\n",
      "5\r\nhello\r0\r\n\r\n",
      "5\rhello",
      "\r\n",
      "g\r\n",
      "-1\r\n",
      "+5\r\n",
      "0x5\r\n",
      " 5\r\n",
      "5 \r\n",
      "5 x\r\n",
      "5;a\nb\r\n",
      "5;a\rb\r\n",
      "5;a\0b\r\n",
      ";a\r\n",
      "5,\r\n",
      "5\r\nhello\r\n\r\n",
      "10000000000000005\r\nhello",
      "ffffffffffffffff0\r\n",
    }) do
      refuses(chunked(body), 400)
    end
  end)

  it("trailers that would change what was read, or are no headers", function()
    for _, trailer in ipairs({ "Content-Length: 5", "transfer-encoding: chunked", "HOST: a" }) do
      refuses(chunked("0\r\n" .. trailer .. "\r\n\r\n"), 400, "forbidden trailer")
    end
    refuses(chunked("0\r\nA: b\n\r\n"), 400, "LF without CR")
    refuses(chunked("0\r\nA: b\rc\r\n\r\n"), 400, "CR without LF")
    refuses(chunked("0\r\nA: b\r\n c\r\n\r\n"), 400, "folded header line")
    refuses(chunked("0\r\nA : b\r\n\r\n"), 400, "invalid header name")
    refuses(chunked("0\r\n: b\r\n\r\n"), 400, "invalid header name")
    refuses(chunked("0\r\nA\r\n\r\n"), 400, "header line without a colon")
    refuses(chunked("0\r\nGET / HTTP/1.1\r\n\r\n"), 400)
    refuses(chunked("0\r\nA: \0\r\n\r\n"), 400, "control character")
  end)
end)

describe("a request that cannot be served", function()
  it("has a version that we do not speak", function()
    for _, version in ipairs({ "HTTP/2.0", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9" }) do
      refuses(request("GET / " .. version), 505, "HTTP version not supported")
    end
    refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
  end)

  it("has a method that no route can have", function()
    for _, line in ipairs({
      "BREW /",
      "get /",
      "TRACE /",
      "CONNECT a:80",
      "PROPFIND /",
      "GETT /",
      "GE /",
    }) do
      refuses(request(line .. " HTTP/1.1"), 501, "method not implemented")
    end
  end)

  it("expects what we do not know", function()
    refuses(post("Content-Length: 1", "Expect: 200-ok"), 417, "unknown expectation")
    refuses(get("Expect:"), 417)
    refuses(get("Expect: 100-continue, x"), 417)
  end)

  it("is the last that is read", function()
    local decoder, trace = decoder_new(), {}
    feed(decoder, "BAD\r\n", trace)
    assert.equal(get(), feed(decoder, get(), trace))
    assert.same({ "error 400 invalid request line" }, trace)
  end)
end)
