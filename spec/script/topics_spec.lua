-- Topics as scripts use them: publishing, subscribing at one cut, histories and their bounds.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

-- A WebSocket that does what its messages ask, and HTTP calls for what needs no connection.
local BENCH = [[
  app:topic("kept:*", { history = 5 })
  app:topic("full", { history = 2, full = "refuse" })
  app:topic("few", { max_subscribers = 1 })
  local function answer(conn, ...)
    local list = perigee.json.array({})
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      list[i] = value == nil and perigee.json.null or value
    end
    conn:send({ answer = list })
  end
  app:websocket("/", {
    max_topics = 3,
    on_message = function(conn, text)
      local data = perigee.json.decode(text)
      if data.subscribe then answer(conn, conn:subscribe(data.subscribe, data.opts)) end
      if data.unsubscribe then answer(conn, conn:unsubscribe(data.unsubscribe)) end
      if data.asks then answer(conn, conn:is_subscribed(data.asks)) end
      if data.others then perigee.publish(data.topic, data.others, { except = conn }) end
      if data.but then perigee.publish(data.topic, "but " .. data.but, { except = data.but }) end
      if data.id then conn:send(conn.id) end
      if data.order then
        perigee.publish("kept:a", "1")
        conn:send("2")
        perigee.publish("kept:b", "3")
        perigee.publish("kept:a", "4")
        conn:send("5")
      end
      if data.self then
        perigee.publish("kept:self", "before")
        conn:subscribe("kept:self")
        conn:send("between")
        perigee.publish("kept:self", "after")
      end
      if data.signal then answer(conn, perigee.signal(data.topic, data.signal)) end
    end,
    on_signal = function(conn, data, topic) conn:send({ signal = data, topic = topic }) end,
  })
  app:post("/publish", function(request)
    local call = request:json()
    local position, receivers, code = perigee.publish(call.topic, call.data, call.opts)
    return { json = { position = position, receivers = receivers, code = code } }
  end)
  app:get("/history/:topic", function(request)
    local list, position, complete = perigee.history(request.params.topic, {
      since = request.query.since, limit = tonumber(request.query.limit),
    })
    return { json = { list = list and perigee.json.array(list), position = position, complete = complete } }
  end)
  app:get("/clear/:topic", function(request)
    local position, _, code = perigee.clear(request.params.topic, request.query.position)
    return { json = { position = position, code = code } }
  end)
  app:get("/subscribers/:topic", function(request)
    return tostring(perigee.subscribers(request.params.topic))
  end)
]]

gateway.with_workers(describe, function(workers)
  local last = workers

  local function start(more)
    return gateway.start({ app = BENCH .. (more or ""), workers = workers })
  end

  local function publish(server, topic, data, opts, worker)
    local response = server:post(
      "/publish",
      { topic = topic, data = data, opts = opts },
      { worker = worker }
    )
    assert.equal(200, response.status)
    return json.decode(response.body)
  end

  local function get(server, path, worker)
    return json.decode(server:request({ path = path, worker = worker }).body)
  end

  local function subscribe(ws, topic, opts)
    ws:send(json.encode({ subscribe = topic, opts = opts }))
  end

  local function data_of(history)
    local data = {}
    for i, publication in ipairs(history.list) do
      data[i] = publication.data
    end
    return table.concat(data, " ")
  end

  describe("A publication", function()
    it("reaches subscribers on every worker, as it was published", function()
      local server = start()
      local here, there = server:websocket("/"), server:websocket("/", { worker = last })
      for _, ws in ipairs({ here, there }) do
        subscribe(ws, "news")
        ws:expect({})
      end
      assert.same({ position = true, receivers = 2 }, publish(server, "news", "text"))
      publish(server, "news", { a = { 1 } }, nil, last)
      for _, ws in ipairs({ here, there }) do
        ws:expect("text")
        ws:expect('{"a":[1]}')
      end
    end)

    it("is not for the connection it excepts, by value or by id", function()
      local server = start()
      local here, there = server:websocket("/"), server:websocket("/", { worker = last })
      for _, ws in ipairs({ here, there }) do
        subscribe(ws, "news")
        ws:expect({})
      end
      here:send(json.encode({ topic = "news", others = "x" }))
      there:expect("x")
      here:expect_nothing_queued()
      there:send('{"id":true}')
      local id = there:next()
      here:send(json.encode({ topic = "news", but = id }))
      here:expect("but " .. id)
      there:expect_nothing_queued()
      here:send(json.encode({ topic = "news", but = "no-such-id" }))
      here:expect("but no-such-id")
      there:expect("but no-such-id")
    end)

    it("stands in call order with what is sent to one connection alone", function()
      local server = start()
      local ws = server:websocket("/")
      subscribe(ws, { "kept:a", "kept:b" })
      ws:expect({})
      ws:send('{"order":true}')
      for i = 1, 5 do
        ws:expect(tostring(i))
      end
    end)

    it("made before subscribing does not arrive, one made after does", function()
      local server = start()
      local ws = server:websocket("/")
      ws:send('{"self":true}')
      ws:expect("between")
      ws:expect("after")
      ws:expect_nothing_queued()
    end)

    it("is refused by name, by encoding and when its topic is full", function()
      local server = start()
      for _, topic in ipairs({ "", "a*", "a\nb", ("x"):rep(256) }) do
        assert.equal("topic", publish(server, topic, "x").code)
      end
      publish(server, "full", "1")
      publish(server, "full", "2")
      assert.equal("full", publish(server, "full", "3").code)
      assert.is_not_nil(publish(server, "full", "4", { clear = true }).position)
      assert.equal("4", data_of(get(server, "/history/full")))
    end)

    it("raises for options that are unknown or not yet there", function()
      local server = start([[
        app:get("/try", function()
          local function why(opts) return (select(2, pcall(perigee.publish, "a", "b", opts))) end
          return { json = {
            unknown = why({ hystory = 1 }), key = why({ key = "k" }), wait = why({ wait = false }),
            event = why({ event = "a\nb" }), except = why({ except = 1 }),
            data = select(2, pcall(perigee.publish, "a", 1)),
            utf8 = select(3, perigee.publish("a", "\255")),
            binary = (perigee.publish("a", "\255", { binary = true })),
          } }
        end)
      ]])
      local value = get(server, "/try")
      assert.truthy(value.unknown:find('unknown option "hystory" for perigee.publish', 1, true))
      assert.truthy(value.key:find("not yet: key", 1, true))
      assert.truthy(value.wait:find("not yet: wait", 1, true))
      assert.truthy(value.event:find("event", 1, true))
      assert.truthy(value.except:find("except", 1, true))
      assert.truthy(value.data:find("string or table", 1, true))
      assert.equal("utf8", value.utf8)
      assert.is_true(value.binary)
    end)

    it("that is transient is in order, and not kept", function()
      local server = start()
      local ws = server:websocket("/", { worker = last })
      subscribe(ws, "kept:a")
      ws:expect({})
      publish(server, "kept:a", "1")
      assert.is_true(publish(server, "kept:a", "2", { transient = true }).position)
      publish(server, "kept:a", "3")
      for i = 1, 3 do
        ws:expect(tostring(i))
      end
      assert.equal("1 3", data_of(get(server, "/history/kept:a")))
    end)
  end)

  describe("A subscription", function()
    it("gives a returning client exactly what it missed", function()
      local server = start()
      publish(server, "kept:a", "1")
      local position = publish(server, "kept:a", "2", nil, last).position
      publish(server, "kept:a", "3")
      publish(server, "kept:a", "4", nil, last)
      local ws = server:websocket("/", { worker = last })
      subscribe(ws, "kept:a", { since = position })
      local results = {}
      for i = 1, 3 do
        results[i] = ws:next()
      end
      table.sort(results)
      assert.equal("3", results[1])
      assert.equal("4", results[2])
      local result = json.decode(results[3]).answer[1]
      assert.equal("kept:a", result.topic)
      assert.is_true(result.complete)
    end)

    it("begins now, at the start, or with the newest few", function()
      local server = start()
      for i = 1, 4 do
        publish(server, "kept:a", tostring(i))
      end
      for from, expected in pairs({ now = {}, start = { "1", "2", "3", "4" }, [2] = { "3", "4" } }) do
        local ws = server:websocket("/", { worker = last })
        subscribe(ws, "kept:a", { from = from })
        local seen = {}
        for i = 1, #expected + 1 do
          seen[i] = ws:next()
        end
        table.sort(seen, function(a, b)
          return #a == #b and a < b or #a < #b
        end)
        seen[#seen] = nil
        assert.same(expected, seen)
        ws:expect_nothing_queued()
      end
    end)

    it("says what is lost: reset, incomplete, and where to begin instead", function()
      local server = start()
      local first = publish(server, "kept:a", "1").position
      for i = 2, 7 do
        publish(server, "kept:a", tostring(i))
      end
      local ws = server:websocket("/")
      subscribe(ws, "kept:a", { since = first, from = 1, reset = { type = "reset" } })
      local answer
      local seen = {}
      for _ = 1, 3 do
        local text = ws:next()
        if text:find("answer", 1, true) then
          answer = json.decode(text).answer[1]
        else
          seen[#seen + 1] = text
        end
      end
      assert.same({ '{"type":"reset"}', "7" }, seen)
      assert.is_false(answer.complete)
    end)

    it("of a list is joined at one cut, in order, with a verdict for each", function()
      local server = start()
      local positions = {}
      for i = 1, 3 do
        positions[i] = publish(server, "kept:a", "a" .. i).position
        publish(server, "kept:b", "b" .. i)
      end
      get(server, "/clear/kept:b")
      publish(server, "kept:b", "b4")
      local ws = server:websocket("/", { worker = last })
      subscribe(ws, { "kept:a", "kept:b" }, { since = positions[2], reset = "reset" })
      local answer
      local seen = {}
      for _ = 1, 3 do
        local text = ws:next()
        if text:find("answer", 1, true) then
          answer = json.decode(text).answer[1]
        else
          seen[#seen + 1] = text
        end
      end
      assert.same({ "reset", "a3" }, seen)
      assert.is_true(answer[1].complete)
      assert.is_false(answer[2].complete)
      assert.equal(answer[1].position, answer[2].position)
    end)

    it("is the same the second time, without a replay", function()
      local server = start()
      publish(server, "kept:a", "1")
      local ws = server:websocket("/")
      subscribe(ws, "kept:a")
      ws:expect({})
      subscribe(ws, "kept:a", { from = "start" })
      ws:expect({})
      ws:expect_nothing_queued()
      publish(server, "kept:a", "2")
      ws:expect("2")
      ws:expect_nothing_queued()
    end)

    it("ends, and says whether it was one", function()
      local server = start()
      local ws = server:websocket("/")
      subscribe(ws, "a")
      ws:expect({})
      ws:send('{"asks":"a"}')
      ws:expect_json({ answer = { true } })
      assert.equal("1", server:get("/subscribers/a").body)
      ws:send('{"unsubscribe":"a"}')
      ws:expect_json({ answer = { true } })
      ws:send('{"unsubscribe":"a"}')
      ws:expect_json({ answer = { false } })
      ws:send('{"asks":"a"}')
      ws:expect_json({ answer = { false } })
      publish(server, "a", "x")
      ws:expect_nothing_queued()
    end)

    it("is refused past max_topics, by name, and when the topic has enough", function()
      local server = start()
      local ws, other = server:websocket("/"), server:websocket("/", { worker = last })
      local function expect_code(client, code)
        local answer = client:expect({}).answer
        assert.equal(code, answer[3])
      end
      subscribe(ws, { "a", "b", "c", "d" })
      expect_code(ws, "limit")
      subscribe(ws, "a*")
      expect_code(ws, "topic")
      subscribe(ws, "few")
      ws:expect({})
      subscribe(other, "few")
      expect_code(other, "full")
    end)

    it("may wrap what it delivers in an envelope", function()
      local server = start()
      local ws = server:websocket("/", { worker = last })
      subscribe(ws, "kept:a", { envelope = true })
      ws:expect({})
      local position = publish(server, "kept:a", "text").position
      ws:expect_json({ topic = "kept:a", id = position, data = "text" })
    end)
  end)

  describe("A history", function()
    it("is listed whole, after a position, or in part", function()
      local server = start()
      local positions = {}
      for i = 1, 4 do
        positions[i] = publish(server, "kept:a", tostring(i), nil, 1 + (i % workers)).position
      end
      local all = get(server, "/history/kept:a")
      assert.equal("1 2 3 4", data_of(all))
      assert.equal(positions[4], all.list[4].position)
      assert.is_true(all.complete)
      assert.equal("3 4", data_of(get(server, "/history/kept:a?limit=2", last)))
      assert.equal("2 3 4", data_of(get(server, "/history/kept:a?since=" .. positions[1], last)))
      assert.equal("2", data_of(get(server, "/history/kept:a?limit=1&since=" .. positions[1])))
      assert.is_false(get(server, "/history/kept:a?since=other.1").complete)
      assert.equal("", data_of(get(server, "/history/unknown")))
    end)

    it("keeps the newest, as many as its policy says", function()
      local server = start()
      for i = 1, 7 do
        publish(server, "kept:a", tostring(i))
      end
      assert.equal("3 4 5 6 7", data_of(get(server, "/history/kept:a")))
    end)

    it("is cleared in one step, and older positions are incomplete", function()
      local server = start()
      local position = publish(server, "kept:a", "1").position
      publish(server, "kept:a", "2")
      assert.is_string(get(server, "/clear/kept:a", last).position)
      assert.equal("", data_of(get(server, "/history/kept:a")))
      assert.is_false(get(server, "/history/kept:a?since=" .. position).complete)
      publish(server, "kept:a", "3")
      publish(server, "kept:a", "4", { clear = true }, last)
      assert.equal("4", data_of(get(server, "/history/kept:a")))
    end)

    it("loses one publication by its position", function()
      local server = start()
      publish(server, "kept:a", "1")
      local position = publish(server, "kept:a", "2").position
      publish(server, "kept:a", "3")
      assert.is_true(get(server, "/clear/kept:a?position=" .. position, last).position)
      assert.is_false(get(server, "/clear/kept:a?position=" .. position).position)
      assert.equal("1 3", data_of(get(server, "/history/kept:a")))
    end)
  end)

  describe("A signal", function()
    it("tells each subscriber's on_signal, in order with messages, and no client", function()
      local server = start()
      local here, there = server:websocket("/"), server:websocket("/", { worker = last })
      for _, ws in ipairs({ here, there }) do
        subscribe(ws, "room")
        ws:expect({})
      end
      here:send(json.encode({ topic = "room", signal = { a = 1 } }))
      there:expect_json({ signal = '{"a":1}', topic = "room" })
      local seen = { here:expect({}), here:expect({}) }
      local answer = seen[1].answer and seen[1] or seen[2]
      assert.same({ 2 }, answer.answer)
    end)
  end)
end)
