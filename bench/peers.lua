--- Other servers on the same work, beside the floor: node with ws, nginx with nchan or with Lua.
---
--- What cannot be had here is named, and left out.

local lfs = require("lfs")

local measure = require("bench.measure")
local posix = require("perigee.testing.posix")
local process = require("bench.process")
local rows = require("bench.rows")
local servers = require("bench.servers")
local statistics = require("bench.statistics")
local text_table = require("bench.text_table")

local M = {}

local FLOOR_PORT = 9190
local NGINX_PORT = 9191 -- as in peers/*.conf

-- The rest says the same again.
local WORKS = {
  ["echo, 64 connections, 20 B"] = true,
  ["echo, 64 connections, 20 B, 16 in flight"] = true,
  ["fan-out to 1,000"] = true,
  ["fan-out to 10,000"] = true,
  ["room of 100 where all speak, Lua and JSON"] = true,
  ["SSE fan-out to 1,000"] = true,
  ["SSE fan-out to 10,000"] = true,
  ["HTTP hello, keep-alive"] = true,
}

-- nginx takes relative paths to be below its own folder.
local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local function node_ws(folder, gateway)
  local server = { name = "node ws", kinds = gateway.kinds }
  function server.start()
    return process.start_server(
      { "node", "bench/peers/node_ws.js" },
      { log = folder .. "/node.log", env = { NODE_PATH = folder .. "/node/node_modules" } }
    )
  end
  return server
end

-- The worker's pid beside the master's.
local function pids_of(running)
  local path = ("/proc/%d/task/%d/children"):format(running.pid, running.pid)
  local list = { tostring(running.pid) }
  for child in posix.read_file(path):gmatch("%d+") do
    list[#list + 1] = child
  end
  return table.concat(list, ",")
end

local function nginx(name, folder, conf, modules, kinds)
  local server, root = { name = name, kinds = kinds }, folder .. "/nginx"
  local loads = {}
  for _, module in ipairs(modules) do
    loads[#loads + 1] = ("load_module %s/usr/lib/nginx/modules/%s.so;"):format(root, module)
  end
  function server.start()
    os.execute(("mkdir -p '%s/run'"):format(root))
    local running = process.start_server({
      root .. "/usr/sbin/nginx",
      "-p",
      root .. "/run",
      "-e",
      "error.log",
      "-c",
      absolute("bench/peers/" .. conf),
      "-g",
      table.concat(loads, " "),
    }, {
      log = folder .. "/nginx.log",
      port = NGINX_PORT,
      env = { LD_LIBRARY_PATH = root .. "/libraries" },
    })
    running.pids = pids_of(running)
    return running
  end
  return server
end

local function can_fetch(folder, what)
  local command = { "bench/peers/fetch", folder, what }
  local code, output = process.run(command, folder .. "/fetch.log", 300)
  if code ~= 0 then
    local log = posix.read_file(folder .. "/fetch.log"):sub(-300)
    io.write(("%s cannot be had here and is left out:\n%s%s\n"):format(what, output, log))
  end
  return code == 0
end

local function available(opts)
  local gateway = servers.gateway(opts.build)
  local list = { servers.floor(opts.build, FLOOR_PORT), gateway }
  local folder = absolute(opts.build .. "/peers")
  os.execute(("mkdir -p '%s'"):format(folder))
  if can_fetch(folder, "node") then
    list[#list + 1] = node_ws(folder, gateway)
  end
  if can_fetch(folder, "nginx") then
    list[#list + 1] = nginx("nginx + nchan", folder, "nchan.conf", { "ngx_nchan_module" }, {
      fan_out = gateway.kinds.fan_out,
      sse = gateway.kinds.sse,
    })
    list[#list + 1] = nginx(
      "nginx + Lua",
      folder,
      "lua.conf",
      { "ndk_http_module", "ngx_http_lua_module" },
      { hello = gateway.kinds.hello }
    )
  end
  return list
end

-- A peer that fails is no failure of ours: its cell says so.
local function measure_cell(server, row, opts)
  local values = {}
  for _ = 1, opts.rounds do
    local ok, figures = pcall(measure.load, server, row, opts)
    if not ok then
      io.stderr:write(figures, "\n")
      return nil
    end
    values[#values + 1] = figures.per_cpu_s
  end
  return statistics.median(values)
end

local function measure_row(list, row, opts)
  local cells, floor = { row.name }, nil
  for i, server in ipairs(list) do
    local is_able = server.kinds[row.kind] ~= nil
    local value = is_able and measure_cell(server, row, opts)
    floor = i == 1 and value or floor
    if value and floor then
      cells[#cells + 1] = ("%s (%.2f)"):format(statistics.short(value), value / floor)
    else
      cells[#cells + 1] = is_able and "failed" or "–"
    end
  end
  return cells
end

--- Prints the table; cells are messages per second of server CPU and, in parentheses, their ratio
--- to the floor.
function M.run(opts)
  local list = available(opts)
  local lines = { { "work" } }
  for _, server in ipairs(list) do
    table.insert(lines[1], server.name)
  end
  for _, row in ipairs(rows.loads) do
    if WORKS[row.name] then
      io.stderr:write(row.name, "\n")
      lines[#lines + 1] = measure_row(list, row, opts)
    end
  end
  io.write(text_table.aligned(lines))
  return true
end

return M
