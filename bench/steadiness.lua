--- The section on steadiness: how long the gateway's loop stalls with many sessions, what dead
--- readers cost the others, and what a burst leaves in memory.
---
--- Both have a processor alone where the system allows that (process.start_server's `is_alone`): a
--- stall that the scheduler makes is none of the gateway's own.

local json = require("perigee.testing.json")
local measure = require("bench.measure")
local posix = require("perigee.testing.posix")
local process = require("bench.process")
local servers = require("bench.servers")

local M = {}

local CONNS, AUDIENCE, DEAD = 19000, 10000, 100
local SECONDS = 20
local STALL_US = 5000
-- Two runs of the same differ by so much.
local LATENCY_FACTOR = 1.25

local BURST_CONNS, BURST_BYTES = 1000, 100 * 1000
local BURST_GROWTH = 1.10
local REST_SECONDS = 2

-- What a phase of the load generator may take, opening included.
local PHASE_SECONDS = 60

-- The gateway, asked for its counters --------------------------------------------------------------

local function counters(running)
  process.say(running, "counters")
  return json.decode(process.expect(running, "counters (%b{})\n", PHASE_SECONDS))
end

local function forget_stalls(running)
  process.say(running, "forget")
  process.expect(running, "forgotten\n", PHASE_SECONDS)
end

local function memory(running, name)
  local status = posix.read_file("/proc/" .. running.pid .. "/status")
  return tonumber(status:match(name .. ":%s*(%d+) kB")) / 1024
end

-- A load between its two gates ---------------------------------------------------------------------

--- Starts the load and the gateway, calls `on_ready` and `on_done` where the load waits: before what
--- it measures, and after. Returns the load generator's figures.
local function run(build, kind, mode, options, on_ready, on_done)
  local server = servers.steady(build)
  local running = server.start()
  local command = measure.command(build, mode, server, running, kind, options)
  command[#command + 1] = "--gate"
  local log = build .. "/bench/loadgen.log"
  local load = process.start_load(command, log, { is_alone = true })
  local ok, message = pcall(function()
    for _, gate in ipairs({ { "ready\n", on_ready }, { "done\n", on_done } }) do
      process.expect(load, gate[1], PHASE_SECONDS)
      gate[2](running)
      process.say(load, "go")
    end
  end)
  local code, output = process.finish(load, PHASE_SECONDS)
  process.stop(running)
  if not ok or code ~= 0 then
    error(
      ("%s: a failed run: %s\n%s%s"):format(mode, message or code, output, posix.read_file(log)),
      0
    )
  end
  return measure.parse(output)
end

local function steady(build, dead)
  local opening, working
  local options = {
    "--conns",
    CONNS,
    "--audience",
    AUDIENCE,
    "--dead",
    dead,
    "--rate",
    2000,
    "--seconds",
    SECONDS,
    "--warmup",
    1,
    "--settle",
    1,
  }
  local figures = run(build, "steady", "steady", options, function(running)
    opening = counters(running)
    forget_stalls(running)
  end, function(running)
    working = counters(running)
  end)
  return { opening = opening, working = working, figures = figures }
end

local function burst(build)
  local before, peak, after
  local options = { "--conns", BURST_CONNS, "--size", BURST_BYTES, "--rounds", 1 }
  run(build, "echo", "ws-echo", options, function(running)
    before = memory(running, "VmRSS")
  end, function(running)
    peak = memory(running, "VmHWM")
    posix.pause(REST_SECONDS)
    after = memory(running, "VmRSS")
  end)
  return before, peak, after
end

-- Rows ---------------------------------------------------------------------------------------------

local function ms(us)
  return ("%.1f ms"):format(us / 1000)
end

local function stall_row(name, found)
  return {
    name = name,
    value = ms(found.longest_stall_us),
    detail = ("p99.9 %s of %d"):format(ms(found.stall_p999_us), found.stalls),
    aim = "< " .. ms(STALL_US),
    is_met = found.longest_stall_us < STALL_US,
  }
end

local function latency_row(without, with)
  local aim = without.p999_us * LATENCY_FACTOR
  return {
    name = ("latency p99.9 of the others, beside %d dead readers"):format(DEAD),
    value = ms(with.p999_us),
    detail = ("%s without; p50 %s and %s"):format(
      ms(without.p999_us),
      ms(with.p50_us),
      ms(without.p50_us)
    ),
    aim = "≤ " .. ms(aim),
    is_met = with.p999_us <= aim,
  }
end

local function burst_row(before, peak, after)
  return {
    name = ("memory %d s after 100 MB through 1,000 connections"):format(REST_SECONDS),
    value = ("%.1f MiB"):format(after),
    detail = ("%.1f MiB before, %.1f MiB at its peak"):format(before, peak),
    aim = ("≤ %.1f MiB"):format(before * BURST_GROWTH),
    is_met = after <= before * BURST_GROWTH,
  }
end

--- `opts` has build. Returns the rows of the table, in order.
function M.run(opts)
  io.stderr:write("steadiness\n")
  local without, with = steady(opts.build, 0), steady(opts.build, DEAD)
  return {
    stall_row("longest stall, opening 19,000 connections", without.opening),
    stall_row("longest stall, at work", without.working),
    stall_row(("longest stall, at work with %d dead readers"):format(DEAD), with.working),
    latency_row(without.figures, with.figures),
    burst_row(burst(opts.build)),
  }
end

return M
