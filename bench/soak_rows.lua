--- What came of a soak, as the rows of its table.

local statistics = require("bench.statistics")

local M = {}

local MAX_LUA_GROWTH, MAX_RSS_GROWTH = 256 * 1024, 1.15

-- The longest that a thousandth of the messages may be late.
local PAUSE_US = 10000

local function ms(us)
  return ("%.1f ms"):format(us / 1000)
end

-- A row whose value should be this number.
local function count_row(name, value, aim, detail)
  return {
    name = name,
    value = ("%d"):format(value),
    detail = detail or "",
    aim = ("%d"):format(aim),
    is_met = value == aim,
  }
end

-- A row that a slow or busy machine decides about too.
local function timing(row)
  row.is_timing = true
  return row
end

-- What the load generator saw --------------------------------------------------------------------

local function judge_load(add, opts, found)
  local figures = found.figures
  local clients = ("%d WebSockets, %d event streams"):format(opts.conns, opts.streams)
  add(count_row("connections closed or failed", figures.disconnects + figures.failed, 0, clients))
  local came = ("%d came, %.0f/s"):format(figures.messages, figures.rate)
  add(count_row("messages lost", figures.lost + figures.missing, 0, came))
  add(count_row("messages doubled or out of order", figures.reordered, 0))
  add(count_row("messages damaged", figures.bad, 0))
  local newest = ("the newest of generation %d"):format(figures.generation)
  add(count_row("messages of older code than was live", figures.older, 0, newest))
end

local function judge_pauses(add, found)
  local figures, counters = found.figures, found.counters
  local late_us = figures.p999_us - figures.p50_us
  add(timing({
    name = "pause of a message, p99.9",
    value = ms(late_us),
    detail = ("latency p50 %s, p99 %s, p99.9 %s"):format(
      ms(figures.p50_us),
      ms(figures.p99_us),
      ms(figures.p999_us)
    ),
    aim = "< " .. ms(PAUSE_US),
    is_met = late_us < PAUSE_US,
  }))
  add(timing({
    name = "longest pause that a client saw",
    value = ms(figures.pause_max_us),
    detail = ("p50 of the clients %s, p99.9 %s; the load itself was late by %s"):format(
      ms(figures.pause_p50_us),
      ms(figures.pause_p999_us),
      ms(figures.own_late_us)
    ),
  }))
  add(timing({
    name = "longest stall of a worker",
    value = ms(counters.longest_stall_us),
    detail = ("p99 %s, p99.9 %s of %d"):format(
      ms(counters.stall_p99_us),
      ms(counters.stall_p999_us),
      counters.stalls
    ),
  }))
end

-- What the log and the workers said ---------------------------------------------------------------

local function durations(list)
  if #list == 0 then
    return ""
  end
  local _, longest = statistics.range(list)
  return ("in %g ms, at most %g ms"):format(statistics.median(list), longest)
end

local function judge_saves(add, opts, found)
  local saves, counters = found.saves, found.counters
  add(count_row("good saves that went live", saves.live, saves.good, durations(saves.load_ms)))
  add(count_row("broken saves that were reported", saves.reported, saves.broken))
  add(
    count_row("anything else in the log, or from a worker", #saves.surprises, 0, saves.surprises[1])
  )
  add(count_row("generation at the end", counters.generation, saves.generation))
  add(count_row("generations alive, one of each worker", counters.generations, opts.workers))
end

local function judge_starts(add, found)
  local told, is_in_order = 0, true
  for generation in found.log:gmatch("soak: start of (%d+),") do
    told = told + 1
    is_in_order = is_in_order and tonumber(generation) == told
  end
  local row = count_row("on_start, once of each generation", told, found.saves.generation)
  row.is_met = row.is_met and is_in_order
  add(row)
end

-- Run k is due k seconds after the gateway's start, which lies between these two moments: one that
-- came sooner came twice, one that came a second late took the place of one that was left out.
local function judge_runs(add, found)
  local runs, doubled, left_out = 0, 0, 0
  for number, at in found.log:gmatch("soak: run (%d+) at ([%d.]+)") do
    runs = runs + 1
    local is_early = tonumber(at) < found.began + runs - 0.001
    doubled = doubled + ((is_early or tonumber(number) ~= runs) and 1 or 0)
    left_out = math.max(left_out, math.floor(tonumber(at) - found.listened) - runs)
  end
  left_out = math.max(left_out, math.floor(found.ended - found.listened) - runs)
  add(count_row("app:every, doubled", doubled, 0, ("%d runs, one a second"):format(runs)))
  add(timing(count_row("app:every, left out", left_out, 0)))
end

local function judge_memory(add, found)
  local before, after = found.before, found.after
  local growth = after.lua_bytes - before.lua_bytes
  add({
    name = "Lua's memory after a collection",
    value = ("%+.0f KiB"):format(growth / 1024),
    detail = ("of %.1f MiB"):format(before.lua_bytes / 1024 / 1024),
    aim = ("< %d KiB"):format(MAX_LUA_GROWTH / 1024),
    is_met = growth < MAX_LUA_GROWTH,
  })
  local aim = before.rss_mib * MAX_RSS_GROWTH
  add(timing({
    name = "resident memory",
    value = ("%.1f MiB"):format(after.rss_mib),
    detail = ("%.1f MiB before"):format(before.rss_mib),
    aim = ("≤ %.1f MiB"):format(aim),
    is_met = after.rss_mib <= aim,
  }))
end

--- `found` is what soak.lua has gathered. Rows as those of steadiness.lua, with `is_timing` where the
--- machine decides too; without an aim where a figure is only told.
function M.judge(opts, found)
  local rows = {}
  local function add(row)
    row.is_met = row.aim == nil or row.is_met
    row.aim = row.aim or ""
    table.insert(rows, row)
  end
  judge_load(add, opts, found)
  judge_saves(add, opts, found)
  judge_starts(add, found)
  judge_runs(add, found)
  judge_memory(add, found)
  judge_pauses(add, found)
  return rows
end

return M
