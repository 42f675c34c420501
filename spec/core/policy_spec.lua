local pubsub = require("spec.core.pubsub_support")
local support = require("spec.core.support")

local lib = pubsub.lib

describe("topic policies", function()
  local policies

  before_each(function()
    policies = lib.policies_new()
  end)
  after_each(function()
    lib.policies_free(policies)
  end)

  local function add(pattern, count)
    local policy = pubsub.policy({ history_count = count or 1 })
    return lib.policies_add(policies, support.slice(pattern), policy)
  end

  local function find(topic)
    return tonumber(lib.policies_find(policies, support.slice(topic)).history_count)
  end

  it("match exactly or by the longest prefix, in whatever order they were declared", function()
    for i, pattern in ipairs({ "room:*", "*", "room:1", "room:big:*", "rooms", "r*", "room:1*" }) do
      assert.equal(0, add(pattern, i))
    end
    local expected = {
      ["room:2"] = 1,
      ["room:"] = 1,
      ["other"] = 2,
      ["room:1"] = 3,
      ["room:big:x"] = 4,
      ["rooms"] = 5,
      ["room"] = 6,
      ["room:11"] = 7,
      ["room:big"] = 1,
      ["q"] = 2,
    }
    for topic, count in pairs(expected) do
      assert.equal(count, find(topic), topic)
    end
  end)

  it("fall back to the default: live only, 16 MiB, no end", function()
    add("room:*")
    assert.equal(0, find("other"))
    local policy = lib.policies_find(nil, support.slice("other"))
    assert.equal(0, tonumber(policy.history_count))
    assert.equal(16 * 1024 * 1024, tonumber(policy.history_bytes))
    assert.is_true(policy.linger_ms == -1ULL and policy.age_ms == -1ULL)
    assert.is_true(policy.max_subscribers == -1ULL and not policy.refuse_when_full)
  end)

  it("refuse duplicates and what is no pattern", function()
    assert.equal(0, add("a*"))
    assert.equal(0, add("a"))
    assert.equal(-1, add("a*"))
    assert.equal(-1, add("a"))
    assert.equal(0, add(("x"):rep(254) .. "*"))
    local bad = { "", "a*b", "**", "*a", "a\n", "a\n*", "\255*", "\195*", ("x"):rep(256) }
    for _, pattern in ipairs(bad) do
      assert.equal(-2, add(pattern), pattern)
    end
  end)
end)
