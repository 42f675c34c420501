-- `perigee test`, as an author types it, and what the kit does at the end of a test.
local posix = require("perigee.testing.posix")
local testing = require("perigee.testing")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
local greeting = require("greeting")
app:get("/", function() return greeting end)
app:get("/warn", function() perigee.log.warn("so it was meant") return "warned" end)
app:websocket("/", { on_message = function(conn, data) conn:send(data) end })
return app
]]

local HEAD = [[
local testing = require("perigee.testing")
]]

describe("perigee test", function()
  local directory
  before_each(function()
    directory = posix.temporary_directory()
    posix.write_file(directory, "main.lua", APP)
    posix.write_file(directory, "greeting.lua", 'return "hello"')
  end)
  after_each(function()
    posix.remove_directory(directory)
  end)

  local function write_spec(name, text)
    posix.write_file(directory, "spec/" .. name .. "_spec.lua", HEAD .. text)
  end

  -- The kit below has patience as we have.
  local function run(arguments, from, env)
    env = env or {}
    env.PERIGEE_TIME_SCALE = posix.time_scale
    return testing.run({ "test", unpack(arguments or {}) }, {
      directory = directory .. "/" .. (from or ""),
      env = env,
      seconds = 30,
    })
  end

  local function passes(result, count)
    assert.equal(0, result.code, result.stdout .. result.stderr)
    local numbers = ("%d success[es]* / 0 failures / 0 errors"):format(count)
    assert.truthy(result.stdout:find(numbers), result.stdout)
  end

  -- Ends with a failure whose text has this in it.
  local function fails(result, ...)
    assert.not_equal(0, result.code, result.stdout)
    for _, text in ipairs({ ... }) do
      assert.truthy(result.stdout:find(text, 1, true), text .. "\nnot in\n" .. result.stdout)
    end
    return result.stdout
  end

  local GREETS = [[
    it("greets", function()
      testing.start("main.lua"):get("/"):expect(200, "hello")
      assert.equal("hello", require("greeting"))
    end)
  ]]

  it("runs the specs of spec/, with this gateway, the kit and the application's modules", function()
    write_spec("one", GREETS)
    write_spec("two", GREETS)
    passes(run(), 2)
  end)

  it("finds spec/ in a directory above", function()
    write_spec("one", GREETS)
    posix.write_file(directory, "deep/below/x", "")
    passes(run({}, "deep/below"), 1)
  end)

  it(
    "runs what is named in the application that it belongs to, from wherever it is called",
    function()
      write_spec("one", GREETS)
      write_spec("two", GREETS)
      passes(run({ "one_spec.lua" }, "spec"), 1)
      posix.write_file(directory, "deep/below/x", "")
      passes(run({ "../../spec/two_spec.lua" }, "deep/below"), 1)
      passes(run({ directory .. "/spec/one_spec.lua" }, ".."), 1)
    end
  )

  it("runs the files that are named, and hands busted its options as they are", function()
    write_spec("one", GREETS .. [[it("fails when it is not left out", function() error("no") end)]])
    write_spec("two", GREETS)
    passes(run({ "spec/two_spec.lua" }), 1)
    passes(run({ "--filter", "^greets$" }), 2)
    passes(run({ "--filter=when it is", "--filter-out=when it is" }), 0)
  end)

  it("says what is missing", function()
    local result = run({}, "", {})
    assert.equal(2, result.code)
    local text = "perigee: there is no directory spec/ here or above; see 'perigee help test'\n"
    assert.equal(text, result.stderr)
    write_spec("one", GREETS)
    result = run({}, "", { PATH = "/nonexistent" })
    assert.equal(2, result.code)
    assert.truthy(result.stderr:find("apt install luajit lua-busted", 1, true), result.stderr)
    result = run({}, "", { LUA_PATH = "/nonexistent/?.lua" })
    assert.equal(2, result.code)
    assert.truthy(result.stderr:find("LuaJIT does not find busted", 1, true), result.stderr)
    assert.truthy(result.stderr:find("luarocks", 1, true), result.stderr)
  end)

  it("says that a module which uses perigee is for the gateway to require", function()
    posix.write_file(directory, "store.lua", 'local perigee = require("perigee")\nreturn perigee')
    write_spec("one", 'it("requires", function() require("store") end)\n' .. [[
      it("requires", function() package.loaded.store = nil require("store") end)
    ]])
    local text = fails(
      run(),
      "0 successes / 0 failures / 2 errors",
      "store.lua:1: perigee is there inside the gateway only: a spec runs a module's functions "
        .. "there, by server:exec of perigee.testing"
    )
    assert.is_nil(text:find("loop or previous error", 1, true), text)
  end)

  describe("stops what a test has started, and judges it", function()
    it("when the test forgets to", function()
      write_spec(
        "one",
        [[
        local pid
        it("starts", function()
          local server = testing.start("main.lua")
          pid = server.pid
          server:get("/warn")
        end)
        it("is stopped by now", function()
          assert.is_false(require("perigee.testing.posix").kill(pid, 0))
        end)
      ]]
      )
      fails(
        run(),
        "2 successes / 0 failures / 1 error",
        "spec/one_spec.lua:4: The gateway (started at spec/one_spec.lua:4) has ended: unexpected in",
        "so it was meant"
      )
    end)

    it("and takes what was announced for good", function()
      write_spec(
        "one",
        [[
        it("expects", function()
          local server = testing.start("main.lua")
          server:get("/warn")
          server.log:expect("so it was (meant)?")
          server.log:expect("so it was m.-t", 0.05)
        end)
        it("allows", function()
          local server = testing.start("main.lua")
          server.log:allow("it was")
          server:get("/warn")
          server:stop()
          server:stop()
        end)
      ]]
      )
      local text = fails(run(), "1 success / 1 failure / 1 error")
      assert.truthy(
        text:find('expected:  a line with "so it was (meant)?"\n  last:      ', 1, true),
        text
      )
    end)

    it("after the file, where several tests share it; their clients go sooner", function()
      write_spec(
        "one",
        [[
        describe("shared", function()
          local server, kept
          setup(function()
            server = testing.start("main.lua")
            kept = server:websocket("/")
          end)
          for i = 1, 2 do
            it("serves " .. i, function()
              kept:send("still here")
              kept:expect("still here")
              server:wait_for({ connections = 1 })
              server:websocket("/"):send("x")
              server:wait_for({ connections = 2 })
            end)
          end
        end)
      ]]
      )
      passes(run(), 2)
    end)

    it("with a failure of its own where the test has failed", function()
      write_spec(
        "one",
        [[
        it("waits", function()
          local server = testing.start("main.lua")
          server:websocket("/"):expect("x", 0.05)
        end)
      ]]
      )
      fails(
        run(),
        "0 successes / 1 failure / 0 errors",
        'spec/one_spec.lua:4: WebSocket #1 / on worker 1\n  expected:  "x"\n  got:       nothing within'
      )
    end)
  end)
end)
