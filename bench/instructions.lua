--- User-space instructions per message, counted by valgrind's callgrind, so that a change which
--- makes the path longer shows on any machine, however busy.
---
--- What makes it repeatable: one worker; a fixed number of messages, sent in rounds while the
--- gateway is stopped, so that it always finds all of a round at once; and a warm-up that is not
--- counted, after which LuaJIT has compiled what it will.
---
--- `callgrind_annotate build/bench/callgrind.echo` tells where they went.

local measure = require("bench.measure")
local posix = require("perigee.testing.posix")
local process = require("bench.process")
local servers = require("bench.servers")
local text_table = require("bench.text_table")

local M = {}

local RECORD = "bench/instructions.txt"

-- What a figure may grow by before it is a failure.
local TOLERANCE = 0.05

-- A round under callgrind takes a while; a whole work some ten seconds.
local STEP_SECONDS = 120

local works = {
  {
    name = "echo",
    kind = "echo",
    mode = "ws-echo",
    per_round = 64,
    rounds = 150,
    options = { "--conns", 64, "--size", 20, "--warmup-rounds", 150 },
  },
  {
    name = "delivery",
    kind = "fan_out",
    mode = "ws-fanout",
    per_round = 1000,
    rounds = 40,
    options = { "--conns", 1000, "--size", 100, "--warmup-rounds", 40 },
  },
  {
    name = "request",
    kind = "hello",
    mode = "http",
    per_round = 64,
    rounds = 150,
    options = { "--conns", 64, "--warmup-rounds", 150 },
  },
  {
    name = "connection",
    kind = "churn",
    mode = "churn",
    per_round = 64,
    rounds = 40,
    options = { "--conns", 64, "--warmup-rounds", 20 },
  },
}

local function switch_counting(pid, log, state)
  local code, output = process.run({ "callgrind_control", "-i", state, tostring(pid) }, log, 20)
  if code ~= 0 then
    error("callgrind_control -i " .. state .. ": " .. output .. posix.read_file(log), 0)
  end
end

local function under_callgrind(gateway, profile, log)
  local command = {
    "valgrind",
    "--tool=callgrind",
    "--instr-atstart=no",
    "--callgrind-out-file=" .. profile,
  }
  for _, word in ipairs(gateway.command) do
    command[#command + 1] = word
  end
  return process.start_server(command, { log = log })
end

-- Between the load generator's "ready" and "done" the gateway is counted.
local function play(command, running, folder)
  local log = folder .. "/loadgen.log"
  local load = process.start_load(command, log)
  process.expect(load, "ready\n", STEP_SECONDS)
  switch_counting(running.pid, folder .. "/control.log", "on")
  process.say(load, "go")
  process.expect(load, "done\n", STEP_SECONDS)
  switch_counting(running.pid, folder .. "/control.log", "off")
  process.say(load, "go")
  local code, output = process.finish(load, STEP_SECONDS)
  if code ~= 0 then
    error("a failed run:\n" .. output .. posix.read_file(log), 0)
  end
end

local function count(gateway, work, opts)
  local folder = opts.build .. "/bench"
  local log = folder .. "/callgrind.log"
  local profile = ("%s/callgrind.%s"):format(folder, work.name)
  local running = under_callgrind(gateway, profile, log)
  local more = { "--rounds", work.rounds, "--gate", "--settle", 0.2 }
  for _, option in ipairs(work.options) do
    more[#more + 1] = option
  end
  play(measure.command(opts.build, work.mode, gateway, running, work.kind, more), running, folder)
  process.stop(running)
  local total = tonumber(posix.read_file(log):match("Collected : (%d+)"))
  return assert(total, "callgrind says nothing in " .. log) / (work.per_round * work.rounds)
end

local function count_all(opts)
  local gateway = servers.gateway(opts.build)
  local counts = {}
  for _, work in ipairs(works) do
    counts[work.name] = count(gateway, work, opts)
  end
  return counts
end

local function read_record()
  local recorded = {}
  for name, value in posix.read_file(RECORD):gmatch("([%a_]+)%s+(%d+)") do
    recorded[name] = tonumber(value)
  end
  return recorded
end

--- Counts and compares; false when a figure has grown by more than the tolerance, or none is
--- recorded.
function M.check(opts)
  local counts, recorded, is_good = count_all(opts), read_record(), true
  local lines = { { "instructions per", "now", "recorded", "change", "" } }
  for _, work in ipairs(works) do
    local now, before = counts[work.name], recorded[work.name]
    local change = before and now / before - 1
    local is_grown = not before or change > TOLERANCE
    is_good = is_good and not is_grown
    lines[#lines + 1] = {
      work.name,
      ("%.0f"):format(now),
      before and ("%d"):format(before) or "-",
      change and ("%+.1f %%"):format(change * 100) or "-",
      is_grown and "GROWN" or "",
    }
  end
  io.write(text_table.aligned(lines))
  if not is_good then
    io.write("If that is meant: make bench-instructions RECORD=1, and say why in the commit.\n")
  end
  return is_good
end

--- Counts and writes the figures that later ones are compared with.
function M.record(opts)
  local counts = count_all(opts)
  local lines = {}
  for _, work in ipairs(works) do
    lines[#lines + 1] = ("%s %.0f\n"):format(work.name, counts[work.name])
  end
  local file = assert(io.open(RECORD, "wb"))
  file:write(table.concat(lines))
  file:close()
  io.write(table.concat(lines))
  return true
end

return M
