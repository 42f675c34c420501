-- Limits of memory: what waits for a slow reader, for a busy worker, behind a suspended handler,
-- and what topics keep. Who is cut off is told where, and comes back for exactly the rest.
local gateway = require("spec.support.gateway")
local websocket = require("perigee.testing.websocket")

-- Sizes that no boundary of the gateway's buffers is spared by, the same in every run.
local function sizes(sequence)
  local state = 12345
  return function()
    -- Park and Miller's: every product is exact in a number.
    state = state * 16807 % 2147483647
    return sequence[state % #sequence + 1]
  end
end

-- Publication `i`, which says who it is and how long.
local function text_of(i, size)
  local head = i .. ":"
  return head .. ("x"):rep(size - #head)
end

local FLOOD = [[
  app:topic("kept:*", { history = 100000, bytes = 256 * 1024 * 1024 })
  app:websocket("/read", {
    max_outbox = 128 * 1024,
    on_open = function(conn)
      local query = conn.request.query
      local topics = perigee.json.decode(query.topics)
      local result = conn:subscribe(topics, {
        since = query.since, from = query.from, envelope = query.envelope ~= nil,
      })
      for _, each in ipairs(result) do
        if not each.complete then conn:send("incomplete: " .. each.topic) end
      end
    end,
  })
  app:sse("/stream", {
    max_outbox = 128 * 1024,
    on_open = function(conn)
      local query = conn.request.query
      conn:subscribe(perigee.json.decode(query.topics), { since = conn.request.since, from = query.from })
    end,
  })
  app:websocket("/speak", {
    max_message = 1024 * 1024,
    on_message = function(conn, text)
      for topic, i, size in text:gmatch("(%S+) (%d+) (%d+)") do
        local head = i .. ":"
        perigee.publish(topic, head .. ("x"):rep(size - #head))
      end
    end,
  })
]]

-- What a reader that takes nothing is sent at a time until it is cut off: how much a kernel takes
-- on its behalf differs.
local STEP_BYTES, MOST_BYTES = 1024 * 1024, 64 * 1024 * 1024

local function drain_to_close(ws)
  ws:resume()
  ws:wait_until(function()
    return ws.closed ~= nil
  end, "1013", 10)
  assert.equal(1013, ws.closed.code)
  return ws.closed.reason
end

gateway.with_workers(describe, function(workers)
  describe("A reader that is too slow", function()
    -- Publishes until far more waits than kernel and outbox take, to a reader that takes nothing.
    -- Returns what was published in order, and the reader.
    local function flood(sequence, opts)
      local server =
        gateway.start({ workers = workers, app = FLOOD, arguments = { "--log-level", "debug" } })
      local query = "?topics=" .. (opts.topics or '["kept:a"]') .. (opts.query or "")
      local reading = { worker = workers, receive_buffer = 4096, version = opts.version }
      local speaker = server:websocket("/speak")
      local published, next_size, total = {}, sizes(sequence), 0
      local function publish(bytes)
        local limit, lines = total + bytes, {}
        while total < limit do
          local i, size = #published + 1, next_size()
          local topic = opts.topic_of and opts.topic_of(i) or "kept:a"
          published[i] = text_of(i, size)
          lines[#lines + 1] = ("%s %d %d"):format(topic, i, size)
          total = total + size
          if #lines == 50 or total >= limit then
            speaker:send(table.concat(lines, " "))
            lines = {}
          end
        end
        speaker:fence(10)
        server:settle() -- the reader's worker too has had all of it
      end
      if opts.before then
        publish(opts.before)
      end
      local slow
      if opts.is_stream then
        slow = server:sse("/stream" .. query, reading)
        slow:next_block()
      else
        slow = server:websocket("/read" .. query, reading)
        if not opts.before then
          slow:fence()
        end
        slow:pause()
      end
      repeat
        publish(STEP_BYTES)
        assert.is_true(total < MOST_BYTES, "nobody was cut off")
      until server.log:text():find("reads too slowly", 1, true)
      return server, published, slow
    end

    -- The same, until the reader is cut off. Returns also how much came, and the position of the
    -- close frame.
    local function cut_off(sequence, opts)
      local server, published, slow = flood(sequence, opts or {})
      local position = drain_to_close(slow)
      return server, published, slow.queue, position
    end

    local function judge(server, published, came, position)
      for i, message in ipairs(came) do
        assert.is_true(message.payload == published[i], "message " .. i)
      end
      assert.is_true(#came < #published)
      local again = server:websocket('/read?topics=["kept:a"]&since=' .. position, { worker = 1 })
      for i = #came + 1, #published do
        again:expect(published[i], 10)
      end
      again:expect_nothing_queued()
    end

    it("gets 1013 with its position, and the rest when it comes back", function()
      judge(cut_off({ 100, 1000, 3000 }))
    end)

    it("does so among messages that are not copied", function()
      judge(cut_off({ 5000, 10000, 70000 }))
    end)

    it("does so among messages of all sizes", function()
      judge(cut_off({ 10, 125, 126, 4090, 4096, 4097, 65535, 65536, 100000 }))
    end)

    it("does so in the middle of a replay", function()
      judge(cut_off({ 20, 900, 5000, 66000 }, { before = 6 * STEP_BYTES, query = "&from=start" }))
    end)

    it("does so though another topic of its is live only", function()
      local function topic_of(i)
        return i % 3 == 0 and "live" or "kept:a"
      end
      local server, published, came, position = cut_off(
        { 50, 3000, 9000 },
        { topics = '["kept:a","live"]', topic_of = topic_of }
      )
      for i, message in ipairs(came) do
        assert.is_true(message.payload == published[i], "message " .. i)
      end
      local again = server:websocket('/read?topics=["kept:a"]&since=' .. position)
      for i = #came + 1, #published do
        if topic_of(i) == "kept:a" then
          again:expect(published[i], 10)
        end
      end
      again:expect_nothing_queued()
    end)

    for name, case in pairs({
      ["of an event stream finds the rest behind its last id"] = {},
      ["finds it over HTTP/1.0"] = { version = "1.0" },
      ["finds it when cut off in a replay"] = { before = 6 * STEP_BYTES, query = "&from=start" },
    }) do
      it(name, function()
        case.is_stream = true
        local server, published, stream = flood({ 30, 700, 4000, 20000 }, case)
        local i = 0
        while true do
          -- It raises where the stream ends.
          local is_more, event = pcall(stream.next, stream, 5)
          if not is_more then
            break
          end
          i = i + 1
          assert.is_true(event.data == published[i], "event " .. i)
        end
        stream:expect_close()
        assert.is_true(i < #published)
        -- A watermark behind the last event is as good.
        local again =
          server:sse('/stream?topics=["kept:a"]', { last_event_id = stream.last_event_id })
        for n = i + 1, #published do
          assert.is_true(again:next(5).data == published[n], "event " .. n)
        end
      end)
    end

    it("has its envelopes' last id as the position, or a later one", function()
      local server, published, came, position = cut_off({ 500, 6000 }, { query = "&envelope=1" })
      local last = came[#came].payload
      assert.truthy(last:find('"id":"' .. position .. '"', 1, true), last:sub(1, 200))
      local again = server:websocket('/read?topics=["kept:a"]&since=' .. position)
      for i = #came + 1, #published do
        again:expect(published[i], 10)
      end
      again:expect_nothing_queued()
    end)
  end)
end)

describe("The soft limit of an outbox", function()
  local APP = [[
    local asked = 0
    app:topic("kept", { history = 100000, bytes = 256 * 1024 * 1024 })
    app:websocket("/", {
      max_outbox = 32 * 1024 * 1024,
      on_message = function(conn, text)
        for i = 1, tonumber(text) do conn:send(("x"):rep(10000)) end
        if text == "600" then
          asked = asked + 1
          perigee.log.info("asked " .. asked)
        end
      end,
      on_drain = function(conn) perigee.log.info("drained") conn:send("drained") end,
    })
    app:sse("/replay", { on_open = function(conn) conn:subscribe("kept", { from = "start" }) end })
    app:get("/fill", function()
      for i = 1, 2000 do perigee.publish("kept", ("x"):rep(10000)) end
      return "filled"
    end)
  ]]

  it("tells on_drain when the reader has caught up, once, and nobody who was not above", function()
    local server =
      gateway.start({ app = APP, arguments = { "--limit-outbox-soft-bytes", "65536" } })
    local ws = server:websocket("/", { receive_buffer = 4096 })
    ws:send("5")
    for _ = 1, 5 do
      ws:expect(("x"):rep(10000))
    end
    ws:expect_nothing_queued()
    for round = 1, 2 do
      ws:pause()
      ws:send("600")
      server.log:expect("asked " .. round)
      -- Answered when the turn has flushed: what the kernel does not take is in the outbox.
      server:counters()
      assert.equal(round - 1, select(2, server.log:text():gsub("drained", "")))
      ws:resume()
      for _ = 1, 600 do
        ws:expect(("x"):rep(10000), 10)
      end
      ws:expect("drained")
      ws:expect_nothing_queued()
    end
  end)

  it("paces a replay: what a slow reader has not taken is not encoded yet", function()
    local server = gateway.start({ app = APP })
    assert.equal("filled", server:get("/fill").body)
    local stream = server:sse("/replay", { receive_buffer = 4096 })
    local counters = server:counters()
    assert.equal(2000, counters.history_messages)
    assert.is_true(counters.blocks < 20, counters.blocks .. " blocks")
    for _ = 1, 2000 do
      stream:next(10)
    end
    server:get("/fill")
  end)
end)

describe("An inbox", function()
  -- Worker 2 is kept busy by a handler that does not return until worker 1 says so.
  local APP = [[
    local shared = perigee.shared("inbox")
    app:topic("kept:*", { history = 1000 })
    app:topic("short", { history = 20 })
    app:websocket("/read", { max_topics = 10, on_open = function(conn)
      local query = conn.request.query
      local results = conn:subscribe(perigee.json.decode(query.topics), { since = query.since })
      for _, each in ipairs(results) do
        if not each.complete then conn:send("incomplete: " .. each.topic) end
      end
      conn:send("listening")
    end })
    app:websocket("/spin", { on_message = function(conn)
      perigee.log.info("spinning")
      while not shared:get("go") do end
      shared:delete("go")
      conn:send("spun")
    end })
    app:websocket("/speak", { on_message = function(conn, text)
      local count, size, topics = text:match("(%d+) (%d+) (.*)")
      for i = 1, count do
        for topic in topics:gmatch("%S+") do
          perigee.publish(topic, topic .. " " .. i .. (" "):rep(size))
        end
      end
      shared:set("go", true)
      conn:send("spoken")
    end })
  ]]

  local function start(...)
    local server = gateway.start({ app = APP, workers = 2, arguments = { ... } })
    return server, server:websocket("/spin", { worker = 2 }), server:websocket("/speak")
  end

  local function read(server, topics, since)
    local ws = server:websocket("/read?topics=" .. topics .. (since and "&since=" .. since or ""), {
      worker = 2,
    })
    return ws
  end

  local function overrun(server, spinner, speaker, count, size, topics)
    spinner:send("spin")
    server.log:expect("spinning")
    speaker:send(("%d %d %s"):format(count, size, topics))
    speaker:expect("spoken", 5)
    spinner:expect("spun", 5)
  end

  local function expect_all(ws, topics, from, to, size)
    for i = from, to do
      for _, topic in ipairs(topics) do
        ws:expect(topic .. " " .. i .. (" "):rep(size), 5)
      end
    end
  end

  for name, case in pairs({
    entries = { arguments = { "--limit-inbox-entries", "16" }, count = 100, size = 0 },
    bytes = { arguments = { "--limit-inbox-bytes", "65536" }, count = 100, size = 5000 },
  }) do
    it("of a busy worker has a limit of " .. name .. ", and histories make up for it", function()
      local server, spinner, speaker = start(unpack(case.arguments))
      local one = read(server, '["kept:a"]')
      local both = read(server, '["kept:a","kept:b"]')
      one:expect("listening")
      both:expect("listening")
      overrun(server, spinner, speaker, case.count, case.size, "kept:a kept:b")
      expect_all(one, { "kept:a" }, 1, case.count, case.size)
      expect_all(both, { "kept:a", "kept:b" }, 1, case.count, case.size)
      one:expect_nothing_queued()
      both:expect_nothing_queued()
      -- And it goes on as before.
      speaker:send("3 0 kept:a")
      expect_all(one, { "kept:a" }, 1, 3, 0)
      expect_all(both, { "kept:a" }, 1, 3, 0)
    end)
  end

  it("that lost what cannot be made up for closes with 1013", function()
    local server, spinner, speaker = start("--limit-inbox-entries", "16")
    local live, short = read(server, '["live"]'), read(server, '["short"]')
    local kept = read(server, '["kept:a"]')
    live:expect("listening")
    short:expect("listening")
    kept:expect("listening")
    overrun(server, spinner, speaker, 50, 0, "live short kept:a")
    expect_all(kept, { "kept:a" }, 1, 50, 0)
    for name, ws in pairs({ live = live, short = short }) do
      ws:wait_until(function()
        return ws.closed ~= nil
      end, "1013")
      assert.equal(1013, ws.closed.code)
      for i, message in ipairs(ws.queue) do
        assert.equal(name .. " " .. i, message.payload)
      end
    end
  end)

  it("lets one who lost something come back for what is kept", function()
    local server, spinner, speaker = start("--limit-inbox-entries", "16")
    local mixed = read(server, '["live","kept:a"]')
    mixed:expect("listening")
    overrun(server, spinner, speaker, 50, 0, "live kept:a")
    mixed:wait_until(function()
      return mixed.closed ~= nil
    end, "1013")
    local seen = 0
    for _, message in ipairs(mixed.queue) do
      local i = message.payload:match("^kept:a (%d+)$")
      if i then
        seen = seen + 1
        assert.equal(seen, tonumber(i))
      end
    end
    local again = read(server, '["live","kept:a"]', mixed.closed.reason)
    -- A live-only topic promises nothing, and says so to whoever asks.
    local rest = {}
    for i = seen + 1, 50 do
      rest[#rest + 1] = "kept:a " .. i
    end
    local got = {}
    repeat
      local text = again:next()
      if text:find("^kept") then
        got[#got + 1] = text
      end
    until #got == #rest
    assert.same(rest, got)
  end)

  it("takes a burst that the worker itself publishes", function()
    local server, _, speaker = start("--limit-inbox-entries", "16")
    local ws = server:websocket('/read?topics=["kept:a"]')
    ws:expect("listening")
    speaker:send("200 0 kept:a")
    expect_all(ws, { "kept:a" }, 1, 200, 0)
    ws:expect_nothing_queued()
  end)
end)

describe("All histories together", function()
  it("keep to one limit: the topic published to longest ago gives way", function()
    local server = gateway.start({
      workers = 2,
      arguments = { "--limit-history-bytes", "65536" },
      app = [[
        app:topic("kept:*", { history = 1000 })
        app:get("/publish/:topic/:count", function(request)
          local position
          for i = 1, tonumber(request.params.count) do
            position = perigee.publish("kept:" .. request.params.topic, ("x"):rep(1000))
          end
          return position
        end)
        app:get("/history/:topic", function(request)
          local list, _, complete =
            perigee.history("kept:" .. request.params.topic, { since = request.query.since })
          return #list .. " " .. tostring(complete)
        end)
      ]],
    })
    local function get(path)
      return server:request({ path = path, worker = 2 }).body
    end
    local first = server:get("/publish/a/1").body
    server:get("/publish/a/19")
    server:get("/publish/b/20")
    assert.equal("19 true", get("/history/a?since=" .. first))
    server:get("/publish/c/30")
    assert.is_true(server:counters().history_bytes <= 65536)
    assert.equal("30 true", get("/history/c"))
    assert.equal("20 true", get("/history/b"))
    local left, complete = get("/history/a?since=" .. first):match("^(%d+) (%S+)$")
    assert.is_true(tonumber(left) < 19)
    assert.equal("false", complete)
    for _ = 1, 10 do
      server:get("/publish/a/10")
      local counters = server:counters()
      assert.is_true(counters.history_bytes <= 65536)
    end
    assert.equal("0 true", get("/history/b"))
  end)
end)

describe("What waits behind a suspended handler", function()
  local APP = [[
    local held
    app:websocket("/", {
      max_message = 100000,
      on_open = function(conn) conn:subscribe("signals") held = conn end,
      on_message = function(conn, data)
        if data:find("^sleep") then perigee.sleep(1) end
        conn:send(data)
      end,
      on_signal = function(conn, data) conn:send("signal " .. data) end,
      on_close = function(conn, code) perigee.log.info("closed with " .. code) end,
    })
    app:post("/signal", function(request) perigee.signal("signals", request.body) return "" end)
    app:get("/close", function() held:close(4000, "enough") return "" end)
  ]]

  it("is bounded by its bytes: reading pauses, nothing is lost, order is kept", function()
    local server = gateway.start({ app = APP, arguments = { "--limit-suspended-bytes", "1024" } })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("sleep")
    local texts = {}
    local next_size = sizes({ 10, 200, 700, 1024, 3000, 90000 })
    for i = 1, 100 do
      texts[i] = text_of(i, next_size())
      ws:send(texts[i])
    end
    server:advance(1)
    ws:expect("sleep")
    for i = 1, 100 do
      ws:expect(texts[i])
    end
    ws:expect_nothing_queued()
  end)

  it("keeps its order through one suspension after another", function()
    local server = gateway.start({ app = APP, arguments = { "--limit-suspended-events", "3" } })
    server:freeze()
    local ws = server:websocket("/")
    for i = 1, 30 do
      ws:send((i % 3 == 0 and "sleep " or "") .. i)
    end
    server:advance(12)
    for i = 1, 30 do
      ws:expect((i % 3 == 0 and "sleep " or "") .. i)
    end
    ws:expect_nothing_queued()
  end)

  it("does not count as idleness", function()
    local server = gateway.start({
      arguments = { "--limit-suspended-events", "3" },
      app = [[
        app:websocket("/", { idle_timeout = 5, ping_every = 2, on_message = function(conn, data)
          if data == "1" then perigee.sleep(60) end
          conn:send(data)
        end })
      ]],
    })
    server:freeze()
    local ws = server:websocket("/")
    for i = 1, 10 do
      ws:send(tostring(i))
    end
    server:advance(60, { peers = true })
    for i = 1, 10 do
      ws:expect(tostring(i))
    end
  end)

  -- A handler that sleeps, and in the same packet more messages than may wait.
  local function burst(...)
    local parts = { websocket.frame({ payload = "sleep" }) }
    for i = 1, 10 do
      parts[#parts + 1] = websocket.frame({ payload = tostring(i) })
    end
    return table.concat(parts) .. table.concat({ ... })
  end

  it("does not hide a close frame that came before ours", function()
    local server = gateway.start({ app = APP, arguments = { "--limit-suspended-events", "3" } })
    server:freeze()
    local ws = server:websocket("/", { auto_close = false })
    local close = websocket.close_payload(1000)
    ws:send_raw(burst(websocket.frame({ opcode = "close", payload = close })))
    server:wait_for({ tasks = 1 })
    server:get("/close")
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "the close frame")
    -- No time passes: both close frames are through, and that is the end.
    ws.conn:expect_eof()
    server.log:expect("closed with")
  end)

  it("does not hide the answer to our close frame", function()
    local server = gateway.start({ app = APP, arguments = { "--limit-suspended-events", "3" } })
    server:freeze()
    local ws = server:websocket("/", { auto_close = false })
    -- The packet ends in the middle of a frame.
    local frame = websocket.frame({ payload = ("y"):rep(200) })
    ws:send_raw(burst(frame:sub(1, 100)))
    server:wait_for({ tasks = 1 })
    server:get("/close")
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "the close frame")
    ws:send_raw(frame:sub(101))
    ws:send_close(4000)
    ws.conn:expect_eof()
    server.log:expect("closed with 4000")
  end)

  it("ends with the connection, whatever else was waiting", function()
    local server = gateway.start({ app = APP })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("sleep 1")
    ws:send("sleep 2")
    ws:send("sleep 3")
    server:wait_for({ tasks = 1 })
    ws:close()
    server:wait_for({ connections = 0 })
    server.log:expect("closed with 1000")
  end)

  it("is bounded in signals as in messages", function()
    local server = gateway.start({
      app = APP,
      arguments = { "--limit-suspended-events", "1000", "--limit-suspended-bytes", "4096" },
    })
    server:freeze()
    local ws = server:websocket("/")
    ws:send("sleep")
    server:wait_for({ tasks = 1 })
    for _ = 1, 100 do
      server:request({ method = "POST", path = "/signal", body = ("s"):rep(1000) })
    end
    server:advance(1)
    ws:expect("sleep")
    ws:fence()
    assert.is_true(#ws.queue <= 5, #ws.queue .. " signals waited")
  end)
end)
