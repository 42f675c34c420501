-- Starts the real gateway for a spec, gives out clients, and stops it again; every stop is a leak
-- test.
--
--   local gateway = require("spec.support.gateway")
--   after_each(gateway.clean_up)
--   it("greets", function()
--     local server = gateway.start({ app = [[ app:get("/", function() return "hello" end) ]] })
--     assert.equal("hello", server:http({ path = "/" }).body)
--   end)
--
-- The binary is build/perigee, or what PERIGEE names. It runs in test mode: a listener per worker,
-- so that a spec places its clients, and commands on its standard input that move its clock.
local buffer = require("string.buffer")
local lfs = require("lfs")

local connection = require("spec.support.connection")
local http = require("spec.support.http")
local json = require("spec.support.json")
local posix = require("spec.support.posix")
local sse = require("spec.support.sse")
local websocket = require("spec.support.websocket")

local Server = {}
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

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

--- The path of the gateway's binary; raises where there is none.
function M.binary()
  local path = absolute(os.getenv("PERIGEE") or "build/perigee")
  if not lfs.attributes(path) then
    error("there is no " .. path .. ": build the gateway first", 0)
  end
  return path
end

local PRELUDE = 'local perigee = require("perigee") local app = perigee.app() '

-- The script's path, and the directory it was written to, if it was.
local function write_script(opts)
  local text = opts.script
  if opts.app then
    -- On the first line, so that line numbers are those of the spec's text.
    text = PRELUDE .. opts.app .. "\nreturn app\n"
  end
  if not opts.app and not opts.files and not text:find("\n") then
    return absolute(text), nil
  end
  local directory = posix.temporary_directory()
  for name, content in pairs(opts.files or {}) do
    posix.write_file(directory, name, content)
  end
  if text then
    posix.write_file(directory, "main.lua", text)
  end
  return directory .. "/main.lua", directory
end

local running = {}

-- Reading what the gateway prints -----------------------------------------------------------------

--- The next line of standard output, without its end. Nil at its end; raises at the deadline.
function Server:read_line(deadline)
  while true do
    local text = tostring(self.output)
    local stop = text:find("\n", 1, true)
    if stop then
      self.output:skip(stop)
      return text:sub(1, stop - 1)
    end
    local count, why = posix.receive(self.process.stdout, self.output)
    if not count then
      if why ~= "again" then
        return nil
      end
      if not posix.wait(self.process.stdout, true, false, deadline) then
        error("the gateway does not answer on standard output" .. self:log_tail(), 2)
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

function Server:wait_until_ready(listeners, workers)
  local deadline = posix.deadline(10)
  while #self.listeners < listeners or #self.workers < workers do
    local line = self:read_line(deadline)
    if not line then
      local code, why = posix.wait_exit(self.pid, posix.deadline(5))
      self.gone = true
      error(("the gateway ended at start (%s)%s"):format(tostring(code or why), self:log_tail()), 0)
    end
    local worker, address = line:match("^worker (%d+) listening on (%S+)$")
    if worker then
      self.workers[tonumber(worker)] = parse_address(address)
    else
      address = line:match("^listening on (%S+)$")
      if not address then
        error("unexpected on standard output: " .. line)
      end
      self.listeners[#self.listeners + 1] = parse_address(address)
    end
  end
end

-- Starting ---------------------------------------------------------------------------------------

--- Starts a gateway and waits until it listens.
---
--- `script` is a path or a whole script; `app` the body of one, between `local app` and
--- `return app`; `files` maps names beside the script to contents. `workers` is 1 by default;
--- `listen` a list of addresses, by default one port of its own; `args` are added to the command
--- line, `env` to the environment. `test = false` leaves test mode out. `keep = true` is for a
--- gateway that several examples share: `gateway.clean_up` leaves it to `gateway.stop_all`.
function M.start(opts)
  local binary = M.binary()
  local script, directory = write_script(opts)
  local work = posix.temporary_directory()
  local listen = opts.listen or { "127.0.0.1:0" }
  local workers = opts.workers or 1
  local is_test = opts.test ~= false
  local command = { binary, "serve", script, "--workers", tostring(workers) }
  for _, address in ipairs(listen) do
    command[#command + 1] = "--listen"
    command[#command + 1] = address
  end
  if is_test then
    command[#command + 1] = "--test"
  end
  for _, argument in ipairs(opts.args or {}) do
    command[#command + 1] = argument
  end
  local process = posix.spawn(command, {
    env = opts.env,
    directory = opts.directory,
    stderr = work .. "/log",
  })
  local server = setmetatable({
    process = process,
    pid = process.pid,
    output = buffer.new(),
    work = work,
    directory = directory,
    script = script,
    keep = opts.keep,
    is_test = is_test,
    listeners = {},
    workers = {},
    clients = {},
    expected = {},
    allowed = {},
  }, Server)
  running[server] = true
  local ok, message = pcall(server.wait_until_ready, server, #listen, is_test and workers or 0)
  if not ok then
    server:discard()
    error(message, 2)
  end
  return server
end

--- Runs the binary with these arguments until it ends. Returns `{ code, signal, stdout, stderr }`.
function M.run(args, opts)
  opts = opts or {}
  local command = { M.binary() }
  local work = posix.temporary_directory()
  for _, argument in ipairs(args) do
    command[#command + 1] = argument
  end
  local process = posix.spawn(command, {
    env = opts.env,
    directory = opts.directory,
    stderr = work .. "/log",
  })
  posix.close(process.stdin)
  local deadline, output = posix.deadline(opts.seconds or 10), buffer.new()
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

-- Talking to it ------------------------------------------------------------------------------------

function Server:command(text, answer)
  assert(self.is_test, "commands need test mode")
  posix.write_pipe(self.process.stdin, text .. "\n")
  local line = self:read_line(posix.deadline(20))
  if not line then
    error(("the gateway ended instead of answering %q%s"):format(text, self:log_tail()), 3)
  end
  local found = line:match(answer)
  if not found then
    error(("the gateway answered %q to %q"):format(line, text), 3)
  end
  return found
end

--- Stops the gateway's clock; advance moves it.
function Server:freeze()
  self:command("freeze", "^frozen$")
end

--- Moves the clock; returns when every timer due has run in every worker and what it caused was
--- written.
function Server:advance(seconds)
  -- What a client has already read may have come from a turn that is not over: the workers end it
  -- at the old time.
  self:counters()
  self:command(("advance %.3f"):format(seconds), "^advanced ")
end

--- What the gateway holds now, name to count.
function Server:counters()
  return json.decode(self:command("counters", "^counters (%b{})$"))
end

--- The counters' stalls are those from here on.
function Server:forget_stalls()
  self:command("forget", "^forgotten$")
end

--- Runs Lua's collector to the end in every worker.
function Server:collect()
  self:command("collect", "^collected$")
end

--- Waits until `is_done(counters)`, or until every named counter has this value. For what the
--- gateway notices by itself, as the end of a connection.
function Server:wait_for(expected, seconds)
  local deadline = posix.deadline(seconds)
  while true do
    local counters = self:counters()
    local is_done = true
    if type(expected) == "function" then
      is_done = expected(counters)
    else
      for name, value in pairs(expected) do
        is_done = is_done and counters[name] == value
      end
    end
    if is_done then
      return counters
    elseif posix.now() > deadline then
      error(
        "the gateway did not come to the state expected: "
          .. json.encode(counters)
          .. self:log_tail(),
        2
      )
    end
    posix.pause(0.005)
  end
end

-- Clients --------------------------------------------------------------------------------------------

--- Where a client goes: `{ worker = n }`, by default the first; `{ listener = n }` for an ordinary
--- listener.
function Server:target(opts)
  opts = opts or {}
  if opts.listener or not self.is_test then
    return assert(self.listeners[opts.listener or 1], "no such listener")
  end
  return assert(self.workers[opts.worker or 1], "no such worker")
end

--- The URL of a worker's own listener.
function Server:url(worker)
  return self:target({ worker = worker }).url
end

--- What a Host header says for this target.
function Server:host(opts)
  local target = self:target(opts)
  if target.path then
    return "localhost"
  end
  local host = target.host:find(":", 1, true) and "[" .. target.host .. "]" or target.host
  return host .. ":" .. target.port
end

function Server:prepare(opts)
  local result = {}
  for key, value in pairs(opts or {}) do
    result[key] = value
  end
  if result.host == nil then
    result.host = self:host(opts)
  end
  result.describe = function()
    return self:log_tail()
  end
  return result
end

function Server:adopt(client)
  self.clients[#self.clients + 1] = client.conn or client
  return client
end

--- Opens a WebSocket; see websocket.open for the options besides `worker` and `listener`.
function Server:websocket(path, opts)
  opts = self:prepare(opts)
  opts.path = path
  return self:adopt(websocket.open(self:target(opts), opts))
end

--- Opens an event stream; see sse.open for the options besides `worker` and `listener`.
function Server:sse(path, opts)
  opts = self:prepare(opts)
  opts.path = path
  return self:adopt(sse.open(self:target(opts), opts))
end

--- One request on a connection of its own; see http.request for the options besides `worker` and
--- `listener`. Returns `{ status, headers, list, body }`.
function Server:http(opts)
  if type(opts) == "string" then
    opts = { path = opts }
  end
  opts = self:prepare(opts)
  local conn = connection.open(self:target(opts), opts)
  self:adopt(conn)
  local response = http.exchange(conn, opts)
  conn:close()
  return response
end

--- POSTs a value as JSON.
function Server:post_json(path, value, opts)
  opts = self:prepare(opts)
  opts.method, opts.path, opts.body = "POST", path, json.encode(value)
  opts.headers = opts.headers or {}
  opts.headers["Content-Type"] = "application/json"
  return self:http(opts)
end

--- A raw connection.
function Server:raw(opts)
  opts = self:prepare(opts)
  return self:adopt(connection.open(self:target(opts), opts))
end

-- Its log ----------------------------------------------------------------------------------------------

--- Everything it wrote to standard error; also after its end.
function Server:log()
  return self.final_log or posix.read_file(self.work .. "/log")
end

--- The end of the log, for failures.
function Server:log_tail()
  local log = self:log()
  if log == "" then
    return ""
  end
  return "\ngateway log:\n" .. log:sub(-2000)
end

--- Declares that warnings or errors whose line matches a Lua pattern are meant to be in the log;
--- the stop fails when none is.
function Server:expect_log(pattern)
  self.expected[#self.expected + 1] = pattern
end

--- Declares that such lines may be there.
function Server:allow_log(pattern)
  self.allowed[#self.allowed + 1] = pattern
end

--- Waits until a line of the log matches. Returns the line.
function Server:wait_log(pattern, seconds)
  local deadline = posix.deadline(seconds)
  while true do
    for line in self:log():gmatch("[^\n]+") do
      if line:find(pattern) then
        return line
      end
    end
    if posix.now() > deadline then
      error(("nothing in the log matches %q%s"):format(pattern, self:log_tail()), 2)
    end
    posix.pause(0.005)
  end
end

local SANITIZERS = { "AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:" }

-- The first thing in the log that should not be there, or nil.
function Server:log_problem()
  local log = self:log()
  for _, name in ipairs(SANITIZERS) do
    local at = log:find(name, 1, true)
    if at then
      return "a sanitizer reports:\n" .. log:sub(math.max(1, at - 200), at + 4000)
    end
  end
  local seen = {}
  for line in log:gmatch("[^\n]+") do
    local level = line:match("^%S+ (%a+) ")
    if level == "warn" or level == "error" then
      local is_known = false
      for _, pattern in ipairs(self.expected) do
        if line:find(pattern) then
          seen[pattern], is_known = true, true
        end
      end
      for _, pattern in ipairs(self.allowed) do
        is_known = is_known or line:find(pattern) ~= nil
      end
      if not is_known then
        return "unexpected in the log: " .. line .. self:log_tail()
      end
    end
  end
  for _, pattern in ipairs(self.expected) do
    if not seen[pattern] then
      return ("nothing in the log matches %q%s"):format(pattern, self:log_tail())
    end
  end
end

-- Stopping ---------------------------------------------------------------------------------------------

function Server:signal(name)
  posix.kill(self.pid, name)
end

-- Gives back descriptors and files.
function Server:discard()
  running[self] = nil
  if not self.gone then
    posix.kill(self.pid, "KILL")
    posix.wait_exit(self.pid, posix.deadline(5))
    self.gone = true
  end
  for _, client in ipairs(self.clients) do
    client:close()
  end
  posix.close(self.process.stdin)
  posix.close(self.process.stdout)
  self.final_log = self:log()
  posix.remove_directory(self.work)
  if self.directory then
    posix.remove_directory(self.directory)
  end
end

--- Ends it at once, without a check.
function Server:kill()
  if running[self] then
    self:discard()
  end
end

-- Reads what is left of standard output. Returns the final counters, or nil.
function Server:read_to_end(deadline)
  local counters
  local line = self:read_line(deadline)
  while line do
    counters = line:match("^counters (%b{})$") or counters
    line = self:read_line(deadline)
  end
  return counters and json.decode(counters)
end

--- Waits until it has ended by itself, and judges how: exit code, sanitizers, log, counters. Clients
--- that are still there go first: who waits for whose end is not what is judged here.
function Server:expect_exit(code, seconds)
  for _, client in ipairs(self.clients) do
    client:close()
  end
  local deadline = posix.deadline(seconds or 10)
  local ok, counters = pcall(self.read_to_end, self, deadline)
  local got, why = posix.wait_exit(self.pid, deadline)
  self.gone = why ~= "timeout"
  local problem = self:log_problem()
  if why == "timeout" then
    problem = "the gateway does not end" .. self:log_tail()
  elseif got ~= code then
    problem = problem or ("ended with %s%s"):format(tostring(got or why), self:log_tail())
  elseif not ok then
    problem = problem or counters
  elseif self.is_test and not problem then
    problem = not counters and "no counters at the end" .. self:log_tail() or nil
    for _, name in ipairs(COUNTED) do
      local value = counters and counters[name]
      if counters and value ~= 0 then
        problem = ("%s %s at the end, not 0"):format(tostring(value), name)
      end
    end
  end
  self:discard()
  if problem then
    error(problem, 2)
  end
end

--- Ends it in good order (its clients first, unless they are gone) and judges how.
function Server:stop()
  for _, client in ipairs(self.clients) do
    client:close()
  end
  self:signal("TERM")
  self:expect_exit(0)
end

local function stop_where(is_meant)
  local problems = {}
  local servers = {}
  for server in pairs(running) do
    if is_meant(server) then
      servers[#servers + 1] = server
    end
  end
  for _, server in ipairs(servers) do
    local ok, message = pcall(server.stop, server)
    if not ok then
      problems[#problems + 1] = tostring(message)
      server:kill()
    end
  end
  if #problems > 0 then
    error(table.concat(problems, "\n"), 0)
  end
end

--- For `after_each`: stops every gateway that the example started, and judges it.
function M.clean_up()
  stop_where(function(server)
    return not server.keep
  end)
  for server in pairs(running) do
    for _, client in ipairs(server.clients) do
      client:close()
    end
    server.clients = {}
  end
end

--- For `teardown`: stops the shared ones too.
function M.stop_all()
  stop_where(function()
    return true
  end)
end

--- Runs `fn(workers)` for 1 and 4 workers, each in a describe block of its own. `describe` is
--- busted's, which modules do not see.
function M.with_workers(describe, fn)
  for _, workers in ipairs({ 1, 4 }) do
    describe(("with %d worker%s"):format(workers, workers == 1 and "" or "s"), function()
      fn(workers)
    end)
  end
end

return M
