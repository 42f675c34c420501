local support = require("spec.core.support")
local ffi = require("ffi")

support.cdef([[
  struct histogram { uint64_t largest; uint64_t buckets[976]; };
  void histogram_add(struct histogram *histogram, uint64_t value);
  void histogram_merge(struct histogram *histogram, const struct histogram *other);
  uint64_t histogram_count(const struct histogram *histogram);
  uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille);
]])

local lib = support.lib

describe("a histogram", function()
  local function of(values)
    local histogram = ffi.new("struct histogram")
    for _, value in ipairs(values) do
      lib.histogram_add(histogram, value)
    end
    return histogram
  end

  local function count(histogram)
    return tonumber(lib.histogram_count(histogram))
  end

  local function quantile(histogram, per_mille)
    return tonumber(lib.histogram_quantile(histogram, per_mille))
  end

  -- What a list of values says itself.
  local function exact_quantile(values, per_mille)
    local sorted = { unpack(values) }
    table.sort(sorted)
    return sorted[math.max(1, math.ceil(#sorted * per_mille / 1000))]
  end

  it("is empty at first", function()
    local histogram = of({})
    assert.equal(0, count(histogram))
    assert.equal(0, quantile(histogram, 500))
    assert.equal(0, tonumber(histogram.largest))
  end)

  it("counts, and knows the largest exactly", function()
    local histogram = of({ 5, 0, 1234567, 17, 17 })
    assert.equal(5, count(histogram))
    assert.equal(1234567, tonumber(histogram.largest))
    assert.equal(1234567, quantile(histogram, 1000))
    assert.equal(0, quantile(histogram, 0))
  end)

  it("is exact for small values", function()
    for value = 0, 31 do
      assert.equal(value, quantile(of({ value, 1000 }), 500))
    end
  end)

  it("tells a value that is never too small and at most a sixteenth too large", function()
    for power = 0, 52 do
      for _, value in ipairs({
        2 ^ power - 1,
        2 ^ power,
        2 ^ power + 1,
        math.floor(2 ^ power * 1.4),
      }) do
        local told = quantile(of({ value, 2 ^ 53 }), 500)
        assert.is_true(told >= value, ("%.0f for %.0f"):format(told, value))
        assert.is_true(told <= value * 17 / 16, ("%.0f for %.0f"):format(told, value))
      end
    end
  end)

  it("takes the largest number there is", function()
    local histogram = ffi.new("struct histogram")
    lib.histogram_add(histogram, 18446744073709551615ULL)
    assert.is_true(lib.histogram_quantile(histogram, 500) == 18446744073709551615ULL)
  end)

  it("tells the quantiles of many values", function()
    local values, state = {}, 1
    for i = 1, 2000 do
      state = (state * 16807) % 2147483647
      values[i] = math.floor(math.exp(state / 2147483647 * 18))
    end
    local histogram = of(values)
    for _, per_mille in ipairs({ 1, 250, 500, 900, 990, 999 }) do
      local exact, told = exact_quantile(values, per_mille), quantile(histogram, per_mille)
      assert.is_true(told >= exact and told <= exact * 17 / 16, per_mille .. ": " .. told)
    end
  end)

  it("finds one in a thousand, and not less", function()
    local values = {}
    for i = 1, 1000 do
      values[i] = i <= 999 and 10 or 5000
    end
    assert.equal(10, quantile(of(values), 999))
    values[999] = 5000
    assert.equal(5000, quantile(of(values), 999))
  end)

  it("is merged with another", function()
    local histogram, other = of({ 1, 2, 3 }), of({ 100000, 7 })
    lib.histogram_merge(histogram, other)
    assert.equal(5, count(histogram))
    assert.equal(3, quantile(histogram, 600))
    assert.equal(100000, tonumber(histogram.largest))
    lib.histogram_merge(histogram, of({ 4 }))
    assert.equal(100000, tonumber(histogram.largest))
    assert.equal(2, count(other))
  end)
end)
