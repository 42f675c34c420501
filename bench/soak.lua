--- The proof of reload under load: thousands of WebSockets and event streams, traffic the whole time,
--- and a script that is saved several times a second, now and then broken. Nobody may notice.
---
--- The load generator numbers what each connection says and judges what each one gets; soak_saves.lua
--- saves, reads the log and asks every worker; soak_rows.lua judges the rest.

local measure = require("bench.measure")
local posix = require("perigee.testing.posix")
local process = require("bench.process")
local soak_app = require("bench.soak_app")
local soak_rows = require("bench.soak_rows")
local soak_saves = require("bench.soak_saves")
local testing = require("perigee.testing")

local M = {}

-- Connections in a room, as the load generator has it.
local ROOM = 10

-- Opening all connections, and what comes after the load.
local PHASE_SECONDS = 150

-- Before the load works. After them memory is what a gateway that reloads needs; what comes later
-- would be a leak.
local WARM_SAVES = 20

--- What may be asked of a run, and what is done otherwise.
M.DEFAULTS = {
  build = "build",
  conns = 10000,
  streams = 1000,
  workers = 4,
  rate = 2000, -- messages a second, of all together
  seconds = 60,
  warmup = 1,
  every = 0.2, -- seconds from one save to the next
  is_watched = true, -- else SIGHUP tells of a save
  is_alone = false, -- before everything else that wants the processors, where that is allowed
}

-- The gateway and the load ------------------------------------------------------------------------

local function start_gateway(opts)
  local server = testing.start(soak_app.text(soak_app.MAIN, 1), {
    files = { [soak_app.PART] = soak_app.text(soak_app.PART, 0) },
    binary = opts.build .. "/perigee",
    workers = opts.workers,
    clock = "running",
    watch = opts.is_watched,
  })
  server.log:allow(" stays live ")
  if opts.is_alone then
    -- All of its threads, as they are there now; the kit has started it.
    local command = { "chrt", "--fifo", "--all-tasks", "--pid", "1", tostring(server.pid) }
    process.run(command, "/dev/null", PHASE_SECONDS)
  end
  return server
end

local function start_load(server, opts, log)
  local command = { opts.build .. "/bench/loadgen", "steady", "--json", "--gate" }
  for name, value in pairs({
    port = server.listeners[1].port,
    pid = server.pid,
    conns = opts.conns,
    streams = opts.streams,
    rate = opts.rate,
    seconds = opts.seconds,
    warmup = opts.warmup,
    path = "/ws",
    ["stream-path"] = "/rooms/{id}/feed",
    join = '{"type":"join","id":"{id}"}',
    publication = '{"type":"message","text":"{stamp}"}',
    answer = '"type":"answer"',
    generation = '"generation":',
  }) do
    table.insert(command, "--" .. name)
    table.insert(command, tostring(value))
  end
  return process.start_load(command, log, { unpinned = true, is_alone = opts.is_alone })
end

-- Without what is kept in topics, where messages that were dropped are for a while too.
local function memory(server, opts)
  server:exec(function(perigee, rooms)
    for room = 0, rooms - 1 do
      perigee.clear("room:" .. room)
    end
  end, math.ceil(opts.conns / ROOM))
  server:collect()
  local status = posix.read_file("/proc/" .. server.pid .. "/status")
  return {
    lua_bytes = server:counters().lua_bytes,
    rss_mib = tonumber(status:match("VmRSS:%s*(%d+) kB")) / 1024,
  }
end

local function save_under_load(server, load, opts, found)
  local saves = soak_saves.new(server, load, opts)
  found.saves = saves
  process.expect(load, "ready\n", PHASE_SECONDS)
  saves:go_on(math.min(opts.every, M.DEFAULTS.every), WARM_SAVES, math.huge)
  found.before = memory(server, opts)
  server:forget_stalls()
  process.say(load, "go")
  saves:go_on(opts.every, math.huge, posix.now() + opts.seconds - opts.every)
  process.expect(load, "done\n", PHASE_SECONDS)
  found.ended = posix.now()
  found.counters = server:counters()
  found.after = memory(server, opts)
  process.say(load, "go")
end

local function play(server, opts, found)
  local log = os.tmpname()
  local load = start_load(server, opts, log)
  local ok, message = pcall(save_under_load, server, load, opts, found)
  local code, output = process.finish(load, ok and PHASE_SECONDS or 0)
  local said = posix.read_file(log)
  os.remove(log)
  if not ok or code ~= 0 and code ~= 1 then
    error(("a failed run: %s\n%s%s"):format(message or code, output, said), 0)
  end
  io.stderr:write(said)
  found.figures = measure.parse(output)
end

--- One run. `asked` has what differs from DEFAULTS. Returns the rows of the table, in order: see
--- soak_rows.lua. Raises when there was no run, or when the gateway did not end as it should.
function M.run(asked)
  local opts = {}
  for name, value in pairs(M.DEFAULTS) do
    opts[name] = value
    if asked[name] ~= nil then
      opts[name] = asked[name]
    end
  end
  local found = { began = posix.now() }
  local server = start_gateway(opts)
  found.listened = posix.now()
  local ok, message = pcall(play, server, opts, found)
  if not ok then
    server:kill()
    error(message, 0)
  end
  found.log = server.log:text()
  server:stop()
  return soak_rows.judge(opts, found)
end

return M
