-- /echo: a greeting, an echo, a broadcast, the time.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")

describe("/echo", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
      server:freeze()
    end)

    local function visitor(worker)
      local ws = server:websocket("/echo", { worker = worker })
      ws:expect("Welcome to the WebSocket server!")
      return ws
    end

    it("echoes to one and broadcasts to all others", function()
      local ann, bob, eve = visitor(1), visitor(workers), visitor(math.min(2, workers))
      bob:fence()
      eve:fence()
      ann:send("Grüße")
      ann:expect("Echo: Grüße")
      bob:expect("Broadcast: Grüße")
      eve:expect("Broadcast: Grüße")
      bob:send("back")
      bob:expect("Echo: back")
      ann:expect("Broadcast: back")
      eve:expect("Broadcast: back")
      for _, ws in ipairs({ ann, bob, eve }) do
        ws:expect_nothing_queued()
      end
    end)

    it("echoes bytes as they are, to the sender alone", function()
      local ann, bob = visitor(1), visitor(workers)
      ann:send_binary("\0\1\254\255")
      ann:expect_binary("\0\1\254\255")
      ann:expect_nothing_queued()
      bob:expect_nothing_queued()
    end)

    it("echoes an empty message", function()
      local ann, bob = visitor(1), visitor(workers)
      bob:fence()
      ann:send("")
      ann:expect("Echo: ")
      bob:expect("Broadcast: ")
    end)

    it("says the time every 5 s, to all the same", function()
      local ann, bob = visitor(1), visitor(workers)
      server:advance(5)
      local first = ann:expect_match("^Server time: (%S+)$")
      assert.equal(first, bob:expect_match("^Server time: (%S+)$"))
      server:advance(5)
      local second = ann:expect_match("^Server time: (%S+)$")
      assert.equal(second, bob:expect_match("^Server time: (%S+)$"))
      assert.is_true(math.abs(apps.parse_iso(second) - apps.parse_iso(first) - 5) < 0.01)
    end)

    it("keeps the order of many messages", function()
      local ann, bob = visitor(1), visitor(workers)
      bob:fence()
      for i = 1, 200 do
        ann:send("m" .. i)
      end
      for i = 1, 200 do
        ann:expect("Echo: m" .. i)
        bob:expect("Broadcast: m" .. i)
      end
    end)
  end)
end)
