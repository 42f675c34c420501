--- Code of a spec inside a worker of the gateway, over the test channel.

local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")

local M = {}

local function hexadecimal(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

-- What is handed over is code alone: variables from outside would be nil there.
local function check_function(fn)
  if type(fn) ~= "function" then
    failure.raise("server:exec takes a function, not a " .. type(fn))
  end
  local info = debug.getinfo(fn, "Su")
  if info.what == "C" then
    failure.raise("server:exec takes a function written in Lua")
  end
  if info.nups > 0 then
    local names = {}
    for i = 1, info.nups do
      names[i] = '"' .. debug.getupvalue(fn, i) .. '"'
    end
    failure.raise(
      ("the function for server:exec uses %s from outside, which does not exist inside the"):format(
        table.concat(names, ", ")
      ) .. " gateway: hand it over as an argument"
    )
  end
end

local function post(server, worker, fn, ...)
  check_function(fn)
  if not server.workers[worker] then
    local text = "there is no worker %s, there are %d"
    failure.raise(text:format(tostring(worker), #server.workers))
  end
  server.exec_count = server.exec_count + 1
  local arguments = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    arguments[i] = value == nil and json.null or value
  end
  local code = hexadecimal(string.dump(fn))
  local text = json.encode(json.array(arguments))
  return ("exec %d %d %s %s"):format(worker, server.exec_count, code, text)
end

local function plain(value)
  if value == json.null then
    return nil
  end
  return value
end

--- Runs `fn` in a worker; returns its results.
function M.run(server, worker, fn, ...)
  local command = post(server, worker, fn, ...)
  local answer = server:command(command, ("^executed %d (.*)$"):format(server.exec_count), 5)
  local result = json.decode(answer)
  if not result.ok then
    failure.report("server:exec on worker " .. worker, {
      { "problem", result.error },
      { "log", server.log:tail() },
    })
  end
  local values = result.values
  for i = 1, result.count do
    values[i] = plain(values[i])
  end
  return unpack(values, 1, result.count)
end

--- Keeps a worker busy; does not wait for it.
function M.stall(server, worker, seconds)
  local command = post(server, worker, function(_, wanted)
    -- The processor's time: the gateway's own clock may stand still.
    local stop = os.clock() + wanted
    while os.clock() < stop do
    end
  end, seconds)
  server:send_command(command)
end

return M
