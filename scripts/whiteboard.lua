--- /whiteboard?board=… (WebSocket): drawing together. GET /whiteboard is the page.
---
--- Shows a late joiner being brought up to date without a gap or a duplicate. A board is a topic
--- that keeps its strokes; who opens it reads the history, is sent it in one message, and then
--- subscribes from the position where that history stood. Its limits are the topic's policy, so
--- they hold over all workers.

local perigee = require("perigee")
local page = require("page")

local json = perigee.json
local MIB = 1024 * 1024
local STROKES = 2000 -- a board
local POINTS = 1000 -- a stroke

local app = perigee.app()

app:get("/whiteboard", page("whiteboard"))

app:topic("board:*", {
  history = STROKES,
  bytes = 32 * MIB, -- a board is sent to a newcomer as one message, which an outbox has to hold
  full = "refuse",
  linger = 60,
})

-- A stroke is kept as the very message that the others were sent, so that it can be cut out again
-- as text: a full board is not decoded and encoded for each newcomer.
local BEFORE, AFTER = '{"type":"draw","stroke":', "}"

local function init_message(publications)
  local strokes = {}
  for i, publication in ipairs(publications) do
    strokes[i] = publication.data:sub(#BEFORE + 1, -#AFTER - 1)
  end
  return '{"type":"init","strokes":[' .. table.concat(strokes, ",") .. "]}"
end

local function send_error(conn, text)
  conn:send({ type = "error", data = text })
end

local frames = {}

function frames.draw(conn, frame)
  local stroke = frame.stroke
  if type(stroke) ~= "table" then
    return
  end
  local points = type(stroke.points) == "table" and stroke.points or stroke
  if #points > POINTS then
    return send_error(conn, "The stroke has too many points")
  end
  local message = BEFORE .. json.encode(stroke) .. AFTER
  if not perigee.publish(conn.session.topic, message, { except = conn }) then
    send_error(conn, "The board is full")
  end
end

-- To empty the board and to tell of it is one step, so that a stroke is before it or after it for
-- everybody. The message itself is not kept: it would take the place of a stroke.
function frames.clear(conn)
  perigee.publish(conn.session.topic, { type = "clear" }, { clear = true, transient = true })
end

app:websocket("/whiteboard", {
  max_message = 256 * 1024,
  max_outbox = 64 * MIB,

  authenticate = function(request)
    local board = request.query.board or ""
    local topic = "board:" .. (board ~= "" and board or "default")
    -- Names have rules, and the gateway knows them.
    if not perigee.history(topic, { limit = 1 }) then
      return nil, "Invalid board", 1008
    end
    return { topic = topic }
  end,

  on_open = function(conn)
    local topic = conn.session.topic
    local publications, position = perigee.history(topic)
    conn:send(init_message(publications))
    -- If somebody cleared the board between the two calls, what was sent is no more, and what there
    -- is now comes stroke by stroke.
    local start = { since = position, from = "start", reset = { type = "clear" } }
    local subscription, message = conn:subscribe(topic, start)
    if not subscription then
      conn:close(1013, message)
    end
  end,

  on_message = function(conn, data)
    local frame = json.decode(data)
    local handle = type(frame) == "table" and frames[frame.type]
    if handle then
      handle(conn, frame)
    end
  end,
})

return app
