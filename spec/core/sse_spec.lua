local support = require("spec.core.support")
local ffi = require("ffi")

-- The struct of base/buf.h under a name of our own, so that no other spec's declaration meets it.
support.cdef([[
  struct sse_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
  typedef struct { slice comment; slice event; slice id; slice data; uint32_t retry_ms; } sse_event;
  typedef struct { size_t event_offset; size_t event_len; size_t chunk_len; } sse_extent;
  size_t sse_encoded_size(const sse_event *event);
  char *sse_encode(const sse_event *event, char *out);
  bool sse_append(struct sse_spec_buf *out, const sse_event *event);
  sse_extent sse_chunk_extent(size_t event_len);
  sse_extent sse_encode_chunk(const sse_event *event, size_t event_len, char *out);
  void mem_free(void *memory);
]])

local lib = support.lib

--- The event and what keeps its bytes alive.
local function event_of(fields)
  local event = ffi.new("sse_event", { retry_ms = fields.retry_ms or 0 })
  local kept = {}
  for _, name in ipairs({ "comment", "event", "id", "data" }) do
    if fields[name] then
      kept[name] = support.slice(fields[name])
      event[name] = kept[name]
    end
  end
  return event, kept
end

--- Encodes into memory of exactly the size that was foretold. nil where the event is refused.
local function encode(fields)
  local event, kept = event_of(fields)
  local size = tonumber(lib.sse_encoded_size(event))
  if size == 0 then
    return nil
  end
  local out = support.exact(("\0"):rep(size))
  assert(lib.sse_encode(event, out) == out + size, "the size was not as foretold")
  assert(kept)
  return ffi.string(out, size)
end

--- A reader after WHATWG HTML section 9.2.6. Returns the list of events, the last id and the retry
--- time.
local function read(stream)
  local events, id, retry, name, data = {}, nil, nil, "", ""
  stream = stream:gsub("\r\n", "\n"):gsub("\r", "\n")
  for line in stream:gmatch("([^\n]*)\n") do
    local field, value = line:match("^([^:]*):? ?(.*)$")
    if line == "" then
      if data ~= "" then
        events[#events + 1] = { name = name, data = data:sub(1, -2), id = id }
      end
      name, data = "", ""
    elseif field == "event" then
      name = value
    elseif field == "data" then
      data = data .. value .. "\n"
    elseif field == "id" then
      id = value
    elseif field == "retry" then
      retry = tonumber(value)
    end
  end
  return events, id, retry
end

describe("an SSE event", function()
  it("is a data line and a blank line", function()
    assert.equal("data: hello\n\n", encode({ data = "hello" }))
  end)

  it("has its retry time, name and id before its data", function()
    assert.equal(
      ": note\nretry: 2500\nevent: price\nid: abc123.1\ndata: 1\n\n",
      encode({ comment = "note", retry_ms = 2500, event = "price", id = "abc123.1", data = "1" })
    )
    assert.equal("retry: 4294967295\n\n", encode({ retry_ms = 4294967295 }))
  end)

  it("gives the reader its lines whatever ends them", function()
    local same = { "a\nb\nc", "a\rb\rc", "a\r\nb\r\nc", "a\nb\r\nc", "a\rb\nc" }
    for _, data in ipairs(same) do
      assert.equal("data: a\ndata: b\ndata: c\n\n", encode({ data = data }))
    end
    assert.equal("data: a\ndata: \ndata: b\n\n", encode({ data = "a\n\nb" }))
    assert.equal("data: a\ndata: \ndata: b\n\n", encode({ data = "a\n\rb" }))
    assert.equal("data: \ndata: a\ndata: \n\n", encode({ data = "\na\n" }))
    assert.equal("data: \ndata: \ndata: \n\n", encode({ data = "\r\n\r" }))
  end)

  it("arrives as it was, for every short mix of line ends and spaces", function()
    local alphabet = { "a", " ", "\n", "\r", ":" }
    local function try(data, left)
      local events = read(encode({ data = data }))
      assert.equal(1, #events)
      assert.equal((data:gsub("\r\n", "\n"):gsub("\r", "\n")), events[1].data)
      if left > 0 then
        for _, c in ipairs(alphabet) do
          try(data .. c, left - 1)
        end
      end
    end
    try("", 5)
  end)

  it("keeps a space at the beginning of text, and a NUL and UTF-8 inside", function()
    local events = read(encode({ data = " x\0é" }))
    assert.equal(" x\0é", events[1].data)
  end)

  it("with empty data still fires", function()
    assert.equal("data: \n\n", encode({ data = "" }))
    assert.equal("", read(encode({ data = "" }))[1].data)
  end)

  it("without data moves the reader's id and fires nothing", function()
    assert.equal("id: abc123.7\n\n", encode({ id = "abc123.7" }))
    local events, id = read(encode({ id = "abc123.7" }))
    assert.equal(0, #events)
    assert.equal("abc123.7", id)
  end)

  it("with an empty id makes the reader forget its own", function()
    local _, id = read(encode({ id = "abc123.7" }) .. encode({ id = "" }))
    assert.equal("", id)
  end)

  it("may be a comment, of several lines too", function()
    assert.equal(": \n\n", encode({ comment = "" }))
    assert.equal(": one\n: two\n\n", encode({ comment = "one\r\ntwo" }))
    assert.equal(0, #read(encode({ comment = "x\ndata: y" })))
  end)

  it("is refused when its name or id would end the line", function()
    for _, bad in ipairs({
      "\n",
      "a\nb",
      "a\rb",
      "a\0b",
      "a\r\ndata: x",
      "\0",
      ("x"):rep(40) .. "\r",
    }) do
      assert.is_nil(encode({ event = bad, data = "x" }))
      assert.is_nil(encode({ id = bad, data = "x" }))
    end
  end)

  it("is refused when there is nothing in it", function()
    assert.is_nil(encode({}))
  end)

  it("is appended whole or not at all", function()
    local event, kept = event_of({ data = "hello" })
    local out = ffi.gc(ffi.new("struct sse_spec_buf", { max_bytes = 20 }), function(b)
      lib.mem_free(b.data)
    end)
    assert.is_true(lib.sse_append(out, event))
    assert.is_false(lib.sse_append(out, event))
    assert.equal("data: hello\n\n", ffi.string(out.data, out.len))
    assert.is_false(lib.sse_append(out, ffi.new("sse_event")))
    assert(kept)
  end)

  it("of many carriage returns is split in linear time", function()
    local text = encode({ data = ("\r"):rep(200000) })
    assert.equal(200001 * 7 + 1, #text)
  end)
end)

describe("an SSE chunk", function()
  local function chunk(fields)
    local event, kept = event_of(fields)
    local size = lib.sse_encoded_size(event)
    local extent = lib.sse_chunk_extent(size)
    local out = support.exact(("\0"):rep(tonumber(extent.chunk_len)))
    local again = lib.sse_encode_chunk(event, size, out)
    assert.equal(extent.chunk_len, again.chunk_len)
    assert(kept)
    return ffi.string(out, extent.chunk_len), again
  end

  it("is the length in hexadecimal digits, the event, and its end", function()
    assert.equal("d\r\ndata: hello\n\n\r\n", (chunk({ data = "hello" })))
  end)

  it("tells where the event stands in it", function()
    for len = 0, 300 do
      local fields = { data = ("x"):rep(len), id = "abc123.1" }
      local text, extent = chunk(fields)
      local offset, event_len = tonumber(extent.event_offset), tonumber(extent.event_len)
      local event = encode(fields)
      assert.equal(event, text:sub(offset + 1, offset + event_len))
      assert.equal(("%x\r\n"):format(#event) .. event .. "\r\n", text)
    end
  end)

  it("of 64 KiB has five digits", function()
    local text = chunk({ data = ("x"):rep(65536) })
    assert.equal("10008\r\n", text:sub(1, 7))
  end)
end)
