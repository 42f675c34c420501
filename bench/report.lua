--- Writes the table and its chart into bench/README.md, between two marks; what people wrote around
--- them stays.

local chart = require("bench.chart")
local posix = require("perigee.testing.posix")
local text_table = require("bench.text_table")

local M = {}

local README, CHART = "bench/README.md", "bench/ratios.svg"
local BEGIN = "<!-- make bench-report writes from here -->"
local END = "<!-- to here -->"

local BODY = "\n\n%s, on %s; medians of %d rounds of %g s.\n\n%s\n![ratios](ratios.svg)\n\n%s\n"

local HEAD = { "work", "gateway", "floor", "ratio", "spread", "aim", "" }

--- The lines of the table, head first, as text_table takes them.
function M.lines(results)
  local lines = { HEAD }
  for _, result in ipairs(results) do
    lines[#lines + 1] = {
      result.name,
      result.gateway,
      result.floor,
      result.value,
      result.spread,
      result.aim,
      result.is_met and "met" or "not met",
    }
  end
  return lines
end

local function judged_lines(name, rows)
  local lines = { { name, "gateway", "", "aim", "" } }
  for _, row in ipairs(rows) do
    local judgement = row.aim == "" and "" or row.is_met and "met" or "not met"
    lines[#lines + 1] = { row.name, row.value, row.detail, row.aim, judgement }
  end
  return lines
end

--- The same for the section on steadiness.
function M.steadiness_lines(rows)
  return judged_lines("steadiness", rows)
end

--- And for the one on reloads.
function M.soak_lines(rows)
  return judged_lines("reloads under load", rows)
end

local function first_line(path, pattern)
  return posix.read_file(path):match(pattern) or "unknown"
end

--- The machine in a line: processor, cores, kernel.
function M.machine()
  local cpuinfo = posix.read_file("/proc/cpuinfo")
  local model = cpuinfo:match("model name%s*:%s*([^\n]+)") or "an unknown processor"
  local cores = select(2, cpuinfo:gsub("processor%s*:", ""))
  local kernel = first_line("/proc/sys/kernel/osrelease", "^[%d.]+")
  return ("%s, %d cores, Linux %s"):format(model, cores, kernel)
end

local function write(path, content)
  local file = assert(io.open(path, "wb"))
  assert(file:write(content))
  assert(file:close())
end

--- Replaces what is between the marks. Raises where they are missing.
function M.write(results, steadiness, opts)
  local text = posix.read_file(README)
  local _, from = text:find(BEGIN, 1, true)
  local to = from and text:find(END, from, true)
  if not to then
    error(README .. " lacks the marks between which the table goes", 0)
  end
  local body = BODY:format(
    os.date("!%Y-%m-%d"),
    M.machine(),
    opts.rounds,
    opts.seconds,
    text_table.markdown(M.lines(results)),
    text_table.markdown(M.steadiness_lines(steadiness))
  )
  write(README, text:sub(1, from) .. body .. text:sub(to))
  write(CHART, chart.svg(results))
end

return M
