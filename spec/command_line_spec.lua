-- What an operator types and reads: options, exit codes, the one line that says what is wrong.
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")
local posix = require("perigee.testing.posix")

local HELLO = [[
local perigee = require("perigee")
local app = perigee.app()
app:get("/", function() return "hello" end)
return app
]]

describe("The command line", function()
  local directory
  before_each(function()
    directory = posix.temporary_directory()
    posix.write_file(directory, "main.lua", HELLO)
  end)
  after_each(function()
    posix.remove_directory(directory)
  end)

  local function run(...)
    return gateway.run({ ... }, { directory = directory })
  end

  -- Ends with this code and one line that matches.
  local function complains(result, code, pattern)
    assert.equal(code, result.code, result.stderr)
    assert.equal("", result.stdout)
    local _, lines = result.stderr:gsub("\n", "")
    assert.equal(1, lines, result.stderr)
    assert.truthy(result.stderr:find(pattern), result.stderr)
  end

  it("says its version", function()
    local result = run("version")
    assert.equal(0, result.code)
    assert.truthy(result.stdout:find("^perigee %d+%.%d+"), result.stdout)
  end)

  it("helps", function()
    for _, arguments in ipairs({
      { "help" },
      { "help", "serve" },
      { "help", "new" },
      { "help", "check" },
      { "help", "routes" },
      { "help", "test" },
      { "help", "version" },
      { "help", "limits" },
    }) do
      local result = gateway.run(arguments, {})
      assert.equal(0, result.code, table.concat(arguments, " "))
      assert.equal("", result.stderr)
      assert.truthy(#result.stdout > 0)
    end
    assert.truthy(run("help").stdout:find("serve"))
    local help = run("help", "serve").stdout
    for _, option in ipairs({ "--listen", "--workers", "--log-level", "PERIGEE_" }) do
      assert.truthy(help:find(option, 1, true), option)
    end
  end)

  it("prints every limit with default, unit and range", function()
    local help = run("help", "limits").stdout
    local names = {
      "connections",
      "connections.per.address",
      "header.bytes",
      "headers",
      "url.bytes",
      "body.bytes",
      "message.bytes",
      "fragments",
      "topics.per.connection",
      "outbox.bytes",
      "inbox.entries",
      "topics",
      "history.bytes",
      "shared.bytes",
      "suspended.events",
      "tasks",
      "timers",
      "json.depth",
      "header.timeout",
    }
    for _, name in ipairs(names) do
      local found = false
      for line in help:gmatch("[^\n]+") do
        found = found
          or (
            line:find("%f[%w]" .. name:gsub("%.", "[-_]") .. "%f[^%w_-]")
            and line:find("%d") ~= nil
          )
      end
      assert.is_truthy(found, name .. " is missing in:\n" .. help)
    end
    assert.truthy(help:find("seconds"))
    assert.truthy(help:find("bytes"))
  end)

  it("refuses what it does not know with one line and exit code 2", function()
    complains(run("serve", "main.lua", "--wrokers", "2"), 2, "wrokers")
    complains(run("serve", "main.lua", "--workers"), 2, "workers")
    complains(run("serve", "main.lua", "--workers", "0"), 2, "workers")
    complains(run("serve", "main.lua", "--workers", "65"), 2, "workers")
    complains(run("serve", "main.lua", "--workers", "two"), 2, "workers")
    complains(run("serve", "main.lua", "--log-level", "loud"), 2, "log%-level")
    complains(run("serve", "main.lua", "--listen", "nonsense"), 2, "listen")
    complains(run("serve", "main.lua", "--listen", "127.0.0.1:65536"), 2, "listen")
    complains(run("serve", "main.lua", "other.lua"), 2, "other.lua")
    complains(run("server"), 2, "server")
    complains(run("help", "nothing"), 2, "nothing")
  end)

  it("takes every option from the environment too, and the command line wins", function()
    local server = gateway.start({ script = HELLO, workers = 1, env = { PERIGEE_WORKERS = "3" } })
    assert.is_nil(server.workers[2])
    server:stop()
    local result = gateway.run(
      { "serve", "main.lua" },
      { directory = directory, env = { PERIGEE_WORKERS = "none" } }
    )
    complains(result, 2, "PERIGEE_WORKERS")
    result = gateway.run(
      { "serve", "main.lua" },
      { directory = directory, env = { PERIGEE_LOG_LEVEL = "loud" } }
    )
    complains(result, 2, "PERIGEE_LOG_LEVEL")
  end)

  it("takes a limit as an option and from the environment, within its range", function()
    local server = gateway.start({ script = HELLO, arguments = { "--limit-url-bytes", "128" } })
    assert.equal(414, server:get("/" .. ("a"):rep(200)).status)
    server:stop()
    server = gateway.start({ script = HELLO, env = { PERIGEE_LIMIT_URL_BYTES = "128" } })
    assert.equal(414, server:get("/" .. ("a"):rep(200)).status)
    server:stop()
    complains(run("serve", "main.lua", "--limit-url-bytes", "1"), 2, "url")
  end)

  it("says where it listens, with the real port", function()
    local server = gateway.start({
      script = HELLO,
      listen = { "127.0.0.1:0", "127.0.0.1:0" },
      test_mode = false,
    })
    assert.equal(2, #server.listeners)
    for i = 1, 2 do
      assert.is_true(server.listeners[i].port > 0)
      assert.equal("hello", server:request({ path = "/", listener = i }).body)
    end
  end)

  it("listens on IPv6", function()
    local server = gateway.start({ script = HELLO, listen = { "[::1]:0" }, test_mode = false })
    assert.equal("::1", server.listeners[1].host)
    assert.equal("hello", server:get("/").body)
  end)

  it("listens on a Unix socket, and on one that an earlier gateway left behind", function()
    local path = directory .. "/socket"
    for _ = 1, 2 do
      local server = gateway.start({
        script = HELLO,
        listen = { "unix:" .. path },
        workers = 2,
        test_mode = false,
      })
      assert.equal(path, server.listeners[1].path)
      for _ = 1, 5 do
        assert.equal("hello", server:get("/").body)
      end
      server:kill()
    end
  end)

  it("serves all workers on one port", function()
    local server = gateway.start({ script = HELLO, workers = 4 })
    for _ = 1, 20 do
      assert.equal("hello", server:request({ path = "/", listener = 1 }).body)
    end
    for worker = 1, 4 do
      assert.equal("hello", server:request({ path = "/", worker = worker }).body)
    end
  end)

  it("refuses a port that is in use, by another program and by another gateway", function()
    local fd, port = posix.listen()
    local result = run("serve", "main.lua", "--listen", "127.0.0.1:" .. port)
    posix.close(fd)
    complains(result, 1, ":" .. port)
    local server = gateway.start({ script = HELLO, workers = 2 })
    local address = "127.0.0.1:" .. server.listeners[1].port
    complains(run("serve", "main.lua", "--workers", "2", "--listen", address), 1, "in use")
    assert.equal("hello", server:get("/").body)
  end)

  it("refuses a missing script with exit code 1", function()
    complains(run("serve", "missing.lua", "--listen", "127.0.0.1:0"), 1, "missing%.lua")
  end)

  describe("names file and line", function()
    local function fails(files, pattern)
      for name, content in pairs(files) do
        posix.write_file(directory, name, content)
      end
      complains(run("serve", "main.lua", "--workers", "2", "--listen", "127.0.0.1:0"), 1, pattern)
    end

    it("of a syntax error", function()
      fails({ ["main.lua"] = "local x = 1\nlocal = 2\n" }, "main%.lua:2")
    end)

    it("of an error while loading", function()
      fails({ ["main.lua"] = "local x = 1\nerror('it broke')\n" }, "main%.lua:2.*it broke")
    end)

    it("in the innermost required file", function()
      fails({
        ["main.lua"] = "local a = require('a')\nreturn a\n",
        ["a.lua"] = "\n\nreturn require('inner.b')\n",
        ["inner/b.lua"] = "local x\n\n\nerror('deep down')\n",
      }, "inner/b%.lua:4.*deep down")
      fails({ ["inner/b.lua"] = "x = = 1\n" }, "inner/b%.lua:1")
    end)

    it("of a module that is missing", function()
      fails({ ["main.lua"] = "\nlocal a = require('nowhere')\n" }, "main%.lua:2.*nowhere")
    end)

    it("of a misspelt option, naming it", function()
      fails({
        ["main.lua"] = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("room:*", { hystory = 3 })
return app
]],
      }, 'main%.lua:3.*unknown option "hystory" for app:topic')
    end)

    it("of a new global", function()
      fails({ ["main.lua"] = "local x = 1\ncounter = 2\n" }, "main%.lua:2.*counter")
    end)

    it("of a route declared twice", function()
      fails({
        ["main.lua"] = [[
local app = require("perigee").app()
app:get("/", function() end)
app:get("/", function() end)
return app
]],
      }, "main%.lua:3")
    end)

    it("of what a later version brings", function()
      fails({
        ["main.lua"] = [[
local app = require("perigee").app()
app:topic("a", { history = 1, durable = true })
return app
]],
      }, "main%.lua:2.*not yet: durable")
    end)

    it("of a script that returns no app", function()
      fails({ ["main.lua"] = "return 1\n" }, "main%.lua")
      fails({ ["main.lua"] = "local x = 1\n" }, "main%.lua")
    end)
  end)

  it("finds modules beside the script, from any directory", function()
    local server = gateway.start({
      directory = "/",
      files = { ["part/one.lua"] = "return 'from part/one'" },
      script = [[
        local perigee = require("perigee")
        local app = perigee.app()
        local text = require("part.one")
        app:get("/", function() return text end)
        return app
      ]],
    })
    assert.equal("from part/one", server:get("/").body)
  end)

  for _, name in ipairs({ "TERM", "INT" }) do
    it("ends in good order on SIG" .. name, function()
      local server = gateway.start({ script = HELLO, workers = 2 })
      local conn = server:raw()
      assert.equal("hello", http.exchange(conn, { path = "/" }).body)
      server:signal(name)
      conn:expect_eof()
      server:expect_exit(0)
    end)
  end

  it("finishes the request under way before it ends", function()
    local server = gateway.start({
      app = [[
      app:get("/", function() perigee.log.info("begun") perigee.sleep(0.2) return "done" end)
    ]],
    })
    local conn = server:raw()
    conn:write(http.request({ path = "/" }))
    server.log:expect("begun")
    server:signal("TERM")
    local response = http.read_response(conn)
    assert.is_true(response.status == 200 or response.status >= 500)
    server.log:allow("stopping")
    server:expect_exit(0)
  end)

  it("ends at once at a second signal", function()
    local server = gateway.start({ app = [[
      app:websocket("/", {})
    ]], test_mode = false })
    local ws = server:websocket("/", { auto_close = false })
    server:signal("TERM")
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "1001")
    server:signal("TERM")
    ws.conn:expect_closed(1)
    server:kill()
  end)

  it("accepts nobody after SIGTERM", function()
    local server = gateway.start({ app = [[app:websocket("/", {})]], test_mode = false })
    local ws = server:websocket("/", { auto_close = false })
    server:signal("TERM")
    ws:wait_until(function()
      return ws.closed ~= nil
    end, "1001")
    assert.has_error(function()
      server:get("/")
    end)
    ws:send_close(1001)
    server:expect_exit(0)
  end)

  it("logs at the level asked for", function()
    local server = gateway.start({
      arguments = { "--log-level", "error" },
      app = [[
      app:get("/", function()
        perigee.log.warn("a warning")
        perigee.log.error("an error: %d %s", 7, { a = 1 })
        return ""
      end)
    ]],
    })
    server:get("/")
    server.log:expect("an error")
    assert.is_nil(server.log:text():find("a warning", 1, true))
    server.log:expect('an error: 7 {"a":1}')
  end)

  it("escapes what a peer could forge into the log", function()
    local server = gateway.start({
      app = [[
      app:get("/", function(request)
        perigee.log.info("said: " .. request.query.x)
        perigee.log.info("100% literal %s")
        return ""
      end)
    ]],
    })
    server:get("/?x=a%0A2026-01-01T00:00:00.000Z%20error%20forged%1B[31m")
    server.log:expect("literal %%s")
    assert.is_nil(server.log:text():find("\n2026-01-01T00:00:00.000Z error forged", 1, true))
    assert.is_nil(server.log:text():find("\27", 1, true))
  end)
end)
