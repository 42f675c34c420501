-- Counts the system calls by which the gateway writes to its connections, by watching it with
-- strace. Raises where strace is missing or not permitted: a spec that counts is not skipped.
local lfs = require("lfs")

local posix = require("perigee.testing.posix")

local M = {}

local CALLS = "write,writev,sendto,sendmsg,sendmmsg"

-- Attached when every thread says who traces it.
local function is_watched(pid, tracer)
  local tasks = "/proc/" .. pid .. "/task"
  for task in lfs.dir(tasks) do
    if task:find("^%d") then
      local status = posix.read_file(tasks .. "/" .. task .. "/status")
      if status:match("TracerPid:%s*(%d+)") ~= tostring(tracer) then
        return false
      end
    end
  end
  return true
end

--- Runs `fn` and counts meanwhile. `fn` must end with a fence, so that what it caused has happened.
--- Returns counts by the port of the client's end, and the lines of strace for failures.
function M.writes(server, fn)
  local directory = posix.temporary_directory()
  local trace, report = directory .. "/trace", directory .. "/report"
  local process = posix.spawn({
    "strace",
    "-f",
    "-qq",
    "-yy",
    "-s",
    "0",
    "-e",
    "trace=" .. CALLS,
    "-e",
    "signal=none",
    "-o",
    trace,
    "-p",
    tostring(server.pid),
  }, { stderr = report })
  local deadline = posix.deadline(10)
  while not is_watched(server.pid, process.pid) do
    local code, why = posix.wait_exit(process.pid, posix.now())
    if why ~= "timeout" or posix.now() > deadline then
      error(
        ("strace cannot watch the gateway (%s): %s"):format(tostring(code), posix.read_file(report)),
        2
      )
    end
    posix.pause(0.005)
  end
  local ok, message = pcall(fn)
  posix.kill(process.pid, "INT")
  posix.wait_exit(process.pid, posix.deadline(10))
  posix.close(process.stdin)
  posix.close(process.stdout)
  local text = posix.read_file(trace)
  posix.remove_directory(directory)
  if not ok then
    error(message, 2)
  end
  local counts = {}
  for line in text:gmatch("[^\n]+") do
    -- A call's second line, where another thread came between, begins with "<...".
    local port = line:match("^%d+ +%w+%(%d+<TCP.-%->[^>]*:(%d+)%]>")
    if port then
      counts[tonumber(port)] = (counts[tonumber(port)] or 0) + 1
    end
  end
  return counts, text
end

return M
