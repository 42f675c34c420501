--- The table's rows: what is measured, by which load, and what is aimed for.
---
--- A row with a `mode` is a run of the load generator and compared with the floor, as messages per
--- second of the server's CPU; `aim` is the least ratio. `kind` is the work as a server knows it
--- (servers.lua): which paths it is at, and how it is asked for. The others are figures of the
--- gateway alone; `aim` is the most.

local M = {}

local function load(name, kind, mode, options, aim)
  return { name = name, kind = kind, mode = mode, options = options, aim = aim }
end

local function options(conns, size, inflight)
  return {
    "--conns",
    tostring(conns),
    "--size",
    tostring(size),
    "--inflight",
    tostring(inflight or 1),
  }
end

local FAN_OUT_BYTES = 100
-- What scripts/rooms.lua is sent: with its stamp, some 90 bytes.
local ROOM_BYTES = 90

M.loads = {
  load("echo, 64 connections, 20 B", "echo", "ws-echo", options(64, 20), 0.90),
  load("echo, 64 connections, 1 KiB", "echo", "ws-echo", options(64, 1024), 0.90),
  load("echo, 1,000 connections, 20 B", "echo", "ws-echo", options(1000, 20), 0.90),
  load("echo, 1,000 connections, 1 KiB", "echo", "ws-echo", options(1000, 1024), 0.90),
  load("echo, 64 connections, 64 KiB", "echo", "ws-echo", options(64, 65536), 0.80),
  load("echo, 64 connections, 20 B, 16 in flight", "echo", "ws-echo", options(64, 20, 16), 0.80),
  load("fan-out to 1,000", "fan_out", "ws-fanout", options(1000, FAN_OUT_BYTES), 0.95),
  load("fan-out to 10,000", "fan_out", "ws-fanout", options(10000, FAN_OUT_BYTES), 0.95),
  load(
    "fan-out to 1,000, 16 in flight",
    "fan_out",
    "ws-fanout",
    options(1000, FAN_OUT_BYTES, 16),
    1
  ),
  load(
    "fan-out to 10,000, 16 in flight",
    "fan_out",
    "ws-fanout",
    options(10000, FAN_OUT_BYTES, 16),
    1
  ),
  load(
    "room of 100 where all speak, Lua and JSON",
    "room",
    "ws-fanout",
    options(100, ROOM_BYTES),
    0.40
  ),
  load("room of 100 where all speak, relay", "relay", "ws-fanout", options(100, ROOM_BYTES), 0.90),
  load("SSE fan-out to 1,000", "sse", "sse-fanout", options(1000, FAN_OUT_BYTES), 0.90),
  load("SSE fan-out to 10,000", "sse", "sse-fanout", options(10000, FAN_OUT_BYTES), 0.90),
  load("HTTP hello, keep-alive", "hello", "http", options(64, 0), 0.90),
  load("HTTP hello, pipelined 16", "hello", "http", options(64, 0, 16), 0.60),
  load("opened, upgraded and closed", "churn", "churn", { "--conns", "64" }, 0.95),
}

M.figures = {
  {
    name = "bytes a WebSocket with on_open and a subscription",
    kind = "idle",
    unit = "B",
    aim = 1000,
  },
  { name = "bytes a WebSocket no script has touched", kind = "bare", unit = "B", aim = 468 },
  { name = "start to listening", kind = "start_ms", unit = "ms", aim = 20 },
  { name = "memory then, one worker", kind = "start_mib", unit = "MiB", aim = 12 },
}

return M
