-- Reload: a saved script is live, in every worker or in none, and nobody who is connected notices.
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

-- A whole script; `body` stands between `local app` and `return app`.
local function script(body)
  return 'local perigee = require("perigee") local app = perigee.app() ' .. body .. "\nreturn app\n"
end

-- Two loads of one route that say who they are.
local function answering(text)
  return script(([[
    app:get("/", function() return %q end)
    app:websocket("/ws", {
      on_open = function(conn) conn:subscribe("all") end,
      on_message = function(conn, data) conn:send(%q .. ": " .. data) end,
      on_close = function(conn, code) perigee.log.info("closed by %s with %%d", code) end,
    })
  ]]):format(text, text, text))
end

gateway.with_workers(describe, function(workers)
  local function start(body, options)
    local all = { app = body, workers = workers, clock = "frozen", worker = false }
    for name, value in pairs(options or {}) do
      all[name] = value
    end
    if all.worker == false then
      all.worker = nil
    end
    return gateway.start(all)
  end

  -- One client on each worker.
  local function on_each(fn)
    local list = {}
    for worker = 1, workers do
      list[worker] = fn(worker)
    end
    return list
  end

  describe("A reload", function()
    it("gives what comes next to the new code, on every worker and connection", function()
      local server = start(
        'app:get("/", function() return "old" end)',
        { script = answering("old"), app = false }
      )
      local clients = on_each(function(worker)
        return server:websocket("/ws", { worker = worker })
      end)
      for _, ws in ipairs(clients) do
        ws:send("a")
        ws:expect("old: a")
      end
      server:edit("main.lua", answering("new"))
      assert.equal(2, server:reload())
      for worker, ws in ipairs(clients) do
        ws:send("b")
        ws:expect("new: b")
        assert.equal("new", server:get("/", { worker = worker }).body)
      end
      server.log:expect(("generation 2 live: asked for, .* %d connections? kept"):format(workers))
      clients[1]:close(1000)
      clients[1]:expect_close(1000)
      server.log:expect("closed by new with 1000 generation=2")
    end)

    it("keeps topics, history, sessions, shared and keep", function()
      local body = [[
        app:topic("t", { history = 10 })
        local seen = perigee.keep("seen", { count = 0 })
        app:websocket("/ws", {
          authenticate = function() return { name = "ann" } end,
          on_open = function(conn)
            seen.count = seen.count + 1
            conn:subscribe("t", { since = conn.request.since, from = "start" })
          end,
          on_message = function(conn, data)
            if data == "publish" then
              perigee.shared("s"):incr("n")
              perigee.publish("t", VERSION)
            else
              conn:send({ conn.session.name, seen.count, perigee.shared("s"):get("n"), VERSION })
            end
          end,
        })
      ]]
      local server = start((body:gsub("VERSION", '"one"')), { worker = 1 })
      local ws = server:websocket("/ws")
      ws:send("publish")
      ws:expect("one")
      server:edit("main.lua", script((body:gsub("VERSION", '"two"'))))
      server:reload()
      ws:send("publish")
      ws:expect("two")
      ws:send("tell")
      ws:expect_json({ "ann", 1, 2, "two" })
      local late = server:websocket("/ws")
      late:expect("one")
      late:expect("two")
    end)

    it("adds routes and takes them away: 1012 where there is none any more", function()
      local server = start([[
        app:websocket("/a/:x", { on_close = function(_, code) perigee.log.info("old code, %d", code) end })
        app:websocket("/b", { on_message = function(conn) conn:send("b") end })
        app:sse("/feed", { on_open = function(conn) conn:subscribe("t") end })
        app:get("/gone", function() return "here" end)
      ]])
      local a, b, feed = server:websocket("/a/1"), server:websocket("/b"), server:sse("/feed")
      server:edit(
        "main.lua",
        script([[
        app:websocket("/b", { on_message = function(conn) conn:send("new b") end })
        app:get("/new", function() return "new" end)
      ]])
      )
      server:reload()
      a:expect_close(1012, "this route is gone")
      feed:expect_close()
      b:send("x")
      b:expect("new b")
      server.log:expect("old code, 1012 generation=1")
      server.log:expect("1 connection kept, 2 closed with 1012: their routes are gone")
      server:get("/gone"):expect(404)
      server:get("/new"):expect(200, "new")
      server:get("/a/1", { headers = { Upgrade = "websocket" } }):expect(404)
    end)

    it(
      "finds each connection's route by its path, and its parameters by their new names",
      function()
        local server = start([[
        app:websocket("/rooms/:room", { on_message = function(conn)
          conn:send("room " .. conn.request.params.room)
        end })
      ]])
        local tea, lobby = server:websocket("/rooms/t%65a"), server:websocket("/rooms/lobby")
        tea:send("?")
        tea:expect("room tea")
        server:edit(
          "main.lua",
          script([[
        app:websocket("/rooms/:name", { on_message = function(conn)
          conn:send("name " .. conn.request.params.name .. tostring(conn.request.params.room))
        end })
        app:websocket("/rooms/lobby", { on_message = function(conn) conn:send("the lobby") end })
      ]])
        )
        server:reload()
        tea:send("?")
        tea:expect("name teanil")
        lobby:send("?")
        lobby:expect("the lobby")
      end
    )

    it("gives handlers to connections that had none", function()
      local server = start('app:websocket("/ws", {})')
      local ws = server:websocket("/ws")
      server:edit(
        "main.lua",
        script([[
        app:websocket("/ws", { on_message = function(conn, data)
          conn.session.heard = data
          conn:send(conn.session.heard)
          local ok, message = pcall(function() return conn.request.path end)
          conn:send(message)
        end })
      ]])
      )
      server:reload()
      ws:send("x")
      ws:expect("x")
      ws:expect_match("this connection's request was not kept")
    end)

    it("applies options that have changed", function()
      local body = [[
        app:websocket("/ws", { max_message = %d, on_message = function(conn) conn:send("ok") end,
          idle_timeout = 0, ping_every = %d,
          on_tick = function(conn) conn:send("tick %d") end, tick_every = %d })
      ]]
      local server = start(body:format(1000, 0, 1, 10))
      local ws = server:websocket("/ws")
      server:advance(9)
      server:edit("main.lua", script(body:format(10, 0, 2, 10)))
      server:reload()
      server:advance(1) -- the same period keeps its phase
      ws:expect("tick 2")
      server:edit("main.lua", script(body:format(10, 4, 3, 3)))
      server:reload()
      server:advance(3, { peers = true })
      ws:expect("tick 3")
      server:advance(1, { peers = true })
      ws:expect_ping()
      ws:send(("x"):rep(11))
      ws:expect_close(1009)
    end)

    it("applies topic policies to topics that are there", function()
      local body = 'app:topic("t", { history = %d }) app:websocket("/ws", { on_message = function(conn, data)'
        .. ' if data == "?" then conn:send(perigee.json.encode(#perigee.history("t")))'
        .. ' else perigee.publish("t", data) end end })'
      local server = start(body:format(5))
      local ws = server:websocket("/ws")
      for i = 1, 5 do
        ws:send("m" .. i)
      end
      server:edit("main.lua", script(body:format(2)))
      server:reload()
      ws:send("?")
      ws:expect("2")
    end)

    it("finds modules in folders anew, also one that two files share", function()
      local server = start(
        'local a, b = require("a"), require("parts.b") app:get("/", function() return a .. b end)',
        {
          files = {
            ["a.lua"] = 'return "a" .. require("parts.shared")',
            ["parts/b.lua"] = 'return "b" .. require("parts.shared")',
            ["parts/shared.lua"] = 'return "1"',
          },
        }
      )
      server:get("/"):expect(200, "a1b1")
      server:edit("parts/shared.lua", 'return "2"')
      server:reload()
      server:get("/"):expect(200, "a2b2")
    end)

    it("leaves the functions of a generation their own modules and globals", function()
      local server = start(
        [[
        app:get("/", function()
          perigee.sleep(5)
          return require("late") .. loadstring("return marker")()
        end)
        rawset(_G, "marker", "old")
      ]],
        { files = { ["late.lua"] = 'return "late of " .. rawget(_G, "marker")' } }
      )
      local slow = server:begin({ path = "/" })
      server:settle()
      server:edit(
        "main.lua",
        script('rawset(_G, "marker", "new") app:get("/", function() return require("late") end)')
      )
      server:reload()
      server:get("/"):expect(200, "late of new")
      server:advance(5)
      slow:response():expect(200, "late of oldold")
    end)
  end)

  describe("What is under way at a reload", function()
    it("finishes with the code that it began with", function()
      local body = [[
        app:get("/slow", function() perigee.sleep(5) return "%s" end)
        app:websocket("/ws", { on_message = function(conn, data)
          if data == "slow" then perigee.sleep(5) end
          conn:send("%s " .. data)
        end })
      ]]
      local server = start(body:format("old", "old"))
      local slow, ws = server:begin({ path = "/slow" }), server:websocket("/ws")
      ws:send("slow")
      ws:send("fast")
      server:settle()
      server:edit("main.lua", script(body:format("new", "new")))
      server:reload()
      assert.equal(workers + 1, server:counters().generations)
      server:advance(5)
      slow:response():expect(200, "old")
      ws:expect("old slow")
      ws:expect("new fast")
      assert.equal(workers, server:counters().generations)
    end)

    it("is not told where the newer code has no handler for it", function()
      local server = start([[
        app:websocket("/ws", {
          on_open = function(conn) conn:subscribe("t") end,
          on_message = function(conn) perigee.sleep(5) conn:send("old") end,
          on_signal = function(conn, data) conn:send(data) end,
        })
        app:post("/signal", function() perigee.signal("t", "signal") return "" end)
      ]])
      local ws = server:websocket("/ws")
      ws:send("slow")
      server:settle()
      server:post("/signal"):expect(200)
      ws:send("last")
      server:edit(
        "main.lua",
        script('app:websocket("/ws", { on_message = function(conn, data) conn:send(data) end })')
      )
      server:reload()
      server:advance(5)
      ws:expect("old")
      ws:expect("last")
    end)

    it('is told "retired" a minute later, and not before', function()
      local server = start([[
        app:websocket("/ws", { on_message = function(conn, data)
          local ok, message, code = perigee.sleep(1000)
          conn:send({ message, code })
          ok, message, code = perigee.sleep(1)
          conn:send({ ok or false, code })
        end })
      ]])
      local ws = server:websocket("/ws")
      ws:send("x")
      server:settle()
      server:edit(
        "main.lua",
        script('app:websocket("/ws", { on_message = function(conn) conn:send("new") end })')
      )
      server:reload()
      server:advance(59.9)
      ws:send("y")
      ws:expect_nothing_queued()
      server:advance(0.1)
      ws:expect_json({ "the handler's code was replaced a minute ago", "retired" })
      ws:expect_json({ false, "retired" })
      ws:expect("new")
    end)

    it('is told "retired" too when it began long after its code was replaced', function()
      local server = start([[
        app:post("/", function()
          perigee.after(100, function()
            while perigee.sleep(1) do end
            perigee.log.info("the loop has ended")
          end)
          return ""
        end)
      ]])
      server:post("/", ""):expect(200)
      server:edit("main.lua", script(""))
      server:reload()
      server:advance(159.9)
      assert.equal(workers + 1, server:counters().generations)
      server:advance(0.1)
      server.log:expect("the loop has ended generation=1")
      assert.equal(workers, server:counters().generations)
    end)

    it("becomes a connection of the new code, if that has its route", function()
      local server = start([[
        local function slow() perigee.sleep(5) return { by = "old" } end
        app:websocket("/ws/:a", { authenticate = slow })
        app:sse("/feed", { authenticate = slow })
        app:websocket("/gone", { authenticate = slow })
      ]])
      local headers = {
        Connection = "Upgrade",
        Upgrade = "websocket",
        ["Sec-WebSocket-Version"] = "13",
        ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ==",
      }
      local stays = server:begin({ path = "/ws/1", headers = headers })
      local gone = server:begin({ path = "/gone", headers = headers })
      server:settle()
      server:edit(
        "main.lua",
        script([[
        app:websocket("/ws/:b", { on_open = function(conn)
          perigee.log.info("%s opened by %s", conn.request.params.b, conn.session.by)
        end })
      ]])
      )
      server:reload()
      server:advance(5)
      gone:response():expect(404)
      server.log:expect("1 opened by old generation=2")
      stays:reset()
    end)

    it("has its parameters by their new names, whatever authenticate has read", function()
      local server = start([[
        app:websocket("/ws/:a", { authenticate = function(request)
          perigee.sleep(5)
          return { a = request.params.a }
        end })
      ]])
      local raw = server:raw()
      raw:write(
        "GET /ws/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          .. "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      server:settle()
      server:edit(
        "main.lua",
        script([[
        app:websocket("/ws/:b", { on_open = function(conn)
          conn:send(("a: %s, b: %s"):format(conn.request.params.a, conn.request.params.b))
        end })
      ]])
      )
      server:reload()
      server:advance(5)
      assert.truthy(raw:read_until("a: nil, b: 1"))
    end)

    it("keeps its body's request with the code that read its head", function()
      local server = start('app:post("/", function(request) return "old " .. request.body end)')
      local raw = server:raw()
      raw:write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
      server:settle()
      server:edit("main.lua", script('app:get("/", function() return "" end)'))
      server:reload()
      raw:write("cd")
      assert.truthy(raw:read_until("old abcd"))
      raw:write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
      assert.truthy(raw:read_until("405"))
    end)
  end)

  describe("Timers at a reload", function()
    it("of app:every run exactly once when they are due, in phase", function()
      local body = [[
        local start = perigee.shared("start")
        app:on_start(function(why) if why == "boot" then start:set("at", perigee.now()) end end)
        app:every(10, function() perigee.log.info("%s at %%g", perigee.now() - start:get("at")) end)
      ]]
      local server = start(body:format("old"))
      server:advance(10)
      server.log:expect("old at 10 ")
      server:advance(9.999)
      server:edit("main.lua", script(body:format("new")))
      server:reload()
      server:advance(0.001)
      server.log:expect("new at 20 ")
      server:reload()
      server:advance(10)
      server.log:expect("new at 30 ")
      local _, runs = server.log:text():gsub(" at %d", "")
      assert.equal(3, runs)
    end)

    it("of app:every wait for a run of the older code that is suspended", function()
      local body =
        'app:every(10, function() perigee.log.info("%s begins") perigee.sleep(%d) perigee.log.info("%s ends") end)'
      local server = start(body:format("old", 15, "old"))
      server:advance(11)
      server:edit("main.lua", script(body:format("new", 1, "new")))
      server:reload()
      server:advance(9)
      server.log:expect("old begins")
      assert.is_nil(server.log:text():find("new begins", 1, true))
      server:advance(10)
      server.log:expect("old ends generation=1")
      server.log:expect("new begins generation=2")
    end)

    it("of perigee.after fire once, with the code that made them", function()
      local body =
        'app:on_start(function(why) perigee.after(30, function() perigee.log.info("%s after %%s", why) end) end)'
      local server = start(body:format("old"))
      server:advance(10)
      server:edit("main.lua", script(body:format("new")))
      server:reload()
      assert.equal(1 + workers, server:counters().generations)
      server:advance(20)
      server.log:expect("old after boot generation=1")
      assert.equal(workers, server:counters().generations)
      server:advance(30)
      server.log:expect("new after reload generation=2")
      local _, runs = server.log:text():gsub(" after ", "")
      assert.equal(2, runs)
    end)
  end)

  describe("on_stop and on_start", function()
    it("are told of a reload in this order, on one worker or on each", function()
      local body = [[
        app:on_start(function(why) perigee.log.info("%s start %%s", why) end)
        app:on_stop(function(why) perigee.log.info("%s stop %%s", why) end)
        app:on_start(function(why) perigee.log.info("%s each %%s", why) end, { everywhere = true })
      ]]
      local server = start(body:format("old", "old", "old"))
      server:edit("main.lua", script(body:format("new", "new", "new")))
      server:reload()
      local text = server.log:text()
      local boot, stop = text:find("old start boot", 1, true), text:find("old stop reload", 1, true)
      local again = text:find("new start reload", 1, true)
      assert.truthy(boot and stop and again and boot < stop and stop < again, text)
      assert.equal(workers, select(2, text:gsub("new each reload", "")))
      assert.equal(1, select(2, text:gsub("new start reload", "")))
      server:signal("TERM")
      server:expect_exit(0)
      server.log:expect("new stop stop")
    end)
  end)

  describe("A script that does not load", function()
    local GOOD = [[
      app:get("/", function() return "good" end)
      app:websocket("/ws", { on_message = function(conn) conn:send("good") end })
    ]]

    for what, case in pairs({
      ["has a syntax error"] = { "main.lua", "local x =\n= 1", "main.lua:2: " },
      ["raises"] = { "main.lua", "\n\nerror('boom')", "main.lua:3: boom" },
      ["returns no app"] = { "main.lua", "return 1", "main.lua:1: the script returned a number" },
      ["has modules that require each other"] = {
        "part.lua",
        'require("part")',
        'module "part" requires itself',
      },
      ["needs a file that was deleted"] = { "part.lua", false, 'module "part" not found' },
      ["declares a bad policy"] = { "main.lua", script('app:topic("a*b", {})'), "main.lua:1: " },
    }) do
      it("changes nothing when it " .. what, function()
        local server = start('require("part") ' .. GOOD, { files = { ["part.lua"] = "return 1" } })
        local ws = server:websocket("/ws")
        server:edit(case[1], case[2])
        server:expect_reload_error(case[3])
        server:expect_reload_error("generation 1 stays live")
        ws:send("x")
        ws:expect("good")
        server:get("/"):expect(200, "good")
        local counters = server:counters()
        assert.equal(1, counters.generation)
        assert.equal(2, counters.failed_reloads)
        assert.equal(workers, counters.generations)
        server:edit("part.lua", "return 1")
        server:edit("main.lua", answering("mended"))
        assert.equal(2, server:reload())
        server:get("/"):expect(200, "mended")
        ws:send("x")
        ws:expect("mended: x")
      end)
    end

    it("shows the line", function()
      local server = start(GOOD)
      server:edit("main.lua", "local perigee = require('perigee')\nlocal x = = 1\n")
      local text = server:expect_reload_error("main.lua:2: unexpected symbol near '='")
      assert.truthy(text:find("\n    2 | local x = = 1", 1, true), text)
    end)

    it("is told with as much of its error as a line has room for", function()
      local server = start(GOOD)
      server:edit("main.lua", "\n\nerror('x' .. ('\195\164'):rep(20000))")
      local text = server:expect_reload_error("main.lua:3: x\195\164\195\164")
      assert.truthy(#text > 8000 and #text < 9000, #text)
    end)

    it("leaves nothing of its keep", function()
      local server = start(GOOD)
      server:edit("main.lua", script('perigee.keep("made", { by = "the bad one" }) error("no")'))
      server:expect_reload_error("no")
      server:edit(
        "main.lua",
        script(
          'local made = perigee.keep("made") app:get("/", function() return tostring(made.by) end)'
        )
      )
      server:reload()
      server:get("/"):expect(200, "nil")
    end)

    if workers > 1 then
      it("on one worker goes live on none", function()
        local server = start(GOOD)
        local token = server.scripts_directory .. "/token"
        posix.write_file(server.scripts_directory, "token", "")
        server:edit(
          "main.lua",
          script(([[
          if os.rename(%q, %q) then error("the first worker fails") end
          app:get("/", function() return "new" end)
        ]]):format(token, token .. ".taken"))
        )
        server:expect_reload_error("the first worker fails")
        for worker = 1, workers do
          server:get("/", { worker = worker }):expect(200, "good")
        end
        assert.equal(workers, server:counters().generations)
        assert.equal(2, server:reload())
        for worker = 1, workers do
          server:get("/", { worker = worker }):expect(200, "new")
        end
      end)

      it("is not begun by a worker that is to stop", function()
        local server = start([[
          app:get("/busy", function()
            perigee.log.info("is busy")
            local stop = os.clock() + 0.5
            while os.clock() < stop do end
            return ""
          end)
        ]])
        server:begin({ path = "/busy", worker = 1 })
        server.log:expect("worker 1 is busy")
        server:edit("main.lua", script('perigee.log.info("is loaded")'))
        server:send_command("reload")
        server.log:expect("worker 2 is loaded")
        server:signal("TERM")
        server:expect_exit(0)
        assert.is_nil(server.log:text():find("worker 1 is loaded", 1, true))
      end)

      it("leaves of its keep what live code has taken up meanwhile", function()
        local server = start([[
          app:post("/", function() perigee.keep("made").by = "live code" return "" end)
          app:get("/", function() return tostring(perigee.keep("made").by) end)
        ]])
        local token = server.scripts_directory .. "/token"
        posix.write_file(server.scripts_directory, "token", "")
        server:edit(
          "main.lua",
          script(([[
          perigee.keep("made")
          if not os.rename(%q, %q) then error("not the first worker") end
        ]]):format(token, token .. ".taken"))
        )
        for worker = 2, workers do
          server:stall(worker, 0.3)
        end
        server.log:allow("stays live")
        server:send_command("reload")
        local deadline = posix.deadline(5)
        while not pcall(posix.read_file, token .. ".taken") do
          assert(posix.now() < deadline, "the first worker does not load")
        end
        server:post("/", "", { worker = 1 }):expect(200)
        server.log:expect("not the first worker")
        server:get("/", { worker = 1 }):expect(200, "live code")
      end)
    end
  end)
end)

describe("A file that is saved", function()
  local function start(options)
    local all = { script = answering("one"), watch = true }
    for name, value in pairs(options or {}) do
      all[name] = value
    end
    return gateway.start(all)
  end

  it("is live, by its name in the log", function()
    local server = start()
    local ws = server:websocket("/ws")
    server:edit("main.lua", answering("two"))
    server.log:expect("generation 2 live: .*main.lua changed, .* 1 connection kept")
    ws:send("x")
    ws:expect("two: x")
  end)

  it("is live when it was written in place", function()
    local server = start()
    posix.write_file(server.scripts_directory, "main.lua", answering("two"))
    server.log:expect("generation 2 live")
    server:get("/"):expect(200, "two")
  end)

  it("is not loaded again when nothing in it has changed", function()
    local server = start()
    server:edit("main.lua", answering("one"))
    server:edit("main.lua", answering("two"))
    server.log:expect("generation 2 live")
    server:edit("main.lua", answering("two"))
    server:edit("other.lua", "not a file of the script")
    server:edit("main.lua", answering("three"))
    server.log:expect("generation 3 live")
    server:get("/"):expect(200, "three")
  end)

  it("may be one that was missing", function()
    local server = start({
      script = script([[
      local ok, part = pcall(require, "parts.one")
      app:get("/", function() return ok and part or "without" end)
    ]]),
    })
    server:get("/"):expect(200, "without")
    server:edit("parts/one.lua", 'return "with"')
    server.log:expect("generation 2 live: .*parts/one.lua changed")
    server:get("/"):expect(200, "with")
    server:edit("parts/one.lua", false)
    server.log:expect("generation 3 live")
    server:get("/"):expect(200, "without")
    posix.remove_directory(server.scripts_directory .. "/parts")
    server:edit("parts/one.lua", 'return "again"')
    server.log:expect("generation 4 live")
    server:get("/"):expect(200, "again")
  end)

  it("may be one that was required late, by a handler", function()
    local server = start({
      script = script('app:get("/", function() return require("late") end)'),
      files = { ["late.lua"] = 'return "one"' },
    })
    server:get("/"):expect(200, "one")
    server:edit("late.lua", 'return "two"')
    server.log:expect("generation 2 live: .*late.lua changed")
    server:get("/"):expect(200, "two")
  end)

  it("may be one that was required while another worker loaded, in vain", function()
    local body = [[
      app:get("/late", function() return require("late") end)
      app:get("/busy", function()
        perigee.log.info("is busy")
        local stop = os.clock() + 0.3
        while os.clock() < stop do end
        return ""
      end)
    ]]
    local server = start({
      script = script(body),
      workers = 2,
      files = { ["late.lua"] = 'return "one"' },
    })
    server:begin({ path = "/busy", worker = 2 })
    server.log:expect("worker 2 is busy")
    local token = server.scripts_directory .. "/token"
    posix.write_file(server.scripts_directory, "token", "")
    server.log:allow("stays live")
    server:edit(
      "main.lua",
      script(
        ("assert(os.rename(%q, %q)) perigee.log.info('is loaded')"):format(token, token .. "2")
      )
    )
    server.log:expect("worker 1 is loaded")
    server:get("/late", { worker = 1 }):expect(200, "one")
    server.log:expect("generation 1 stays live")
    server:edit("main.lua", "broken")
    server.log:expect("expected near")
    server:edit("late.lua", 'return "two"')
    server.log:expect("generation 1 stays live %(.*late.lua changed")
  end)

  it(
    "is live when a worker that was held up for too long comes back, or when that is asked",
    function()
      local body = [[
      app:get("/busy", function()
        perigee.log.info("is busy")
        local stop = os.time() + 7
        while os.time() < stop do end
        return ""
      end)
    ]]
      local function start_busy(is_watching)
        local server = start({
          script = script(body),
          workers = 2,
          watch = is_watching,
          arguments = { "--stall-timeout", "30" },
        })
        local busy = server:begin({ path = "/busy", worker = 2 })
        server.log:expect("worker 2 is busy")
        server:edit("main.lua", answering("two"))
        return server, busy
      end
      local watching = start_busy(true)
      local asked, busy = start_busy(false)
      asked:expect_reload_error("worker 2 has not loaded the script within 5 s: it is in .*/busy")
      assert.is_nil(asked.log:text():find("generation 2", 1, true))
      busy:response(10):expect(200)
      asked:settle()
      assert.equal(2, asked:reload())

      watching.log:expect("worker 2 has not loaded the script within 5 s")
      watching.log:expect("generation 2 live: .*main.lua changed", 10)
      watching:get("/", { worker = 2 }):expect(200, "two")
    end
  )

  it("may stand behind a symbolic link, of the file or of the script's directory", function()
    local place = posix.temporary_directory()
    -- A kept publication is forgotten by what the gateway does once a second; a look at files that
    -- were just loaded is part of it, and is not what this is about.
    local main = script([[
      app:topic("t", { history = 1, age = 0.001 })
      app:post("/", function() perigee.publish("t", "x") return "" end)
      app:get("/", function() return RELEASE .. require("part") end)
    ]])
    local function link(target, name)
      local command = "cd %s && ln -s %s new && mv -T new %s"
      assert.equal(0, os.execute(command:format(place, target, name)))
    end
    for _, release in ipairs({ "1", "2" }) do
      posix.write_file(place, release .. "/main.lua", (main:gsub("RELEASE", release)))
      link("../part.text", release .. "/part.lua")
    end
    posix.write_file(place, "part.text", 'return "a"')
    link("1", "current")
    local server = start({ script = place .. "/current/main.lua" })
    local function expect(body)
      server:get("/"):expect(200, body)
      server:post("/", ""):expect(200)
      server:wait_for({ hub_topics = 0 })
    end
    expect("1a")
    posix.write_file(place, "part.text", 'return "b"')
    server.log:expect("generation 2 live: .*current/part.lua changed")
    expect("1b")
    link("2", "current")
    server.log:expect("generation 3 live: .*current/main.lua changed")
    expect("2b")
    posix.remove_directory(place)
  end)

  it("is an error in the log, until it is mended", function()
    local server = start()
    server.log:allow("generation 1 stays live")
    server:edit("main.lua", "local x = = 1")
    server.log:expect(
      "generation 1 stays live %(.*main.lua changed%): .*main.lua:1: unexpected symbol"
    )
    server:get("/"):expect(200, "one")
    server:edit("main.lua", answering("two"))
    server.log:expect("generation 2 live")
    server:get("/"):expect(200, "two")
  end)

  it("is not live with --no-watch, but on SIGHUP", function()
    local server = start({ watch = false })
    server:edit("main.lua", answering("two"))
    server:settle()
    server:get("/"):expect(200, "one")
    server:signal("HUP")
    server.log:expect("generation 2 live: SIGHUP")
    server:get("/"):expect(200, "two")
  end)

  it("is live once after a storm of a thousand files", function()
    local server = start()
    for i = 1, 1000 do
      posix.write_file(server.scripts_directory, ("storm/%d.lua"):format(i), "return " .. i)
    end
    server:edit("main.lua", answering("two"))
    server.log:expect("generation 2 live")
    server:settle()
    assert.equal(2, server:counters().generation)
  end)
end)

describe("A generation that a timer holds", function()
  it("is named when it is a minute old", function()
    local server = gateway.start({
      script = script("app:on_start(function()\nperigee.after(3600, function() end)\nend)"),
      workers = 1,
      clock = "frozen",
    })
    server:edit("main.lua", script(""))
    server:reload()
    server:advance(60)
    server.log:expect(
      "generation 1 is held by 1 timer of perigee.after, the last due in 3540 s %(.*main.lua:2%)"
    )
    server:advance(3540)
    assert.equal(1, server:counters().generations)
  end)
end)

describe("A generation that the script holds", function()
  local function held(body, message)
    local server = gateway.start({ script = script(body), workers = 1, clock = "frozen" })
    local ws = server:websocket("/ws")
    ws:send("x")
    ws:fence()
    server:edit("main.lua", script('app:websocket("/ws", {})'))
    server:reload()
    server.log:expect("generation 1 cannot be collected: " .. message)
    server:reload()
    server:collect()
    assert.equal(1, select(2, server.log:text():gsub("cannot be collected", "")))
  end

  it("by a function in keep is named by its path", function()
    held(
      [[
      local rooms = perigee.keep("rooms")
      app:websocket("/ws", { on_message = function()
        rooms.lobby = { people = { "ann", { greet = function() end } } }
      end })
    ]],
      'perigee.keep%("rooms"%)%.lobby%.people%[2%]%.greet is a function of .*main.lua:3'
    )
  end)

  it("by a metatable in a session is named too", function()
    held(
      [[
      local Person = {}
      Person.__index = Person
      function Person:greet() end
      app:websocket("/ws", { on_message = function(conn)
        conn.session.person = setmetatable({}, Person)
      end })
    ]],
      "the session of a connection of /ws%.person %(its metatable%)%.%w+.- is a function of .*main.lua:3"
    )
  end)

  it("by a closure of something else is found", function()
    held(
      [[
      app:websocket("/ws", { on_message = function(conn)
        perigee.keep("k").co = coroutine.create(function() end)
      end })
    ]],
      'perigee.keep%("k"%).co is a coroutine'
    )
  end)

  it("is nothing to speak of when it is data", function()
    local server = gateway.start({
      script = script([[
      perigee.keep("k").numbers = { 1, 2, { 3 } }
      app:websocket("/ws", { on_open = function(conn) conn.session.name = "ann" end })
    ]]),
      workers = 1,
      clock = "frozen",
    })
    server:websocket("/ws")
    for _ = 1, 3 do
      server:reload()
      server:collect()
      server:collect()
    end
  end)
end)

describe("A thousand modules", function()
  it("that change at once are told in a line, and so is what is wrong with one", function()
    local files = {}
    for i = 1, 1000 do
      files[("parts/part%d.lua"):format(i)] = "return 1"
    end
    local server = gateway.start({
      script = script([[
        local sum = 0
        for i = 1, 1000 do sum = sum + require("parts.part" .. i) end
        app:get("/", function() return tostring(sum) end)
      ]]),
      files = files,
      watch = true,
    })
    server:get("/"):expect(200, "1000")
    server:settle() -- it has looked at its files for the first time, too
    server.log:allow("stays live")
    -- It stands still meanwhile, so that it finds all of them changed, however slowly they are written.
    server:signal("STOP")
    for name in pairs(files) do
      server:edit(name, name:find("part1000") and "return nil + 1" or "return 2")
    end
    server:signal("CONT")
    local line = server.log:expect("generation 1 stays live")
    assert.truthy(line:find(" and 9%d%d more changed%): .*part1000.lua:1: attempt"), line)
    server:get("/"):expect(200, "1000")
    server:edit("parts/part1000.lua", "return 2")
    server.log:expect("generation 2 live: .*part1000.lua changed, ")
    server:get("/"):expect(200, "2000")
  end)
end)

describe("A thousand reloads", function()
  it("leave nothing behind", function()
    local server = gateway.start({ script = answering("0"), workers = 2, clock = "frozen" })
    local ws = server:websocket("/ws", { worker = 2 })
    local function round(from, to)
      for i = from, to do
        server:edit("main.lua", answering(tostring(i)))
        server:reload()
        ws:send("x")
        ws:expect(i .. ": x")
      end
      server:collect()
      return server:counters().lua_bytes
    end
    local before = round(1, 50)
    local after = round(51, 300)
    assert.is_true(after < before + 64 * 1024, ("%d bytes, then %d"):format(before, after))
    assert.equal(2, server:counters().generations)
  end)
end)
