-- Rooms that anyone may join, and private messages, over one WebSocket.
--
-- Shows: topics as rooms, a topic per connection as its address on whichever worker it lives,
-- presence by announcement, the number of receivers as an answer.
local perigee = require("perigee")
local json = perigee.json
local page = require("page")

local app = perigee.app()

local MAX_ROOM_BYTES = 200
local MAX_ROOMS = 100

local function fail(conn, reason)
  conn:send({ type = "error", data = reason })
end

local function is_room(room)
  return type(room) == "string" and room ~= "" and #room <= MAX_ROOM_BYTES
end

-- "room:*" and "user:*" share one space of names with the topics of the other applications.
local function room_topic(room)
  return "room:" .. room
end

local function user_topic(id)
  return "user:" .. id
end

local function announce(kind, conn, room)
  perigee.publish(room_topic(room), {
    type = kind,
    data = { userId = conn.id, room = room },
  }, { except = conn })
end

local function join(conn, frame)
  local room = frame.room
  local is_member = conn:is_subscribed(room_topic(room))
  if not is_member then
    local ok, _, code = conn:subscribe(room_topic(room))
    if not ok then
      return fail(conn, code == "limit" and "Too many rooms" or "Invalid room")
    end
    conn.session[room] = true
  end
  conn:send({ type = "room-joined", data = { room = room } })
  if not is_member then
    announce("user-joined", conn, room)
  end
end

local function leave(conn, frame)
  local room = frame.room
  if conn:unsubscribe(room_topic(room)) then
    conn.session[room] = nil
    announce("user-left", conn, room)
  end
end

local function speak(conn, frame)
  local topic = room_topic(frame.room)
  if conn:is_subscribed(topic) then
    perigee.publish(topic, {
      type = "room-message",
      data = { room = frame.room, senderId = conn.id, message = frame.data },
    })
  end
end

local function whisper(conn, frame)
  local receivers
  if type(frame.targetId) == "string" then
    local ok, count = perigee.publish(user_topic(frame.targetId), {
      type = "private-message",
      data = { senderId = conn.id, message = frame.data },
    })
    receivers = ok and count
  end
  if not receivers or receivers == 0 then
    fail(conn, "Unknown recipient")
  end
end

local in_room = { ["join-room"] = join, ["leave-room"] = leave, ["room-message"] = speak }

app:websocket("/rooms", {
  max_topics = MAX_ROOMS + 1,
  on_open = function(conn)
    -- What is in the session belongs to this connection: the names of its rooms.
    conn:subscribe(user_topic(conn.id))
    conn:send({
      type = "connection",
      data = { id = conn.id, message = "Connected successfully" },
    })
  end,
  on_message = function(conn, data)
    local frame = json.decode(data)
    if frame == nil then
      return fail(conn, "Invalid JSON")
    end
    local kind = type(frame) == "table" and frame.type
    if kind == "private-message" then
      return whisper(conn, frame)
    end
    local act = in_room[kind]
    if not act then
      return fail(conn, "Unknown message type")
    end
    if not is_room(frame.room) then
      return fail(conn, "Invalid room")
    end
    act(conn, frame)
  end,
  on_close = function(conn)
    -- Its subscriptions are gone already; those who stay are told.
    for room in pairs(conn.session) do
      announce("user-left", conn, room)
    end
  end,
})

app:get("/rooms", page("rooms"))

return app
