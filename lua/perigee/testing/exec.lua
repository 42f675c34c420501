--- Code of a spec inside a worker of the gateway, over the test channel.

local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

local M = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local digit = math.floor(bits / 64 ^ place) % 64
      out[#out + 1] = ALPHABET:sub(digit + 1, digit + 1)
    end
  end
  local padding = -#bytes % 3
  return table.concat(out):sub(1, #out - padding) .. ("="):rep(padding)
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
  local code = base64(string.dump(fn))
  local text = json.encode(json.array(arguments))
  return ("exec %d %d %s %s"):format(worker, server.exec_count, code, text)
end

local function plain(value)
  if value == json.null then
    return nil
  end
  return value
end

local function fail(server, worker, problem)
  failure.report("server:exec on worker " .. worker, {
    { "problem", problem },
    { "log", server.log:tail() },
  })
end

-- An error with its traceback, without the frames that are the gateway's own.
local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    if not line:find("%[builtin#") and not line:find("%[C%]") then
      lines[#lines + 1] = line:gsub("\t", "  ")
    end
  end
  -- One frame says no more than the message does.
  return #lines <= 3 and lines[1] or lines
end

--- Runs `fn` in a worker; returns its results.
function M.run(server, worker, fn, ...)
  local command = post(server, worker, fn, ...)
  local answer = ("^executed %d (.*)$"):format(server.exec_count)
  local text = server:command(command, answer, posix.patience)
  if not text then
    local why = server.is_frozen and "it suspends, and the gateway's clock stands still"
      or "it suspends, or does not end"
    fail(server, worker, server:in_vain("it has not returned") .. ": " .. why)
  end
  local result = json.decode(text)
  if not result.ok then
    fail(server, worker, lines_of(result.error))
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
