--- A gateway in the spec's own process, with one worker and without sockets: what testing.app gives.
---
--- Commands and clients are those of a gateway that is a process (perigee.testing.server); here are
--- the ways in and out. The gateway runs only while it is pumped, until nothing is left to do, by
--- whatever a spec does with it. So nothing is ever waited for.

local binary = require("perigee.testing.binary")
local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local log = require("perigee.testing.log")
local posix = require("perigee.testing.posix")
local server_module = require("perigee.testing.server")

--- @class perigee.testing.App: perigee.testing.Server
local App = setmetatable({}, { __index = server_module.Server })
App.__index = App

local M = {}

-- What waits for a client that does not read, unless it has a receive_buffer: what two sockets of one
-- machine keep.
local UNREAD_BYTES = 4 * 1024 * 1024

local function load_core()
  local path = binary.find_module()
  local open, problem = package.loadlib(path, "luaopen_perigee_core")
  if not open then
    error(("cannot load %s: %s"):format(path, problem), 0)
  end
  return open()
end

-- A connection's bytes: the same functions as a socket's, where a descriptor is a stream and its app.
local function connect(target, receive_buffer)
  local app = target.app
  local stream = app.core:connect(receive_buffer or UNREAD_BYTES)
  app:pump()
  return { stream = stream, app = app }
end

local function receive(fd, into)
  local bytes, why = fd.stream:read()
  if not bytes then
    return nil, why
  end
  into:put(bytes)
  return #bytes
end

local function send(fd, bytes, offset)
  local count, why = fd.stream:write(bytes, offset)
  fd.app:pump()
  return count, why
end

local function wait(fd, want_read, want_write)
  fd.app:pump()
  local readable, writable = fd.stream:ready()
  return want_read and readable, want_write and writable
end

local function half_close(fd)
  fd.stream:half_close()
  fd.app:pump()
end

local function close(fd, reset)
  fd.stream:close(reset)
  fd.app:pump()
end

local IO = {
  connect = connect,
  receive = receive,
  send = send,
  wait = wait,
  half_close = half_close,
  close = close,
  local_port = function() end,
}

local function command_line(script, arguments)
  local command = { script, "--workers", "1", "--test", "--freeze", "--drain-timeout", "3" }
  for _, argument in ipairs(arguments or {}) do
    command[#command + 1] = argument
  end
  return command
end

-- The core with these variables in its environment while it runs, and only then.
local function with_environment(core, env)
  if not next(env) then
    return core
  end
  local inside = {}
  for _, name in ipairs({ "answers", "command", "connect", "log", "pump", "stop" }) do
    inside[name] = function(_, ...)
      local before = posix.set_environment(env)
      local result = core[name](core, ...)
      posix.set_environment(before)
      return result
    end
  end
  return inside
end

--- Starts a script. `options`: arguments, env, scripts_directory, and on_gone, which is called once,
--- also when the script does not load.
---
--- @return perigee.testing.App
function M.start(script, options)
  local env = options.env or {}
  local ours = posix.hide_environment(env)
  local before = posix.set_environment(env)
  local ok, core, problem = pcall(function()
    return load_core().start(command_line(script, options.arguments))
  end)
  posix.set_environment(before)
  posix.set_environment(ours)
  if not ok or not core then
    options.on_gone()
    failure.report(
      "The app",
      { { "problem", "it does not start" }, { "because", problem or core } }
    )
  end
  local lines = log.new(function()
    return core:log()
  end, App.can_wait)
  local self = server_module.new(App, lines, {
    script = script,
    scripts_directory = options.scripts_directory,
    is_test = true,
    is_frozen = true,
    worker = 1,
    on_gone = options.on_gone,
  })
  self.core = with_environment(core, env)
  self.workers[1] = { app = self, io = IO, host = "127.0.0.1", port = 80 }
  return self
end

-- Running it -----------------------------------------------------------------------------------------

local function check_rest(self, is_at_rest)
  if not is_at_rest then
    self.is_restless = true
    self:fail("it does not come to rest within 5 s; does a timer start itself anew at once?")
  end
end

--- Lets it do all that there is to do. Every call of a client does so.
function App:pump()
  -- A failure of this kind is told once; what follows is the spec's end.
  if not self.is_restless then
    check_rest(self, self.core:pump())
  end
end

function App:send_command(text)
  if not self:is_running() then
    failure.raise("the app was stopped")
  end
  check_rest(self, self.core:command(text))
end

function App:read_line()
  self.output:put(self.core:answers())
  local line = self:take_line()
  if line then
    return line
  end
  return nil, "timeout"
end

function App:in_vain(what)
  return what .. ", and nothing is left to do"
end

-- What has not come will not come.
function App.can_wait()
  return false
end

function App:settle()
  self:pump()
end

-- Its end --------------------------------------------------------------------------------------------

function App:discard()
  if self:is_running() then
    self:drop_clients()
    self.core:stop()
    self:forget()
  end
end

--- Ends it in good order and judges how, by its log and its counters. Once is enough, a second time does
--- nothing.
function App:stop()
  if not self:is_running() then
    return
  end
  self:drop_clients()
  self.core:answers()
  self.core:stop()
  local counters = self.core:answers():match("counters (%b{})\n$")
  self:conclude(self.log:problem() or self:leaks(counters and json.decode(counters)))
end

-- What only a process has --------------------------------------------------------------------------

for _, name in ipairs({ "kill", "signal", "expect_exit", "hang_up", "stall", "url" }) do
  App[name] = function()
    local text = "an app is no process and listens nowhere: %s is for testing.start"
    failure.raise(text:format(name))
  end
end

return M
