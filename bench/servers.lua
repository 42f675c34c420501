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

--- The gateway with the app of the section on steadiness, in test mode, for its counters.
function M.steady(build)
  local server = { name = "gateway" }

  local command = { build .. "/perigee", "serve", "bench/steadiness_app.lua", "--test" }
  for _, word in ipairs({ "--workers", "1", "--listen", "127.0.0.1:0", "--log-level", "error" }) do
    command[#command + 1] = word
  end

  function server.start()
    return process.start_server(command, { log = build .. "/bench/gateway.log", is_alone = true })
  end

  local join = '{"type":"join","id":"{id}"%s}'
  local steady = { "--path", "/steady" }
  for name, text in pairs({
    ["--join"] = join:format(""),
    ["--dead-join"] = join:format(',"hose":true'),
    ["--publication"] = '{"type":"message","text":"{stamp}"}',
    ["--answer"] = '"type":"answer"',
    ["--broadcast"] = '{"type":"broadcast","text":"{stamp}"}',
  }) do
    steady[#steady + 1] = name
    steady[#steady + 1] = text
  end
  server.kinds = { steady = steady, echo = { "--path", "/echo" } }
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
