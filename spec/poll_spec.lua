-- Long-polls: the same route as an event stream, asked with Accept: application/json.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local testing = require("perigee.testing")

local FEED = [[
  app:topic("feed", { history = 1000 })
  app:topic("other", { history = 1000 })
  local function join(conn)
    conn:subscribe({ "feed", "other" }, {
      since = conn.request.since, from = conn.request.query.from or "start", reset = "reset",
    })
    conn:subscribe("live")
  end
  local function left(conn, code) perigee.log.info("%s left with %d", conn.transport, code) end
  app:sse("/feed", { on_open = join, on_close = left, max_outbox = 2000, origins = { "https://a.example" } })
  app:sse("/quick", { on_open = join, on_close = left, ping_every = 5 })
  app:post("/publish/:topic", function(request)
    local data = request.query.json and request:json() or request.body
    return tostring((perigee.publish(request.params.topic, data, { event = request.query.event })))
  end)
  app:post("/burst/:count/:bytes", function(request)
    for i = 1, tonumber(request.params.count) do
      perigee.publish("feed", i .. (" "):rep(tonumber(request.params.bytes)))
    end
  return "" end)
]]

gateway.with_workers(describe, function(workers)
  local function start(more, options)
    local all = { app = FEED .. (more or ""), workers = workers, clock = "frozen" }
    for name, value in pairs(options or {}) do
      all[name] = value
    end
    return gateway.start(all)
  end

  -- Publishes on the last worker, while polls are on the first.
  local function publish(server, topic, data, query)
    local path = ("/publish/%s%s"):format(topic, query or "")
    return server:post(path, data, { worker = workers }):expect(200).body
  end

  -- How often the log has it that a connection has ended so.
  local function count_ends(server, text)
    server:settle()
    local _, count = server.log:text():gsub(text, "")
    return count
  end

  describe("A long-poll", function()
    it("is answered at once with what was missed", function()
      local server = start()
      local first = publish(server, "feed", "one")
      local second = publish(server, "other", "two", "?event=news")
      local poll = server:poll("/feed")
      assert.equal("application/json", poll.headers["content-type"])
      assert.equal("no-store", poll.headers["cache-control"])
      assert.equal(tostring(#poll.body), poll.headers["content-length"])
      assert.same({
        { topic = "feed", id = first, data = "one" },
        { topic = "other", id = second, event = "news", data = "two" },
      }, poll.events)
      assert.equal(second, poll.position)
      poll = server:poll("/feed", { since = first })
      poll:expect_event("news", "two")
      poll:expect_nothing_queued()
    end)

    it("has a table as a value, and an id only where it is kept", function()
      local server = start()
      local waiting = server:begin_poll("/feed")
      waiting:expect_nothing_queued()
      publish(server, "live", { text = "one" }, "?json=1")
      local poll = waiting:answer()
      assert.same({ { topic = "live", data = { text = "one" } } }, poll.events)
      poll:expect({ text = "one" })
    end)

    it("waits for what comes, and gives all of a turn", function()
      local server = start()
      local position = publish(server, "feed", "before")
      local waiting = server:begin_poll("/feed", { since = position })
      waiting:expect_nothing_queued()
      server:post("/burst/3/0", "", { worker = 1 }):expect(200)
      local poll = waiting:answer()
      poll:expect("1")
      poll:expect("2")
      poll:expect("3")
      poll:expect_nothing_queued()
    end)

    it("is answered without events when nothing comes, and the position stays good", function()
      local server = start()
      for path, seconds in pairs({ ["/feed"] = 15, ["/quick"] = 5 }) do
        local waiting = server:begin_poll(path .. "?from=now")
        server:advance(seconds - 1, { peers = true })
        waiting:expect_nothing_queued()
        server:advance(1, { peers = true })
        local poll = waiting:answer()
        assert.same({}, poll.events)
        publish(server, "feed", "missed")
        poll = server:poll(path, { since = poll.position })
        poll:expect("missed")
        poll:expect_nothing_queued()
        publish(server, "feed", "more")
        server:poll(path, { headers = { ["Last-Event-ID"] = poll.position } }):expect("more")
        assert.equal("more", server:poll(path .. "?last-event-id=" .. poll.position).events[1].data)
      end
    end)

    it("has what is sent to it alone, in order, without topic and id", function()
      local server = start([[
        app:sse("/mine", { on_open = function(conn)
          conn:send("hello")
          conn:subscribe("feed", { from = "start" })
          conn:send({ n = 1 }, { event = "count", retry = 3 })
          conn:send("line\nline \"quoted\" \226\130\172", { binary = true })
          local ok, _, code = conn:send("\255", { binary = true })
          conn:send(tostring(ok) .. " " .. code)
          local is_ok, problem = pcall(conn.send, conn, "x", { event = "a\nb" })
          conn:send(tostring(is_ok))
        end })
      ]])
      local position = publish(server, "feed", "one")
      local poll = server:poll("/mine")
      assert.same({
        { data = "hello" },
        { topic = "feed", id = position, data = "one" },
        { event = "count", data = { n = 1 } },
        { data = 'line\nline "quoted" \226\130\172' },
        { data = "nil utf8" },
        { data = "false" },
      }, poll.events)
      assert.equal(position, poll.position)
    end)

    it("begins with the reset where its position is not known", function()
      local server = start()
      publish(server, "feed", "one")
      for _, since in ipairs({ "foreign", "zzzzzz.9", "\255\254" }) do
        local poll = server:poll("/feed", { since = since })
        assert.same({ data = "reset" }, poll:next())
        poll:expect("one")
        poll:expect_nothing_queued()
      end
    end)

    it("has a table as reset as a value", function()
      local server = start([[
        app:sse("/table", { on_open = function(conn)
          conn:subscribe("feed", { since = "foreign", reset = { gone = true } })
        end })
      ]])
      assert.same({ { data = { gone = true } } }, server:poll("/table").events)
    end)

    it("is one of the connections that a script sees", function()
      local server = start([[
        app:sse("/seen", {
          authenticate = function(request)
            if request.query.name == "" then return nil, "who?", 401 end
            return { name = request.query.name }
          end,
          on_open = function(conn)
            conn:send(conn.transport .. " " .. conn.session.name .. " " .. tostring(conn.request.since))
          end,
          on_close = function(conn, code)
            perigee.log.info("end of %s: %d", conn.session.name, code)
          end,
        })
      ]])
      server:poll("/seen?name=ann", { since = "p" }):expect("poll ann p")
      server.log:expect("end of ann: 1000")
      assert.equal(401, server:poll("/seen?name=", { any_status = true }).status)
      assert.equal(1, count_ends(server, "end of "))
    end)

    it("is ended by its script with what is there", function()
      local server = start([[
        app:sse("/short", {
          on_open = function(conn) conn:close() end,
          on_close = function(conn, code) perigee.log.info("short left with %d", code) end,
        })
        app:sse("/later", {
          on_open = function(conn) conn:subscribe("feed") end,
          on_signal = function(conn) conn:close(4000, "enough") end,
          on_close = function(conn, code) perigee.log.info("later left with %d", code) end,
        })
        app:post("/signal", function() perigee.signal("feed", "x") return "" end)
      ]])
      assert.same({}, server:poll("/short").events)
      local waiting = server:begin_poll("/later")
      waiting:expect_nothing_queued()
      server:post("/signal", "", { worker = workers })
      assert.same({}, waiting:answer().events)
      assert.equal(1, count_ends(server, "short left with 1000"))
      assert.equal(1, count_ends(server, "later left with 4000"))
    end)

    it("has its recurring work, signals and limits as every connection has", function()
      local server = start([[
        app:sse("/ticks", {
          tick_every = 2, max_topics = 2,
          on_open = function(conn)
            local _, _, code = conn:subscribe({ "a", "b", "c" })
            conn.session.code = code
          end,
          on_tick = function(conn) conn:send("tick " .. conn.session.code) end,
        })
      ]])
      local waiting = server:begin_poll("/ticks")
      server:advance(2)
      waiting:answer():expect("tick limit")
    end)

    it("does not answer before on_open has returned, and loses nothing by it", function()
      local server = start([[
        app:sse("/slow", { ping_every = 5, max_outbox = 2000, on_open = function(conn)
          conn:subscribe("feed", { since = conn.request.since })
          conn:send("hello")
          perigee.sleep(20)
          conn:subscribe("other", { since = conn.request.since })
        end })
      ]])
      local position = publish(server, "feed", "one")
      publish(server, "other", "two")
      publish(server, "feed", "three")
      local waiting = server:begin_poll("/slow", { since = position })
      server:advance(19, { peers = true })
      publish(server, "feed", "four")
      waiting:expect_nothing_queued()
      server:advance(1, { peers = true })
      local poll = waiting:answer()
      for _, data in ipairs({ "three", "hello", "two", "four" }) do
        poll:expect(data)
      end
      poll:expect_nothing_queued()
      -- What is held back meanwhile is bounded: then the reader has to come again.
      waiting = server:begin_poll("/slow", { since = position, any_status = true })
      waiting:expect_nothing_queued()
      server:post("/burst/3/1000", "", { worker = workers })
      waiting:answer():expect(503)
    end)

    it("that fails in on_open is answered with 500, and keeps its position", function()
      local server = start([[
        app:sse("/bad", { on_open = function(conn)
          conn:subscribe("feed", { from = "start" })
          error("a mistake")
        end })
      ]])
      publish(server, "feed", "one")
      server.log:allow("a mistake")
      local answer = server:poll("/bad", { any_status = true })
      answer:expect(500, "Internal Server Error")
    end)
  end)

  describe("A long answer", function()
    it("is cut between two events, and the next one goes on there", function()
      local server = start()
      server:post("/burst/50/100", "", { worker = workers })
      local position, polls, expected = nil, 0, 1
      repeat
        local poll = server:poll("/feed", { since = position })
        assert.is_true(#poll.body < 2200)
        assert.is_true(#poll.events > 10)
        for _, event in ipairs(poll.events) do
          assert.equal(expected, tonumber(event.data))
          expected = expected + 1
        end
        position, polls = poll.position, polls + 1
        assert.equal(poll.events[#poll.events].id, position)
      until expected == 51
      assert.equal(4, polls)
      server:begin_poll("/feed", { since = position }):expect_nothing_queued()
    end)

    it("of several replays is cut at one place in the order of all topics", function()
      local server = start([[
        app:sse("/both", { max_outbox = 1000, on_open = function(conn)
          conn:subscribe("feed", { since = conn.request.since, from = "start" })
          conn:subscribe("other", { since = conn.request.since, from = "start" })
        end })
      ]])
      for i = 1, 30 do
        publish(server, i % 3 == 0 and "feed" or "other", i .. (" "):rep(50))
      end
      local position, expected = nil, 1
      while expected <= 30 do
        local poll = server:poll("/both", { since = position })
        for _, event in ipairs(poll.events) do
          assert.equal(expected, tonumber(event.data))
          expected = expected + 1
        end
        position = poll.position
      end
    end)

    it("has one event in any case", function()
      local server = start()
      server:post("/burst/3/5000", "", { worker = workers })
      local position
      for i = 1, 3 do
        local poll = server:poll("/feed", { since = position })
        assert.equal(1, #poll.events)
        assert.equal(i, tonumber(poll:next().data))
        position = poll.position
      end
      -- The same while it waits.
      local waiting = server:begin_poll("/feed", { since = position })
      waiting:expect_nothing_queued()
      server:post("/burst/3/5000", "", { worker = workers })
      for i = 1, 3 do
        local poll = waiting and waiting:answer() or server:poll("/feed", { since = position })
        assert.equal(1, #poll.events)
        assert.equal(i, tonumber(poll:next().data))
        waiting, position = nil, poll.position
      end
    end)

    it("of live publications is cut in the same way", function()
      local server = start()
      local poll = server:poll("/feed?from=now", { since = publish(server, "feed", "x") .. "z" })
      local waiting = server:begin_poll("/feed", { since = poll.position })
      waiting:expect_nothing_queued()
      server:post("/burst/50/100", "", { worker = workers })
      local expected = 1
      local answer = waiting:answer()
      repeat
        for _, event in ipairs(answer.events) do
          assert.equal(expected, tonumber(event.data))
          expected = expected + 1
        end
        answer = expected <= 50 and server:poll("/feed", { since = answer.position })
      until not answer
      assert.equal(51, expected)
    end)

    it("is taken whole by a slow reader", function()
      local server = start([[
        app:sse("/large", { on_open = function(conn)
          conn:send(("x"):rep(900000))
        end })
      ]])
      local conn = server:raw({ receive_buffer = 4096 })
      conn:write("GET /large HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
      server:settle()
      server:advance(20)
      assert.equal("x", conn:read(1000):sub(-1))
      server:advance(20)
      conn:half_close()
      server:settle()
      assert.truthy((conn:read_all()):find('"position":"[^"]+"}$'))
    end)
  end)

  describe("A reader that polls", function()
    it("gets everything once while others publish, also when it changes the transport", function()
      local server = start()
      local topics = { "feed", "other" }
      local published, came = {}, {}
      local random = 7
      local function next_random(n)
        random = (random * 1103515245 + 12345) % 2147483648
        return math.floor(random / 65536) % n
      end
      local number = 0
      local function say(count)
        for _ = 1, count do
          number = number + 1
          local path = "/publish/" .. topics[number % 2 + 1]
          server:post(path, tostring(number), { worker = number % workers + 1 }):expect(200)
          published[number] = number
        end
      end
      local position = server:poll("/feed", { since = "none" }).position
      for round = 1, 60 do
        say(next_random(3))
        local worker = round % workers + 1
        local options = { since = position, worker = worker }
        if next_random(4) == 0 then
          local stream = server:sse("/feed", { last_event_id = position, worker = worker })
          say(next_random(3))
          server:settle()
          while #came < number do
            local event = stream:next()
            came[#came + 1] = tonumber(event.data)
          end
          position = stream.last_event_id
          stream:close()
        else
          local waiting = server:begin_poll("/feed", options)
          say(1 + next_random(3))
          local poll = waiting:answer()
          for _, event in ipairs(poll.events) do
            came[#came + 1] = tonumber(event.data)
          end
          position = poll.position
        end
      end
      if #came < number then
        for _, event in ipairs(server:poll("/feed", { since = position }).events) do
          came[#came + 1] = tonumber(event.data)
        end
      end
      assert.equal(table.concat(published, " "), table.concat(came, " "))
    end)

    it("gets everything once, in one order, while all workers publish", function()
      local server = start(
        [[
        app:post("/storm/:name", function(request)
          for i = 1, 200 do
            perigee.publish(i % 2 == 0 and "feed" or "other", request.params.name .. " " .. i)
            if i % 4 == 0 then perigee.sleep(0.001) end
          end
          return ""
        end)
      ]],
        { clock = "running" }
      )
      local readers, storms = {}, {}
      for reader = 1, 2 do
        readers[reader] =
          { position = server:poll("/feed", { since = "none" }).position, came = {} }
      end
      for worker = 1, workers do
        storms[worker] =
          server:begin({ method = "POST", path = "/storm/" .. worker, worker = worker })
      end
      local total = workers * 200
      for reader, state in ipairs(readers) do
        local polls = 0
        while #state.came < total do
          local worker = (reader + polls) % workers + 1
          local poll = server:poll("/feed", { since = state.position, worker = worker })
          for _, event in ipairs(poll.events) do
            state.came[#state.came + 1] = event.data
          end
          state.position, polls = poll.position, polls + 1
        end
      end
      for _, storm in ipairs(storms) do
        storm:response():expect(200)
      end
      local next_of = {}
      for _, text in ipairs(readers[1].came) do
        local name, i = text:match("^(%d+) (%d+)$")
        assert.equal((next_of[name] or 0) + 1, tonumber(i))
        next_of[name] = tonumber(i)
      end
      assert.equal(total, #readers[1].came)
      assert.same(readers[1].came, readers[2].came)
    end)

    it("shares what WebSockets and event streams get at the same time", function()
      local server = start([[
        app:websocket("/ws", { on_open = function(conn) conn:subscribe("feed", { envelope = true }) end })
      ]])
      local ws = server:websocket("/ws", { worker = 1 })
      local stream = server:sse("/feed", { worker = 1 })
      local polls = {}
      for i = 1, 3 do
        polls[i] = server:begin_poll("/feed", { worker = 1 })
        polls[i]:expect_nothing_queued()
      end
      local position = publish(server, "feed", "one", "?event=news")
      ws:expect({ topic = "feed", id = position, event = "news", data = "one" })
      assert.equal(position, stream:expect_event("news", "one").id)
      for i = 1, 3 do
        local poll = polls[i]:answer()
        assert.equal(position, poll:expect_event("news", "one").id)
        poll:expect_nothing_queued()
      end
    end)
  end)

  describe("A long-poll's connection", function()
    it("ends with the answer, whatever the version", function()
      local server = start()
      publish(server, "feed", "one")
      for _, version in ipairs({ "1.0", "1.1" }) do
        local conn = server:raw()
        conn:write(
          ("GET /feed HTTP/%s\r\nHost: a\r\nAccept: application/json, */*\r\n\r\n"):format(version)
        )
        local answer = http.read_response(conn)
        assert.equal(1, #answer.json.events)
        assert.is_nil(answer.headers["transfer-encoding"])
        assert.equal("close", answer.headers.connection)
        conn:expect_eof()
      end
      assert.equal(2, count_ends(server, "poll left with 1000"))
    end)

    it("may follow another request, and ignores what follows it", function()
      local server = start()
      publish(server, "feed", "one")
      local conn = server:raw()
      local poll = "GET /feed HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n"
      conn:write("GET /none HTTP/1.1\r\nHost: a\r\n\r\n" .. poll .. poll)
      assert.equal(404, http.read_response(conn).status)
      assert.equal(1, #http.read_response(conn).json.events)
      conn:expect_eof()
    end)

    it("is told its end once when its peer goes", function()
      local server = start()
      for _, way in ipairs({ "close", "reset" }) do
        local waiting = server:begin_poll("/feed")
        waiting:expect_nothing_queued()
        waiting[way](waiting)
      end
      assert.equal(2, count_ends(server, "poll left with 1006"))
      assert.equal(2, count_ends(server, "poll left"))
    end)

    it("is answered when the gateway stops", function()
      local server = start()
      local waiting = server:begin_poll("/feed")
      waiting:expect_nothing_queued()
      server:signal("TERM")
      assert.same({}, waiting:answer().events)
      server:expect_exit(0)
      assert.equal(1, select(2, server.log:text():gsub("poll left with 1001", "")))
    end)

    it("goes on over a reload, with the wait of the new code", function()
      local script = 'local perigee = require("perigee") local app = perigee.app() %s return app'
      local server = gateway.start({
        script = script:format([[
          app:sse("/feed", { on_open = function(conn) conn:subscribe("feed") end })
          app:sse("/gone", { on_open = function(conn) conn:subscribe("feed") end,
            on_close = function(_, code) perigee.log.info("gone with %d", code) end })
        ]]),
        workers = workers,
        clock = "frozen",
      })
      local waiting = server:begin_poll("/feed")
      local gone = server:begin_poll("/gone")
      waiting:expect_nothing_queued()
      gone:expect_nothing_queued()
      server:edit(
        "main.lua",
        script:format([[app:sse("/feed", { ping_every = 30, on_open = function() end })]])
      )
      server:reload()
      assert.same({}, gone:answer().events)
      server.log:expect("gone with 1012")
      server:advance(29, { peers = true })
      waiting:expect_nothing_queued()
      server:advance(1, { peers = true })
      assert.same({}, waiting:answer().events)
    end)
  end)

  describe("A request for a long-poll", function()
    it("is answered to the origins listed, and only those", function()
      local server = start([[app:sse("/own", { on_open = function(conn) conn:send("x") end })]])
      publish(server, "feed", "one")
      local poll = server:poll("/feed", { origin = "https://a.example" })
      assert.equal("https://a.example", poll.headers["access-control-allow-origin"])
      assert.truthy(poll.headers.vary:lower():find("origin"))
      local refused = { origin = "https://b.example", any_status = true }
      assert.equal(403, server:poll("/feed", refused).status)
      assert.equal(403, server:poll("/own", refused).status)
      assert.is_nil(server:poll("/own").headers["access-control-allow-origin"])
    end)

    it("by HEAD is answered without waiting", function()
      local server = start()
      local answer = server:head("/feed", { headers = { Accept = "application/json" } })
      assert.equal(200, answer.status)
      assert.equal("application/json", answer.headers["content-type"])
      assert.equal(0, count_ends(server, "poll left"))
    end)

    it("is one for an event stream with any other Accept", function()
      local server = start()
      server:sse("/feed", { headers = { Accept = "*/*" } }):close()
    end)

    it("beyond the limit of connections gets 503", function()
      local server = start(nil, { arguments = { "--limit-connections", "1" } })
      local waiting = server:begin_poll("/feed")
      waiting:expect_nothing_queued()
      server.log:allow("connections")
      assert.equal(503, server:poll("/feed", { any_status = true }).status)
      waiting:close()
    end)
  end)
end)

describe("A long-poll in the spec's own process", function()
  local function start(more)
    return testing.app(
      'local perigee = require("perigee") local app = perigee.app() '
        .. FEED
        .. more
        .. " return app"
    )
  end

  it("waits and is answered as elsewhere", function()
    local app = start("")
    local waiting = app:begin_poll("/feed")
    waiting:expect_nothing_queued()
    app:post("/publish/feed", "one")
    local poll = waiting:answer()
    poll:expect("one")
    waiting = app:begin_poll("/feed", { since = poll.position })
    app:advance(15, { peers = true })
    assert.equal(poll.position, waiting:answer().position)
  end)

  it("behind answers that nobody takes is answered with 503", function()
    local app = start([[app:get("/large", function() return ("x"):rep(200000) end)]])
    local poll = "GET /feed HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n"
    app:post("/publish/feed", "one")
    local conn = app:raw({ receive_buffer = 4096 })
    conn:write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n" .. poll)
    assert.equal(200000, #http.read_response(conn).body)
    http.read_response(conn):expect(503)
    conn:expect_eof()
    conn:close()
    conn = app:raw({ receive_buffer = 4096 })
    conn:write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n" .. poll)
    conn:reset()
    app:wait_for({ connections = 0 })
    assert.is_nil(app.log:text():find("poll left"))
  end)

  it("is over when its peer goes, before the answer or in the middle of it", function()
    local app = start([[app:sse("/large", {
      on_open = function(conn) conn:send(("x"):rep(200000)) end,
      on_close = function(_, code) perigee.log.info("large left with %d", code) end,
    })]])
    local conn = app:raw({ receive_buffer = 4096 })
    conn:write("GET /large HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
    conn:reset()
    app.log:expect("large left with 1000")
    app:wait_for({ connections = 0 })
    conn = app:raw({ receive_buffer = 4096 })
    conn:write("GET /large HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
    conn:half_close()
    assert.equal(200000, #http.read_response(conn).json.events[1].data)
    conn:expect_eof()
    app:wait_for({ connections = 0 })
  end)

  it("whose reader takes nothing of the answer is given up", function()
    local app = start([[app:sse("/large", {
      on_open = function(conn) conn:send(("x"):rep(200000)) end,
    })]])
    local conn = app:raw({ receive_buffer = 4096 })
    conn:write("GET /large HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
    app:advance(29)
    conn:read(100000)
    app:advance(29)
    assert.equal(1, app:counters().connections)
    app:advance(1)
    app:wait_for({ connections = 0 })
  end)
end)
