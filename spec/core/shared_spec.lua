local support = require("spec.core.support")
local ffi = require("ffi")

-- shared_keys calls back.
jit.off(true, true)

support.cdef([[
  struct shared_store; struct shared;
  typedef struct { int type; slice string; double number; bool boolean; } shared_value;
  struct shared_store *shared_store_new(size_t max_bytes);
  void shared_store_free(struct shared_store *store);
  struct shared *shared_find(struct shared_store *store, slice name);
  shared_value shared_get(struct shared *shared, slice key, void *out);
  int shared_set(struct shared *shared, slice key, const shared_value *value, uint64_t ttl_ms);
  int shared_add(struct shared *shared, slice key, const shared_value *value, uint64_t ttl_ms);
  int shared_incr(struct shared *shared, slice key, double by, uint64_t ttl_ms, double *result);
  bool shared_delete(struct shared *shared, slice key);
  size_t shared_keys(struct shared *shared, slice prefix, size_t max,
                     void (*each)(void *context, const char *key, size_t len), void *context);
  void shared_sweep(struct shared_store *store);
  size_t shared_count_bytes(struct shared_store *store);
]])
support.cdef("void clock_freeze(void); void clock_advance(uint64_t ms);")

local lib = support.lib
local OK, FULL, EXISTS, NOT_NUMBER = 0, -1, -2, -3

describe("a shared dictionary", function()
  local store, shared, buf

  setup(function()
    lib.clock_freeze()
  end)
  before_each(function()
    store = lib.shared_store_new(4000)
    shared = lib.shared_find(store, support.slice("d"))
    buf = ffi.new("size_t[4]") -- a struct buf as buf_init(buf, 0) leaves it
  end)
  after_each(function()
    ffi.C.free(ffi.cast("void *", buf[0]))
    lib.shared_store_free(store)
  end)

  local function value_of(v)
    local value = ffi.new("shared_value")
    local held
    if type(v) == "string" then
      held = support.slice(v)
      value.type, value.string = 1, held
    elseif type(v) == "number" then
      value.type, value.number = 2, v
    elseif type(v) == "boolean" then
      value.type, value.boolean = 3, v
    end
    return value, held
  end

  local function set(key, v, ttl, call)
    local value, held = value_of(v)
    local result = lib[call or "shared_set"](shared, support.slice(key), value, ttl or 0)
    return result, held and nil
  end

  local function get(key)
    local value = lib.shared_get(shared, support.slice(key), buf)
    if value.type == 1 then
      return value.string.len > 0 and support.string(value.string) or ""
    elseif value.type == 2 then
      return value.number
    elseif value.type == 3 then
      return value.boolean
    end
  end

  local function incr(key, by, ttl)
    local result = ffi.new("double[1]")
    local outcome = lib.shared_incr(shared, support.slice(key), by, ttl or 0, result)
    return outcome == OK and result[0] or nil, outcome
  end

  it("holds strings, numbers and booleans by any key", function()
    for key, v in pairs({
      s = "text",
      empty = "",
      n = 1.5,
      t = true,
      f = false,
      [""] = "x",
      ["\0"] = 1,
    }) do
      assert.equal(OK, (set(key, v)))
      assert.equal(v, get(key))
    end
    set("s", 2)
    assert.equal(2, get("s"))
    set("s", nil)
    assert.is_nil(get("s"))
    assert.is_nil(get("none"))
  end)

  it("is one by name", function()
    assert.is_true(lib.shared_find(store, support.slice("d")) == shared)
    local other = lib.shared_find(store, support.slice("e"))
    set("k", 1)
    assert.equal(0, lib.shared_get(other, support.slice("k"), buf).type)
    assert.is_true(lib.shared_find(store, support.slice("")) == nil)
    assert.is_true(lib.shared_find(store, support.slice(("x"):rep(256))) == nil)
    assert.is_true(lib.shared_find(store, support.slice(("x"):rep(255))) ~= nil)
  end)

  it("adds only where there is nothing, deletes and says so", function()
    assert.equal(OK, (set("k", "a", 0, "shared_add")))
    assert.equal(EXISTS, (set("k", "b", 0, "shared_add")))
    assert.equal("a", get("k"))
    assert.is_true(lib.shared_delete(shared, support.slice("k")))
    assert.is_false(lib.shared_delete(shared, support.slice("k")))
  end)

  it("counts from 0; a ttl is set by the call that makes the entry", function()
    assert.equal(2, incr("n", 2, 1000))
    lib.clock_advance(600)
    assert.equal(1.5, incr("n", -0.5, 1000))
    lib.clock_advance(400)
    assert.equal(1, incr("n", 1))
    set("s", "text")
    assert.same({ nil, NOT_NUMBER }, { incr("s", 1) })
    assert.equal("text", get("s"))
  end)

  it("ends entries exactly when their time is over, without a sweep", function()
    set("k", "v", 1000)
    lib.clock_advance(999)
    assert.equal("v", get("k"))
    lib.clock_advance(1)
    assert.is_nil(get("k"))
    set("k", "v", 1000)
    set("k", "w")
    lib.clock_advance(5000)
    assert.equal("w", get("k"))
    set("k", "v", 1)
    lib.clock_advance(1)
    assert.equal(OK, (set("k", "x", 0, "shared_add")))
  end)

  it("counts bytes and refuses what would pass the limit, changing nothing", function()
    local empty = tonumber(lib.shared_count_bytes(store))
    assert.equal(OK, (set("k", ("x"):rep(2000))))
    assert.equal(FULL, (set("l", ("x"):rep(2000))))
    assert.equal(FULL, (set("k", ("x"):rep(5000))))
    assert.equal(2000, #get("k"))
    assert.equal(OK, (set("k", ("y"):rep(3000))))
    assert.equal(FULL, (set(("l"):rep(900), 1)))
    assert.same({ nil, FULL }, { incr(("l"):rep(900), 1) })
    assert.equal(OK, (set("k", true)))
    assert.equal(OK, (set("l", ("x"):rep(2000))))
    lib.shared_delete(shared, support.slice("k"))
    lib.shared_delete(shared, support.slice("l"))
    assert.equal(empty, tonumber(lib.shared_count_bytes(store)))
  end)

  it("lists living keys by prefix, up to a number", function()
    for _, key in ipairs({ "a:1", "a:2", "b:1", "a" }) do
      set(key, 1)
    end
    set("a:gone", 1, 10)
    lib.clock_advance(10)
    -- Two words in registers, as a slice by value is passed; the FFI's callbacks take no structs.
    local keys = {}
    local each = ffi.cast("void (*)(void *, const char *, size_t)", function(_, key, len)
      keys[#keys + 1] = ffi.string(key, len)
    end)
    local function list(prefix, max)
      keys = {}
      local count = lib.shared_keys(shared, support.slice(prefix), max, each, nil)
      assert.equal(#keys, tonumber(count))
      table.sort(keys)
      return table.concat(keys, " ")
    end
    assert.equal("a a:1 a:2 b:1", list("", 10))
    assert.equal("a:1 a:2", list("a:", 10))
    assert.equal("", list("c", 10))
    list("a", 2)
    assert.equal(2, #keys)
    each:free()
  end)

  it("makes room of what has expired", function()
    local empty = tonumber(lib.shared_count_bytes(store))
    set("k", ("x"):rep(3000), 1000)
    lib.clock_advance(999)
    assert.equal(FULL, (set("l", ("x"):rep(3000))))
    lib.clock_advance(1)
    assert.equal(OK, (set("l", ("x"):rep(3000), 10)))
    lib.clock_advance(10)
    lib.shared_sweep(store)
    assert.equal(empty, tonumber(lib.shared_count_bytes(store)))
  end)
end)
