--- Gateway and floor in turn, several rounds; the results as rows of a table.
---
--- A round runs every row once on each server, on a server of its own, one after the other, so that
--- whatever else happens on the machine meets both. The ratio is the median of the rounds' ratios.

local measure = require("bench.measure")
local rows = require("bench.rows")
local servers = require("bench.servers")
local statistics = require("bench.statistics")

local M = {}

local FLOOR_PORT = 9190

local function note(text)
  io.stderr:write(text, "\n")
end

local function add(list, value)
  list[#list + 1] = value
end

local function measure_loads(round, loads, results, pair, opts)
  -- Who goes first changes with the round.
  local order = round % 2 == 1 and { 1, 2 } or { 2, 1 }
  for i, row in ipairs(loads) do
    for _, which in ipairs(order) do
      add(results[i][which], measure.load(pair[which], row, opts).per_cpu_s)
    end
  end
end

local function measure_figures(results, gateway, opts)
  for _, kind in ipairs({ "idle", "bare" }) do
    add(results[kind], measure.idle_bytes(gateway, kind, opts))
  end
  local ms, mib = measure.start(gateway)
  add(results.start_ms, ms)
  add(results.start_mib, mib)
end

local function result_of_load(row, gateway, floor)
  local ratios = statistics.ratios(gateway, floor)
  local least, most = statistics.range(ratios)
  local ratio = statistics.median(ratios)
  return {
    name = row.name,
    gateway = statistics.short(statistics.median(gateway)),
    floor = statistics.short(statistics.median(floor)),
    ratio = ratio,
    value = ("%.2f"):format(ratio),
    spread = ("%.2f–%.2f"):format(least, most),
    aim = ("≥ %.2f"):format(row.aim),
    aimed = row.aim,
    is_met = ratio >= row.aim,
  }
end

local function result_of_figure(row, values)
  local least, most = statistics.range(values)
  local value = statistics.median(values)
  return {
    name = row.name,
    gateway = ("%.0f %s"):format(value, row.unit),
    floor = "",
    value = "",
    spread = ("%.0f–%.0f"):format(least, most),
    aim = ("≤ %d"):format(row.aim),
    is_met = value <= row.aim,
  }
end

local function chosen_loads(only)
  local loads = {}
  for _, row in ipairs(rows.loads) do
    if row.name:find(only, 1, true) then
      add(loads, row)
    end
  end
  return #loads > 0 and loads or error("no load is called " .. only, 0)
end

--- `opts` has build, rounds, seconds, warmup and only. Returns the rows of the table, in order.
function M.run(opts)
  local loads = chosen_loads(opts.only)
  local figures = opts.only == "" and rows.figures or {}
  local pair = { servers.gateway(opts.build), servers.floor(opts.build, FLOOR_PORT) }
  local results = { idle = {}, bare = {}, start_ms = {}, start_mib = {} }
  for i in ipairs(loads) do
    results[i] = { {}, {} }
  end
  for round = 1, opts.rounds do
    note(("round %d of %d"):format(round, opts.rounds))
    measure_loads(round, loads, results, pair, opts)
    if #figures > 0 then
      measure_figures(results, pair[1], opts)
    end
  end
  local list = {}
  for i, row in ipairs(loads) do
    add(list, result_of_load(row, results[i][1], results[i][2]))
  end
  for _, row in ipairs(figures) do
    add(list, result_of_figure(row, results[row.kind]))
  end
  return list
end

return M
