-- `perigee reload` and the control socket that it speaks to.
local gateway = require("spec.support.gateway")
local lfs = require("lfs")
local posix = require("perigee.testing.posix")

local function script(text)
  return ('local app = require("perigee").app() app:get("/", function() return %q end)\nreturn app\n'):format(
    text
  )
end

describe("perigee reload", function()
  local server, socket

  before_each(function()
    server = gateway.start({
      script = script("one"),
      workers = 2,
      arguments = { "--control", "control.sock" },
      directory = lfs.currentdir() .. "/build",
    })
    socket = lfs.currentdir() .. "/build/control.sock"
  end)

  local function reload(...)
    return gateway.run({ "reload", ... })
  end

  it("prints the new generation when it is live", function()
    server:edit("main.lua", script("two"))
    local result = reload("--control", socket)
    assert.equal(0, result.code, result.stderr)
    assert.truthy(
      result.stdout:find("^generation 2 live: perigee reload, %d+ ms, 0 connections kept\n$")
    )
    assert.equal("", result.stderr)
    server:get("/"):expect(200, "two")
  end)

  it("prints the error, and fails, when the script does not load", function()
    server.log:allow("stays live")
    server:edit("main.lua", "local x =\n= 1 -- \27[31m")
    local result = reload("--control=" .. socket)
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.truthy(
      result.stderr:find("main.lua:2: unexpected symbol near '='\n    2 | = 1 -- ?[31m\n", 1, true),
      result.stderr
    )
    server:get("/"):expect(200, "one")
  end)

  it("takes the path from the environment", function()
    local result = gateway.run({ "reload" }, { env = { PERIGEE_CONTROL = socket } })
    assert.equal(0, result.code, result.stderr)
  end)

  it("asks for the path, and says where nobody is", function()
    local result = reload()
    assert.equal(2, result.code)
    assert.truthy(result.stderr:find("^perigee: which gateway%? [^\n]+\n$"), result.stderr)
    result = reload("--control", "/no/such/socket")
    assert.equal(1, result.code)
    assert.equal(
      "perigee: there is no gateway at /no/such/socket: No such file or directory\n",
      result.stderr
    )
    assert.equal(2, reload("--what").code)
  end)

  it("has a socket that is its owner's alone, and gone with the gateway", function()
    assert.equal("rw-------", lfs.attributes(socket, "permissions"))
    server:stop()
    assert.is_nil(lfs.attributes(socket))
    assert.equal(1, reload("--control", socket).code)
  end)

  it("is refused a socket that another gateway has", function()
    local result =
      gateway.run({ "serve", server.script, "--listen", "127.0.0.1:0", "--control", socket })
    assert.equal(1, result.code)
    assert.truthy(
      result.stderr:find("^perigee: cannot listen on unix:.*control.sock: address already in use\n"),
      result.stderr
    )
    assert.equal(0, reload("--control", socket).code)
  end)

  it("bears with peers that say nothing, too much, or something else", function()
    local silent = {}
    for i = 1, 20 do
      silent[i] = posix.connect({ path = socket })
    end
    for _, fd in ipairs(silent) do
      posix.close(fd)
    end
    server:settle() -- their ends have been seen
    local function say(text)
      local fd = assert(posix.connect({ path = socket }))
      pcall(posix.write_pipe, fd, text)
      local got = require("string.buffer").new()
      while true do
        local count, why = posix.receive(fd, got)
        if not count and why ~= "again" then
          break
        elseif not count then
          assert(posix.wait(fd, true, false, posix.deadline()))
        end
      end
      posix.close(fd)
      return tostring(got)
    end
    assert.equal("failed unknown command\n", say("stop\n"))
    assert.equal("", say(("x"):rep(1000)))
    assert.equal(0, reload("--control", socket).code)
  end)
end)
