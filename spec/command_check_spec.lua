-- `perigee check` and `perigee routes`: what a script declares, without serving it.
local gateway = require("spec.support.gateway")
local posix = require("perigee.testing.posix")

local APP = [[
local perigee = require("perigee")
local app = perigee.app()
app:topic("room:*", { history = 50, age = 3600, bytes = 2 * 1024 * 1024, full = "drop" })
app:get("/", function() return "hello" end)
app:post("/new", { max_body = 4096, timeout = 30, authenticate = function() return {} end },
  function() return "made" end)
app:websocket("/ws/:room", {
  on_open = function() end,
  on_message = function() end,
  max_message = 64 * 1024,
  idle_timeout = 20,
  rate = { messages = 5, per = 2 },
})
app:static("/files", ".")
app:use("/feeds", require("feeds"))
app:on_start(function() perigee.log.error("it started") end, { everywhere = true })
app:every(0.001, function() perigee.log.error("it ticked") end)
app:on_stop(function() perigee.log.error("it stopped") end)
return app
]]

local FEEDS = [[
local app = require("perigee").app()
app:sse("/", { on_open = function() end, origins = { "https://a.example", "https://b.example" } })
app:topic("feed", {})
return app
]]

describe("What a script declares", function()
  local directory
  before_each(function()
    directory = posix.temporary_directory()
    posix.write_file(directory, "main.lua", APP)
    posix.write_file(directory, "feeds.lua", FEEDS)
  end)
  after_each(function()
    posix.remove_directory(directory)
  end)

  local function run(arguments, env)
    return gateway.run(arguments, { directory = directory, env = env })
  end

  local function prints(result, expected)
    assert.equal("", result.stderr)
    assert.equal(expected, result.stdout)
    assert.equal(0, result.code)
  end

  it("is a table with what differs from the defaults, of ./main.lua where none is named", function()
    for _, arguments in ipairs({ { "check" }, { "check", "main.lua" } }) do
      prints(
        run(arguments),
        [[
Routes
  GET        /             handler               main.lua:4
  POST       /new          authenticate handler  main.lua:5   max_body 4 KiB
  WEBSOCKET  /ws/:room     on_open on_message    main.lua:7   idle_timeout 20 s, rate 5 in 2 s
  STATIC     /files/*path                        main.lua:14  directory ./.
  SSE        /feeds        on_open               feeds.lua:2  origins https://a.example https://b.example

Topics
  room:*  main.lua:3   age 3600 s, bytes 2 MiB, history 50
  feed    feeds.lua:3
]]
      )
    end
  end)

  it("is said where there is nothing", function()
    posix.write_file(directory, "none.lua", 'return require("perigee").app()')
    prints(run({ "check", "none.lua" }), "Routes\n  none\n\nTopics\n  none\n")
    prints(run({ "routes", "none.lua" }), "")
  end)

  it("is a line for each route, by pattern, and none depends on the others", function()
    prints(
      run({ "routes" }),
      [[
GET       /  handler
SSE       /feeds  on_open
STATIC    /files/*path
POST      /new  authenticate handler
WEBSOCKET /ws/:room  on_open on_message
]]
    )
    posix.write_file(directory, "feeds.lua", "\n\n" .. FEEDS:gsub('"/"', '"/elsewhere/and/longer"'))
    local changed = run({ "routes" }).stdout
    assert.truthy(
      changed:find("\nSSE       /feeds/elsewhere/and/longer  on_open\n", 1, true),
      changed
    )
    assert.truthy(changed:find("\nPOST      /new  authenticate handler\n", 1, true), changed)
  end)

  it("is told without listening", function()
    local fd, port = posix.listen()
    local result =
      run({ "check", "--listen", "127.0.0.1:" .. port, "--workers", "2", "--supervise" })
    posix.close(fd)
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
  end)

  it("is judged by the limits that are given, and these are shown", function()
    local result = run({ "check", "--limit-message-bytes", "80K" }, { PERIGEE_LIMIT_TIMERS = "99" })
    local limits = "\nLimits\n  message_bytes  81920 bytes  default 16777216\n"
      .. "  timers         99 timers    default 100000\n"
    assert.truthy(result.stdout:find(limits, 1, true), result.stdout)
    result = run({ "check", "--limit-message-bytes", "10K" })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.truthy(result.stderr:find("^perigee: main.lua:7: .*message_bytes.*\n$"), result.stderr)
  end)

  it("is wrong with the line that serve gives, and exit code 1", function()
    posix.write_file(directory, "feeds.lua", "\n\nerror('it broke')\n")
    local served = run({ "serve", "main.lua", "--listen", "127.0.0.1:0" })
    assert.equal("perigee: feeds.lua:3: it broke\n", served.stderr)
    for _, command in ipairs({ "check", "routes" }) do
      local result = run({ command, "main.lua" })
      assert.equal(served.stderr, result.stderr)
      assert.equal("", result.stdout)
      assert.equal(1, result.code)
      result = run({ command, "missing.lua" })
      assert.truthy(result.stderr:find("^perigee: missing%.lua: [^\n]+\n$"), result.stderr)
      assert.equal(1, result.code)
      assert.equal(2, run({ command, "--wrokers", "2" }).code)
    end
  end)

  it("has nothing in it that a terminal would obey", function()
    posix.write_file(
      directory,
      "main.lua",
      [[
        local app = require("perigee").app()
        app:get("/\27[2J", function() end)
        return app
      ]]
    )
    prints(run({ "routes" }), "GET       /?[2J  handler\n")
    assert.is_nil(run({ "check" }).stdout:find("\27", 1, true))
  end)

  local function output_on_terminal(env)
    local binary = os.getenv("PERIGEE") or "build/perigee"
    local command = "cd '%s' && env %s script -qec \"'%s' routes\" /dev/null"
    local pipe = io.popen(command:format(directory, env, binary))
    local text = pipe:read("*a")
    pipe:close()
    return text
  end

  it("has log lines whose level is in colour on a terminal", function()
    posix.write_file(
      directory,
      "main.lua",
      [[
      local perigee = require("perigee")
      perigee.log.warn("careful")
      return perigee.app()
    ]]
    )
    local text = output_on_terminal("-u NO_COLOR TERM=xterm")
    assert.truthy(text:find("Z \27[33mwarn \27[0m worker 1 careful", 1, true), text)
    text = output_on_terminal("NO_COLOR=1 TERM=xterm")
    assert.truthy(text:find("Z warn  worker 1 careful", 1, true), text)
  end)

  it("is in colour on a terminal only, and not with NO_COLOR", function()
    local function on_terminal(env)
      local text = output_on_terminal(env)
      assert.truthy(text:find("/ws/:room", 1, true), text)
      return text:find("\27[", 1, true) ~= nil
    end
    assert.is_true(on_terminal("-u NO_COLOR TERM=xterm"))
    assert.is_false(on_terminal("NO_COLOR=1 TERM=xterm"))
    assert.is_false(on_terminal("-u NO_COLOR TERM=dumb"))
    assert.is_nil(run({ "check" }, { TERM = "xterm" }).stdout:find("\27", 1, true))
  end)
end)
