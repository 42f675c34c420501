--- A running gateway, for a spec: clients, its clock, its log, its end.

local buffer = require("string.buffer")

local clients = require("perigee.testing.clients")
local exec = require("perigee.testing.exec")
local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

--- @class perigee.testing.Server: perigee.testing.Clients
--- @field log perigee.testing.Log
--- @field pid integer
--- @field script string the path of the script
--- @field listeners { host: string, port: integer, path: string, url: string }[]
--- @field workers { host: string, port: integer, url: string }[] each worker's own listener
local Server = setmetatable({}, { __index = clients })
Server.__index = Server

local M = {}

-- What must be back at zero when a gateway ends.
local COUNTED = {
  "connections",
  "requests",
  "messages",
  "blocks",
  "topics",
  "subscriptions",
  "lua_refs",
  "tasks",
}

-- What stands still when nothing happens any more.
local MOVING =
  { "connections", "http", "requests", "messages", "subscriptions", "tasks", "releases" }

-- How long a command may take, and when a worker is stuck: a handler in a loop will not end, but on a
-- busy machine it may just wait for the processor.
local COMMAND_SECONDS, STUCK_SECONDS = 20, 5

-- So much time is moved by one command: patience is for each.
local ADVANCE_SECONDS = 600

-- Clients read this often while time is moved: what an hour of publications brings does not fit into a
-- socket, and a client that leaves it there is closed.
local READ_SECONDS = 5

M.Server = Server

--- What a server of this class has from the start. `options`: is_test, worker (where clients go; nil: in
--- turn), on_gone (called once, when it has ended and all is given back).
function M.new(class, log, options)
  return setmetatable({
    output = buffer.new(),
    log = log,
    script = options.script,
    scripts_directory = options.scripts_directory,
    started_at = failure.place(),
    is_test = options.is_test,
    is_frozen = options.is_frozen,
    home = options.worker,
    on_gone = options.on_gone,
    last_worker = 0,
    listeners = {},
    workers = {},
    clients = {},
    client_count = 0,
    exec_count = 0,
  }, class)
end

--- A server around a process that was just spawned.
function M.of_process(process, log, options)
  local self = M.new(Server, log, options)
  self.process, self.pid = process, process.pid
  return self
end

-- Reading what the gateway prints -----------------------------------------------------------------

-- The rows of a failure that is about the gateway itself.
function Server:fail(problem)
  failure.report("The gateway", { { "problem", problem }, { "log", self.log:last_lines() } })
end

--- That something has not come, as a failure says it.
function Server:in_vain(what, seconds)
  return posix.in_vain(what, seconds)
end

--- A whole line of what was read, without its end; nil where there is none.
function Server:take_line()
  local text = tostring(self.output)
  local stop = text:find("\n", 1, true)
  if not stop then
    return nil
  end
  self.output:skip(stop)
  return text:sub(1, stop - 1)
end

--- The next line of standard output, without its end. Nil at its end, nil and "timeout".
function Server:read_line(deadline)
  while true do
    local line = self:take_line()
    if line then
      return line
    end
    local count, why = posix.receive(self.process.stdout, self.output)
    if not count then
      if why ~= "again" then
        return nil
      end
      if not posix.wait(self.process.stdout, true, false, deadline) then
        return nil, "timeout"
      end
    end
  end
end

local function parse_address(url)
  local path = url:match("^unix:(.*)$") or url:match("^http%+unix://(.*)$")
  if path then
    return { path = path, url = url }
  end
  local host, port = url:match("^http://%[?([%x:.]+)%]?:(%d+)/?$")
  if not host then
    error("a listener with an unknown address: " .. url)
  end
  return { host = host, port = tonumber(port), url = url }
end

--- Waits until so many listeners, and listeners of workers, are announced.
function Server:wait_until_ready(listeners, workers)
  local deadline = posix.deadline(10)
  while #self.listeners < listeners or #self.workers < workers do
    local line, why = self:read_line(deadline)
    if why then
      self:fail("it does not say within 10 s that it listens")
    elseif not line then
      local code, signal = posix.wait_exit(self.pid, posix.deadline(5))
      self.gone = true
      self:fail(("it ended at its start (%s)"):format(signal or "exit code " .. code))
    end
    local worker, address = line:match("^worker (%d+) listening on (%S+)$")
    if worker then
      self.workers[tonumber(worker)] = parse_address(address)
    else
      address = line:match("^listening on (%S+)$")
      -- The counters of one that could not start are of no interest.
      if address then
        self.listeners[#self.listeners + 1] = parse_address(address)
      elseif not line:find("^counters ") then
        self:fail("unexpected on its standard output: " .. line)
      end
    end
  end
end

-- Commands -----------------------------------------------------------------------------------------

--- Writes a line to the test channel; whoever wants the answer uses command.
function Server:send_command(text)
  if not self.is_test then
    failure.raise("without test mode there is no test channel")
  elseif not self:is_running() then
    failure.raise("the gateway was stopped")
  end
  posix.write_pipe(self.process.stdin, text .. "\n")
end

-- The answer to a command, as read_line; and the line of the log about a worker that holds it up.
local function read_answer(self)
  local line, why = self:read_line(posix.deadline(STUCK_SECONDS))
  if not why then
    return line
  end
  local stuck = self.log:stuck()
  if not stuck then
    line, why = self:read_line(posix.deadline(COMMAND_SECONDS - STUCK_SECONDS))
  end
  return line, why, stuck
end

--- Writes a line to the test channel and waits for one that matches. Returns the captures, or
--- nothing when that takes longer than `seconds`; without `seconds` it fails after 20, or 5 when a
--- worker is stuck.
function Server:command(text, answer, seconds)
  self:send_command(text)
  while true do
    local line, why, stuck
    if seconds then
      line, why = self:read_line(posix.deadline(seconds))
    else
      line, why, stuck = read_answer(self)
    end
    local name = text:match("^%S+")
    if why and seconds then
      return nil
    elseif why then
      self:hang_up() -- which it notices even so
      local what = ("it does not answer %q within %g s"):format(text, COMMAND_SECONDS)
      self:fail(stuck and ("it does not answer %q: %s"):format(text, stuck) or what)
    elseif not line then
      self:fail(("it ended instead of answering %q"):format(name))
    elseif line:find(answer) then
      return line:match(answer)
    elseif not line:find("^executed ") then
      -- What was executed late answers late.
      self:fail(("it answered %q to %q"):format(line, name))
    end
  end
end

--- What the gateway holds now, name to count.
---
--- @return table<string, integer>
function Server:counters()
  return json.decode((self:command("counters", "^counters (%b{})$")))
end

local function set_log(self, state)
  self:command("log " .. state, "^log " .. state .. "$")
end

--- From now on the log keeps nothing: `perigee.publish` and `perigee.clear` of topics with history
--- return nil, message, "log", and nobody is told. Topics without history do not notice.
function Server:fail_log()
  set_log(self, "fails")
end

--- From now on the log takes its time: `perigee.publish` and `perigee.clear` of topics with history
--- are suspended, until `mend_log`, or `fail_log`. Topics without history do not notice.
function Server:stall_log()
  set_log(self, "stalls")
end

--- The log works again: what waited for it goes on, in the order of the calls.
function Server:mend_log()
  set_log(self, "works")
end

--- The counters' stalls are those from here on.
function Server:forget_stalls()
  self:command("forget", "^forgotten$")
end

--- Runs Lua's collector to the end in every worker.
function Server:collect()
  self:command("collect", "^collected$")
end

--- Stops a clock that runs. It stands still by itself unless `clock = "running"` was asked for.
function Server:freeze()
  self:command("freeze", "^frozen$")
  self.is_frozen = true
end

-- Reloading -----------------------------------------------------------------------------------------

--- Replaces a file of the script, as an editor would: written beside it and renamed. server:reload
--- makes it live. The script was given as text, or started with `copy = true`.
---
--- @param name string seen from the script's directory; only a text makes a new file
--- @param content string|false|fun(before: string): string the whole text; false deletes the file
function Server:edit(name, content)
  if not self.scripts_directory then
    failure.raise("server:edit changes a copy of the scripts: start with { copy = true }")
  end
  local path = self.scripts_directory .. "/" .. name
  if type(content) ~= "string" and not posix.file_exists(path) then
    failure.misuse(('server:edit: there is no "%s", and only a text makes a new file'):format(name))
  elseif type(content) == "function" then
    content = content(posix.read_file(path))
  end
  if content == false then
    assert(os.remove(path))
    return
  elseif type(content) ~= "string" then
    local text = "server:edit takes a text, a function that returns one, or false, not %s"
    failure.misuse(text:format(failure.show(content)))
  end
  posix.write_file(self.scripts_directory, name .. ".new", content)
  assert(os.rename(path .. ".new", path))
end

local function reload(self)
  return json.decode((self:command("reload", "^reloaded (.*)$")))
end

--- Loads the script anew and makes it live, in all workers. Fails when it does not load.
---
--- @return integer generation the number of the code that is live
function Server:reload()
  local result = reload(self)
  if not result.live then
    failure.report("The script does not load", { { "error", result.text } })
  end
  return result.generation
end

--- The same with a script that does not load: what was live stays.
---
--- @param pattern string this is in the error, as it stands or as a Lua pattern
--- @return string error
function Server:expect_reload_error(pattern)
  self.log:allow("stays live")
  local result = reload(self)
  if result.live then
    failure.report(
      "The script",
      { { "expected", "not to load: " .. pattern }, { "got", result.text } }
    )
  elseif not result.text:find(pattern, 1, true) and not result.text:find(pattern) then
    failure.report("The script does not load", { { "expected", pattern }, { "got", result.text } })
  end
  return result.text
end

--- Returns when nothing happens any more: what clients sent has been handled, and what that caused, on
--- all workers, is written. What waits for time to pass goes on waiting.
function Server:settle()
  local before
  for _ = 1, 100 do
    self:command("advance 0", "^advanced ")
    local counters, parts = self:counters(), {}
    for i, name in ipairs(MOVING) do
      parts[i] = ("%.0f"):format(counters[name])
    end
    local now = table.concat(parts, " ")
    if now == before then
      return
    end
    before = now
  end
end

local function live_clients(self)
  local live = {}
  for _, client in ipairs(self.clients) do
    if client.is_live and client:is_live() then
      live[#live + 1] = client
    end
  end
  return live
end

-- How long peers have been silent stands still, and the spec's clients read.
local function advance_reading(self, seconds)
  local live = live_clients(self)
  while seconds > 0 do
    local step = math.min(seconds, #live > 0 and READ_SECONDS or ADVANCE_SECONDS)
    self:command(("advance %.3f"):format(step), "^advanced ")
    seconds = seconds - step
    for _, client in ipairs(live) do
      client:catch_up()
    end
  end
end

--- Moves the clock. Visits every deadline of all workers in order; returns when all is quiet.
---
--- How long peers have been silent stands still meanwhile: no WebSocket is pinged or idle for too long,
--- no event stream gets a comment for being idle, no long-poll an answer without events. The spec's
--- clients read every 5 s of it. With `peers = true` peers are silent for this long, and do not read.
---
--- @param seconds number 0 or more
--- @param options? { peers?: boolean }
function Server:advance(seconds, options)
  failure.check_options(options, "server:advance", { peers = "boolean" })
  failure.check_seconds(seconds, "server:advance")
  self:settle()
  if options and options.peers then
    while seconds > 0 do
      local step = math.min(seconds, ADVANCE_SECONDS)
      self:command(("advance %.3f peers"):format(step), "^advanced ")
      seconds = seconds - step
    end
  else
    advance_reading(self, seconds)
  end
  self:settle()
end

--- Waits until `is_done(counters)`, or until every named counter has this value. For what the gateway
--- notices by itself, as the end of a connection. Raises for a counter that does not exist.
---
--- @param expected table<string, integer>|fun(counters: table<string, integer>): any
--- @param seconds? number
--- @return table<string, integer> counters
function Server:wait_for(expected, seconds)
  local deadline = posix.deadline(seconds)
  local is_wanted = expected
  if type(expected) == "table" then
    failure.check_counters(expected, self:counters(), "server:wait_for")
    is_wanted = function(counters)
      return (json.matches(expected, counters, true))
    end
  elseif type(expected) ~= "function" then
    local text = "server:wait_for takes counters by their names, or a function, not %s"
    failure.misuse(text:format(failure.show(expected)))
  end
  while true do
    local counters = self:counters()
    if is_wanted(counters) then
      return counters
    elseif not self:can_wait(deadline) then
      failure.report("The gateway's counters", {
        { "expected", failure.show(expected) },
        { "got", failure.show(counters) },
        { "log", self.log:tail() },
      })
    end
  end
end

--- Pauses for a moment, as it may do something by itself; false when it is no use to wait longer.
function Server:can_wait(deadline)
  return posix.can_wait(deadline)
end

-- Code inside a worker -------------------------------------------------------------------------------

--- Runs a function inside worker 1; see exec_on.
---
--- @param fn fun(perigee: perigee, ...): any ...
--- @param ... any
--- @return any ...
function Server:exec(fn, ...)
  return self:exec_on(1, fn, ...)
end

--- Runs a function inside a worker and returns what it returns. Its arguments are `perigee` and those
--- that are given, as JSON; it cannot use variables from outside. `require` finds the application's
--- modules.
---
---     server:exec_on(2, function(perigee, topic) return perigee.subscribers(topic) end, "room:tea")
---
--- @param worker integer
--- @param fn fun(perigee: perigee, ...): any ...
--- @param ... any
--- @return any ...
function Server:exec_on(worker, fn, ...)
  return exec.run(self, worker, fn, ...)
end

--- A slow worker: nothing else runs on it for so many seconds, of the machine's time. Returns at once.
---
--- @param worker integer
--- @param seconds number 0 or more
function Server:stall(worker, seconds)
  failure.check_seconds(seconds, "server:stall")
  exec.stall(self, worker, seconds)
end

-- Its end ----------------------------------------------------------------------------------------------

--- Sends the process a signal: "TERM", "INT", "HUP", …
function Server:signal(name)
  posix.kill(self.pid, name)
end

--- Ends the connections of clients from `first` on, as a network that is gone does.
function Server:drop_clients(first)
  for i = #self.clients, first or 1, -1 do
    local client = table.remove(self.clients, i)
    client = client.conn or client
    client:close()
  end
end

--- Called once, when it has ended and nothing is held for it.
function Server:forget()
  self.log:finish()
  local on_gone = self.on_gone
  self.on_gone = nil
  on_gone()
end

--- Ends it, however, and gives back descriptors and files.
function Server:discard()
  if not self:is_running() then
    return
  end
  if not self.gone then
    posix.kill(self.pid, "KILL")
    posix.wait_exit(self.pid, posix.deadline(5))
    self.gone = true
  end
  self:drop_clients()
  self:hang_up()
  posix.close(self.process.stdout)
  self:forget()
end

--- Ends the test channel, as the end of the spec's process does: the gateway ends too.
function Server:hang_up()
  if self.process.stdin then
    posix.close(self.process.stdin)
    self.process.stdin = nil
  end
end

--- Whether it was started and not stopped yet.
function Server:is_running()
  return self.on_gone ~= nil
end

--- Ends it at once, without a check.
function Server:kill()
  self:discard()
end

--- Reads what is left of standard output. Returns the final counters, or nil.
function Server:read_to_end(deadline)
  local counters
  local line = self:read_line(deadline)
  while line do
    counters = line:match("^counters (%b{})$") or counters
    line = self:read_line(deadline)
  end
  return counters and json.decode(counters)
end

--- What is left of it that should not be, by its last counters; nil where nothing is.
function Server:leaks(counters)
  if not self.is_test then
    return nil
  elseif not counters then
    return "no counters at its end"
  end
  for _, name in ipairs(COUNTED) do
    if counters[name] ~= 0 then
      return ("%s %s are left at its end, which is a leak"):format(tostring(counters[name]), name)
    end
  end
end

local function fail_at_end(self, problem)
  self:discard()
  local text = "The gateway (started at %s) %s"
  failure.raise(text:format(self.started_at, problem), self.started_at)
end

--- Waits until it has ended by itself, and judges how: exit code, sanitizers, log, counters. Clients
--- that are still there go first: who waits for whose end is not what is judged here.
---
--- @param code integer
--- @param seconds? number 10 by default
function Server:expect_exit(code, seconds)
  if not self:is_running() then
    return
  end
  self:drop_clients()
  local deadline = posix.deadline(seconds or 10)
  local counters = self:read_to_end(deadline)
  local got, why = posix.wait_exit(self.pid, deadline)
  self.gone = why ~= "timeout"
  local last = "\n  " .. table.concat(self.log:last_lines(), "\n  ")
  local problem = self.log:problem()
  if why == "timeout" then
    fail_at_end(self, ("does not end within %g s%s"):format(seconds or 10, last))
  elseif got ~= code then
    local how = why or "exit code " .. got
    problem = problem or ("it ended with %s, not exit code %d%s"):format(how, code, last)
  else
    problem = problem or self:leaks(counters)
  end
  self:conclude(problem)
end

--- It has ended, and is judged: the spec fails where there is a problem.
function Server:conclude(problem)
  if problem then
    fail_at_end(self, "has ended: " .. problem)
  end
  self:discard()
end

--- Ends it in good order and judges how: see expect_exit. Once is enough, a second time does nothing.
function Server:stop()
  if self:is_running() then
    self:drop_clients()
    self:signal("TERM")
    self:expect_exit(0)
  end
end

return M
