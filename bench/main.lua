--- The benchmarks' command line, called by the Makefile at the project's root:
---
---     luajit bench/main.lua run|report|steadiness|peers|instructions|record|soak [--NAME VALUE]...
---
--- run: gateway and floor in turn, then how steady the gateway is, as tables on standard output;
--- report: the same, written into bench/README.md; steadiness: the second table alone; peers: other
--- servers beside the floor; instructions: counts them and compares with bench/instructions.txt;
--- record: counts and writes that file; soak: reloads under load.
---
--- Options: --build FOLDER (build), --rounds N (3), --seconds N (1, measured a run; of soak 60), --only
--- TEXT (of run: the loads whose names have it, and nothing else); of soak: --conns, --streams,
--- --workers, --rate, --every, as soak.lua has them.

package.path = "./?.lua;./lua/?.lua;./lua/?/init.lua;" .. package.path

local process = require("bench.process")
local report = require("bench.report")
local text_table = require("bench.text_table")

local DEFAULTS = { build = "build", rounds = 3, seconds = 1, warmup = 0.3, only = "" }

local function parse(arguments)
  local opts = {}
  for name, value in pairs(arguments[1] == "soak" and require("bench.soak").DEFAULTS or DEFAULTS) do
    opts[name] = value
  end
  for i = 2, #arguments, 2 do
    local name, value = arguments[i]:match("^%-%-(%a+)$"), arguments[i + 1]
    if not name or opts[name] == nil or not value then
      error("unknown option " .. arguments[i], 0)
    end
    local is_number = type(opts[name]) == "number"
    opts[name] = is_number and (tonumber(value) or error(value .. " is no number", 0)) or value
  end
  return arguments[1], opts
end

local commands = {}

function commands.run(opts)
  local results = require("bench.comparison").run(opts)
  io.write("Messages per second of server CPU, one worker. ", report.machine(), "\n\n")
  io.write(text_table.aligned(report.lines(results)), "\n")
  if opts.only ~= "" then
    return true
  end
  local steadiness = require("bench.steadiness").run(opts)
  io.write(text_table.aligned(report.steadiness_lines(steadiness)))
  return true, results, steadiness
end

function commands.steadiness(opts)
  local steadiness = require("bench.steadiness").run(opts)
  io.write(text_table.aligned(report.steadiness_lines(steadiness)))
  return true
end

function commands.report(opts)
  opts.only = ""
  local _, results, steadiness = commands.run(opts)
  report.write(results, steadiness, opts)
  return true
end

function commands.peers(opts)
  return require("bench.peers").run(opts)
end

function commands.instructions(opts)
  return require("bench.instructions").check(opts)
end

function commands.record(opts)
  return require("bench.instructions").record(opts)
end

function commands.soak(opts)
  opts.is_alone = true
  local rows = require("bench.soak").run(opts)
  io.write(text_table.aligned(report.soak_lines(rows)))
  for _, row in ipairs(rows) do
    if not row.is_met then
      return false
    end
  end
  return true
end

local function main()
  local name, opts = parse(arg)
  local command = commands[name] or error("unknown command " .. tostring(name), 0)
  return command(opts)
end

-- What is said with a position is a mistake of ours, and wants its traceback.
local function explain(message)
  local text = tostring(message)
  return text:find("^[%w_./]+%.lua:%d+:") and debug.traceback(text) or text
end

local ok, result = xpcall(main, explain)
process.stop_all()
if package.loaded["perigee.testing"] then
  package.loaded["perigee.testing"].stop_all()
end
if not ok then
  io.stderr:write("bench: ", result, "\n")
end
os.exit(ok and result and 0 or 1)
