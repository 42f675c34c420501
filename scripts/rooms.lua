--- /rooms (WebSocket): rooms to join and leave, and private messages.
---
--- Shows membership without a list of members: being in a room is subscribing to its topic, and a
--- private message is a publication in a topic with one subscriber. So it does not matter on which
--- worker anybody is, and nothing has to be tidied up when somebody goes.
---
--- Messages are JSON, `{ type, room, targetId, data }`; `frames` has what each type does.

local perigee = require("perigee")
local page = require("page")

local json = perigee.json
local ROOM_BYTES = 200 -- with "room:" before it still a topic's name

local app = perigee.app()

app:get("/rooms", page("rooms"))

local function topic_of_room(room)
  return "room:" .. room
end

local function topic_of_user(id)
  return "user:" .. id
end

local function send_error(conn, text)
  conn:send({ type = "error", data = text })
end

local function is_room(room)
  return type(room) == "string" and #room <= ROOM_BYTES and room:find("^[^%c*]+$") ~= nil
end

local function say_left(conn, room)
  local left = { userId = conn.session.id, room = room }
  perigee.publish(topic_of_room(room), { type = "user-left", data = left })
end

local frames = {}

frames["join-room"] = function(conn, frame)
  local room = frame.room
  if not is_room(room) then
    return send_error(conn, "Invalid room")
  end
  local topic = topic_of_room(room)
  local was_in = conn:is_subscribed(topic)
  local subscription, _, code = conn:subscribe(topic)
  if not subscription then
    return send_error(conn, code == "limit" and "Too many rooms" or "Invalid room")
  end
  conn:send({ type = "room-joined", data = { room = room } })
  if not was_in then
    conn.session.rooms[room] = true
    local joined = { userId = conn.session.id, room = room }
    perigee.publish(topic, { type = "user-joined", data = joined }, { except = conn })
  end
end

frames["leave-room"] = function(conn, frame)
  local room = frame.room
  if not is_room(room) then
    return send_error(conn, "Invalid room")
  end
  if conn:unsubscribe(topic_of_room(room)) then
    conn.session.rooms[room] = nil
    say_left(conn, room)
  end
end

frames["room-message"] = function(conn, frame)
  local room = frame.room
  if not is_room(room) then
    return send_error(conn, "Invalid room")
  end
  if conn:is_subscribed(topic_of_room(room)) then
    perigee.publish(topic_of_room(room), {
      type = "room-message",
      data = { room = room, senderId = conn.session.id, message = frame.data },
    })
  end
end

frames["private-message"] = function(conn, frame)
  local target = frame.targetId
  if type(target) == "string" then
    local published, receivers = perigee.publish(topic_of_user(target), {
      type = "private-message",
      data = { senderId = conn.session.id, message = frame.data },
    })
    if published and receivers > 0 then
      return
    end
  end
  send_error(conn, "Unknown recipient")
end

app:websocket("/rooms", {
  on_open = function(conn)
    local id = perigee.id()
    conn.session.id = id
    -- The subscriptions are gone when on_close is told; this is what it says goodbye by.
    conn.session.rooms = {}
    conn:subscribe(topic_of_user(id))
    conn:send({ type = "connection", data = { id = id, message = "Connected successfully" } })
  end,

  on_message = function(conn, data)
    local frame = json.decode(data)
    if frame == nil then
      return send_error(conn, "Invalid JSON")
    end
    local handle = type(frame) == "table" and frames[frame.type]
    if not handle then
      return send_error(conn, "Unknown message type")
    end
    handle(conn, frame)
  end,

  on_close = function(conn)
    for room in pairs(conn.session.rooms) do
      say_left(conn, room)
    end
  end,
})

return app
