--- Processes: starting servers where nothing else runs, running a program to its end.

local buffer = require("string.buffer")
local posix = require("perigee.testing.posix")

local M = {}

-- How long a server may take to end in good order, and to start under a tool that slows it down.
local END_SECONDS, START_SECONDS = 20, 60

local running = {}

--- One processor for the server and another for the load, or the same where there is only one.
function M.cores()
  local allowed = posix.read_file("/proc/self/status"):match("Cpus_allowed_list:%s*(%S+)") or "0"
  local first, last = allowed:match("^(%d+)"), allowed:match("(%d+)$")
  if first == last then
    io.stderr:write("There is one processor only: server and load share it.\n")
  end
  return first, last
end

-- Before everything else that wants the processor, where that is allowed: a fixed priority.
local alone = { "chrt", "--fifo", "1" }

local function words(...)
  local whole = {}
  for _, list in ipairs({ ... }) do
    for _, word in ipairs(list) do
      whole[#whole + 1] = word
    end
  end
  return whole
end

-- Asked for once, where it is needed first.
local server_core, load_core

local function pinned(is_server, command)
  if not server_core then
    server_core, load_core = M.cores()
  end
  return words({ "taskset", "-c", is_server and server_core or load_core }, command)
end

local function alone_if_allowed(command)
  local child = posix.spawn(words(alone, { "true" }))
  local code = posix.wait_exit(child.pid, posix.now() + 5)
  posix.close(child.stdin)
  posix.close(child.stdout)
  return code == 0 and words(alone, command) or command
end

local function forget(process)
  posix.close(process.stdin)
  posix.close(process.stdout)
  running[process.pid] = nil
end

-- Waits for the end, and ends it when that does not come.
local function reap(process, seconds)
  local code, why = posix.wait_exit(process.pid, posix.now() + seconds)
  if why == "timeout" then
    posix.kill(process.pid, "KILL")
    posix.wait_exit(process.pid, posix.now() + END_SECONDS)
  end
  forget(process)
  return code, why
end

-- What matches of its output, with all before it taken; nil when the output ends or nothing comes
-- in time.
local function read_line(process, pattern, seconds)
  local deadline = posix.now() + seconds
  while true do
    local text = tostring(process.output)
    local _, stop, found = text:find(pattern)
    if stop then
      process.output:skip(stop)
      return found or text:sub(1, stop)
    end
    local count, why = posix.receive(process.stdout, process.output)
    if not count and (why ~= "again" or not posix.wait(process.stdout, true, false, deadline)) then
      return nil
    end
  end
end

local function start(command, opts)
  local process = posix.spawn(command, { stderr = opts.log, env = opts.env })
  process.output = buffer.new()
  running[process.pid] = process
  return process
end

-- Whether somebody listens there before the deadline, or before the process has ended.
local function comes_up(process, port, deadline)
  while posix.now() < deadline do
    local fd = posix.connect({ host = "127.0.0.1", port = port })
    if fd then
      posix.close(fd, true)
      return true
    end
    local _, why = posix.wait_exit(process.pid, posix.now())
    if why ~= "timeout" then
      process.has_ended = true
      return false
    end
    posix.pause(0.01)
  end
  return false
end

local function wait_for_port(process, port)
  if port then
    return comes_up(process, port, posix.now() + START_SECONDS) and port
  end
  return tonumber(read_line(process, "listening on http://127%.0%.0%.1:(%d+)", START_SECONDS))
end

--- Starts a program on the servers' core. It says where it listens, as the gateway does
--- ("listening on http://127.0.0.1:PORT"), or is known to listen on `opts.port`. `opts.log` is the
--- file for its standard error, `opts.env` what its environment differs in. `opts.unpinned` leaves
--- the core to the kernel; with `opts.is_alone` nobody else gets it while the program wants it, if
--- we may ask for that.
---
--- Returns `{ pid, port, seconds }`: how long it took until it listened.
function M.start_server(command, opts)
  os.remove(opts.log)
  local began = posix.now()
  if opts.is_alone then
    command = alone_if_allowed(command)
  end
  local process = start(opts.unpinned and command or pinned(true, command), opts)
  process.port = wait_for_port(process, opts.port)
  process.seconds = posix.now() - began
  if not process.port then
    M.stop(process)
    error(command[1] .. " does not listen:\n" .. posix.read_file(opts.log), 0)
  end
  return process
end

--- Ends a process in good order, or at once when it does not go.
function M.stop(process)
  if process.has_ended then
    forget(process)
  else
    posix.kill(process.pid, "TERM")
    reap(process, END_SECONDS)
  end
end

--- Ends whatever still runs.
function M.stop_all()
  for _, process in pairs(running) do
    M.stop(process)
  end
end

--- Starts a program on the load's core, to be talked to. Standard error goes to `log`; `opts` may have
--- `is_alone` and `unpinned`, as of start_server.
function M.start_load(command, log, opts)
  if opts and opts.is_alone then
    command = alone_if_allowed(command)
  end
  return start(opts and opts.unpinned and command or pinned(false, command), { log = log })
end

--- Waits for a line of it; raises when none comes in time.
function M.expect(process, pattern, seconds)
  return read_line(process, pattern, seconds) or error("there is no " .. pattern, 0)
end

function M.say(process, line)
  return posix.write_pipe(process.stdin, line .. "\n")
end

--- Waits for its end. Returns the exit code and what it printed.
function M.finish(process, seconds)
  local deadline = posix.now() + seconds
  repeat
    local count, why = posix.receive(process.stdout, process.output)
    local goes_on = count or why == "again" and posix.wait(process.stdout, true, false, deadline)
  until not goes_on
  local code, why = reap(process, math.max(1, deadline - posix.now()))
  return code or why, tostring(process.output)
end

--- Runs a program to its end on the load's core. Returns the exit code and what it printed.
function M.run(command, log, seconds)
  return M.finish(M.start_load(command, log), seconds)
end

return M
