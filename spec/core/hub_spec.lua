local pubsub = require("spec.core.pubsub_support")
local support = require("spec.core.support")
local ffi = require("ffi")

jit.off(true, true)

local lib = pubsub.lib
local FULL, LIMIT, BAD_TOPIC = pubsub.FULL, pubsub.LIMIT, pubsub.BAD_TOPIC
local CLEAR, TRANSIENT, SIGNAL = pubsub.CLEAR, pubsub.TRANSIENT, pubsub.SIGNAL

describe("the hub", function()
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

  --- All that is kept of a topic, as one string.
  local function kept(topic)
    return table.concat(hub:history(topic, { from = "start" }), " ")
  end

  local function is_complete(topic, since)
    local _, complete = hub:history(topic, { since = since })
    return complete
  end

  it("takes topic names of 1 to 255 bytes of UTF-8 without controls and stars", function()
    for _, name in ipairs({ "a", "room:1", "höh", "\228\184\173", ("a"):rep(255), " ", "\194\160" }) do
      assert.is_true(lib.hub_topic_name_is_valid(support.slice(name)), name)
    end
    local bad =
      { "", ("a"):rep(256), "a*", "*", "a\nb", "a\0", "\127", "\255", "a\195", "\194\133" }
    for _, name in ipairs(bad) do
      assert.is_false(lib.hub_topic_name_is_valid(support.slice(name)), name)
    end
    open()
    assert.same({ nil, BAD_TOPIC }, { hub:publish("a*", "x") })
  end)

  it("numbers what it keeps and nothing else", function()
    open({ kept = { history_count = 10 } })
    assert.same({ 1, 0, true }, { hub:publish("kept", "a") })
    assert.same({ 1, 0, false }, { hub:publish("live", "b") })
    assert.same({ 1, 0, false }, { hub:publish("kept", "c", { flags = TRANSIENT }) })
    assert.same({ 1, 0, false }, { hub:publish("kept", "d", { flags = SIGNAL }) })
    assert.same({ 2, 0, true }, { hub:publish("kept", "e") })
    assert.equal("a e", kept("kept"))
    assert.equal(5, hub:counts().releases)
    assert.equal(1, hub:counts().topics)
  end)

  it("keeps the newest, and is complete from where nothing was lost", function()
    open({ t = { history_count = 3 } })
    for i = 1, 5 do
      hub:publish("t", "m" .. i)
    end
    assert.equal("m3 m4 m5", kept("t"))
    assert.same({ { "m4", "m5" }, true, 5 }, { hub:history("t", { since = 3 }) })
    assert.same({ { "m3", "m4", "m5" }, true, 5 }, { hub:history("t", { since = 2 }) })
    assert.same({ {}, false, 5 }, { hub:history("t", { since = 1 }) })
    assert.same({ {}, true, 5 }, { hub:history("t", { since = 5 }) })
    assert.same({ {}, false, 5 }, { hub:history("t", { since = 6 }) })
    assert.same({ {}, false, 5 }, { hub:history("t", { foreign = true }) })
    assert.same({ { "m5" }, false, 5 }, { hub:history("t", { foreign = true, from = 1 }) })
    assert.same({ { "m4", "m5" }, true, 5 }, { hub:history("t", { from = 2 }) })
    assert.same({ {}, true, 5 }, { hub:history("t") })
    assert.same({ {}, true, 5 }, { hub:history("t", { from = 0 }) })
    assert.same({ {}, false, 5 }, { hub:history("live", { since = 5 }) })
    assert.same({ {}, true, 5 }, { hub:history("live") })
  end)

  it("keeps as many bytes as the policy says", function()
    local message = lib.message_new(support.slice(""), support.slice(("x"):rep(1000)), 0)
    local cost = tonumber(lib.message_cost_bytes(message))
    lib.message_release(message)
    open({ t = { history_count = 100, history_bytes = 3 * cost } })
    for i = 1, 5 do
      hub:publish("t", tostring(i):rep(1000))
    end
    local counts = hub:counts()
    assert.same({ 3, 3 * cost }, { counts.messages, counts.bytes })
    assert.is_true(is_complete("t", 2))
    assert.is_false(is_complete("t", 1))
    -- One that can never fit is lost at once, with all before it.
    assert.same({ 6, 0, true }, { hub:publish("t", ("y"):rep(3 * cost)) })
    assert.equal("", kept("t"))
    assert.is_false(is_complete("t", 5))
    assert.is_true(is_complete("t", 6))
    assert.equal(0, hub:counts().bytes)
  end)

  it("refuses without any effect where the policy says so, and clear makes the room", function()
    open({ t = { history_count = 2, refuse_when_full = true } })
    hub:publish("t", "a")
    hub:publish("t", "b")
    local before = hub:counts()
    assert.same({ nil, FULL }, { hub:publish("t", "c") })
    assert.same(before, hub:counts())
    assert.equal("a b", kept("t"))
    assert.same({ 2, 0, false }, { hub:publish("t", "live", { flags = TRANSIENT }) })
    assert.same({ 3, 0, true }, { hub:publish("t", "d", { flags = CLEAR }) })
    assert.equal("d", kept("t"))
  end)

  it("refuses by bytes too, also the first publication of a topic", function()
    open({ t = { history_count = 9, history_bytes = 1000, refuse_when_full = true } })
    assert.same({ nil, FULL }, { hub:publish("t", ("x"):rep(1000)) })
    assert.equal(0, hub:counts().topics)
    hub:publish("t", ("x"):rep(500))
    assert.same({ nil, FULL }, { hub:publish("t", ("x"):rep(500)) })
    assert.same({ nil, FULL }, { hub:publish("t", ("x"):rep(1000), { flags = CLEAR }) })
    assert.same({ 2, 0, true }, { hub:publish("t", ("x"):rep(500), { flags = CLEAR }) })
  end)

  it("takes a number for a clear, so that older positions are incomplete", function()
    open({ ["*"] = { history_count = 10 } })
    hub:publish("t", "a")
    assert.equal(2, hub:clear("t"))
    assert.equal("", kept("t"))
    assert.is_false(is_complete("t", 1))
    assert.is_true(is_complete("t", 2))
    assert.equal(0, hub:counts().topics)
    -- Of a topic that does not exist as well.
    assert.equal(3, hub:clear("other"))
    assert.is_false(is_complete("other", 2))
    assert.is_true(is_complete("t", 2))
  end)

  it("empties and publishes in one step, and is complete where nothing was lost", function()
    open({ t = { history_count = 10 } })
    hub:publish("t", "a")
    hub:publish("t", "b")
    assert.equal(3, (hub:publish("t", "c", { flags = CLEAR })))
    assert.equal("c", kept("t"))
    assert.is_false(is_complete("t", 1))
    assert.same({ { "c" }, true, 3 }, { hub:history("t", { since = 2 }) })
    -- What is not kept cannot tell of the clear later, so the clear takes a number.
    assert.equal(4, (hub:publish("t", "gone", { flags = CLEAR + TRANSIENT })))
    assert.equal("", kept("t"))
    assert.is_false(is_complete("t", 3))
    assert.is_true(is_complete("t", 4))
  end)

  it("removes one publication, which replays pass over and nobody misses", function()
    open({ t = { history_count = 3 } })
    for i = 1, 3 do
      hub:publish("t", "m" .. i)
    end
    assert.is_true(hub:remove("t", 2))
    assert.is_false(hub:remove("t", 2))
    assert.is_false(hub:remove("t", 9))
    assert.is_false(hub:remove("t", 0))
    assert.is_false(hub:remove("other", 1))
    assert.equal("m1 m3", kept("t"))
    assert.same({ { "m3" }, true, 3 }, { hub:history("t", { since = 1 }) })
    assert.same({ { "m1", "m3" }, true, 3 }, { hub:history("t", { since = 0 }) })
    hub:publish("t", "m4")
    assert.equal("m1 m3 m4", kept("t"))
    assert.is_true(is_complete("t", 0))
    for _, number in ipairs({ 1, 3, 4 }) do
      assert.is_true(hub:remove("t", number))
    end
    assert.equal(0, hub:counts().topics)
    assert.is_true(is_complete("t", 0))
  end)

  it("gives memory back when all behind an old message is removed again and again", function()
    open({ t = { history_count = 10 } })
    hub:publish("t", "old")
    local before = tonumber(lib.message_count())
    for _ = 1, 1000 do
      assert.is_true(hub:remove("t", (hub:publish("t", "x"))))
    end
    assert.is_true(tonumber(lib.message_count()) - before <= 128)
    assert.equal("old", kept("t"))
  end)

  it("does not keep large messages alive after they are dropped", function()
    open({ t = { history_count = 1 } })
    for _ = 1, 20 do
      hub:publish("t", ("x"):rep(20000))
    end
    assert.equal(1, tonumber(lib.message_count()) - tonumber(hub.before))
  end)

  it("drops by age, exactly", function()
    open({ t = { history_count = 10, age_ms = 1000 } })
    hub:publish("t", "a")
    pubsub.advance(500)
    hub:publish("t", "b")
    pubsub.advance(499)
    assert.equal("a b", kept("t"))
    pubsub.advance(1)
    assert.equal("b", kept("t"))
    assert.is_false(is_complete("t", 0))
    assert.is_true(is_complete("t", 1))
    pubsub.advance(500)
    assert.equal("", kept("t"))
    assert.is_false(is_complete("t", 1))
    assert.is_true(is_complete("t", 2))
    assert.equal(0, hub:counts().topics)
  end)

  it("forgets a topic when its linger is over, exactly, and remembers what was lost", function()
    open({ t = { history_count = 10, linger_ms = 60000 } })
    hub:publish("t", "a")
    pubsub.advance(30000)
    hub:publish("t", "b") -- it never had a subscriber: the last publication counts
    pubsub.advance(59999)
    assert.equal("a b", kept("t"))
    pubsub.advance(1)
    assert.equal("", kept("t"))
    assert.is_false(is_complete("t", 1))
    assert.is_true(is_complete("t", 2))

    hub:publish("t", "c")
    local client = hub:client()
    hub:subscribe(client, "t")
    pubsub.advance(100000)
    hub:unsubscribe(client, "t")
    pubsub.advance(59999)
    hub:publish("t", "d") -- it had one: the end of that counts
    assert.equal("c d", kept("t"))
    hub:subscribe(client, "t")
    hub:unsubscribe(client, "t")
    pubsub.advance(59999)
    hub:publish("t", "e")
    assert.equal("c d e", kept("t"))
    pubsub.advance(1)
    hub:publish("t", "f")
    assert.same({ { "f" }, false, 6 }, { hub:history("t", { since = 4, from = "start" }) })
  end)

  it("sweeps what nobody touches", function()
    open({
      ["old:*"] = { history_count = 5, age_ms = 1000 },
      ["left:*"] = { history_count = 5, linger_ms = 1000 },
      ["stays:*"] = { history_count = 5 },
    })
    for i = 1, 300 do
      hub:publish("old:" .. i, "x")
      hub:publish("left:" .. i, "x")
    end
    hub:publish("stays:1", "x")
    lib.hub_sweep(hub.hub)
    assert.equal(601, hub:counts().topics)
    pubsub.advance(1000)
    lib.hub_sweep(hub.hub)
    assert.same({ 1, 1 }, { hub:counts().topics, hub:counts().messages })
    lib.hub_sweep(hub.hub)
  end)

  it("keeps marks to a limit and claims nothing below what it forgot", function()
    open({ ["*"] = { history_count = 5 } }, { max_marks = 2 })
    for i = 1, 3 do
      hub:publish("t" .. i, "x") -- numbers 1, 3, 5
      hub:clear("t" .. i) -- numbers 2, 4, 6
    end
    assert.is_false(is_complete("never", 1))
    assert.is_true(is_complete("never", 2))
    assert.is_true(is_complete("t1", 2))
    assert.is_false(is_complete("t2", 3))
    assert.is_true(is_complete("t2", 4))
    assert.is_false(is_complete("t3", 5))
  end)

  it("bounds all histories together: who was quiet longest gives first", function()
    open({ ["*"] = { history_count = 100 } }, { max_history_bytes = 9500 })
    hub:publish("a", ("x"):rep(3000))
    hub:publish("b", ("x"):rep(3000))
    hub:publish("a", "y")
    hub:publish("c", ("x"):rep(3000))
    hub:publish("c", ("x"):rep(100))
    assert.is_true(kept("b") == "")
    assert.is_false(is_complete("b", 1))
    assert.is_true(is_complete("b", 2))
    assert.is_true(#kept("a") > 3000)
    assert.is_true(hub:counts().bytes <= 9500)
    -- One that could only push out everything takes nobody with it but its own topic.
    hub:publish("c", ("x"):rep(20000))
    assert.is_true(#kept("a") > 3000)
    assert.equal("", kept("c"))
  end)

  it("has a limit of topics", function()
    open({ ["k*"] = { history_count = 1 } }, { max_topics = 2 })
    hub:publish("k1", "x")
    local client = hub:client()
    assert.same({ nil, LIMIT }, { hub:subscribe(client, { "a", "b" }) })
    assert.equal(0, hub:counts().subscribers)
    assert.same({ { was = false, complete = true } }, (hub:subscribe(client, "a")))
    assert.same({ nil, LIMIT }, { hub:publish("k2", "x") })
    assert.same({ nil, LIMIT }, { hub:subscribe(client, "b") })
    assert.same({ 1, 0, false }, { hub:publish("live", "x") })
    hub:unsubscribe(client, "a")
    assert.equal(2, (hub:publish("k2", "x")))
  end)

  it("applies new policies to living topics", function()
    open({ t = { history_count = 5 } })
    for i = 1, 5 do
      hub:publish("t", "m" .. i)
    end
    hub:set_policies({ t = { history_count = 2 } })
    assert.equal("m4 m5", kept("t"))
    assert.is_false(is_complete("t", 2))
    assert.is_true(is_complete("t", 3))
    hub:set_policies({})
    lib.hub_sweep(hub.hub)
    assert.equal(0, hub:counts().topics)
    assert.is_false(is_complete("t", 5))

    local client = hub:client()
    hub:subscribe(client, "t")
    hub:publish("t", "unnumbered")
    hub:set_policies({ t = { history_count = 2 } })
    assert.is_false(is_complete("t", 5))
    hub:publish("t", "m7")
    assert.is_true(is_complete("t", 6))
  end)

  it(
    "claims nothing of what went by while nothing was kept, also of topics that were not there",
    function()
      local kept_two = { history_count = 2 }
      open({ t = kept_two })
      hub:publish("t", "m1")
      hub:set_policies({ t = kept_two, ["a:*"] = kept_two })
      for _, topic in ipairs({ "a:", "a:1", "a:b:1" }) do
        assert.is_false(is_complete(topic, 1))
        assert.is_true(is_complete(topic, 2))
      end
      assert.is_true(is_complete("t", 1))

      -- What was kept by one pattern is kept by another.
      hub:set_policies({
        t = kept_two,
        ["a:*"] = kept_two,
        ["a:b:*"] = kept_two,
        ["a:1"] = kept_two,
      })
      for _, topic in ipairs({ "a:", "a:1", "a:b:1" }) do
        assert.is_true(is_complete(topic, 2))
      end

      -- A pattern that goes leaves its topics to a shorter one.
      hub:set_policies({ t = kept_two, ["a:*"] = kept_two, ["a:b:*"] = { history_count = 0 } })
      assert.is_true(is_complete("a:1", 2))
      hub:publish("a:b:1", "lost")
      hub:set_policies({ t = kept_two, ["a:*"] = kept_two })
      assert.is_false(is_complete("a:b:1", 2))
      assert.is_true(is_complete("a:b:1", 3))
      assert.is_true(is_complete("t", 1))
    end
  )

  it("wakes a worker whose inbox was empty, never the publisher's own", function()
    open({}, { worker_count = 3 })
    local clients = { [0] = hub:client(0), hub:client(1), hub:client(2) }
    hub:subscribe(clients[0], "t")
    hub:subscribe(clients[1], "t")
    hub:publish("t", "a", { worker = 0 })
    hub:publish("t", "b", { worker = 0 })
    assert.same({ 0, 1, 0 }, { hub:wakes(0), hub:wakes(1), hub:wakes(2) })
    hub:drain(1)
    hub:publish("t", "c", { worker = 1 })
    assert.same({ 0, 0, 0 }, { hub:wakes(0), hub:wakes(1), hub:wakes(2) })
    assert.is_true(lib.topics_has_waiting(hub.workers[0]))
    assert.is_false(lib.topics_has_waiting(hub.workers[2]))
    hub:drain(0)
    hub:drain(1)
    hub:publish("t", "d")
    assert.same({ 1, 1, 0 }, { hub:wakes(0), hub:wakes(1), hub:wakes(2) })
    assert.equal(2, hub:subscribers("t"))
    assert.equal(0, hub:subscribers("u"))
  end)

  it("wakes whoever waited for the log, also with a publication of its own in its inbox", function()
    open({ ["*"] = { history_count = 10 } }, { worker_count = 2 })
    local clients = { [0] = hub:client(0), hub:client(1) }
    hub:subscribe(clients[0], "t")
    hub:subscribe(clients[1], "t")
    hub:set_log_state(pubsub.LOG_STALLS)
    local done = hub:commit("t", "a", 0)
    local behind = hub:commit("t", "b", 0)
    assert.same({ 0, 0 }, { hub:wakes(0), hub:wakes(1) })
    hub:set_log_state(pubsub.LOG_WORKS)
    assert.same({ 1, 1 }, { hub:wakes(0), hub:wakes(1) })
    hub:drain(0)
    hub:drain(1)
    assert.same({ { pubsub.OK }, { pubsub.OK } }, { done, behind })
    assert.same({ "a", "b" }, pubsub.got(clients[0]))
    assert.same({ "a", "b" }, pubsub.got(clients[1]))
  end)

  it("pushes nothing to a worker that went, but leaves it its tasks", function()
    open({}, { worker_count = 2 })
    hub:subscribe(hub:client(1), "t")
    hub:publish("t", "a")
    local ran = false
    assert.is_true(hub:post(1, function()
      ran = true
    end))
    lib.hub_detach(hub.hub, 1)
    assert.is_true(lib.message_count() == hub.before)
    hub:publish("t", "b")
    assert.is_true(lib.message_count() == hub.before)
    assert.is_false(hub:post(1, error))
    hub:drain(1)
    assert.is_true(ran)
  end)

  it("makes an encoding once: the first one counts", function()
    local message = lib.message_new(support.slice("event"), support.slice("data"), 0)
    assert.equal("event", support.string(message.event))
    assert.equal("data", support.string(message.data))
    assert.equal(0, tonumber(ffi.cast("intptr_t", message.encodings[2])))
    local first = ffi.cast("struct encoding *", ffi.C.malloc(32))
    local second = ffi.cast("struct encoding *", ffi.C.malloc(32))
    assert.is_true(lib.message_push_encoding(message, 2, first) == first)
    assert.is_true(lib.message_push_encoding(message, 2, second) == first)
    lib.message_release(message)
  end)

  it("says of every position what a plain model says, whatever happens", function()
    local names = { "a", "b", "c" }
    local policy = { history_count = 70, age_ms = 2000, linger_ms = 3000 }
    open({ ["*"] = policy })
    local seed = 20240607
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    local now, head, model, client = 0, 0, {}, hub:client()
    local function lose(topic, item)
      topic.mark = math.max(topic.mark, item.number)
    end
    local function empty(topic)
      for _, item in ipairs(topic.kept) do
        lose(topic, item)
      end
      topic.kept = {}
    end
    --- The rules of age and linger, written the slow way.
    local function judge(topic)
      if topic.subscribed or #topic.kept == 0 then
        topic.had = topic.had and (topic.subscribed or false)
      end
      if not topic.subscribed and now - topic.idle >= policy.linger_ms then
        empty(topic)
        topic.had = false
      end
      while topic.kept[1] and now - topic.kept[1].at >= policy.age_ms do
        lose(topic, table.remove(topic.kept, 1))
      end
      if not topic.subscribed and #topic.kept == 0 then
        topic.had = false
      end
    end
    for _, name in ipairs(names) do
      model[name] = { kept = {}, mark = 0, idle = 0 }
    end
    for step = 1, 4000 do
      local name = names[random(3)]
      local topic = model[name]
      judge(topic)
      local action = random(100)
      if action <= 60 then
        local is_clearing = action <= 3
        if is_clearing then
          empty(topic)
        end
        head = head + 1
        assert.equal(head, (hub:publish(name, "m" .. head, { flags = is_clearing and CLEAR or 0 })))
        table.insert(topic.kept, { number = head, at = now })
        if #topic.kept > policy.history_count then
          lose(topic, table.remove(topic.kept, 1))
        end
        if not topic.had then
          topic.idle = now
        end
      elseif action <= 62 then
        head = head + 1
        empty(topic)
        topic.mark = head
        assert.equal(head, hub:clear(name))
      elseif action <= 75 and #topic.kept > 0 then
        local item = table.remove(topic.kept, random(#topic.kept))
        assert.is_true(hub:remove(name, item.number))
      elseif action <= 80 then
        if topic.subscribed then
          hub:unsubscribe(client, name)
          topic.idle = now
        else
          hub:subscribe(client, name)
          topic.had = true
        end
        topic.subscribed = not topic.subscribed
      elseif action <= 85 then
        local ms = random(400)
        pubsub.advance(ms)
        now = now + ms
      elseif action <= 86 then
        lib.hub_sweep(hub.hub)
      end
      judge(topic)
      local since = math.max(0, head + 1 - random(120))
      local expected = {}
      local is_whole = since >= topic.mark and since <= head
      for _, item in ipairs(topic.kept) do
        if is_whole and item.number > since then
          expected[#expected + 1] = "m" .. item.number
        end
      end
      local list, complete = hub:history(name, { since = since })
      assert.same({ step, is_whole, expected }, { step, complete, list })
      local newest = random(20)
      expected = {}
      for i = math.max(1, #topic.kept - newest + 1), #topic.kept do
        expected[#expected + 1] = "m" .. topic.kept[i].number
      end
      assert.same(expected, (hub:history(name, { from = newest })))
    end
    assert.is_true(head > 2000)
  end)
end)
