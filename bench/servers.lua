--- The servers that are compared: how each is started, and how each is asked for a kind of work.
---
--- A server is `{ name, start = function(opts), kinds }`. `kinds` maps a kind of rows.lua to
--- options of the load generator; what is not in it the server cannot do. `start` returns what
--- process.start_server does.

local process = require("bench.process")

local M = {}

local JOIN = '{"type":"join-room","room":"bench"}'
local ROOM_MESSAGE = '{"type":"room-message","room":"bench","data":"{stamp}{pad}"}'

--- `build` is the folder with the binaries and for logs.
function M.gateway(build)
  local server = { name = "gateway" }

  server.command = {
    build .. "/perigee",
    "serve",
    "bench/app.lua",
    "--workers",
    "1",
    "--listen",
    "127.0.0.1:0",
    "--log-level",
    "warn",
  }

  function server.start(opts)
    local log = { log = build .. "/bench/gateway.log", unpinned = opts and opts.unpinned }
    return process.start_server(server.command, log)
  end

  server.kinds = {
    echo = { "--path", "/echo" },
    fan_out = { "--path", "/room", "--publish-path", "/pub" },
    room = { "--path", "/rooms", "--room", "--join", JOIN, "--publication", ROOM_MESSAGE },
    relay = { "--path", "/relay", "--room", "--publication", ROOM_MESSAGE },
    sse = { "--path", "/sse", "--publish-path", "/sse-pub" },
    hello = { "--path", "/hello" },
    churn = { "--path", "/echo" },
    idle = { "--path", "/idle" },
    bare = { "--path", "/bare" },
  }
  return server
end

--- The floor trusts its client, hence the fixed port: it is up only while it is measured.
function M.floor(build, port)
  local server = { name = "floor" }

  function server.start()
    return process.start_server(
      { build .. "/bench/floor", tostring(port) },
      { log = build .. "/bench/floor.log" }
    )
  end

  server.kinds = {
    echo = { "--path", "/echo" },
    fan_out = { "--path", "/room", "--publish-path", "/pub" },
    room = { "--path", "/room", "--room", "--publication", ROOM_MESSAGE },
    relay = { "--path", "/room", "--room", "--publication", ROOM_MESSAGE },
    sse = { "--path", "/sse", "--publish-path", "/publish" },
    hello = { "--path", "/hello" },
    churn = { "--path", "/echo" },
  }
  return server
end

return M
