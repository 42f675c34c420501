local support = require("spec.core.support")
local ffi = require("ffi")

support.cdef([[
  struct base_spec_buf { char *data; size_t len; size_t capacity; size_t max_bytes; };
  void buf_init(struct base_spec_buf *buf, size_t max_bytes);
  void buf_deinit(struct base_spec_buf *buf);
  char *buf_reserve(struct base_spec_buf *buf, size_t more);
  bool buf_append(struct base_spec_buf *buf, slice bytes);
  bool buf_append_char(struct base_spec_buf *buf, char c);
  bool buf_append_format(struct base_spec_buf *buf, const char *format, ...);
  void buf_drop(struct base_spec_buf *buf, size_t count);

  struct map_entry { struct map_entry *next; slice key; uint64_t hash; };
  struct map { struct map_entry **buckets; size_t bucket_count; size_t count; };
  void map_init(struct map *map);
  void map_deinit(struct map *map);
  struct map_entry *map_find(const struct map *map, slice key);
  void map_insert(struct map *map, struct map_entry *entry, slice key);
  void map_remove(struct map *map, struct map_entry *entry);
  struct map_entry *map_next(const struct map *map, const struct map_entry *after);
  uint64_t map_hash(slice key);

  struct timer {
    uint64_t due_ms; uint64_t order; void (*on_due)(struct timer *timer); size_t place;
  };
  struct timers { struct timer **heap; size_t count; size_t capacity; uint64_t started; };
  void timers_init(struct timers *timers);
  void timers_deinit(struct timers *timers);
  void timer_init(struct timer *timer, void (*on_due)(struct timer *timer));
  void timer_start(struct timers *timers, struct timer *timer, uint64_t due_ms);
  void timer_stop(struct timers *timers, struct timer *timer);
  uint64_t timers_next_due_ms(const struct timers *timers);
  int timers_run(struct timers *timers, uint64_t now_ms);

  size_t clock_format_iso(uint64_t wall_ms, char *out);
  size_t clock_format_http(uint64_t wall_ms, char *out);
  bool clock_parse_http(const char *text, size_t len, uint64_t *wall_ms);
]])

local lib = support.lib

describe("a buf", function()
  local function new_buf(max_bytes)
    local buf = ffi.gc(ffi.new("struct base_spec_buf"), lib.buf_deinit)
    lib.buf_init(buf, max_bytes or 0)
    return buf
  end

  local function append(buf, bytes)
    return lib.buf_append(buf, support.slice(bytes))
  end

  local function contents(buf)
    return ffi.string(buf.data, buf.len)
  end

  it("grows with what is appended", function()
    local buf, expected = new_buf(), {}
    for i = 1, 300 do
      expected[i] = ("x"):rep(i) .. "."
      assert.is_true(append(buf, ("x"):rep(i)))
      assert.is_true(lib.buf_append_char(buf, ("."):byte()))
    end
    assert.equal(table.concat(expected), contents(buf))
  end)

  it("refuses what passes its limit, and nothing changes", function()
    local buf = new_buf(10)
    assert.is_true(append(buf, "12345678"))
    assert.is_false(append(buf, "abc"))
    assert.is_false(lib.buf_append_format(buf, "%s", "abc"))
    assert.is_true(append(buf, "9"))
    assert.is_true(append(buf, "0"))
    assert.is_false(lib.buf_append_char(buf, 33))
    assert.is_true(append(buf, ""))
    assert.equal("1234567890", contents(buf))
    assert.is_true(buf.capacity <= 10)
  end)

  it("always has room for nothing", function()
    assert.is_true(lib.buf_reserve(new_buf(), 0) ~= nil)
    assert.is_true(append(new_buf(), ""))
  end)

  it("gives room that was not asked to be appended", function()
    local buf = new_buf(100)
    local room = lib.buf_reserve(buf, 100)
    ffi.fill(room, 100, 65)
    buf.len = 100
    assert.equal(("A"):rep(100), contents(buf))
    assert.is_true(lib.buf_reserve(buf, 1) == nil)
  end)

  it("refuses a size that would overflow", function()
    local buf = new_buf()
    append(buf, "x")
    assert.is_true(lib.buf_reserve(buf, 18446744073709551615ULL) == nil)
    assert.equal("x", contents(buf))
  end)

  it("appends formatted text", function()
    local buf = new_buf()
    assert.is_true(lib.buf_append_format(buf, "%s-%d;", "a", ffi.cast("int", 7)))
    assert.is_true(lib.buf_append_format(buf, "%s", ("x"):rep(500)))
    assert.equal("a-7;" .. ("x"):rep(500), contents(buf))
  end)

  it("drops from its beginning", function()
    local buf = new_buf()
    append(buf, "hello")
    lib.buf_drop(buf, 2)
    assert.equal("llo", contents(buf))
    lib.buf_drop(buf, 0)
    lib.buf_drop(buf, 99)
    assert.equal("", contents(buf))
  end)
end)

describe("a map", function()
  local map, kept

  before_each(function()
    map = ffi.gc(ffi.new("struct map"), lib.map_deinit)
    lib.map_init(map)
    kept = {}
  end)

  local function insert(key)
    local entry, slice = ffi.new("struct map_entry"), support.slice(key)
    kept[key] = { entry = entry, slice = slice }
    lib.map_insert(map, entry, slice)
  end

  local function remove(key)
    lib.map_remove(map, kept[key].entry)
    kept[key] = nil
  end

  local function find(key)
    local entry = lib.map_find(map, support.slice(key))
    return entry ~= nil and support.string(entry.key) or nil
  end

  local function walk()
    local seen, entry = {}, nil
    while true do
      entry = lib.map_next(map, entry)
      if entry == nil then
        return seen
      end
      local key = support.string(entry.key)
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end

  it("finds nothing when it is empty", function()
    assert.is_nil(find("a"))
    assert.is_true(lib.map_next(map, nil) == nil)
  end)

  it("finds what was inserted until it is removed, through growth and shrinking", function()
    for i = 1, 2000 do
      insert("key " .. i)
    end
    assert.equal(2000, tonumber(map.count))
    for i = 1, 2000 do
      assert.equal("key " .. i, find("key " .. i))
      assert.is_nil(find("other " .. i))
    end
    for i = 1, 1990 do
      remove("key " .. i)
      assert.is_nil(find("key " .. i))
    end
    local largest = tonumber(map.bucket_count)
    insert("again")
    assert.is_true(tonumber(map.bucket_count) < largest)
    for i = 1991, 2000 do
      assert.equal("key " .. i, find("key " .. i))
    end
    assert.equal("again", find("again"))
  end)

  it("takes keys of any bytes and any length", function()
    local keys = { "", "\0", "\0\0", "a", "a\0", ("x"):rep(7), ("x"):rep(8), ("x"):rep(9), "\255" }
    for _, key in ipairs(keys) do
      insert(key)
    end
    for _, key in ipairs(keys) do
      assert.equal(key, find(key))
    end
  end)

  it("is walked over each entry once", function()
    for i = 1, 100 do
      insert("key " .. i)
    end
    local seen = walk()
    for i = 1, 100 do
      assert.is_true(seen["key " .. i])
    end
  end)

  it("may lose the entries that a walk has passed", function()
    for i = 1, 100 do
      insert("key " .. i)
    end
    local entry = lib.map_next(map, nil)
    while entry ~= nil do
      local after = lib.map_next(map, entry)
      remove(support.string(entry.key))
      entry = after
    end
    assert.equal(0, tonumber(map.count))
    assert.is_nil(next(kept))
  end)

  it("hashes equal bytes alike and others apart", function()
    local seen = {}
    for i = 1, 2000 do
      local hash = tostring(lib.map_hash(support.slice("key " .. i)))
      assert.equal(hash, tostring(lib.map_hash(support.slice("key " .. i))))
      assert.is_nil(seen[hash])
      seen[hash] = true
    end
  end)
end)

describe("timers", function()
  local timers, fired, on_fire, callback

  setup(function()
    callback = ffi.cast("void (*)(struct timer *)", function(timer)
      fired[#fired + 1] = timer
      if on_fire then
        on_fire(timer)
      end
    end)
  end)

  teardown(function()
    callback:free()
  end)

  before_each(function()
    timers = ffi.new("struct timers")
    lib.timers_init(timers)
    fired, on_fire = {}, nil
  end)

  after_each(function()
    while timers.count > 0 do
      lib.timer_stop(timers, timers.heap[0])
    end
    lib.timers_deinit(timers)
  end)

  local function new_timer()
    local timer = ffi.new("struct timer")
    lib.timer_init(timer, callback)
    return timer
  end

  --- C that calls back into Lua must not be called from compiled code.
  local function run(now)
    return lib.timers_run(timers, now)
  end
  jit.off(run)

  local function next_due()
    return tonumber(lib.timers_next_due_ms(timers))
  end

  it(
    "fire earliest first, and those due at once in the order in which they were started",
    function()
      local due, list = { 30, 10, 20, 10, 30, 10 }, {}
      for i, at in ipairs(due) do
        list[i] = new_timer()
        lib.timer_start(timers, list[i], at)
      end
      assert.equal(10, next_due())
      assert.equal(0, run(9))
      assert.equal(6, run(30))
      for i, index in ipairs({ 2, 4, 6, 3, 1, 5 }) do
        assert.is_true(fired[i] == list[index], "place " .. i)
      end
      assert.is_true(lib.timers_next_due_ms(timers) == 18446744073709551615ULL)
    end
  )

  it("fire once, and no sooner than they are due", function()
    local timer = new_timer()
    lib.timer_start(timers, timer, 100)
    assert.equal(0, run(99))
    assert.equal(1, run(100))
    assert.equal(0, run(1000))
    assert.equal(0, tonumber(timer.place))
  end)

  it("stay in order through random starts, moves and stops", function()
    math.randomseed(20260131)
    local list, due = {}, {}
    for i = 1, 200 do
      list[i] = new_timer()
    end
    for _ = 1, 3000 do
      local i = math.random(#list)
      if math.random() < 0.3 then
        lib.timer_stop(timers, list[i])
        due[i] = nil
      else
        due[i] = math.random(1, 500)
        lib.timer_start(timers, list[i], due[i])
      end
    end
    local expected = 0
    for _ in pairs(due) do
      expected = expected + 1
    end
    assert.equal(expected, run(500))
    for i = 2, #fired do
      assert.is_true(fired[i - 1].due_ms <= fired[i].due_ms)
    end
  end)

  it("may be stopped twice, or without having been started", function()
    local timer = new_timer()
    lib.timer_stop(timers, timer)
    lib.timer_start(timers, timer, 1)
    lib.timer_stop(timers, timer)
    lib.timer_stop(timers, timer)
    assert.equal(0, run(10))
  end)

  it("that are started while others fire wait for the next run", function()
    local timer = new_timer()
    on_fire = function(t)
      lib.timer_start(timers, t, 5)
    end
    lib.timer_start(timers, timer, 5)
    assert.equal(1, run(5))
    assert.equal(1, run(5))
    assert.equal(5, next_due())
  end)

  it("can stop one another while they fire", function()
    local first, second = new_timer(), new_timer()
    on_fire = function()
      lib.timer_stop(timers, second)
    end
    lib.timer_start(timers, first, 1)
    lib.timer_start(timers, second, 1)
    assert.equal(1, run(1))
    assert.is_true(fired[1] == first)
  end)
end)

describe("the clock", function()
  local function iso(ms)
    local out = support.exact(("\0"):rep(32))
    return ffi.string(out, lib.clock_format_iso(ms, out))
  end

  local function http(ms)
    local out = support.exact(("\0"):rep(32))
    return ffi.string(out, lib.clock_format_http(ms, out))
  end

  local function parse(text)
    local bytes, len = support.exact(text)
    local ms = ffi.new("uint64_t[1]")
    if lib.clock_parse_http(bytes, len, ms) then
      return tonumber(ms[0])
    end
  end

  it("writes ISO 8601 in UTC with milliseconds", function()
    assert.equal("1970-01-01T00:00:00.000Z", iso(0))
    assert.equal("2026-01-31T23:59:59.123Z", iso(1769903999123))
    assert.equal("2024-02-29T12:00:00.007Z", iso(1709208000007))
    assert.equal("2100-03-01T00:00:00.999Z", iso(4107542400999))
  end)

  it("writes HTTP's dates", function()
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT", http(0))
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", http(784111777000))
    assert.equal("Sat, 31 Jan 2026 23:59:59 GMT", http(1769903999123))
  end)

  it("reads the dates that it writes", function()
    math.randomseed(20260131)
    for _ = 1, 500 do
      local ms = math.random(0, 4e9) * 1000
      assert.equal(ms, parse(http(ms)))
    end
  end)

  it("reads no other form", function()
    local others = {
      "",
      "Sunday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov  6 08:49:37 1994",
      "Sun, 06 Nov 1994 08:49:37 UTC",
      "Sun, 06 Nov 1994 08:49:37",
      "Sun, 06 Nov 1994 08:49:37 GMT ",
      " Sun, 06 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nox 1994 08:49:37 GMT",
      "Sun, 6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 8:49:37 GMT",
      "Sun, 06 Nov 1994 08-49-37 GMT",
      "784111777",
    }
    for _, text in ipairs(others) do
      assert.is_nil(parse(text), text)
    end
  end)
end)
