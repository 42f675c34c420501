-- What the gateway took for its clients it gives back, and without work it does none.
local buffer = require("string.buffer")
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local posix = require("perigee.testing.posix")
local websocket = require("perigee.testing.websocket")

local IS_SANITIZED = os.getenv("PERIGEE_SANITIZE") == "1"
local KIB = 1024

-- Resident bytes of a process.
local function resident(server)
  local kib = posix.read_file("/proc/" .. server.pid .. "/status"):match("VmRSS:%s*(%d+) kB")
  return tonumber(kib) * KIB
end

local function settled(server)
  server:wait_for({ connections = 0, http = 0, tasks = 0, subscriptions = 0 }, 10)
  server:collect()
  server:collect()
  return resident(server)
end

-- Under AddressSanitizer what was freed stays in quarantine: there only the counters are judged.
local function expect_at_most(bytes, most, what)
  if not IS_SANITIZED then
    assert.is_true(
      bytes <= most,
      ("%s: %d KiB resident, at most %d expected"):format(what, bytes / KIB, most / KIB)
    )
  end
end

describe("Two rounds of 10,000 connections", function()
  local ROUND, BATCH, ROOM = IS_SANITIZED and 500 or 10000, 500, 5
  if IS_SANITIZED then
    BATCH = 100
  end

  local APP = [[
    app:topic("room:*", { history = 10 })
    app:websocket("/:room", {
      on_open = function(conn)
        conn.session.list = { conn.id }
        conn:subscribe("room:" .. conn.request.params.room)
      end,
      on_message = function(conn, data)
        conn.session.list[2] = data
        perigee.publish("room:" .. conn.request.params.room, data)
      end,
      on_close = function(conn) conn.session.closed = conn.id end,
    })
  ]]

  -- Takes `count` bytes from each, whatever they are; the kit's own clients would take longer.
  local function receive_all(conns, count)
    local deadline = posix.deadline(10)
    for _, conn in ipairs(conns) do
      while #conn.received < count do
        local got, why = posix.receive(conn.fd, conn.received)
        if not got then
          assert(why == "again" and posix.wait(conn.fd, true, false, deadline), why)
        end
      end
      conn.received:skip(count)
    end
  end

  local function send_all(conns, bytes_of)
    for i, conn in ipairs(conns) do
      local bytes = bytes_of(i)
      assert.equal(#bytes, posix.send(conn.fd, bytes, 0))
    end
  end

  local PAYLOAD = ("p"):rep(100)
  local MESSAGE = websocket.frame({ payload = PAYLOAD })
  local CLOSE = websocket.frame({ opcode = "close", payload = websocket.close_payload(1000) })

  local function use_batch(target, host, head_bytes)
    local conns = {}
    for i = 1, BATCH do
      conns[i] = { fd = assert(posix.connect(target)), received = buffer.new() }
    end
    send_all(conns, function(i)
      return websocket.handshake({ path = "/" .. math.floor((i - 1) / ROOM), host = host })
    end)
    receive_all(conns, head_bytes)
    send_all(conns, function()
      return MESSAGE
    end)
    -- Everyone in a room hears everyone.
    receive_all(conns, ROOM * (2 + #PAYLOAD))
    -- Some close in good order, some just end, some break off.
    for i, conn in ipairs(conns) do
      if i % 4 < 2 then
        posix.send(conn.fd, CLOSE, 0)
      else
        posix.close(conn.fd, i % 4 == 2)
        conn.fd = nil
      end
    end
    local deadline = posix.deadline(10)
    for _, conn in ipairs(conns) do
      while conn.fd do
        local got, why = posix.receive(conn.fd, conn.received)
        if not got and why ~= "again" then
          posix.close(conn.fd)
          conn.fd = nil
        elseif not got then
          assert(posix.wait(conn.fd, true, false, deadline), "the close frame's answer")
        end
      end
    end
  end

  for _, workers in ipairs({ 1, 4 }) do
    it(
      ("end where the first one ended, with %d worker%s"):format(workers, workers > 1 and "s" or ""),
      function()
        local server = gateway.start({ app = APP, workers = workers })
        -- All answers to a handshake are of one length.
        local probe = server:raw()
        probe:write(websocket.handshake({ path = "/probe", host = server:host() }))
        local head_bytes = #probe:read_until("\r\n\r\n")
        probe:close()
        local after = {}
        for round = 1, 2 do
          for batch = 1, ROUND / BATCH do
            local opts = { worker = batch % workers + 1 }
            use_batch(server:target(opts), server:host(opts), head_bytes)
          end
          after[round] = settled(server)
          local counters = server:counters()
          assert.equal(0, counters.lua_refs)
          assert.equal(0, counters.topics)
        end
        -- Each worker's allocator settles for itself, over some rounds.
        local slack = math.max(after[1] / 100, 512 * KIB * workers)
        expect_at_most(after[2], after[1] + slack, "second round")
      end
    )
  end
end)

describe("A burst of 100 MB through 200 connections", function()
  local COUNT = IS_SANITIZED and 20 or 200
  local SLACK = 4 * KIB * KIB

  local APP = [[
    app:topic("kept", { history = 1000000, bytes = 200 * 1024 * 1024 })
    app:websocket("/", {
      max_message = 1024 * 1024, max_outbox = 8 * 1024 * 1024,
      on_open = function(conn) conn:subscribe("room") end,
      on_message = function(conn, data) conn:send(tostring(#data)) end,
    })
    app:get("/fill/:count", function(request)
      for i = 1, tonumber(request.params.count) do
        perigee.publish("kept", i .. ("x"):rep(1000))
      end
      return "filled"
    end)
    app:get("/clear", function() perigee.clear("kept") return "cleared" end)
    app:get("/flood/:count", function(request)
      for i = 1, tonumber(request.params.count) do perigee.publish("room", ("x"):rep(3000)) end
      return "flooded"
    end)
  ]]

  local function open_all(server)
    local clients = {}
    for i = 1, COUNT do
      clients[i] = server:websocket("/", { worker = i % 2 + 1 })
    end
    return clients
  end

  local function close_all(clients)
    for _, ws in ipairs(clients) do
      ws:close()
    end
  end

  -- One round that costs little, so that what stays for good is there before it is measured.
  local function warm(server)
    local clients = open_all(server)
    for _, ws in ipairs(clients) do
      ws:send("x")
      ws:expect("1")
    end
    close_all(clients)
    return settled(server)
  end

  it("of large messages, all under way at once, leaves nothing behind", function()
    local server = gateway.start({ app = APP, workers = 2 })
    local before = warm(server)
    local clients = open_all(server)
    local first = websocket.frame({ fin = false, payload = ("m"):rep(512 * KIB) })
    local rest = websocket.frame({ opcode = "continuation", payload = "m" })
    for _, ws in ipairs(clients) do
      ws:send_raw(first)
      ws:fence()
    end
    -- They are all there at once, or this would prove nothing.
    assert.is_true(resident(server) > before + COUNT * 400 * KIB)
    for _, ws in ipairs(clients) do
      ws:send_raw(rest)
    end
    for _, ws in ipairs(clients) do
      ws:expect(tostring(512 * KIB + 1), 10)
    end
    close_all(clients)
    expect_at_most(settled(server), before * 1.1 + SLACK, "afterwards")
  end)

  it("of publications to slow readers leaves nothing behind", function()
    local server = gateway.start({ app = APP, workers = 2 })
    local before = warm(server)
    local clients = open_all(server)
    for _, ws in ipairs(clients) do
      ws:pause()
    end
    assert.equal("flooded", server:request({ path = "/flood/170", seconds = 20 }).body)
    for _, ws in ipairs(clients) do
      ws:resume()
      for _ = 1, 170 do
        assert.equal(3000, #ws:next(10))
      end
    end
    close_all(clients)
    expect_at_most(settled(server), before * 1.1 + SLACK, "afterwards")
  end)

  it("of small messages that a history kept leaves nothing behind", function()
    local server = gateway.start({ app = APP, workers = 2 })
    local before = warm(server)
    local count = IS_SANITIZED and 5000 or 90000
    assert.equal("filled", server:request({ path = "/fill/" .. count, seconds = 20 }).body)
    assert.equal(count, server:counters().history_messages)
    -- Something small and lasting is allocated behind it, as in any life.
    local clients = open_all(server)
    assert.equal("cleared", server:get("/clear").body)
    close_all(clients)
    expect_at_most(settled(server), before * 1.1 + SLACK, "afterwards")
  end)
end)

describe("A WebSocket that waits", function()
  local COUNT = IS_SANITIZED and 200 or 4000

  local APP = [[
    app:websocket("/bare", {})
    app:websocket("/idle", { on_open = function(conn) conn:subscribe("idle") end })
  ]]

  local function open(server, path, count)
    local target = server:target()
    local handshake = websocket.handshake({ path = path, host = server:host() })
    local fds, deadline = {}, posix.deadline(20)
    for i = 1, count do
      fds[i] = assert(posix.connect(target))
      assert.equal(#handshake, posix.send(fds[i], handshake, 0))
    end
    for _, fd in ipairs(fds) do
      local received = buffer.new()
      repeat
        local got, why = posix.receive(fd, received)
        assert(got or why == "again" and posix.wait(fd, true, false, deadline), why)
      until tostring(received):find("\r\n\r\n", 1, true)
    end
    return fds
  end

  -- What each takes when those of before have brought what is there once.
  local function bytes_of_each(path)
    local server = gateway.start({ app = APP })
    local first = open(server, path, COUNT / 8)
    local before = resident(server)
    local rest = open(server, path, COUNT)
    local after = resident(server)
    for _, fds in ipairs({ first, rest }) do
      for _, fd in ipairs(fds) do
        posix.close(fd)
      end
    end
    server:wait_for({ connections = 0, http = 0 }, 20)
    return (after - before) / COUNT
  end

  local function expect_bytes(path, most)
    local bytes = bytes_of_each(path)
    if not IS_SANITIZED then
      assert.is_true(bytes <= most, ("%d bytes each, at most %d expected"):format(bytes, most))
    end
  end

  it("takes little memory where no script has touched it", function()
    expect_bytes("/bare", 500)
  end)

  it("takes little memory when it has subscribed", function()
    expect_bytes("/idle", 1000)
  end)
end)

describe("An idle gateway with 100 open connections", function()
  -- System calls of all threads within one second.
  local function calls_of_a_second(server)
    local directory = posix.temporary_directory()
    local report = directory .. "/report"
    local process = posix.spawn({
      "timeout",
      "--signal=INT",
      "1",
      "strace",
      "-f",
      "-c",
      "-o",
      report,
      "-p",
      tostring(server.pid),
    }, { stderr = directory .. "/messages" })
    posix.wait_exit(process.pid, posix.deadline(10))
    posix.close(process.stdin)
    posix.close(process.stdout)
    local text, messages = posix.read_file(report), posix.read_file(directory .. "/messages")
    posix.remove_directory(directory)
    assert.truthy(messages:find("attached", 1, true), messages)
    -- "100.00    0.000087           5        16         1 total"; nothing at all where none was made.
    local total = text:match("([^\n]*) total%s*$")
    local count = total and total:match("^%s*%S+%s+%S+%s+%S+%s+(%d+)")
    return tonumber(count or 0), text
  end

  it("makes no system calls but what its timers need", function()
    local server = gateway.start({
      workers = 2,
      app = [[
        app:websocket("/", { on_open = function(conn) conn:subscribe("room") end })
        app:sse("/sse", { on_open = function(conn) conn:subscribe("room") end })
        app:get("/", function() return "hello" end)
      ]],
    })
    for i = 1, 98 do
      local worker = i % 2 + 1
      if i % 7 == 0 then
        server:sse("/sse", { worker = worker }):next_block()
      else
        server:websocket("/", { worker = worker }):fence()
      end
    end
    for worker = 1, 2 do
      local conn = server:raw({ worker = worker })
      conn:write(http.request({ path = "/" }))
      assert.equal("hello", http.read_response(conn).body)
    end
    server:collect()
    local count, report = calls_of_a_second(server)
    assert.is_true(count < 20, report)
    server:freeze()
    count, report = calls_of_a_second(server)
    assert.is_true(count < 20, report)
  end)
end)

describe("Stalls of the loop", function()
  local WORK_US = 200000

  -- Each message keeps its worker busy for so long.
  local APP = ([[
    app:websocket("/", {
      on_message = function(conn, data)
        local till = perigee.now() + %g
        while data == "work" and perigee.now() < till do end
        conn:send("done")
      end,
    })
  ]]):format(WORK_US / 1e6)

  it("are counted, with the time that handlers take, over all workers", function()
    local server = gateway.start({ app = APP, workers = 2 })
    for worker = 1, 2 do
      server:websocket("/", { worker = worker }):fence()
    end
    server:forget_stalls()
    local before = server:counters().stalls
    for worker = 1, 2 do
      local ws = server:websocket("/", { worker = worker })
      ws:send("work")
      ws:expect("done", 5)
    end
    local counters = server:counters()
    assert.is_true(counters.stalls >= before + 2)
    assert.is_true(counters.longest_stall_us >= WORK_US)
    assert.is_true(counters.stall_p50_us <= counters.stall_p99_us)
    assert.is_true(counters.stall_p99_us <= counters.stall_p999_us)
    assert.is_true(counters.stall_p999_us <= counters.longest_stall_us)
    -- One in a hundred is much more than two of some dozens.
    assert.is_true(counters.stall_p99_us >= WORK_US)
  end)

  it("are not the time in which nothing happens", function()
    local server = gateway.start({ app = APP })
    server:forget_stalls()
    posix.pause(1)
    assert.is_true(server:counters().longest_stall_us < 1000000)
  end)

  it("are forgotten when a test says so", function()
    local server = gateway.start({ app = APP })
    local ws = server:websocket("/")
    ws:send("work")
    ws:expect("done", 5)
    local before = server:counters()
    assert.is_true(before.longest_stall_us >= WORK_US)
    server:forget_stalls()
    local after = server:counters()
    assert.is_true(after.longest_stall_us < before.longest_stall_us)
  end)
end)

describe("Readers that do not read", function()
  local LIVE, DEAD, MESSAGES = 10, 10, 300
  -- In all more than the kernel keeps for a connection.
  local TEXT = ("t"):rep(20000)

  it("neither delay nor lose what the others get", function()
    local server = gateway.start({
      app = [[
        app:websocket("/", {
          max_outbox = 128 * 1024,
          on_open = function(conn) conn:subscribe("room") end,
          on_message = function(conn, data)
            conn:send("answer " .. data:sub(1, 4))
            perigee.publish("room", data)
          end,
        })
      ]],
    })
    local dead, live = {}, {}
    for i = 1, DEAD do
      dead[i] = server:websocket("/", { receive_buffer = 4096 })
      dead[i]:fence()
      dead[i]:pause()
    end
    for i = 1, LIVE do
      live[i] = server:websocket("/")
      live[i]:fence()
    end
    -- Step by step: each message has reached everybody who reads before the next is sent.
    for i = 1, MESSAGES do
      local speaker, text = live[i % LIVE + 1], ("%04d"):format(i) .. TEXT
      speaker:send(text)
      speaker:expect("answer " .. text:sub(1, 4), 10)
      for _, ws in ipairs(live) do
        ws:expect(text, 10)
      end
    end
    -- They were dead, or this would prove nothing: what was kept for them has passed its limit.
    server:wait_for({ subscriptions = LIVE }, 10)
    for _, ws in ipairs(live) do
      ws:expect_nothing_queued()
    end
  end)

  it("get all that fits into their outbox when they read again", function()
    local server = gateway.start({
      app = [[
        app:websocket("/", {
          max_outbox = 16 * 1024 * 1024,
          on_open = function(conn) conn:subscribe("room") end,
          on_message = function(_, data) perigee.publish("room", data) end,
        })
      ]],
    })
    local slow = server:websocket("/", { receive_buffer = 4096 })
    local live = server:websocket("/")
    slow:fence()
    live:fence()
    slow:pause()
    for i = 1, MESSAGES do
      live:send(i .. TEXT)
      live:expect(i .. TEXT, 10)
    end
    slow:resume()
    for i = 1, MESSAGES do
      slow:expect(i .. TEXT, 10)
    end
  end)
end)

describe("What C holds of Lua's for each connection", function()
  -- More than one of the collector's pieces, and than the registry holds itself.
  local COUNT = IS_SANITIZED and 600 or 1400

  it("stays theirs while others come and go", function()
    local server = gateway.start({
      app = [[
        app:websocket("/:name", {
          on_open = function(conn) conn.session.name = conn.request.params.name end,
          on_message = function(conn) conn:send(conn.session.name .. conn.request.path) end,
        })
      ]],
    })
    local clients = {}
    local function open(i, name)
      clients[i] = server:websocket("/" .. name)
      clients[i].name = name
    end
    local function ask_all()
      for _, ws in pairs(clients) do
        ws:send("?")
        ws:expect(ws.name .. "/" .. ws.name, 10)
      end
    end
    for i = 1, COUNT do
      open(i, "first" .. i)
    end
    ask_all()
    local before = server:counters().lua_refs
    for i = 1, COUNT, 3 do
      clients[i]:close()
      clients[i] = nil
    end
    server:collect()
    ask_all()
    for i = 1, COUNT, 3 do
      open(i, "second" .. i)
    end
    server:collect()
    ask_all()
    assert.equal(before, server:counters().lua_refs)
    for _, ws in pairs(clients) do
      ws:close()
    end
    server:wait_for({ lua_refs = 0 }, 10)
  end)
end)

describe("A running gateway", function()
  it("gives memory back by itself after a burst", function()
    local server = gateway.start({
      app = [[
        app:topic("kept", { history = 1000000, bytes = 200 * 1024 * 1024 })
        app:get("/fill/:count", function(request)
          for i = 1, tonumber(request.params.count) do
            perigee.publish("kept", i .. ("x"):rep(1000))
          end
          -- Something small and lasting behind it, so that the heap cannot just shrink.
          perigee.publish("small", "x")
          return "filled"
        end)
        app:topic("small", { history = 1 })
        app:get("/clear", function() perigee.clear("kept") return "cleared" end)
      ]],
    })
    local before = settled(server)
    local count = IS_SANITIZED and 1000 or 50000
    assert.equal("filled", server:request({ path = "/fill/" .. count, seconds = 20 }).body)
    assert.is_true(IS_SANITIZED or resident(server) > before + 40 * KIB * KIB)
    -- A while in which nothing is to be given back.
    posix.pause(2.5)
    assert.equal("cleared", server:get("/clear").body)
    local deadline, most = posix.deadline(15), before * 1.1 + 4 * KIB * KIB
    while not IS_SANITIZED and resident(server) > most and posix.now() < deadline do
      posix.pause(0.1)
    end
    expect_at_most(resident(server), most, "afterwards")
  end)

  it("has its table of descriptors as large as it can become", function()
    local server = gateway.start({ app = "", env = { PERIGEE_LIMIT_CONNECTIONS = "3000" } })
    local status = posix.read_file("/proc/" .. server.pid .. "/status")
    assert.is_true(tonumber(status:match("FDSize:%s*(%d+)")) >= 3000)
  end)
end)

-- One poll tells of all of them, and their handlers take so long that a poll comes before all have been
-- heard. Half have gone meanwhile: what is published breaks their streams before they are looked at.
it(
  "Who is heard after a later poll only is heard all the same, beside those who have gone",
  function()
    local CLIENTS = 200
    local server = gateway.start({
      app = [[
      app:websocket("/", {
        on_open = function(conn) conn:subscribe("all") end,
        on_message = function(conn, data)
          local until_then = os.clock() + 0.0003
          while os.clock() < until_then do end
          conn:send("heard " .. data)
          perigee.publish("all", "x")
        end,
      })
    ]],
    })
    local staying, going = {}, {}
    for i = 1, CLIENTS / 2 do
      staying[i], going[i] = server:websocket("/"), server:websocket("/")
    end
    for _ = 1, 3 do
      server:stall(1, 0.2)
      for i, client in ipairs(staying) do
        client:send(tostring(i))
        if going[i] then
          going[i]:reset()
        end
      end
      going = {}
      for i, client in ipairs(staying) do
        client:expect_later("heard " .. i)
      end
    end
    server:wait_for({ connections = CLIENTS / 2 })
  end
)
