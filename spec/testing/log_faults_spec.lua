-- A log that fails, and one that takes its time: server:fail_log, stall_log, mend_log.
local gateway = require("spec.support.gateway")
local testing = require("perigee.testing")

local APP = [[
  local perigee = require("perigee")
  local app = perigee.app()
  app:topic("kept*", { history = 10 })
  app:topic("shut", { history = 1, full = "refuse" })

  local calls = {
    publish = function(topic, data) return perigee.publish(topic, data) end,
    transient = function(topic, data) return perigee.publish(topic, data, { transient = true }) end,
    fresh = function(topic, data) return perigee.publish(topic, data, { clear = true }) end,
    forget = function(topic, data) return perigee.publish(topic, data, { clear = true, transient = true }) end,
    clear = function(topic) return perigee.clear(topic) end,
    remove = function(topic)
      return perigee.clear(topic, perigee.history(topic)[1].position)
    end,
    removeat = function(topic, position) return perigee.clear(topic, position) end,
    signal = function(topic, data) return perigee.signal(topic, data) end,
    sorted = function(topic)
      return pcall(table.sort, { 2, 1 }, function(a, b)
        perigee.publish(topic, "sorted")
        return a < b
      end)
    end,
  }
  local function answer(conn, ...)
    local list = { n = select("#", ...), ... }
    for i = 1, list.n do list[i] = tostring(list[i]) end
    conn:send(table.concat(list, " "))
  end
  app:websocket("/speak", {
    handler_timeout = 60,
    on_message = function(conn, text)
      local call, topic, data = text:match("^(%S+) (%S+) ?(.*)$")
      answer(conn, calls[call](topic, data))
    end,
    on_close = function() perigee.publish("closed", "closed") end,
  })
  app:websocket("/relay", { on_open = function(conn) conn:subscribe("kept", { relay = true }) end })
  app:sse("/listen/:topic", {
    on_open = function(conn) conn:subscribe(conn.request.params.topic, { from = "start" }) end,
  })
  app:post("/publish", { timeout = 30 }, function(request)
    local position, message, code = perigee.publish("kept", request.body)
    return position and "kept" or { status = 503, body = code .. ": " .. message }
  end)
  app:get("/history/:topic", function(request)
    local texts = {}
    for i, publication in ipairs(perigee.history(request.params.topic)) do texts[i] = publication.data end
    return table.concat(texts, " ")
  end)
  return app
]]

local FAILED = "nil the log could not keep it log"

-- The same against a gateway of several workers and in process.
local kinds = {
  ["A gateway of two workers"] = function()
    return testing.start(APP)
  end,
  ["An app in process"] = function()
    return testing.app(APP)
  end,
}

for kind, start in pairs(kinds) do
  describe(kind .. " whose log fails", function()
    local server, ann, bob
    before_each(function()
      server = start()
      ann, bob = server:websocket("/speak"), server:sse("/listen/kept")
      ann:send("publish kept one")
      ann:expect_match("^%S+ 1$")
      bob:expect("one")
      server:fail_log()
    end)

    it("says so to whoever publishes, and tells nobody", function()
      ann:send("publish kept two")
      ann:expect(FAILED)
      ann:send("fresh kept three")
      ann:expect(FAILED)
      assert.equal("one", server:get("/history/kept").body)
      server:post("/publish", "four"):expect(503, "log: the log could not keep it")
      bob:expect_nothing_queued()
    end)

    it("says so to whoever clears", function()
      for _, call in ipairs({ "clear", "remove", "forget" }) do
        ann:send(call .. " kept x")
        ann:expect(FAILED)
      end
      assert.equal("one", server:get("/history/kept").body)
    end)

    it("goes on with what needs no log", function()
      local live = server:sse("/listen/live")
      ann:send("publish live a")
      ann:expect("true 1")
      ann:send("transient kept b")
      ann:expect("true 1")
      ann:send("signal kept c")
      ann:expect("1")
      ann:send("clear live")
      local position = ann:expect_match("^%S+$")
      ann:send("removeat live " .. position)
      ann:expect("false")
      live:expect("a")
      bob:expect("b")
    end)

    it("keeps again when it is mended, from the next number on", function()
      ann:send("publish kept two")
      ann:expect(FAILED)
      server:mend_log()
      ann:send("publish kept three")
      ann:expect_match("^%S+ 1$")
      bob:expect("three")
      assert.equal("one three", server:get("/history/kept").body)
    end)
  end)

  describe(kind .. " whose log stalls", function()
    local server, ann, bob
    before_each(function()
      server = start()
      ann, bob = server:websocket("/speak"), server:sse("/listen/kept")
      server:stall_log()
    end)

    it("suspends whoever publishes, and nobody else", function()
      local eve, live = server:websocket("/speak"), server:sse("/listen/live")
      ann:send("publish kept one")
      ann:send("publish live after")
      eve:send("publish live meanwhile")
      eve:expect("true 1")
      live:expect("meanwhile")
      ann:expect_nothing_queued()
      bob:expect_nothing_queued()
      assert.equal("", server:get("/history/kept").body)

      server:mend_log()
      ann:expect_match("^[%w.]+ 1$")
      ann:expect("true 1")
      bob:expect("one")
      live:expect("after")
      assert.equal("one", server:get("/history/kept").body)
    end)

    it("goes on in the order of the calls", function()
      local speakers = {}
      for i = 1, 6 do
        speakers[i] = server:websocket("/speak")
        speakers[i]:send("publish kept " .. i)
        server:settle()
      end
      server:mend_log()
      for i = 1, 6 do
        bob:expect(tostring(i))
        speakers[i]:expect_match("^%S+ 1$")
      end
    end)

    it("clears in that order too", function()
      local others = {}
      for i, text in ipairs({ "publish kept one", "clear kept", "publish kept two", "remove kept2" }) do
        if i == 4 then
          server:mend_log()
          ann:send("publish kept2 x")
          ann:expect_match("^%S+ 0$")
          server:stall_log()
        end
        others[i] = server:websocket("/speak")
        others[i]:send(text)
        server:settle()
        if i == 4 then
          others[i]:expect_nothing_queued()
        end
      end
      assert.equal("x", server:get("/history/kept2").body)
      server:mend_log()
      others[1]:expect_match("^%S+ 1$")
      others[2]:expect_match("^[%w.]+$")
      others[3]:expect_match("^%S+ 1$")
      others[4]:expect("true")
      bob:expect("one")
      bob:expect("two")
      assert.equal("two", server:get("/history/kept").body)
      assert.equal("", server:get("/history/kept2").body)
    end)

    it("keeps what a connection that went meanwhile had said", function()
      ann:send("publish kept one")
      server:settle()
      ann:close()
      ann:expect_close()
      server:mend_log()
      bob:expect("one")
    end)

    it("is no longer waited for when the handler's time is over", function()
      ann:send("publish kept one")
      server:advance(59)
      ann:expect_nothing_queued()
      server:advance(1)
      ann:expect("nil the handler has taken too long timeout")
      local post = server:begin({ method = "POST", path = "/publish", body = "two" })
      server.log:allow("has taken too long")
      server:advance(30)
      post:response():expect(503)
      -- They may be kept all the same.
      server:mend_log()
      bob:expect("one")
      bob:expect("two")
    end)

    it("may go on to fail", function()
      ann:send("publish kept one")
      server:settle()
      server:fail_log()
      ann:expect(FAILED)
      bob:expect_nothing_queued()
    end)

    it("holds what is relayed, in its order", function()
      local relay = server:websocket("/relay")
      for i = 1, 3 do
        relay:send("relayed " .. i)
      end
      relay:expect_nothing_queued()
      server:mend_log()
      for i = 1, 3 do
        relay:expect("relayed " .. i)
        bob:expect("relayed " .. i)
      end
    end)

    it("cannot suspend where nothing can", function()
      ann:send("sorted kept")
      ann:expect_match("^false .*perigee.publish cannot suspend inside table.sort")
    end)

    it("finishes in old code when the script is loaded anew", function()
      ann:send("publish kept one")
      server:settle()
      server:reload()
      server:mend_log()
      ann:expect_match("^%S+ 1$")
      bob:expect("one")
    end)

    it("leaves nothing behind when the gateway stops", function()
      ann:send("publish kept one")
      server:websocket("/relay"):send("two")
      local other = server:websocket("/speak")
      other:send("clear kept")
      server:settle()
      other:drop()
    end)
  end)
end

it(
  "A log that stalls and works, while all workers publish, loses nothing and keeps their order",
  function()
    local server = gateway.start({ script = APP, workers = 4 })
    local speakers, listeners = {}, {}
    for worker = 1, 4 do
      speakers[worker] = server:websocket("/speak", { worker = worker })
      listeners[worker] = server:sse("/listen/kept", { worker = worker })
    end
    for round = 1, 30 do
      local state = ({ "stall_log", "mend_log", "mend_log" })[round % 3 + 1]
      for worker, speaker in ipairs(speakers) do
        speaker:send(("publish kept %d.%d"):format(worker, round))
      end
      server[state](server)
    end
    server:mend_log()
    local last
    for _, listener in ipairs(listeners) do
      local order, seen = {}, { 0, 0, 0, 0 }
      for i = 1, 120 do
        order[i] = listener:next().data
        local worker, round = order[i]:match("^(%d)%.(%d+)$")
        worker, round = tonumber(worker), tonumber(round)
        assert.equal(seen[worker] + 1, round)
        seen[worker] = round
      end
      local all = table.concat(order, " ")
      assert.equal(last or all, all)
      last = all
    end
  end
)
