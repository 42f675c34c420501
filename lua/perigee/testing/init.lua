--- Specs against the real gateway: `local testing = require("perigee.testing")`.
---
---     it("tells everybody in the room", function()
---       local server = testing.start("rooms.lua")
---       local ann, bob = server:websocket("/rooms/a"), server:websocket("/rooms/a")
---       ann:send({ type = "say", text = "hi" })
---       bob:expect({ type = "said", text = "hi" })
---     end)
---
--- Runs in LuaJIT under busted, which stops what a test or a block has started and judges it.

if not rawget(_G, "jit") then
  error("perigee.testing needs LuaJIT: run `perigee test`, or `busted --lua=luajit`", 0)
end

local app_module = require("perigee.testing.app")
local assertions = require("perigee.testing.assertions")
local binary = require("perigee.testing.binary")
local buffer = require("string.buffer")
local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local log = require("perigee.testing.log")
local posix = require("perigee.testing.posix")
local server_module = require("perigee.testing.server")

local M = {}

--- JSON for specs: `encode`, `decode`, `array`, `null`.
M.json = json

-- Servers that run, each to where it was started: "test", or "block" (setup, or the body of describe).
local running = {}
local phase = "block"

local OPTIONS = {
  binary = "string",
  workers = "number",
  worker = "number",
  clock = "string",
  files = "table",
  listen = "table",
  arguments = "table",
  env = "table",
  directory = "string",
  test_mode = "boolean",
  copy = "boolean",
  watch = "boolean",
}

--- @class perigee.testing.StartOptions
--- @field workers? integer 2 by default: what is kept in a local variable fails, as it will in life
--- @field worker? integer where clients go that do not say; each worker in its turn by default
--- @field clock? "frozen"|"running" frozen by default: time passes by server:advance alone
--- @field files? table<string, string> more files, by name, beside a script that is given as text
--- @field arguments? string[] more arguments for `perigee serve`
--- @field env? table<string, string|false> more environment; false removes
--- @field directory? string where it runs
--- @field listen? string[] addresses; one port of its own by default
--- @field binary? string PERIGEE of the environment, or the one beside this library, by default
--- @field test_mode? boolean true by default; without it there is no clock, no worker of choice
--- @field copy? boolean runs a copy of the script's directory, for server:edit; false by default
--- @field watch? boolean a saved file goes live by itself; false by default: server:reload does it

-- The script's path, and the directory it was written to, if it was.
local function place_script(script, files, is_copy, where)
  if type(script) ~= "string" then
    failure.raise(where .. " takes the path of a script, or its text")
  end
  if not script:find("\n", 1, true) then
    local path = binary.absolute(script)
    if files then
      failure.raise(('option "files" for %s is for a script that is given as text'):format(where))
    end
    if is_copy then
      local directory = posix.temporary_directory()
      posix.copy_directory(path:match("^(.*)/[^/]*$"), directory)
      return directory .. path:match("/[^/]*$"), directory
    end
    return path, nil
  end
  local directory = posix.temporary_directory()
  for name, content in pairs(files or {}) do
    posix.write_file(directory, name, content)
  end
  posix.write_file(directory, "main.lua", script)
  return directory .. "/main.lua", directory
end

-- A handler in a loop is named in the log before an expectation gives up, and does not hold up the
-- stop for long; in seconds of the machine's time.
local TIMEOUTS = { ["--stall-timeout"] = 1.5, ["--drain-timeout"] = 3 }

local function command_line(path, script, options, is_test, is_frozen)
  local workers = options.workers or 2
  local command = { path, "serve", script, "--workers", tostring(workers) }
  for _, address in ipairs(options.listen or { "127.0.0.1:0" }) do
    command[#command + 1] = "--listen"
    command[#command + 1] = address
  end
  if is_test then
    command[#command + 1] = "--test"
    for option, seconds in pairs(TIMEOUTS) do
      command[#command + 1] = option
      command[#command + 1] = tostring(seconds * posix.time_scale)
    end
  end
  if is_frozen then
    command[#command + 1] = "--freeze"
  end
  if not options.watch then
    command[#command + 1] = "--no-watch"
  end
  for _, argument in ipairs(options.arguments or {}) do
    command[#command + 1] = argument
  end
  return command, workers
end

--- Starts a gateway and waits until it listens, on a port of its own.
---
--- Started inside a test (or before_each) it is stopped and judged after that test, started in setup
--- after the file's last test; `server:stop()` does so sooner.
---
--- @param script string the path of a script, or the text of one
--- @param options? perigee.testing.StartOptions
--- @return perigee.testing.Server
function M.start(script, options)
  failure.check_options(options, "testing.start", OPTIONS)
  options = options or {}
  if options.clock and options.clock ~= "frozen" and options.clock ~= "running" then
    failure.raise('option "clock" for testing.start is "frozen" or "running"')
  end
  local is_test = options.test_mode ~= false
  local path = binary.find(options.binary)
  local script_path, directory = place_script(script, options.files, options.copy, "testing.start")
  local work = posix.temporary_directory()
  local is_frozen = is_test and options.clock ~= "running"
  local command, workers = command_line(path, script_path, options, is_test, is_frozen)
  local process = posix.spawn(command, {
    env = options.env,
    directory = options.directory,
    stderr = work .. "/log",
  })
  local server
  server = server_module.of_process(process, log.open(work .. "/log"), {
    script = script_path,
    scripts_directory = directory,
    is_test = is_test,
    is_frozen = is_frozen,
    worker = options.worker,
    on_gone = function()
      running[server] = nil
      posix.remove_directory(work)
      if directory then
        posix.remove_directory(directory)
      end
    end,
  })
  running[server] = phase
  local listeners = options.listen and #options.listen or 1
  local ok, message = pcall(server.wait_until_ready, server, listeners, is_test and workers or 0)
  if not ok then
    server:kill()
    error(message, 0)
  end
  return server
end

-- What an app is anyway: for suites that run against both, with the same options.
local OF_EVERY_APP = { workers = 1, worker = 1, clock = "frozen", test_mode = true, watch = false }

local function check_app_options(options)
  failure.check_options(options, "testing.app", OPTIONS)
  for name, value in pairs(options or {}) do
    local only = OF_EVERY_APP[name]
    if only ~= nil and only ~= value then
      local text = 'option "%s" for testing.app can only be %s; testing.start takes others'
      failure.raise(text:format(name, failure.show(only)))
    elseif name == "listen" or name == "binary" or name == "directory" then
      failure.raise(('testing.app has no option "%s", testing.start has'):format(name))
    end
  end
end

--- @class perigee.testing.AppOptions
--- @field files? table<string, string>
--- @field arguments? string[]
--- @field env? table<string, string|false>
--- @field copy? boolean

--- Runs a script in the spec's own process: the gateway itself, with one worker, without sockets, without
--- another process. For the fastest specs: all that a client sends has had its effects when the call
--- returns, and what does not come then will not come.
---
--- The result is used as that of testing.start. A handler in an endless loop holds up the spec for ever.
---
--- @param script string the path of a script, or the text of one
--- @param options? perigee.testing.AppOptions
--- @return perigee.testing.App
function M.app(script, options)
  check_app_options(options)
  options = options or {}
  local path, directory = place_script(script, options.files, options.copy, "testing.app")
  local app
  local function give_back()
    if app then
      running[app] = nil
    end
    if directory then
      posix.remove_directory(directory)
    end
  end
  app = app_module.start(path, {
    scripts_directory = directory,
    arguments = options.arguments,
    env = options.env,
    on_gone = give_back,
  })
  running[app] = phase
  return app
end

--- Runs the binary with these arguments until it ends.
---
--- @param arguments string[]
--- @param options? { env?: table<string, string|false>, directory?: string, seconds?: number, binary?: string }
--- @return { code: integer?, signal: string?, stdout: string, stderr: string }
function M.run(arguments, options)
  failure.check_options(options, "testing.run", {
    env = "table",
    directory = "string",
    seconds = "number",
    binary = "string",
  })
  options = options or {}
  local work = posix.temporary_directory()
  local process = posix.spawn({ binary.find(options.binary), unpack(arguments) }, {
    env = options.env,
    directory = options.directory,
    stderr = work .. "/log",
  })
  posix.close(process.stdin)
  local deadline, output = posix.deadline(options.seconds or 10), buffer.new()
  while true do
    local count, why = posix.receive(process.stdout, output)
    if not count and why ~= "again" then
      break
    end
    if not count and not posix.wait(process.stdout, true, false, deadline) then
      break
    end
  end
  posix.close(process.stdout)
  local code, why = posix.wait_exit(process.pid, deadline)
  if why == "timeout" then
    posix.kill(process.pid, "KILL")
    posix.wait_exit(process.pid, posix.deadline(5))
  end
  local result = {
    code = code,
    signal = why,
    stdout = output:get(),
    stderr = posix.read_file(work .. "/log"),
  }
  posix.remove_directory(work)
  return result
end

-- Stops what was started in `where` (nil: anywhere), and raises what is wrong with any of it.
local function stop_all(where)
  local problems, servers = {}, {}
  for server, started in pairs(running) do
    if where == nil or started == where then
      servers[#servers + 1] = server
    end
  end
  for _, server in ipairs(servers) do
    local ok, problem = pcall(server.stop, server)
    if not ok then
      problems[#problems + 1] = tostring(problem)
      server:discard()
    end
  end
  if #problems > 0 then
    error(table.concat(problems, "\n"), 0)
  end
end

--- Stops all that run, and judges them. Without busted there is nobody else who does.
function M.stop_all()
  stop_all(nil)
end

-- How many clients a shared server had before the test.
local function begin_test()
  phase = "test"
  for server in pairs(running) do
    server.shared_clients = #server.clients
  end
end

local function end_test()
  phase = "block"
  for server, started in pairs(running) do
    if started == "block" then
      server:drop_clients((server.shared_clients or 0) + 1)
    end
  end
  stop_all("test")
end

local function end_block()
  stop_all(nil)
end

-- busted restores the loaded modules after each file, so each file's require comes here, inside the
-- block that the file is.
local has_busted, busted = pcall(require, "busted")
if has_busted and busted.after_each then
  assertions.register()
  busted.before_each(begin_test)
  busted.after_each(end_test)
  busted.teardown(end_block)
end

return M
