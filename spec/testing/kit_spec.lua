-- What the kit promises beside its failure texts: places, time, rest, the verbs of clients.
local posix = require("perigee.testing.posix")
local testing = require("perigee.testing")

local function script(body)
  return "local perigee = require('perigee') local app = perigee.app()\n"
    .. body
    .. "\nreturn app\n"
end

-- Says which worker it is on, in the order of first questions.
local PLACES = script([[
  local places = perigee.shared("places")
  local place
  local function here()
    place = place or places:incr("count")
    return place
  end
  app:get("/", function() return tostring(here()) end)
  app:websocket("/ws", { on_open = function(conn) conn:send(tostring(here())) end })
  app:sse("/sse", { on_open = function(conn) conn:send(tostring(here())) end })
]])

describe("Clients", function()
  it("go to each worker in turn, so that state in a local variable is found out", function()
    local server = testing.start(PLACES)
    assert.equal(2, #server.workers)
    assert.equal("1", server:get("/").body)
    assert.equal("2", server:get("/").body)
    server:websocket("/ws"):expect("1")
    server:sse("/sse"):expect("2")
    assert.equal("1", server:get("/").body)
  end)

  it("go where they are sent", function()
    local server = testing.start(PLACES, { workers = 3 })
    for _, worker in ipairs({ 3, 1, 2, 3 }) do
      local expected = ({ [3] = "1", [1] = "2", [2] = "3" })[worker]
      assert.equal(expected, server:get("/", { worker = worker }).body)
      server:websocket("/ws", { worker = worker }):expect(expected)
      server:sse("/sse", { worker = worker }):expect(expected)
      server:poll("/sse", { worker = worker }):expect(expected)
    end
    local home = testing.start(PLACES, { worker = 2 })
    for _ = 1, 3 do
      assert.equal("1", home:get("/").body)
    end
    assert.equal("2", home:get("/", { worker = 1 }).body)
    local port = home:get("/", { listener = 1 })
    port:expect(200)
  end)

  it("have options in common where with gives them", function()
    local server = testing.start(script([[
      app:get("/", function(request)
        return request.headers.a .. " " .. (request.headers.b or "-") .. " " .. request.host
      end)
    ]]))
    local ann = server:with({ headers = { A = "ann" }, host = "ann.example" })
    local both = ann:with({ headers = { B = "too" } })
    assert.equal("ann - ann.example", ann:get("/").body)
    assert.equal("ann too ann.example", both:get("/").body)
    assert.equal("bob too ann.example", both:get("/", { headers = { A = "bob" } }).body)
    assert.equal(3, #server.clients)
    both:stop()
    assert.is_false(server:is_running())
  end)

  it("send what a method takes, tables as JSON", function()
    local server = testing.start(script([[
      local function say(request)
        return { headers = { ["X-Type"] = request.headers["content-type"] or "none" },
          json = { method = request.method, body = request.body } }
      end
      for _, method in ipairs({ "get", "post", "put", "patch", "delete" }) do
        app[method](app, "/", say)
      end
    ]]))
    for _, method in ipairs({ "post", "put", "patch" }) do
      local response = server[method](server, "/", { n = 1 })
      response:expect(200, { method = method:upper(), body = '{"n":1}' })
      assert.equal("application/json", response.headers["x-type"])
      response = server[method](server, "/", "text", { headers = { ["Content-Type"] = "text/x" } })
      response:expect(200, { body = "text" })
      assert.equal("text/x", response.headers["x-type"])
      server[method](server, "/"):expect(200, { body = "" })
    end
    server:get("/"):expect(200, { method = "GET" })
    server:delete("/"):expect(200, { method = "DELETE" })
    assert.equal("", server:head("/"):expect(200).body)
    local response = server:request({ method = "POST", path = "/", chunks = { "a", "b" } })
    response:expect(200, { body = "ab" })
    local own = server:post("/", { n = 1 }, { headers = { ["content-type"] = "text/own" } })
    assert.equal("text/own", own.headers["x-type"])
  end)
end)

describe("A request that was begun", function()
  local server
  before_each(function()
    server = testing.start(script([[
      app:get("/slow", function()
        local _, _, code = perigee.sleep(5)
        perigee.log.info("slow %s", code or "woken")
        return "at last"
      end)
      app:get("/fast", function() return "at once" end)
    ]]))
  end)

  it("is answered when its time has come", function()
    local slow = server:begin({ path = "/slow" })
    slow:expect_nothing_queued()
    server:get("/fast"):expect(200, "at once")
    server:advance(4.9)
    slow:expect_nothing_queued()
    server:advance(0.1)
    slow:response():expect(200, "at last")
  end)

  it("fails where it is answered too soon, and where it is not", function()
    local ok, problem = pcall(function()
      server:begin({ path = "/fast" }):expect_nothing_queued()
    end)
    assert.is_false(ok)
    assert.truthy(
      tostring(problem):find('expected:  no answer yet\n  got:       "HTTP/1.1 200', 1, true)
    )
    ok, problem = pcall(function()
      server:request({ path = "/slow", seconds = 0.05 })
    end)
    assert.is_false(ok)
    assert.truthy(tostring(problem):find("got:       nothing within 0.", 1, true), problem)
    assert.truthy(tostring(problem):find("the gateway's clock stands still", 1, true), problem)
  end)

  it("may go away", function()
    local slow = server:begin({ path = "/slow" })
    slow:expect_nothing_queued()
    slow:reset()
    server:wait_for({ tasks = 0 })
    server.log:expect("slow closed")
  end)
end)

describe("A long-poll", function()
  local server
  before_each(function()
    server = testing.start(script([[
      app:topic("feed", { history = 10 })
      app:sse("/feed", {
        authenticate = function(request)
          if request.query.key == "wrong" then return nil, "who?", 401 end
          return {}
        end,
        on_open = function(conn)
          conn:subscribe("feed", { since = conn.request.since })
          conn:subscribe("live")
        end,
        on_close = function(_, code) perigee.log.info("left with %d", code) end,
      })
      app:post("/:topic", function(request)
        local data = request.query.json and request:json() or request.body
        perigee.publish(request.params.topic, data, { event = request.query.event })
        return ""
      end)
    ]]))
  end)

  it("that was begun waits, and is answered", function()
    local waiting = server:begin_poll("/feed")
    waiting:expect_nothing_queued()
    server:post("/feed", "one")
    local poll = waiting:answer()
    assert.equal(200, poll.status)
    assert.equal("feed", poll:expect("one").topic)
    poll:expect_nothing_queued()
    waiting = server:begin_poll("/feed", { since = poll.position })
    server:advance(14.9, { peers = true })
    waiting:expect_nothing_queued()
    server:advance(0.1, { peers = true })
    poll = waiting:answer()
    assert.same({}, poll.events)
    poll:expect_nothing_queued()
    waiting = server:begin_poll("/feed?x=1", { since = poll.position })
    waiting:expect_nothing_queued()
    waiting:reset()
    server.log:expect("left with 1006")
  end)

  it("is expected of as other readers are", function()
    local position = server:begin_poll("/feed")
    position:expect_nothing_queued()
    server:post("/live", "x")
    position = position:answer().position
    server:post("/feed?json=1", { text = "one", n = 1 })
    server:post("/feed?event=news", '{"text":"two"}')
    server:post("/feed", "three")
    server:post("/feed?json=1", { list = { 1, 2 } })
    server:post("/feed?event=end", "x")
    local poll = server:poll("/feed", { since = position })
    assert.equal(5, #poll.events)
    assert.same({ text = "one", n = 1 }, poll:expect({ text = "one" }).data)
    assert.equal("news", poll:expect_event("news", { text = "two" }).event)
    poll:expect(function(text)
      return text == "three"
    end)
    poll:expect({ list = { 1, 2 } })
    poll:expect_event("end")
    poll:expect_nothing_queued()
    poll = server:poll("/feed", { since = position })
    poll:expect_later({ list = { 1, 2 } })
    assert.equal("x", poll:next().data)
    poll:expect_nothing_queued()
  end)

  it("that is refused is returned where any_status says so", function()
    local refused = server:poll("/feed?key=wrong", { any_status = true })
    refused:expect(401, "who?")
    local ok, problem = pcall(server.poll, server, "/feed", { sinse = "x" })
    assert.is_false(ok)
    assert.truthy(tostring(problem):find('unknown option "sinse" for server:poll', 1, true))
  end)
end)

describe("JSON", function()
  it("is what it says, for tables of every shape", function()
    local json = testing.json
    for text, value in pairs({
      ['{"n":8}'] = { n = 8 },
      ["{}"] = {},
      ["[]"] = json.array(),
      ['[1,"two",[null],{"a":true}]'] = { 1, "two", { json.null }, { a = true } },
      ["0.1"] = 0.1,
      ["1e+300"] = 1e300,
      ["9007199254740991"] = 2 ^ 53 - 1,
      ['"\\"\\\\\\n"'] = '"\\\n',
    }) do
      assert.equal(text, json.encode(value))
      assert.is_true((json.matches(value, json.decode(text))), text)
    end
    assert.has_error(function()
      json.encode({ print })
    end)
  end)
end)

describe("Time", function()
  local TIMERS = script([[
    app:topic("told", { history = 100 })
    app:get("/now", function() return { json = { now = perigee.now(), time = perigee.time() } } end)
    app:websocket("/", {
      on_open = function(conn) conn:subscribe("told") end,
      on_message = function(conn, data)
        perigee.after(tonumber(data), function() perigee.publish("told", data) end)
      end,
    })
  ]])

  it("stands still until it is moved", function()
    local server = testing.start(TIMERS)
    local before = server:get("/now").json
    posix.pause(0.02)
    assert.same(before, server:get("/now").json)
    server:advance(1.5)
    local after = server:get("/now").json
    assert.is_true(math.abs(after.now - before.now - 1.5) < 0.001)
    assert.is_true(math.abs(after.time - before.time - 1.5) < 0.001)
  end)

  it("stands still from the start, so that periods and the spec count alike", function()
    for _ = 1, 5 do
      local server = testing.start(script([[
        local began = perigee.now()
        app:on_start(function() perigee.log.info("started after %s", perigee.now() - began) end)
        app:every(1, function() perigee.publish("ticks", tostring(perigee.now() - began)) end)
        app:websocket("/", { on_open = function(conn) conn:subscribe("ticks") end })
      ]]))
      server.log:expect("started after 0")
      local ws = server:websocket("/")
      server:advance(0.999)
      ws:expect_nothing_queued()
      server:advance(0.001)
      ws:expect("1")
    end
  end)

  it("runs where that was asked for, until it is frozen", function()
    local server = testing.start(TIMERS, { clock = "running" })
    local ws = server:websocket("/")
    ws:send("0.01")
    ws:expect("0.01")
    server:freeze()
    local before = server:get("/now").json
    posix.pause(0.02)
    assert.same(before, server:get("/now").json)
  end)

  it("visits the deadlines of all workers in their order", function()
    local server = testing.start(TIMERS, { workers = 4 })
    local clients = {}
    for worker = 1, 4 do
      clients[worker] = server:websocket("/", { worker = worker })
    end
    -- Each worker's are far apart, those of different workers near.
    for i = 1, 20 do
      clients[i % 4 + 1]:send(tostring(i * 10))
    end
    server:advance(195)
    for i = 1, 19 do
      for _, ws in ipairs(clients) do
        ws:expect(tostring(i * 10))
      end
    end
    clients[1]:expect_nothing_queued()
    server:advance(5)
    clients[1]:expect("200")
  end)

  it("visits them also where they are a few milliseconds apart", function()
    local server = testing.start(TIMERS, { workers = 4 })
    local clients = {}
    for worker = 1, 4 do
      clients[worker] = server:websocket("/", { worker = worker })
    end
    for i = 60, 1, -1 do
      clients[i % 4 + 1]:send(tostring(1 + i / 1000))
    end
    server:advance(2)
    for i = 1, 60 do
      clients[1]:expect(tostring(1 + i / 1000))
    end
  end)

  it("of hours closes no WebSocket, unless peers are to be silent", function()
    local server = testing.start(TIMERS)
    local ann, bob = server:websocket("/"), server:websocket("/")
    local feed = server:get("/now").json.now
    ann:send("7200")
    server:advance(7200)
    ann:expect("7200")
    bob:expect("7200")
    ann:expect_nothing_queued()
    assert.is_true(server:get("/now").json.now - feed >= 7199.9)
    server:advance(61, { peers = true })
    ann:expect_close(1000, "idle for too long")
    bob:expect_close(1000, "idle for too long")
  end)

  it("of hours leaves no event stream behind", function()
    local server = testing.start(script([[
      app:every(1, function() perigee.publish("ticks", (" "):rep(4000)) end)
      app:sse("/", { on_open = function(conn) conn:subscribe("ticks") end })
    ]]))
    local feed = server:sse("/", { receive_buffer = 4096 })
    server:advance(3600)
    assert.equal(3600, #feed.queue)
    server:wait_for({ connections = 1 })
  end)

  it("takes none of ours: a day is over in a moment", function()
    local server = testing.start(TIMERS)
    local before = posix.now()
    server:advance(24 * 3600)
    assert.is_true(posix.now() - before < 1 * posix.time_scale)
  end)
end)

describe("server:settle", function()
  it("returns when what was sent has had all its effects, on all workers", function()
    local server = testing.start(
      script([[
        local hops = perigee.shared("hops")
        app:websocket("/:place", {
          on_open = function(conn) conn:subscribe(conn.request.params.place) end,
          on_message = function(conn, data) perigee.signal("1", "0") end,
          on_signal = function(conn, data)
            local count = tonumber(data) + 1
            hops:set("count", count)
            if count < 200 then perigee.signal(tostring(count % 4 + 1), tostring(count)) end
          end,
        })
      ]]),
      { workers = 4 }
    )
    local clients = {}
    for worker = 1, 4 do
      clients[worker] = server:websocket("/" .. worker, { worker = worker })
    end
    for _ = 1, 10 do
      clients[1]:send("go")
      server:settle()
      local count = server:exec_on(4, function(perigee)
        return (perigee.shared("hops"):get("count"))
      end)
      assert.equal(200, count)
      server:exec(function(perigee)
        perigee.shared("hops"):delete("count")
      end)
    end
  end)
end)

describe("A client", function()
  local server, watcher
  before_each(function()
    server = testing.start(script([[
      app:topic("news", { history = 10 })
      app:websocket("/watch", { on_open = function(conn) conn:subscribe("ends") end })
      app:websocket("/", {
        max_outbox = 64 * 1024,
        on_message = function(conn, data)
          for i = 1, tonumber(data) or 0 do conn:send(i .. (" "):rep(10000)) end
          conn:send(data)
        end,
        on_close = function(_, code) perigee.publish("ends", tostring(code)) end,
      })
      app:sse("/feed", { on_open = function(conn)
        conn:send("one") conn:send("two", { event = "named" }) conn:send({ n = 3 })
      end, on_close = function(_, code) perigee.publish("ends", "feed " .. code) end })
    ]]))
    watcher = server:websocket("/watch")
  end)

  it("goes in the manner that is chosen", function()
    local ends = { close = "1000", drop = "1006", reset = "1006" }
    for way, code in pairs(ends) do
      local ws = server:websocket("/")
      ws[way](ws)
      watcher:expect(code)
    end
    local own = server:websocket("/")
    own:close(4001, "enough")
    watcher:expect("4001")
    for way, code in pairs({ close = "1005", drop = "1005", reset = "1006" }) do
      local feed = server:sse("/feed")
      feed[way](feed)
      watcher:expect("feed " .. code)
    end
  end)

  it("expects what comes next, or later", function()
    local ws = server:websocket("/")
    for _, text in ipairs({ "a", "b", "c", '{"n":1}', '{"n":2}', "d" }) do
      ws:send(text)
    end
    assert.equal("a", ws:expect("a"))
    assert.equal("c", ws:expect_later("c"))
    assert.equal(2, ws:expect_later({ n = 2 }).n)
    assert.equal("d", ws:expect(match.is_string()))
    ws:expect_nothing_queued()
    local feed = server:sse("/feed")
    assert.equal(3, feed:expect_later({ n = 3 }).json.n)
    feed:expect_nothing_queued()
    feed = server:sse("/feed")
    feed:expect("one")
    assert.equal("two", feed:expect_event("named").data)
    feed:expect(function(data)
      return data == '{"n":3}'
    end)
  end)

  it("that stops reading fills its outbox, and is closed for it", function()
    local ws = server:websocket("/", { receive_buffer = 4096 })
    ws:pause()
    ws:send("1000")
    server:settle()
    ws:resume()
    ws:expect_close_later(1013)
  end)

  it("that only pauses gets everything", function()
    local ws = server:websocket("/", { receive_buffer = 4096 })
    ws:pause()
    ws:send("5")
    server:settle()
    ws:resume()
    for i = 1, 5 do
      ws:expect(i .. (" "):rep(10000))
    end
    ws:expect("5")
  end)
end)

describe("The kit", function()
  it("starts a gateway and stops it within 30 ms", function()
    local best = math.huge
    for _ = 1, 10 do
      local before = posix.now()
      testing.start(PLACES):stop()
      best = math.min(best, posix.now() - before)
    end
    assert.is_true(best < 0.03 * posix.time_scale, best)
  end)

  local tree
  before_each(function()
    tree = posix.temporary_directory()
  end)
  after_each(function()
    posix.remove_directory(tree)
  end)

  local function copy(from, to)
    posix.write_file(tree, to, posix.read_file(from))
  end

  -- As `make install PREFIX=tree` leaves it.
  local function install()
    copy(require("perigee.testing.binary").find(), "bin/perigee")
    local process = posix.spawn({ "chmod", "755", tree .. "/bin/perigee" })
    assert.equal(0, (posix.wait_exit(process.pid, posix.deadline(5))))
    for name in require("lfs").dir("lua/perigee/testing") do
      if name:find("%.lua$") then
        copy("lua/perigee/testing/" .. name, "share/lua/5.1/perigee/testing/" .. name)
      end
    end
    posix.write_file(tree, "app/main.lua", script('app:get("/", function() return "hello" end)'))
    posix.write_file(
      tree,
      "app/spec/hello_spec.lua",
      [[
        local testing = require("perigee.testing")
        it("greets", function()
          local server = testing.start("main.lua")
          server:get("/"):expect(200, "hello")
          local command = io.open("/proc/" .. server.pid .. "/cmdline"):read("*a")
          assert.truthy(command:find("/bin/perigee", 1, true), command)
        end)
      ]]
    )
  end

  local function run(command, env)
    env.PERIGEE_TIME_SCALE = posix.time_scale
    local process =
      posix.spawn(command, { directory = tree .. "/app", env = env, stderr = tree .. "/err" })
    local output = require("string.buffer").new()
    local deadline = posix.deadline(20)
    while true do
      local count, why = posix.receive(process.stdout, output)
      if
        not count and (why ~= "again" or not posix.wait(process.stdout, true, false, deadline))
      then
        break
      end
    end
    local code = posix.wait_exit(process.pid, deadline)
    posix.close(process.stdin)
    posix.close(process.stdout)
    return code, output:get() .. posix.read_file(tree .. "/err")
  end

  it("works where it was installed, by perigee test and by busted in LuaJIT", function()
    install()
    local code, text = run({ tree .. "/bin/perigee", "test" }, {})
    assert.equal(0, code, text)
    assert.truthy(text:find("1 success", 1, true), text)
    local library = tree .. "/share/lua/5.1/?"
    local env = { LUA_PATH = ("%s.lua;%s/init.lua;;"):format(library, library) }
    code, text = run({ "busted", "--lua=luajit" }, env)
    assert.equal(0, code, text)
    assert.truthy(text:find("1 success", 1, true), text)
  end)

  it("says where it looked for the gateway", function()
    local ok, problem = pcall(testing.start, PLACES, { binary = "no/such/perigee" })
    assert.is_false(ok)
    assert.truthy(tostring(problem):find("there is no gateway at /.*/no/such/perigee"), problem)
  end)
end)
