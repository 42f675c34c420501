--- One run of the load generator against one server, and figures of the gateway alone.

local posix = require("perigee.testing.posix")
local process = require("bench.process")

local M = {}

-- Beside what is measured: opening 10,000 connections and draining.
local RUN_SECONDS = 150

local IDLE_CONNS, IDLE_WARM_CONNS = 8000, 1000

local function append(list, more)
  for _, value in ipairs(more) do
    list[#list + 1] = tostring(value)
  end
  return list
end

--- The load generator's command for a row's mode against a server of a kind.
function M.command(build, mode, server, running, kind, more)
  local command = { build .. "/bench/loadgen", mode }
  append(command, { "--port", running.port, "--pid", running.pids or running.pid, "--json" })
  append(command, server.kinds[kind])
  return append(command, more)
end

--- The load generator's JSON: one flat object of numbers and a name.
function M.parse(text)
  local figures = {}
  for name, value in text:gmatch('"([%w_]+)":([%d.]+)') do
    figures[name] = tonumber(value)
  end
  return figures
end

--- Runs a command of the load generator. Raises when a message was lost, reordered or damaged, and
--- when nothing could be measured.
function M.run(build, command)
  local log = build .. "/bench/loadgen.log"
  os.remove(log)
  local code, output = process.run(command, log, RUN_SECONDS)
  if code ~= 0 then
    local words = table.concat(command, " ")
    error(("a failed run (%s): %s\n%s%s"):format(code, words, output, posix.read_file(log)), 0)
  end
  return M.parse(output)
end

--- Starts the server, runs one row against it, stops the server. `opts` has build, seconds and
--- warmup. Returns the load generator's figures.
function M.load(server, row, opts)
  local running = server.start()
  local more = append({}, row.options)
  append(more, { "--seconds", opts.seconds, "--warmup", opts.warmup, "--settle", 0.2 })
  local command = M.command(opts.build, row.mode, server, running, row.kind, more)
  local ok, figures = pcall(M.run, opts.build, command)
  process.stop(running)
  if not ok then
    error(server.name .. ", " .. row.name .. ": " .. figures, 0)
  end
  return figures
end

--- Bytes of memory for each idle WebSocket of a kind, after a first thousand has touched what is
--- there once.
function M.idle_bytes(server, kind, opts)
  local running = server.start()
  local more = { "--conns", IDLE_CONNS, "--warm-conns", IDLE_WARM_CONNS }
  append(more, { "--seconds", 0.5, "--settle", 0.5 })
  local command = M.command(opts.build, "idle", server, running, kind, more)
  local ok, figures = pcall(M.run, opts.build, command)
  process.stop(running)
  return assert(ok and figures.bytes_per_conn_end, figures)
end

--- Milliseconds from starting the program to its line that it listens, and its memory then, in MiB.
function M.start(server)
  local running = server.start({ unpinned = true })
  local status = posix.read_file("/proc/" .. running.pid .. "/status")
  process.stop(running)
  return running.seconds * 1000, tonumber(status:match("VmRSS:%s*(%d+)")) / 1024
end

return M
