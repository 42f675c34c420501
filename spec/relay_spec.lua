-- conn:subscribe(topic, { relay = … }): what a client sends becomes a publication without a handler.
local gateway = require("spec.support.gateway")

local APP = [[
  app:topic("kept", { history = 10 })
  app:topic("shut", { history = 1, full = "refuse" })
  app:websocket("/all", { on_open = function(conn) conn:subscribe("kept", { relay = true }) end })
  app:websocket("/others", { on_open = function(conn) conn:subscribe("kept", { relay = "others" }) end })
  app:websocket("/envelope", {
    on_open = function(conn) conn:subscribe("kept", { relay = true, envelope = true }) end,
  })
  app:websocket("/rated", {
    rate = { messages = 2, per = 60, excess = "drop" },
    on_open = function(conn) conn:subscribe("kept", { relay = true }) end,
  })
  app:websocket("/shut", { on_open = function(conn) conn:subscribe("shut", { relay = true }) end })
  app:websocket("/two", {
    on_open = function(conn) conn:subscribe({ "a", "b" }, { relay = true, envelope = true }) end,
  })
  app:websocket("/slow", {
    on_open = function(conn)
      conn:subscribe("kept", { relay = true })
      perigee.sleep(5)
      conn:send("opened")
    end,
  })
  app:websocket("/until", {
    on_open = function(conn) conn:subscribe("kept", { relay = true }) end,
    on_signal = function(conn)
      conn:unsubscribe("kept")
      conn:send("ended")
    end,
    on_message = function(conn, text) conn:send("told " .. text) end,
  })
  app:websocket("/listen", { on_open = function(conn) conn:subscribe("kept") end })
  app:sse("/stream", {
    on_open = function(conn)
      local _, problem = pcall(conn.subscribe, conn, "kept", { relay = true })
      conn:send(tostring(problem))
    end,
  })
  app:get("/history", function()
    local texts = {}
    for i, kept in ipairs(perigee.history("kept")) do texts[i] = kept.data end
    return table.concat(texts, ",")
  end)
  app:post("/end", function()
    perigee.signal("kept", "")
    return "ended"
  end)
]]

gateway.with_workers(describe, function(workers)
  describe("A relaying subscription", function()
    local function start()
      return gateway.start({ app = APP, workers = workers })
    end

    it("publishes what its client sends, to the client too, and keeps it", function()
      local server = start()
      local listener = server:websocket("/listen", { worker = workers })
      local ws = server:websocket("/all", { worker = 1 })
      ws:send("one")
      ws:send("two")
      for _, reader in ipairs({ listener, ws }) do
        reader:expect("one")
        reader:expect("two")
      end
      assert.equal("one,two", server:get("/history").body)
    end)

    it("spares the client what it has said itself, where it goes to the others", function()
      local server = start()
      local ws = server:websocket("/others", { worker = 1 })
      local other = server:websocket("/others", { worker = workers })
      ws:send("mine")
      other:expect("mine")
      other:send("yours")
      ws:expect("yours")
      ws:expect_nothing_queued()
    end)

    it("leaves bytes bytes and text text", function()
      local server = start()
      local ws = server:websocket("/all")
      ws:send_binary("\0\255")
      ws:expect_binary("\0\255")
      ws:send("κ")
      ws:expect("κ")
    end)

    it("has its encoding for itself", function()
      local server = start()
      local ws = server:websocket("/envelope")
      local listener = server:websocket("/listen")
      ws:send("x")
      ws:expect({ topic = "kept", data = "x" })
      listener:expect("x")
    end)

    it("relays to each of its topics", function()
      local server = start()
      local ws = server:websocket("/two")
      ws:send("x")
      local first, second = ws:next(), ws:next()
      assert.is_truthy((first .. second):find('"topic":"a"', 1, true))
      assert.is_truthy((first .. second):find('"topic":"b"', 1, true))
    end)

    it("is under the limit of the rate", function()
      local server = start()
      local ws = server:websocket("/rated")
      local listener = server:websocket("/listen")
      for i = 1, 5 do
        ws:send(tostring(i))
      end
      ws:fence()
      listener:expect("1")
      listener:expect("2")
      listener:expect_nothing_queued()
    end)

    it("drops what its topic refuses, and goes on", function()
      local server = start()
      local ws = server:websocket("/shut")
      ws:send("first")
      ws:expect("first")
      ws:send("second")
      ws:expect_nothing_queued()
    end)

    it("waits for on_open, in order", function()
      local server = start()
      local ws = server:websocket("/slow")
      ws:send("one")
      ws:send("two")
      ws:fence()
      server:advance(5)
      ws:expect("opened")
      ws:expect("one")
      ws:expect("two")
    end)

    it("publishes what was said before an orderly close, though on_open goes on", function()
      local server = start()
      local listener = server:websocket("/listen")
      local ws = server:websocket("/slow")
      ws:send("one")
      ws:send("two")
      ws:send_close(1000)
      listener:expect("one")
      listener:expect("two")
      ws:expect_close(1000)
      server:advance(5)
    end)

    it("ends with the subscription: then on_message is told", function()
      local server = start()
      local ws = server:websocket("/until")
      ws:send("relayed")
      ws:expect("relayed")
      server:post("/end", {})
      ws:expect("ended")
      ws:send("x")
      ws:expect("told x")
    end)

    it("is refused on an event stream", function()
      local server = start()
      local stream = server:sse("/stream")
      assert.is_truthy(stream:next().data:find('option "relay" is for WebSockets', 1, true))
    end)
  end)
end)
