-- What reaches a client, in which order, and that nothing is lost or doubled on the way.
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

-- A WebSocket that subscribes as its query says, publishes what it is asked to, and answers.
local BENCH = [[
  local json = perigee.json
  app:topic("kept:*", { history = 20000, bytes = 64 * 1024 * 1024 })
  app:topic("few", { history = 3 })
  app:websocket("/", {
    max_message = 1024 * 1024, max_outbox = 64 * 1024 * 1024,
    on_open = function(conn)
      local query = conn.request.query
      if not query.topics then return end
      local topics = json.decode(query.topics)
      local results = conn:subscribe(topics, {
        since = query.since, from = tonumber(query.from) or query.from, reset = query.reset,
        envelope = query.envelope ~= nil,
      })
      if query.verdict then
        local complete = {}
        for i, result in ipairs(results) do complete[i] = tostring(result.complete) end
        conn:send(table.concat(complete, " "))
      end
    end,
    on_message = function(conn, text)
      local ask = json.decode(text)
      if ask.subscribe then conn:subscribe(ask.subscribe, ask.opts) conn:send("subscribed") end
      if ask.unsubscribe then conn:unsubscribe(ask.unsubscribe) conn:send("unsubscribed") end
      if ask.publish then
        local opts = ask.opts or {}
        if ask.others then opts.except = conn end
        conn:send("position " .. tostring((perigee.publish(ask.publish, ask.data, opts))))
      end
      if ask.burst then
        local first, last = unpack(ask.burst)
        for i = first, last do
          for _, topic in ipairs(ask.topics) do
            perigee.publish(topic, topic .. " " .. i .. (ask.pad and (" "):rep(ask.pad) or ""))
          end
        end
        conn:send("burst")
      end
      if ask.id then conn:send(conn.id) end
    end,
  })
]]

local function query(topics, more)
  return "/?topics=" .. json.encode(json.array(topics)) .. (more or "")
end

gateway.with_workers(describe, function(workers)
  local last = workers

  local function start(more)
    return gateway.start({ app = BENCH .. (more or ""), workers = workers })
  end

  local function publish(ws, topic, data, opts, others)
    ws:send({ publish = topic, data = data, opts = opts, others = others })
    return ws:expect_match("^position (.*)$")
  end

  describe("Order", function()
    it("is that of the calls, across topics and between publish and send", function()
      local server = start([[
        app:websocket("/calls", {
          on_open = function(conn) conn:subscribe({ "kept:a", "b", "kept:c" }) end,
          on_message = function(conn)
            local topics = { "kept:a", "b", "kept:c" }
            for i = 1, 200 do
              if i % 4 == 0 then
                conn:send(tostring(i))
              else
                perigee.publish(topics[i % 4], i .. (i % 7 == 0 and (" "):rep(5000) or ""))
              end
            end
          end,
        })
      ]])
      local ws = server:websocket("/calls", { worker = last })
      local other = server:websocket("/calls", { worker = 1 })
      other:fence()
      ws:send("go")
      for i = 1, 200 do
        local text = i % 4 == 0 and tostring(i) or i .. (i % 7 == 0 and (" "):rep(5000) or "")
        ws:expect(text)
        if i % 4 ~= 0 then
          other:expect(text)
        end
      end
      ws:expect_nothing_queued()
      other:expect_nothing_queued()
    end)

    it("of publications from everywhere is the same for everybody", function()
      local server = start()
      local speakers, readers = {}, {}
      for i = 1, 4 do
        local worker = (i - 1) % workers + 1
        speakers[i] = server:websocket("/", { worker = worker })
        readers[i] = server:websocket(query({ "kept:a", "b", "c" }), { worker = worker })
        readers[i]:fence()
      end
      for i, speaker in ipairs(speakers) do
        speaker:send({ burst = { i * 1000 + 1, i * 1000 + 100 }, topics = { "kept:a", "b", "c" } })
      end
      local orders = {}
      for i, reader in ipairs(readers) do
        local seen = {}
        for n = 1, 1200 do
          seen[n] = reader:next(5)
        end
        reader:expect_nothing_queued()
        orders[i] = table.concat(seen, "\n")
      end
      for i = 2, 4 do
        assert.is_true(orders[i] == orders[1], "reader " .. i)
      end
    end)

    it("holds for a subscriber who leaves in the same turn", function()
      local server = start([[
        app:websocket("/leaves", { on_message = function(conn)
          perigee.publish("kept:a", "before")
          conn:subscribe({ "kept:a", "b" })
          perigee.publish("kept:a", "1")
          perigee.publish("b", "2")
          conn:unsubscribe("kept:a")
          perigee.publish("kept:a", "not heard")
          perigee.publish("b", "3")
          conn:unsubscribe("b")
          perigee.publish("b", "not heard")
          conn:subscribe("kept:a")
          conn:send("4")
          perigee.publish("kept:a", "5")
          perigee.publish("kept:a", "6")
          conn:close(4000, "done")
          perigee.publish("kept:a", "not heard")
        end })
      ]])
      local ws = server:websocket("/leaves")
      ws:send("go")
      for i = 1, 6 do
        ws:expect(tostring(i))
      end
      ws:expect_close(4000, "done")
    end)
  end)

  describe("While on_open has not returned", function()
    local APP = [[
      app:websocket("/late", {
        on_open = function(conn)
          conn:subscribe({ "kept:a", "b" }, { from = "start" })
          perigee.log.info("subscribed")
          perigee.sleep(1)
          conn:send("greeting")
          if conn.request.query.own then
            perigee.publish("kept:a", "own")
            conn:send("after own")
          end
          perigee.sleep(1)
          conn:send("opened")
        end,
        on_message = function(conn, text) conn:send(text) end,
      })
    ]]

    it("live publications wait, behind replay and greeting", function()
      local server = start(APP)
      server:freeze()
      local speaker = server:websocket("/", { worker = last })
      publish(speaker, "kept:a", "old")
      local ws = server:websocket("/late")
      ws:expect("old")
      publish(speaker, "kept:a", "1")
      publish(speaker, "b", "2")
      ws:send("message")
      ws:expect_nothing_queued()
      server:advance(1)
      ws:expect("greeting")
      publish(speaker, "b", "3")
      ws:expect_nothing_queued()
      server:advance(1)
      ws:expect("opened")
      ws:expect("1")
      ws:expect("2")
      ws:expect("3")
      ws:expect("message")
      ws:expect_nothing_queued()
    end)

    it("what its own handler publishes keeps its place, and takes along what was before", function()
      local server = start(APP)
      server:freeze()
      local speaker = server:websocket("/", { worker = last })
      local ws = server:websocket("/late?own=1")
      server.log:expect("subscribed")
      publish(speaker, "b", "1")
      ws:expect_nothing_queued()
      server:advance(1)
      ws:expect("greeting")
      ws:expect("1")
      ws:expect("own")
      ws:expect("after own")
      publish(speaker, "b", "2")
      ws:expect_nothing_queued()
      server:advance(1)
      ws:expect("opened")
      ws:expect("2")
      ws:expect_nothing_queued()
    end)
  end)

  describe("A list of topics", function()
    it("is joined at one cut while all of them are published to", function()
      local server = start()
      local topics = { "kept:a", "kept:b", "kept:c" }
      local speaker = server:websocket("/", { worker = last })
      publish(speaker, "kept:a", "first")
      speaker:send({ burst = { 1, 2000 }, topics = topics })
      local readers = {}
      for i = 1, 8 do
        readers[i] = server:websocket(query(topics, "&from=start"), { worker = i % workers + 1 })
      end
      for _, reader in ipairs(readers) do
        reader:expect("first")
        for n = 1, 2000 do
          for _, topic in ipairs(topics) do
            reader:expect(topic .. " " .. n, 5)
          end
        end
        reader:expect_nothing_queued()
      end
    end)
  end)

  describe("A replay", function()
    it("of 10,000 to a slow reader has no gap and no double while publishing goes on", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      -- 6 MB, more than the kernel takes.
      speaker:send({ burst = { 1, 10000 }, topics = { "kept:a" }, pad = 600 })
      speaker:expect("burst", 10)
      local slow = server:websocket(query({ "kept:a" }, "&from=start"), { receive_buffer = 4096 })
      speaker:send({ burst = { 10001, 11000 }, topics = { "kept:a" }, pad = 600 })
      speaker:expect("burst", 10)
      for i = 1, 5000 do
        slow:expect("kept:a " .. i .. (" "):rep(600), 10)
      end
      speaker:send({ burst = { 11001, 12000 }, topics = { "kept:a" }, pad = 600 })
      for i = 5001, 12000 do
        slow:expect("kept:a " .. i .. (" "):rep(600), 10)
      end
      slow:expect_nothing_queued()
    end)

    it("outlives the history that it was cut from", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      speaker:send({ burst = { 1, 4000 }, topics = { "kept:a" }, pad = 1500 })
      speaker:expect("burst", 10)
      local slow = server:websocket(query({ "kept:a" }, "&from=start"), { receive_buffer = 4096 })
      slow:expect("kept:a 1" .. (" "):rep(1500))
      publish(speaker, "kept:a", "cleared", { clear = true })
      for i = 2, 4000 do
        slow:expect("kept:a " .. i .. (" "):rep(1500), 10)
      end
      slow:expect("cleared")
      slow:expect_nothing_queued()
      server:websocket(query({ "kept:a" }, "&from=start")):expect("cleared")
    end)
  end)

  describe("A verdict of completeness", function()
    it("is given for each topic, by what happened after the position", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      local positions = {}
      for i = 1, 5 do
        positions[i] = publish(speaker, "few", tostring(i))
      end
      local function resume(topic, since, more)
        return server:websocket(query({ topic }, "&verdict=1&since=" .. since .. (more or "")))
      end
      -- Of 5 the newest 3 are kept: whoever has 2 misses nothing, whoever has 1 lost 2.
      local ws = resume("few", positions[2])
      for i = 3, 5 do
        ws:expect(tostring(i))
      end
      ws:expect("true")
      ws = resume("few", positions[1])
      ws:expect("false")
      ws:expect_nothing_queued()
      ws = resume("few", positions[1], "&from=2&reset=lost")
      ws:expect("lost")
      ws:expect("4")
      ws:expect("5")
      ws:expect("false")
      -- Who has everything is complete; so is one who never had anything of a topic that is new.
      resume("few", positions[5]):expect("true")
      resume("kept:new", positions[1]):expect("true")
      for _, foreign in ipairs({ "", "x", "zzzzzz.1", positions[5] .. "0", "1e9", "-1" }) do
        ws = resume("few", foreign, "&from=1")
        ws:expect("5")
        ws:expect("false")
      end
    end)

    it("is false before a clear and true after it", function()
      local server = start([[
        app:get("/clear/:topic", function(request) return (perigee.clear(request.params.topic)) end)
      ]])
      local speaker = server:websocket("/", { worker = last })
      local before = publish(speaker, "kept:a", "1")
      local other = publish(speaker, "kept:b", "1")
      local cleared = server:get("/clear/kept:a").body
      local ws = server:websocket(
        query({ "kept:a", "kept:b" }, "&verdict=1&since=" .. other .. "&reset=reset")
      )
      ws:expect("reset")
      ws:expect("false true")
      server:websocket(query({ "kept:a" }, "&verdict=1&since=" .. before)):expect("false")
      server:websocket(query({ "kept:a" }, "&verdict=1&since=" .. cleared)):expect("true")
      -- In one step with a publication that tells of it, whoever has seen all before it is
      -- complete.
      local last_one = publish(speaker, "kept:a", "2")
      local both = publish(speaker, "kept:a", "3", { clear = true })
      publish(speaker, "kept:a", "4")
      server:websocket(query({ "kept:a" }, "&verdict=1&since=" .. cleared)):expect("false")
      for _, since in ipairs({ last_one, both }) do
        ws = server:websocket(query({ "kept:a" }, "&verdict=1&since=" .. since))
        if since == last_one then
          ws:expect("3")
        end
        ws:expect("4")
        ws:expect("true")
      end
    end)

    it("does not suffer from what was never kept", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      local position = publish(speaker, "kept:a", "1")
      publish(speaker, "kept:a", "passing", { transient = true })
      publish(speaker, "live", "passing")
      publish(speaker, "kept:a", "2")
      local ws = server:websocket(query({ "kept:a" }, "&verdict=1&since=" .. position))
      ws:expect("2")
      ws:expect("true")
    end)
  end)

  describe("A message", function()
    it("of any size reaches all who listen, whole and in order", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      local readers = {}
      for i = 1, 6 do
        readers[i] = server:websocket(
          query({ "kept:a" }, i % 3 == 0 and "&envelope=1" or ""),
          { worker = i % workers + 1 }
        )
        readers[i]:fence()
      end
      for i, size in ipairs({ 0, 1, 125, 126, 4095, 4096, 4097, 65535, 65536, 70000, 300000, 3 }) do
        local data = ("abcdefgh"):rep(math.ceil(size / 8)):sub(1, size)
        local position = publish(speaker, "kept:a", data)
        for n, reader in ipairs(readers) do
          if n % 3 == 0 then
            local value = json.decode(reader:next())
            assert.is_true(value.data == data and value.id == position and value.topic == "kept:a")
          else
            assert.is_true(reader:next() == data, "message " .. i)
          end
        end
      end
      for _, reader in ipairs(readers) do
        reader:expect_nothing_queued()
      end
    end)

    it("in an envelope is a value where a table was published, a string where text was", function()
      local server = start()
      local speaker = server:websocket("/", { worker = last })
      local ws = server:websocket(query({ "kept:a", "live" }, "&envelope=1"))
      ws:fence()
      local id = publish(speaker, "kept:a", { x = { 1, 2 }, y = 'ä"' })
      ws:expect_json({ topic = "kept:a", id = id, data = { x = { 1, 2 }, y = 'ä"' } })
      id = publish(speaker, "kept:a", '{"not":"decoded"}')
      ws:expect_json({ topic = "kept:a", id = id, data = '{"not":"decoded"}' })
      publish(speaker, "live", "no id")
      ws:expect_json({ topic = "live", data = "no id" })
      id = publish(speaker, "kept:a", "named", { event = "news" })
      ws:expect_json({ topic = "kept:a", id = id, event = "news", data = "named" })
    end)

    it("of bytes stays bytes, live and replayed", function()
      local server = start([[
        app:get("/binary", function()
          perigee.publish("kept:a", "\0\255\254", { binary = true })
          perigee.publish("kept:a", ("\255"):rep(5000), { binary = true })
          perigee.publish("kept:a", "text")
          return ""
        end)
      ]])
      local live = server:websocket(query({ "kept:a" }))
      live:fence()
      server:request({ path = "/binary", worker = last })
      local late = server:websocket(query({ "kept:a" }, "&from=start"), { worker = last })
      for _, ws in ipairs({ live, late }) do
        ws:expect_binary("\0\255\254")
        ws:expect_binary(("\255"):rep(5000))
        ws:expect("text")
      end
    end)

    it(
      "is not for the one it excepts, on whichever worker, and in a replay for everybody",
      function()
        local server = start()
        local speaker = server:websocket(query({ "kept:a" }), { worker = last })
        local listener = server:websocket(query({ "kept:a" }))
        speaker:fence()
        listener:fence()
        listener:send({ id = true })
        local id = listener:next()
        publish(speaker, "kept:a", "1", nil, true)
        listener:expect("1")
        speaker:send({ publish = "kept:a", data = "2", opts = { except = id } })
        speaker:expect("2")
        listener:expect_nothing_queued()
        local late = server:websocket(query({ "kept:a" }, "&from=start"))
        late:expect("1")
        late:expect("2")
      end
    )
  end)

  describe("A publication that clears", function()
    it("leaves those who were there and those who come with the same", function()
      local server = start([[
        app:websocket("/draw", { on_message = function(conn, text)
          for i = 1, 200 do
            perigee.publish("kept:board", text .. i, { clear = i % 17 == 0 })
          end
          conn:send("drawn")
        end })
      ]])
      local speakers, readers = {}, {}
      for i = 1, 4 do
        speakers[i] = server:websocket("/draw", { worker = (i - 1) % workers + 1 })
        readers[i] = server:websocket(query({ "kept:board" }), { worker = (i - 1) % workers + 1 })
        readers[i]:fence()
      end
      for i, speaker in ipairs(speakers) do
        speaker:send("stroke of " .. i .. ": ")
      end
      -- These come while it is drawn and cleared.
      for i = 5, 30 do
        readers[i] =
          server:websocket(query({ "kept:board" }, "&from=start"), { worker = i % workers + 1 })
      end
      for _, speaker in ipairs(speakers) do
        speaker:expect("drawn", 5)
      end
      local boards = {}
      for i, reader in ipairs(readers) do
        reader:fence()
        local board = {}
        for _, message in ipairs(reader.queue) do
          if tonumber(message.payload:match("%d+$")) % 17 == 0 then
            board = {}
          end
          board[#board + 1] = message.payload
        end
        boards[i] = table.concat(board, "\n")
      end
      for i = 2, #boards do
        assert.equal(boards[1], boards[i], "reader " .. i)
      end
    end)
  end)

  describe("A signal", function()
    it("is told once to each subscriber, in order with what is published", function()
      local server = start([[
        app:websocket("/signals", {
          on_open = function(conn) conn:subscribe({ "room", "hall" }) end,
          on_signal = function(conn, data, topic) conn:send(topic .. " signal " .. data) end,
        })
        app:get("/signal", function()
          local receivers = {}
          for i = 1, 20 do
            local topic = i % 2 == 0 and "room" or "hall"
            receivers[i] = perigee.signal(topic, tostring(i))
          end
          return table.concat(receivers, " ")
        end)
      ]])
      local all = {}
      for i = 1, 4 do
        all[i] = server:websocket("/signals", { worker = (i - 1) % workers + 1 })
        all[i]:fence()
      end
      assert.equal(("4 "):rep(19) .. "4", server:request({ path = "/signal", worker = last }).body)
      for _, ws in ipairs(all) do
        for i = 1, 20 do
          ws:expect((i % 2 == 0 and "room" or "hall") .. " signal " .. i)
        end
        ws:expect_nothing_queued()
      end
    end)
  end)
end)

gateway.with_workers(describe, function(workers)
  describe("An event stream", function()
    local FEED = [[
      app:topic("kept:*", { history = 1000 })
      app:sse("/", { on_open = function(conn)
        local topics = perigee.json.decode(conn.request.query.topics)
        conn:subscribe(topics, { since = conn.request.since, from = conn.request.query.from })
      end })
      app:get("/publish/:count", function(request)
        for i = 1, tonumber(request.params.count) do
          local at = request.query.from + i - 1
          local topic = at % 5 == 4 and "live" or at % 2 == 0 and "kept:a" or "kept:b"
          perigee.publish(topic, topic .. " " .. at .. (at % 4 == 0 and ("\n" .. (" "):rep(3000)) or ""))
        end
        return ""
      end)
    ]]
    local TOPICS = '/?topics=["kept:a","kept:b","live"]'

    local function number_of(event)
      return tonumber(event.data:match("^%S+ (%d+)"))
    end

    -- What a reader who comes back with this id gets: the numbers of the events, up to `to`.
    local function resume(server, id, to, worker)
      local stream = server:sse(TOPICS, { last_event_id = id, worker = worker })
      local numbers = {}
      repeat
        local event = stream:next()
        numbers[#numbers + 1] = number_of(event)
      until numbers[#numbers] == to
      stream:close()
      return numbers
    end

    -- The events after `after` that are kept.
    local function kept(after, to)
      local numbers = {}
      for i = after + 1, to do
        if i % 5 ~= 4 then
          numbers[#numbers + 1] = i
        end
      end
      return numbers
    end

    it("may be cut anywhere: its last id gives exactly the rest, of all topics", function()
      local server = gateway.start({ app = FEED, workers = workers })
      local function publish(from, count)
        server:request({ path = ("/publish/%d?from=%d"):format(count, from), worker = workers })
      end
      publish(0, 16)
      -- One stream sees a replay of kept events, then live ones, some of which nobody keeps.
      local stream = server:sse(TOPICS .. "&from=start")
      for _, number in ipairs(kept(-1, 15)) do
        assert.equal(number, number_of(stream:next()))
      end
      publish(16, 16)
      for number = 16, 31 do
        assert.equal(number, number_of(stream:next()))
      end
      -- Cut after any block: a browser keeps the id of the last block that was whole.
      local text = stream:bytes()
      local cuts, at, id, newest = 0, 1, nil, -1
      while true do
        local from, to = text:find("\n\n", at, true)
        if not from then
          break
        end
        local block = text:sub(at, from)
        id = block:match("^id: ?([^\n]*)\n") or block:match("\nid: ?([^\n]*)\n") or id
        newest = tonumber(block:match("data: ?%S+ (%d+)")) or newest
        at = to + 1
        local rest = kept(newest, 31)
        if id and #rest > 0 then
          cuts = cuts + 1
          assert.same(rest, resume(server, id, rest[#rest], cuts % workers + 1))
        end
      end
      assert.is_true(cuts > 20)
    end)

    it("has a position before its first event, and after what others are sent", function()
      local server = gateway.start({ app = FEED, workers = workers })
      server:freeze()
      local quiet = server:sse('/?topics=["kept:b"]')
      local id = quiet:next_block().id
      assert.is_not_nil(id)
      server:request({ path = "/publish/1?from=0", worker = workers })
      server:request({ path = "/publish/1?from=1", worker = workers })
      local event = quiet:next()
      assert.equal(1, number_of(event))
      server:request({ path = "/publish/1?from=2", worker = workers })
      server:advance(15, { peers = true })
      local idle = quiet:next_block()
      assert.is_nil(idle.data)
      assert.is_not_nil(idle.id)
      assert.are_not.equal(event.id, idle.id)
      server:request({ path = "/publish/1?from=3", worker = workers })
      -- From the first id everything, from the idle one only what came later.
      assert.same({ 0, 1, 2, 3 }, resume(server, id, 3, workers))
      assert.same({ 3 }, resume(server, idle.id, 3))
    end)

    it("that joins a second topic later resumes both from one id", function()
      local server = gateway.start({
        workers = workers,
        app = FEED .. [[
          app:sse("/two", { on_open = function(conn)
            conn:subscribe("kept:a", { since = conn.request.since, from = "start" })
            conn:subscribe("kept:b", { since = conn.request.since, from = "start" })
          end })
        ]],
      })
      server:get("/publish/4?from=0")
      local stream = server:sse("/two")
      local seen = {}
      for i = 1, 4 do
        seen[i] = number_of(stream:next())
      end
      table.sort(seen)
      assert.same({ 0, 1, 2, 3 }, seen)
      local mark
      repeat
        mark = stream:expect_comment().id or mark
      until mark and #stream.blocks == 0
      server:request({ path = "/publish/3?from=5", worker = workers })
      local again = server:sse("/two", { last_event_id = mark, worker = workers })
      for _, client in ipairs({ stream, again }) do
        local numbers = {}
        for i = 1, 3 do
          numbers[i] = number_of(client:next())
        end
        table.sort(numbers)
        assert.same({ 5, 6, 7 }, numbers)
      end
    end)
  end)
end)
