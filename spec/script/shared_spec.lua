-- Dictionaries that all workers share.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

local BENCH = [[
  local shared = perigee.shared("things")
  app:post("/:call", function(request)
    local arguments = request:json()
    local results = { shared[request.params.call](shared, unpack(arguments, 1, 4)) }
    if results[3] then results = { results[3] } end
    return { json = perigee.json.array(results) }
  end)
  app:get("/try", function()
    local function why(fn, ...) return (select(2, pcall(fn, ...))) end
    return { json = {
      value = why(shared.set, shared, "k", {}), key = why(shared.get, shared, 1),
      self = why(shared.get, nil, "k"), ttl = why(shared.set, shared, "k", 1, 0),
      name = why(perigee.shared, ""),
    } }
  end)
]]

gateway.with_workers(describe, function(workers)
  describe("A shared dictionary", function()
    local server
    local function call(name, arguments, worker)
      local response = server:post("/" .. name, arguments, { worker = worker or 1 })
      assert.equal(200, response.status)
      return json.decode(response.body)
    end

    before_each(function()
      server = gateway.start({ app = BENCH, workers = workers })
    end)

    it("holds strings, numbers and booleans, for all workers", function()
      for _, value in ipairs({ "text", "", 1.5, true, false, "nul\0byte" }) do
        assert.same({ true }, call("set", { "k", value }))
        assert.same({ value }, call("get", { "k" }, workers))
      end
      assert.same({ true }, call("delete", { "k" }, workers))
      assert.same({ false }, call("delete", { "k" }))
      assert.same({}, call("get", { "k" }))
    end)

    it("adds only where there is nothing", function()
      assert.same({ true }, call("add", { "k", 1 }))
      assert.same({ false }, call("add", { "k", 2 }, workers))
      assert.same({ 1 }, call("get", { "k" }))
    end)

    it("counts from 0, in one step", function()
      assert.same({ 1 }, call("incr", { "n" }))
      assert.same({ 3.5 }, call("incr", { "n", 2.5 }, workers))
      assert.same({ 2.5 }, call("incr", { "n", -1 }))
      call("set", { "s", "text" })
      assert.same({ "type" }, call("incr", { "s" }))
    end)

    it("forgets when the time to live is over", function()
      server:freeze()
      call("set", { "k", "v", 10 })
      server:advance(9.9)
      assert.same({ "v" }, call("get", { "k" }, workers))
      server:advance(0.1)
      assert.same({}, call("get", { "k" }, workers))
    end)

    it("lists keys by prefix, to a limit", function()
      for _, key in ipairs({ "a:1", "a:2", "b:1" }) do
        call("set", { key, 1 })
      end
      local keys = call("keys", { "a:" }, workers)[1]
      table.sort(keys)
      assert.same({ "a:1", "a:2" }, keys)
      assert.equal(3, #call("keys", {})[1])
      assert.equal(1, #call("keys", { "", 1 })[1])
    end)

    it("raises for what it cannot hold", function()
      local value = json.decode(server:get("/try").body)
      assert.truthy(value.value:find("string, number or boolean", 1, true))
      assert.truthy(value.key:find("string expected", 1, true))
      assert.truthy(value.self:find("shared dictionary expected", 1, true))
      assert.truthy(value.ttl:find("time to live", 1, true))
      assert.truthy(value.name:find("1 to 255 bytes", 1, true))
    end)
  end)
end)

describe("The shared dictionaries together", function()
  it('are bounded: "full"', function()
    local server = gateway.start({
      arguments = { "--limit-shared-bytes", "65536" },
      app = [[app:get("/", function()
        local shared = perigee.shared("x")
        for i = 1, 100 do
          local ok, message, code = shared:set("k" .. i, ("x"):rep(1000))
          if not ok then return (i > 10 and i < 70) and code or "at " .. i end
        end
      end)]],
    })
    assert.equal("full", server:get("/").body)
  end)
end)
