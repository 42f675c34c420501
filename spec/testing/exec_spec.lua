-- Code of a spec inside a worker, and faults that it makes.
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

local APP = [[
  local count = 0
  app:get("/count", function() count = count + 1 return tostring(count) end)
  app:websocket("/", {
    on_open = function(conn) conn:subscribe("all") end,
    on_message = function(conn, data) conn:send(data) end,
  })
]]

local function failure_of(fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(problem)
end

describe("server:exec", function()
  local server
  before_each(function()
    server = gateway.start({ app = APP, workers = 2, clock = "frozen" })
  end)

  it("gives arguments and results, in their places", function()
    local a, b, c, d = server:exec(function(_, x, y, z)
      return { x, z }, nil, y, false
    end, 1, "two", { 3, text = nil })
    assert.same({ 1, { 3 } }, a)
    assert.is_nil(b)
    assert.equal("two", c)
    assert.is_false(d)
    assert.equal(0, select("#", server:exec(function() end)))
    local bytes = server:exec(function(_, text)
      return text .. text
    end, "Grüße\n\0")
    assert.equal("Grüße\n\0Grüße\n\0", bytes)
  end)

  it("hands over what is large", function()
    local text = ("x"):rep(300 * 1024)
    local len = server:exec(function(_, given)
      return #given
    end, text)
    assert.equal(#text, len)
  end)

  it("runs in the worker of one's choice, with perigee", function()
    local ann = server:websocket("/", { worker = 1 })
    local bob = server:websocket("/", { worker = 2 })
    for worker = 1, 2 do
      local receivers = server:exec_on(worker, function(perigee, number)
        rawset(perigee, "number", number)
        return select(2, perigee.publish("all", "from " .. number))
      end, worker)
      assert.equal(2, receivers)
      ann:expect("from " .. worker)
      bob:expect("from " .. worker)
    end
    for worker = 1, 2 do
      local seen = server:exec_on(worker, function(perigee)
        return perigee.number
      end)
      assert.equal(worker, seen)
    end
  end)

  it("may suspend, and is answered when it ends", function()
    local other = gateway.start({ app = APP })
    local woken = other:exec(function(perigee)
      return perigee.sleep(0.01)
    end)
    assert.is_true(woken)
  end)

  it("says so when it waits for a time that stands still, and goes on later", function()
    posix.patience = 0.1
    finally(function()
      posix.patience = 2
    end)
    local text = failure_of(server.exec, server, function(perigee)
      perigee.sleep(1)
      perigee.publish("all", "woken")
    end)
    local waited = ("it has not returned within %g s"):format(0.1 * posix.time_scale)
    assert.truthy(text:find(waited .. ": it suspends, and the", 1, true), text)
    local ws = server:websocket("/")
    server:advance(1)
    ws:expect("woken")
    assert.equal(
      7,
      server:exec(function()
        return 7
      end)
    )
  end)

  it("fails the spec with the error and its line", function()
    local text = failure_of(server.exec, server, function()
      local nothing = nil
      return nothing.field
    end)
    assert.truthy(text:find("exec_spec.lua:%d+: attempt to index local 'nothing'"), text)
    text = failure_of(server.exec, server, function()
      error({ message = "a table" })
    end)
    assert.truthy(text:find("problem: +a table"), text)
  end)

  it("refuses a function that needs variables from outside, by their names", function()
    local outside = 1
    local text = failure_of(server.exec, server, function()
      return outside, server
    end)
    assert.truthy(text:find('uses "outside", "server" from outside', 1, true), text)
    text = failure_of(server.exec, server, print)
    assert.truthy(text:find("takes a function written in Lua", 1, true), text)
    text = failure_of(server.exec, server, "return 1")
    assert.truthy(text:find("takes a function, not a string", 1, true), text)
    text = failure_of(server.exec_on, server, 3, function() end)
    assert.truthy(text:find("there is no worker 3, there are 2", 1, true), text)
  end)

  it("refuses results that are not for JSON", function()
    local text = failure_of(server.exec, server, function()
      return print
    end)
    assert.truthy(text:find("what it returned is not for JSON: cannot encode a function"), text)
    text = failure_of(server.exec, server, function()
      coroutine.yield()
    end)
    assert.truthy(text:find("it did not return", 1, true), text)
    server.log:expect("the handler yielded")
  end)

  it("leaves nothing behind when the gateway ends first", function()
    for worker = 1, 2 do
      server:stall(worker, 0.05)
    end
    server:stop()
  end)
end)

describe("server:stall", function()
  it("keeps one worker busy and no other", function()
    local server = gateway.start({ app = APP, workers = 2 })
    local near = server:websocket("/", { worker = 1 })
    local far = server:websocket("/", { worker = 2 })
    server:stall(1, 0.3)
    near:send("near")
    far:send("far")
    far:expect("far")
    assert.equal(0, #near.queue)
    near:expect("near")
  end)
end)

describe("The test channel", function()
  it("ends the gateway with its end, so that none outlives a spec that was killed", function()
    local server = gateway.start({ app = APP })
    server:websocket("/")
    server:hang_up()
    server:expect_exit(0)
  end)

  it("answers what it does not understand", function()
    local server = gateway.start({ app = APP })
    assert.equal("unknown command", server:command("nonsense", "^(unknown command)$"))
    for _, command in ipairs({ "exec", "exec 2 7 aGk= []", "exec 0 7", "exec 99999999999 7 a a" }) do
      local answer = server:command(command, "^executed %d+ (.*)$")
      assert.equal('{"ok":false,"error":"there is no such worker"}', answer)
    end
    for _, arguments in ipairs({ "", "{", "1", "[1] 2" }) do
      local answer = server:command("exec 1 7 " .. arguments, "^executed 7 (.*)$")
      assert.truthy(answer:find('^{"ok":false'), answer)
    end
    local code = "bm90IGJ5dGVjb2Rl"
    local answer = server:command("exec 1 7 " .. code .. " []", "^executed 7 (.*)$")
    assert.truthy(answer:find('^{"ok":false'), answer)
  end)
end)
