-- GET /stocks: prices on a random walk.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")

describe("/stocks", function()
  gateway.with_workers(describe, function(workers)
    it("gives several prices a second, of at least 5 symbols, to all the same", function()
      local server = apps.start(workers)
      server:freeze()
      local near, far = server:sse("/stocks"), server:sse("/stocks", { worker = workers })
      local before = near.last_event_id
      local symbols, count, prices = {}, 0, {}
      for _ = 1, 20 do
        server:advance(0.5)
      end
      -- 10 s: at least 3 a second; what comes first may be the present prices.
      for _ = 1, 30 do
        local event = near:expect_event("price-update", {
          symbol = apps.is_text,
          price = function(value)
            return type(value) == "number" and value > 0
          end,
          at = apps.is_iso,
        })
        if not symbols[event.json.symbol] then
          symbols[event.json.symbol] = true
          count = count + 1
        end
        prices[event.json.price] = true
        local same = far:next()
        assert.equal("price-update", same.event)
        assert.equal(event.data, same.data)
      end
      assert.is_true(count >= 5)
      local different = 0
      for _ in pairs(prices) do
        different = different + 1
      end
      assert.is_true(different > 5)
      assert.is_string(before)
    end)
  end)
end)
