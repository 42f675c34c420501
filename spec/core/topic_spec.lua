local pubsub = require("spec.core.pubsub_support")
local support = require("spec.core.support")

jit.off(true, true)

local lib, got = pubsub.lib, pubsub.got
local FULL, BAD_TOPIC = pubsub.FULL, pubsub.BAD_TOPIC
local KEPT = { ["*"] = { history_count = 100 } }

describe("a worker's topics", function()
  local hub

  local function open(policies, options)
    hub = pubsub.hub(options or {}, policies)
    return hub
  end

  setup(pubsub.freeze)
  after_each(function()
    if hub then
      hub:close()
    end
    hub = nil
  end)

  it("hand over in release order, across topics and workers, also to the publisher", function()
    open(nil, { worker_count = 2 })
    local here, there = hub:client(0), hub:client(1)
    hub:subscribe(here, { "a", "b" })
    hub:subscribe(there, { "b", "a" }, { tag = 7 })
    assert.same({ 0, 2, false }, { hub:publish("a", "1", { worker = 0 }) })
    hub:publish("b", "2", { worker = 1 })
    hub:publish("c", "nobody")
    hub:publish("a", "3", { worker = 1 })
    hub:publish("b", "4", { flags = pubsub.SIGNAL })
    assert.same({}, got(here))
    assert.is_false(hub:drain(0))
    assert.is_false(hub:drain(1))
    assert.same({ "1", "2", "3", "4" }, got(here))
    assert.same({ "1", "2", "3", "4" }, got(there))
    assert.equal(7, there.tag)
  end)

  it("pass over the one that a publication excepts", function()
    open(nil)
    local one, two = hub:client(), hub:client()
    hub:subscribe(one, "t")
    hub:subscribe(two, "t")
    hub:publish("t", "x", { except = one })
    hub:drain()
    assert.same({ {}, { "x" } }, { got(one), got(two) })
  end)

  it("give a new subscriber exactly what is released after subscribe returns", function()
    open(nil)
    local old, new = hub:client(), hub:client()
    hub:subscribe(old, "t")
    hub:publish("t", "before")
    hub:subscribe(new, "t")
    assert.same({ "before" }, got(old))
    hub:publish("t", "after")
    hub:drain()
    assert.same({ { "after" }, { "after" } }, { got(old), got(new) })
  end)

  it("replay up to the cut and go on live, without a gap or a duplicate", function()
    open(KEPT, { worker_count = 2 })
    local old, new = hub:client(1), hub:client(1)
    hub:subscribe(old, "t")
    for i = 1, 5 do
      hub:publish("t", "m" .. i)
    end
    local results, replay, position = hub:subscribe(new, "t", { since = 2 })
    assert.same({ { was = false, complete = true } }, results)
    assert.same({ "m3", "m4", "m5" }, replay)
    assert.equal(5, position)
    hub:publish("t", "m6")
    hub:drain(1)
    assert.same({ "m6" }, got(new))
    assert.same({ "m1", "m2", "m3", "m4", "m5", "m6" }, got(old))
  end)

  it("show in a replay what stood at the cut, whatever happens to the topic later", function()
    open(KEPT)
    for i = 1, 70 do
      hub:publish("t", "m" .. i)
    end
    local _, cut = hub:subscribe(hub:client(), "t", { from = "start", keep_cut = true })
    for i = 71, 75 do
      hub:publish("t", "m" .. i)
    end
    hub:remove("t", 69)
    hub:clear("t")
    local list = pubsub.read(cut)
    assert.same({ 69, "m1", "m70" }, { #list, list[1], list[69] })
  end)

  it("subscribe to a list at one cut, merged in release order, complete for each", function()
    open({ ["k:*"] = { history_count = 3 } })
    for i = 1, 9 do
      hub:publish("k:" .. i % 3, "m" .. i)
      hub:publish("live", "x")
    end
    hub:publish("k:0", "m10")
    local client = hub:client()
    local results, replay, position = hub:subscribe(
      client,
      { "k:0", "live", "k:1", "k:2", "k:0", "k:none" },
      { since = 2 }
    )
    local expected = { false, false, true, true, false, true }
    for i, result in ipairs(results) do
      assert.same({ was = false, complete = expected[i] }, result, i)
    end
    assert.equal("m4 m5 m7 m8", table.concat(replay, " "))
    assert.equal(10, position)
    assert.equal(5, hub:counts().subscribers)
  end)

  it("replay nothing by a since that failed, and begin where from says", function()
    open({ t = { history_count = 2 } })
    for i = 1, 5 do
      hub:publish("t", "m" .. i)
    end
    local results, replay = hub:subscribe(hub:client(), "t", { since = 1 })
    assert.same({ false, {} }, { results[1].complete, replay })
    results, replay = hub:subscribe(hub:client(), "t", { since = 1, from = "start" })
    assert.same({ false, { "m4", "m5" } }, { results[1].complete, replay })
    results, replay = hub:subscribe(hub:client(), "t", { from = 1 })
    assert.same({ true, { "m5" } }, { results[1].complete, replay })
  end)

  it("change nothing when a topic is subscribed a second time", function()
    open(KEPT)
    hub:publish("t", "m1")
    local client = hub:client()
    hub:subscribe(client, "t")
    local results, replay = hub:subscribe(client, { "t", "u" }, { from = "start" })
    assert.same({ true, false }, { results[1].was, results[2].was })
    assert.same({}, replay)
    hub:publish("t", "m2")
    hub:drain()
    assert.same({ "m2" }, got(client))
    assert.equal(2, client.subscriber.subscription_count)
  end)

  it("subscribe to all of a list or to none of it", function()
    open({ small = { max_subscribers = 1 } })
    local one, two = hub:client(), hub:client()
    hub:subscribe(one, "small")
    hub:publish("small", "x")
    assert.same({ nil, FULL }, { hub:subscribe(two, { "a", "small" }) })
    assert.same({ nil, BAD_TOPIC }, { hub:subscribe(two, { "a", "b*" }) })
    assert.same({ 1, 1 }, { hub:counts().subscribers, hub:counts().topics })
    assert.same({ "x" }, got(one))
    assert.is_true(lib.topics_find(hub.workers[0], two.subscriber, support.slice("a")) == nil)
    hub:leave(one)
    assert.is_truthy(hub:subscribe(two, { "a", "small" }))
  end)

  it("hand over what waits before somebody leaves, and nothing after", function()
    open(nil)
    local one, two = hub:client(), hub:client()
    hub:subscribe(one, { "t", "u" })
    hub:subscribe(two, "t")
    hub:publish("t", "a")
    assert.is_true(hub:unsubscribe(one, "t"))
    assert.is_false(hub:unsubscribe(one, "t"))
    hub:publish("t", "b")
    hub:publish("u", "c")
    hub:drain()
    assert.same({ { "a", "c" }, { "a", "b" } }, { got(one), got(two) })
    hub:leave(one)
    hub:leave(one)
    hub:leave(two)
    assert.equal(0, hub:counts().topics)
    hub:publish("t", "d")
    hub:drain()
    assert.same({ {}, {} }, { got(one), got(two) })
  end)

  it("keep every subscription in both indexes through a long shuffle", function()
    open(nil)
    local list, member, seed = {}, {}, 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    for i = 1, 20 do
      list[i] = hub:client()
      member[i] = {}
    end
    for step = 1, 500 do
      local i, topic = random(20), "t" .. random(4)
      if member[i][topic] then
        assert.is_true(hub:unsubscribe(list[i], topic))
      else
        hub:subscribe(list[i], topic)
      end
      member[i][topic] = not member[i][topic]
      local data = tostring(step)
      topic = "t" .. random(4)
      hub:publish(topic, data)
      hub:drain()
      for j, client in ipairs(list) do
        assert.same(member[j][topic] and { data } or {}, got(client))
      end
    end
  end)

  it("run tasks in order with publications, one at a time", function()
    open(nil)
    local client, ran = hub:client(), {}
    hub:subscribe(client, "t")
    hub:publish("t", "a")
    hub:post(0, function()
      ran[#ran + 1] = "one: " .. table.concat(client.got, " ")
    end)
    hub:publish("t", "b")
    hub:post(0, function()
      ran[#ran + 1] = "two: " .. table.concat(client.got, " ")
    end)
    assert.is_false(hub:drain())
    assert.same({ "one: a", "two: a b" }, ran)
  end)

  it("let a task subscribe, publish and drain: what waits goes to the old subscribers", function()
    open(nil)
    local old, new, ran = hub:client(), hub:client(), {}
    hub:subscribe(old, "t")
    hub:post(0, function()
      hub:publish("t", "b", { worker = 0 })
      hub:subscribe(new, "t")
      ran[#ran + 1] = "first: " .. table.concat(old.got, " ")
      hub:publish("t", "c", { worker = 0 })
      hub:drain()
      ran[#ran + 1] = "drained: " .. table.concat(old.got, " ")
      hub:publish("t", "d", { worker = 0 })
    end)
    hub:publish("t", "a")
    hub:post(0, function()
      ran[#ran + 1] = "second: " .. table.concat(old.got, " ")
    end)
    assert.is_true(hub:drain())
    assert.same({ "first: a b", "drained: a b c", "second: a b c" }, ran)
    assert.is_false(hub:drain())
    assert.same({ "a", "b", "c", "d" }, got(old))
    assert.same({ "c", "d" }, got(new))
  end)

  it("catch up without running a task", function()
    open(nil)
    local client, ran = hub:client(), {}
    hub:subscribe(client, "t")
    for i = 1, 3 do
      hub:publish("t", "m" .. i)
      hub:post(0, function()
        ran[#ran + 1] = i
      end)
    end
    lib.topics_catch_up(hub.workers[0])
    hub:publish("t", "m4")
    lib.topics_catch_up(hub.workers[0])
    assert.same({ { "m1", "m2", "m3", "m4" }, {} }, { got(client), ran })
    assert.is_true(lib.topics_has_waiting(hub.workers[0]))
    assert.is_false(hub:drain())
    assert.same({ 1, 2, 3 }, ran)
  end)

  it("stop at a deadline between two entries and go on there", function()
    open(KEPT)
    local client = hub:client()
    hub:subscribe(client, "t")
    for i = 1, 3 do
      hub:publish("t", "m" .. i)
    end
    assert.is_true(hub:drain(0, 1))
    assert.same({ "m1" }, got(client))
    assert.equal(1, hub:position())
    hub:publish("t", "m4")
    assert.is_true(hub:drain(0, 1))
    assert.equal(2, hub:position())
    assert.is_false(hub:drain())
    assert.same({ "m2", "m3", "m4" }, got(client))
    assert.equal(4, hub:position())
  end)

  describe("in the middle of a fan-out that a deadline has stopped,", function()
    local COUNT, PIECE = 2500, 1024
    local list, position

    before_each(function()
      open(KEPT)
      list = {}
      for i = 1, COUNT do
        list[i] = hub:client()
        hub:subscribe(list[i], "t")
      end
      position = hub:publish("t", "m1")
      assert.is_true(hub:drain(0, 1))
    end)

    -- Everybody has had exactly this, whose turn came when it may.
    local function all_got(messages)
      for i = 1, COUNT do
        if list[i] then
          assert.same(messages, got(list[i]), "subscriber " .. i)
        end
      end
    end

    it("some have had it and the others follow, each once", function()
      for i = 1, COUNT do
        assert.equal(i <= PIECE and 1 or 0, #list[i].got)
      end
      assert.equal(0, hub:position())
      hub:publish("t", "m2")
      assert.is_true(hub:drain(0, 1))
      assert.equal(0, #list[COUNT].got)
      assert.is_false(hub:drain())
      assert.equal(position + 1, hub:position())
      all_got({ "m1", "m2" })
    end)

    it("it ends before a watermark is taken", function()
      lib.topics_end_fan_out(hub.workers[0])
      assert.equal(position, hub:position())
      all_got({ "m1" })
      assert.is_false(hub:drain())
      lib.topics_end_fan_out(hub.workers[0])
      all_got({})
    end)

    it("it ends before somebody catches up, comes or leaves", function()
      local acts = {
        function()
          lib.topics_catch_up(hub.workers[0])
        end,
        function()
          local late = hub:client()
          hub:subscribe(late, "t")
          assert.same({}, got(late))
          hub:unsubscribe(late, "t")
        end,
        function()
          hub:unsubscribe(list[1], "t")
          assert.same({ "again" }, got(list[1]))
          list[1] = false
        end,
        function()
          -- One whose turn has come, and one whose turn has not.
          for _, i in ipairs({ 2, COUNT }) do
            hub:leave(list[i])
            assert.same({ "again" }, got(list[i]))
            list[i] = false
          end
        end,
      }
      assert.is_false(hub:drain())
      all_got({ "m1" })
      for _, act in ipairs(acts) do
        hub:publish("t", "again")
        assert.is_true(hub:drain(0, 1))
        act()
        all_got({ "again" })
        assert.is_false(hub:drain())
        all_got({})
      end
    end)
  end)

  it("have a position: everything up to it was handed over", function()
    open(KEPT, { worker_count = 2 })
    local client = hub:client(1)
    hub:subscribe(client, "t")
    hub:publish("t", "m1")
    hub:publish("other", "m2")
    assert.equal(0, hub:position(1))
    hub:drain(1)
    assert.equal(2, hub:position(1))
    hub:publish("other", "m3")
    hub:drain(1)
    assert.equal(2, hub:position(1))
    lib.topics_refresh(hub.workers[1])
    assert.equal(3, hub:position(1))
    local seen
    client.on_deliver = function()
      seen = hub:position(1)
    end
    hub:publish("t", "m4")
    hub:drain(1)
    assert.same({ 3, 4 }, { seen, hub:position(1) })
  end)

  it("join again after an overrun: nothing is missing where the history has it", function()
    open(KEPT, { max_inbox_entries = 10 })
    local both, one = hub:client(), hub:client()
    hub:subscribe(both, { "a", "b" })
    hub:subscribe(one, "b")
    local expected = {}
    for i = 1, 60 do
      hub:publish(i % 2 == 0 and "a" or "b", "m" .. i)
      expected[i] = "m" .. i
    end
    hub:drain()
    assert.same(expected, got(both))
    assert.equal(30, #got(one))
    hub:publish("b", "m61")
    hub:drain()
    assert.same({ { "m61" }, { "m61" } }, { got(both), got(one) })
  end)

  it("tell after an overrun whose topics lost something, and go on live", function()
    open({ ["kept"] = { history_count = 100 }, ["short"] = { history_count = 3 } }, {
      max_inbox_entries = 10,
    })
    local clients = {}
    for _, topic in ipairs({ "kept", "short", "live", "quiet" }) do
      clients[topic] = hub:client()
      hub:subscribe(clients[topic], topic)
    end
    for i = 1, 10 do
      hub:publish("kept", "k" .. i)
    end
    for i = 1, 5 do
      hub:publish("kept", "k" .. 10 + i)
      hub:publish("short", "s" .. i)
    end
    hub:publish("live", "l")
    local new = hub:client()
    local _, replay = hub:subscribe(new, { "short", "kept" }, { from = 1 })
    assert.same({ "k15", "s5" }, replay)
    assert.equal(15, #got(clients.kept))
    assert.same({ "LOST" }, got(clients.short))
    assert.same({ "LOST" }, got(clients.live))
    assert.same({}, got(clients.quiet))
    assert.same({}, got(new))
    for _, topic in ipairs({ "kept", "short", "live", "quiet" }) do
      hub:publish(topic, "after")
    end
    hub:drain()
    for _, topic in ipairs({ "kept", "short", "live", "quiet" }) do
      assert.same({ "after" }, got(clients[topic]))
    end
    assert.same({ "after", "after" }, got(new))
  end)

  it("do not call lost what an inbox still held when it was overrun", function()
    open({ ["kept"] = { history_count = 100 } }, { max_inbox_entries = 3 })
    local live, kept = hub:client(), hub:client()
    hub:subscribe(live, "live")
    hub:subscribe(kept, "kept")
    hub:publish("live", "l1")
    hub:publish("kept", "k1")
    hub:publish("live", "l2")
    hub:publish("kept", "k2")
    hub:drain()
    assert.same({ { "l1", "l2" }, { "k1", "k2" } }, { got(live), got(kept) })
  end)

  it("are overrun by bytes too, but an empty inbox takes any message", function()
    open(nil, { max_inbox_bytes = 1000 })
    local client = hub:client()
    hub:subscribe(client, "t")
    hub:publish("t", ("x"):rep(5000))
    assert.equal(1, hub:wakes(0))
    hub:drain()
    assert.equal(5000, #got(client)[1])
    hub:publish("t", ("x"):rep(5000))
    hub:publish("t", "y")
    hub:post(0, function() end)
    hub:drain()
    assert.same({ 2, "LOST" }, { #client.got, client.got[2] })
  end)

  it("fan out to many without anything per subscriber but the call", function()
    open(nil)
    local count, list = 300, {}
    for i = 1, count do
      list[i] = hub:client()
      hub:subscribe(list[i], "t")
    end
    local _, receivers = hub:publish("t", "x")
    assert.equal(count, receivers)
    hub:drain()
    for i = 1, count do
      assert.same({ "x" }, got(list[i]))
    end
    assert.equal(1, tonumber(hub.workers[0].topic_count))
    assert.equal(count, tonumber(hub.workers[0].subscription_count))
  end)
end)
