--- What the section on steadiness is measured with: everybody has a session table, is in a room of
--- ten, and does a little of everything.

local perigee = require("perigee")

local json = perigee.json
local app = perigee.app()

local AUDIENCE = 10000
local ROOM = 10

-- What dead readers are sent: their outboxes fill for 13 s, then they are closed.
local HOSE_TEXT, HOSE_EVERY = ("h"):rep(32 * 1024), 0.1
local MAX_OUTBOX = 4 * 1024 * 1024

local frames = {}

function frames.join(conn, frame)
  local id = assert(tonumber(frame.id))
  conn.session = {
    id = id,
    name = "user " .. id,
    token = perigee.id(),
    room = "room:" .. math.floor(id / ROOM),
    joined = perigee.time(),
    count = 0,
    spoke = 0,
    settings = { theme = "dark", volume = id % 10, is_muted = false },
  }
  conn:subscribe(conn.session.room)
  if id < AUDIENCE then
    conn:subscribe("all")
  end
  if frame.hose then
    conn:subscribe("hose")
  end
end

function frames.message(conn, frame)
  local session = conn.session
  session.count = session.count + 1
  session.spoke = perigee.now()
  conn:send({ type = "answer", text = frame.text, count = session.count })
  perigee.publish(session.room, { type = "message", from = session.name, text = frame.text })
end

function frames.broadcast(_, frame)
  perigee.publish("all", { type = "broadcast", text = frame.text })
end

app:websocket("/steady", {
  max_outbox = MAX_OUTBOX,
  on_message = function(conn, data)
    local frame = json.decode(data)
    frames[frame.type](conn, frame)
  end,
})

app:every(HOSE_EVERY, function()
  perigee.publish("hose", HOSE_TEXT)
end)

app:websocket("/echo", {
  max_message = 1024 * 1024,
  on_message = function(conn, data)
    conn:send(data)
  end,
})

return app
