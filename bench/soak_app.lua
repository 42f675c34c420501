--- The application that make soak reloads: its files' texts, whole and broken.
---
--- Two files, main.lua and a module in a folder, each with a number that grows when it is saved. Their
--- sum is the generation, as the gateway counts it, as long as each save changes one of them by one;
--- all that the application says has it. What is broken has a number that nobody would miss.

local M = {}

M.MAIN, M.PART = "main.lua", "parts/rooms.lua"

-- Spoken once by code that should not be live, everything after it would be older.
local NEVER = 1000000

local PART = [[
local perigee = require("perigee")

local M = { number = NUMBER }

local frames = {}

function frames.join(conn, frame)
  local room = math.floor(tonumber(frame.id) / 10)
  conn.session = { room = "room:" .. room, count = 0 }
  conn:subscribe(conn.session.room)
end

-- What a client says has its number, counted from 0; so does its session.
function frames.message(conn, frame, generation)
  local session = conn.session
  if tonumber(frame.text:match(":(%x+):"), 16) ~= session.count then
    perigee.log.error("a session is not what it was")
  end
  session.count = session.count + 1
  conn:send({ type = "answer", text = frame.text, generation = generation })
  perigee.publish(session.room, { type = "said", text = frame.text, generation = generation })
end

function M.websocket(generation)
  return {
    on_message = function(conn, data)
      local frame = perigee.json.decode(data)
      frames[frame.type](conn, frame, generation)
    end,
  }
end

function M.feed()
  return {
    on_open = function(conn)
      conn:subscribe("room:" .. math.floor(tonumber(conn.request.params.id) / 10))
    end,
  }
end

return M
]]

local MAIN = [[
local perigee = require("perigee")
local rooms = require("parts.rooms")

local app = perigee.app()
local generation = NUMBER + rooms.number

app:topic("room:*", { history = 1 + NUMBER % 3 })
if NUMBER % 2 == 0 then
  app:topic("room:1*", { history = 3, age = 60 })
end

app:websocket("/ws", rooms.websocket(generation))
app:sse("/rooms/:id/feed", rooms.feed())
app:get("/generation", function()
  return tostring(generation)
end)

app:on_start(function(why)
  perigee.log.info("soak: start of %d, %s", generation, why)
end)
app:every(1, function()
  perigee.log.info("soak: run %d at %.3f", perigee.shared("soak"):incr("runs"), perigee.now())
end)

return app
]]

--- The whole text of main.lua, or of the module.
function M.text(name, number)
  local text = (name == M.MAIN and MAIN or PART):gsub("NUMBER", tostring(number))
  return text
end

--- Ways to break a file: which, what the log says of it, and its text. `is_cut` is one whose writer is
--- killed while it writes.
M.broken = {
  { name = M.MAIN, says = "main.lua:2: ", text = "local x =\n= 1\n" },
  {
    name = M.PART,
    says = "parts/rooms.lua:%d+: an error of the load",
    text = M.text(M.PART, NEVER):gsub("return M\n$", 'error("an error of the load")\n'),
  },
  {
    name = M.MAIN,
    says = 'module "parts.gone" not found',
    text = 'require("parts.gone")\n' .. M.text(M.MAIN, NEVER),
  },
  {
    name = M.PART,
    says = "parts/rooms.lua:%d+: ",
    text = M.text(M.PART, NEVER):match("^(.-conn:send%()"),
    is_cut = true,
  },
  {
    name = M.MAIN,
    says = "main.lua:2: ",
    text = 'local app = require("perigee").app()\napp:topic("a*b", {})\n',
  },
}

return M
