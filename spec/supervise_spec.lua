-- `--supervise`: a parent process that keeps the sockets, and a gateway that comes back.
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

local APP = [[
  app:get("/", function() return "hello" end)
  app:get("/hold", function()
    perigee.log.info("holding")
    while true do end
  end)
]]

describe("A supervised gateway", function()
  local function start(opts)
    opts = opts or {}
    opts.app = opts.app or APP
    opts.arguments = opts.arguments or { "--supervise" }
    return gateway.start(opts)
  end

  -- The process that serves.
  local function child_of(server)
    local path = ("/proc/%d/task/%d/children"):format(server.pid, server.pid)
    return tonumber(posix.read_file(path):match("^(%d+)"))
  end

  -- Ends the child by a signal; returns when the parent knows.
  local function crash(server)
    local child = assert(child_of(server), "no child")
    assert.is_true(posix.kill(child, "KILL"))
    server.log:expect(("process %d%%) ended with signal 9"):format(child))
    return child
  end

  it("serves as one without, and ends in good order", function()
    local server = start()
    local child = child_of(server)
    assert.is_true(child ~= nil and child ~= server.pid)
    assert.equal("hello", server:get("/").body)
    server:stop()
    assert.is_false(posix.kill(child, 0))
  end)

  it("is switched on in the environment too, and ends on SIGINT", function()
    local server = start({ arguments = {}, env = { PERIGEE_SUPERVISE = "1" } })
    assert.is_true(child_of(server) ~= nil)
    server:signal("INT")
    server:expect_exit(0)
  end)

  it("ends in good order when parent and child get the same signal", function()
    local server = start()
    posix.kill(child_of(server), "TERM")
    server:signal("TERM")
    server:expect_exit(0)
  end)

  it("comes back on the same port after a crash, and answers who came in between", function()
    local server = start({ workers = 2 })
    local old = crash(server)
    local conns = {}
    for i = 1, 20 do
      conns[i] = server:raw({ listener = 1 })
      conns[i]:write("GET / HTTP/1.0\r\n\r\n")
    end
    for i = 1, 20 do
      assert.truthy(conns[i]:read_all(10):find("hello$"))
    end
    assert.is_true(child_of(server) ~= old)
    -- Its listeners were named once: the next line is the answer.
    assert.equal(0, server:counters().connections)
    assert.equal("hello", server:request({ path = "/", worker = 2 }).body)
  end)

  it("comes back on a Unix socket, whose file goes at the end", function()
    local directory = posix.temporary_directory()
    local path = directory .. "/socket"
    local server = start({ listen = { "unix:" .. path } })
    crash(server)
    assert.equal("hello", server:request({ path = "/", listener = 1 }).body)
    server:stop()
    assert.is_nil(io.open(path))
    assert.is_falsy(os.rename(path, path))
    posix.remove_directory(directory)
  end)

  it("is restarted when a worker is stuck", function()
    local server = start({ arguments = { "--supervise", "--stall-timeout", "0.3" }, workers = 2 })
    server:raw({ worker = 2 }):write("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.log:expect("worker 2 has been stuck for .* in the handler of /hold", 5)
    server.log:expect("is stuck, and is killed", 10)
    server.log:expect("ended with signal 9", 5)
    for _, pattern in ipairs({ "has been stuck", "is stuck, and", "ended with signal 9" }) do
      server.log:expect(pattern)
    end
    assert.equal("hello", server:request({ path = "/", worker = 2 }).body)
    -- What kept connections from the worker that was stuck has gone with it.
    for _ = 1, 40 do
      assert.equal("hello", server:request({ path = "/", listener = 1 }).body)
    end
  end)

  it("keeps its port while it is away", function()
    local server = start()
    local address = ("127.0.0.1:%d"):format(server.listeners[1].port)
    local function is_refused()
      local result = gateway.run({ "serve", server.script, "--listen", address })
      assert.equal(1, result.code)
      assert.truthy(result.stderr:find("cannot listen on " .. address, 1, true), result.stderr)
    end
    is_refused()
    crash(server)
    is_refused()
    assert.equal("hello", server:get("/").body)
  end)

  it("does not start at all with a script that does not load", function()
    local directory = posix.temporary_directory()
    posix.write_file(directory, "main.lua", "local = 1\n")
    local result = gateway.run(
      { "serve", directory .. "/main.lua", "--supervise", "--listen", "127.0.0.1:0" },
      {}
    )
    posix.remove_directory(directory)
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.truthy(result.stderr:find("^perigee: [^\n]*main.lua:1: [^\n]*\n$"), result.stderr)
  end)

  it("tries again, at growing intervals, when the script broke while it ran", function()
    local script = "local perigee = require('perigee') local app = perigee.app() "
      .. "app:get('/', function() return 'hello' end) return app"
    local server = gateway.start({
      script = script .. "\n",
      arguments = { "--supervise" },
    })
    local directory = server.script:match("^(.*)/")
    posix.write_file(directory, "main.lua", "local = 1\n")
    crash(server)
    server.log:expect("ended with exit code 1; it starts again in 0%.2 s", 5)
    server.log:expect("ended with exit code 1; it starts again in 0%.4 s", 5)
    server.log:allow("ended with exit code 1")
    posix.write_file(directory, "main.lua", script)
    assert.equal("hello", server:request({ path = "/", seconds = 10 }).body)
  end)

  it("ends at once when it is asked to while it is away", function()
    local server = start({ test_mode = false })
    crash(server)
    server:stop()
  end)

  it("ends at once when asked twice", function()
    local server =
      start({ test_mode = false, arguments = { "--supervise", "--drain-timeout", "60" } })
    server:raw():write("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.log:expect("holding")
    local child = child_of(server)
    server:signal("TERM")
    server.log:expect("stopping")
    server:signal("TERM")
    server:expect_exit(137)
    assert.is_false(posix.kill(child, 0))
  end)

  it("ends when its parent is killed", function()
    local server = start()
    posix.kill(server.pid, "KILL")
    local counters = server:read_to_end(posix.deadline(10))
    assert.is_truthy(counters, "it did not end in good order")
    assert.equal(0, counters.connections)
    server:kill()
  end)
end)
