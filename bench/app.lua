--- What `make bench` serves: the smallest handlers that do each kind of work, and one that
--- does more.
---
--- Every message passes through Lua, but for /relay. /echo, /room with /pub, /sse with POST /sse-pub and /hello are
--- what bench/floor.c answers without a script; /rooms is scripts/rooms.lua, cut down to what
--- everybody does who speaks in a room.

local perigee = require("perigee")

local json = perigee.json
local app = perigee.app()

local BINARY = { binary = true }

app:websocket("/echo", {
  on_message = function(conn, data, is_binary)
    if is_binary then
      conn:send(data, BINARY)
    else
      conn:send(data)
    end
  end,
})

-- One to many ------------------------------------------------------------------------------------

app:websocket("/room", {
  on_open = function(conn)
    conn:subscribe("room")
  end,
})

app:websocket("/pub", {
  on_message = function(_, data)
    perigee.publish("room", data)
  end,
})

app:sse("/sse", {
  on_open = function(conn)
    conn:subscribe("stream")
  end,
})

app:post("/sse-pub", function(request)
  perigee.publish("stream", request.body)
  return { status = 204 }
end)

-- Many to many -----------------------------------------------------------------------------------

local frames = {}

frames["join-room"] = function(conn, frame)
  conn:subscribe("room:" .. frame.room)
end

frames["room-message"] = function(conn, frame)
  local topic = "room:" .. frame.room
  if conn:is_subscribed(topic) then
    perigee.publish(topic, {
      type = "room-message",
      data = { room = frame.room, senderId = conn.session.id, message = frame.data },
    })
  end
end

app:websocket("/rooms", {
  on_open = function(conn)
    conn.session.id = perigee.id()
  end,

  on_message = function(conn, data)
    local frame = json.decode(data)
    local handle = type(frame) == "table" and frames[frame.type]
    if not handle or type(frame.room) ~= "string" then
      conn:send({ type = "error", data = "Unknown message type" })
      return
    end
    handle(conn, frame)
  end,
})

app:websocket("/relay", {
  on_open = function(conn)
    conn:subscribe("relay", { relay = true })
  end,
})

-- HTTP, and connections that do nothing ----------------------------------------------------------

app:get("/hello", function()
  return "Hello world!"
end)

app:websocket("/idle", {
  on_open = function(conn)
    conn:subscribe("idle")
  end,
})

app:websocket("/bare", {})

return app
