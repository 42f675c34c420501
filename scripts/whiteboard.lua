-- Boards that several people draw on. What is drawn is kept while somebody is there, and a minute
-- longer.
--
-- Shows: history as the state of something, one cut for what was and what comes, a limit that holds
-- over all workers, clearing in one step, forgetting (linger).
local perigee = require("perigee")
local json = perigee.json
local page = require("page")

local app = perigee.app()

local MAX_STROKES = 2000
local MAX_POINTS = 1000
local MAX_BOARD_NAME_BYTES = 200
local MIB = 1024 * 1024

-- A full board refuses, so nothing that was drawn is lost. The init message holds all of it, hence
-- the outbox is larger than the history.
app:topic("board:*", { history = MAX_STROKES, full = "refuse", bytes = 48 * MIB, linger = 60 })

-- Strokes are kept as the messages that they were sent as, between these two.
local BEFORE_STROKE, AFTER_STROKE = '{"type":"draw","stroke":', "}"

local function init_message(history)
  local strokes = {}
  for i, entry in ipairs(history) do
    strokes[i] = entry.data:sub(#BEFORE_STROKE + 1, -#AFTER_STROKE - 1)
  end
  return '{"type":"init","strokes":[' .. table.concat(strokes, ",") .. "]}"
end

local function fail(conn, reason)
  conn:send({ type = "error", data = reason })
end

-- What is on the board, then all that comes after it: `since` brings what others drew in between. If
-- the board was cleared in between, what was shown is no longer true: once more.
local function show(conn, topic)
  repeat
    local history, position = perigee.history(topic)
    conn:send(init_message(history))
    local subscription = conn:subscribe(topic, { since = position })
    local is_shown = not subscription or subscription.complete
    if not is_shown then
      conn:unsubscribe(topic)
    end
  until is_shown
end

local function draw(conn, stroke)
  if type(stroke) ~= "table" then
    return
  end
  local points = type(stroke.points) == "table" and stroke.points or stroke
  if #points > MAX_POINTS then
    return fail(conn, "The stroke has too many points")
  end
  local message = BEFORE_STROKE .. json.encode(stroke) .. AFTER_STROKE
  local ok, _, code = perigee.publish(conn.session.topic, message, { except = conn })
  if not ok and code == "full" then
    fail(conn, "The board is full")
  end
end

-- The clear takes its place among the strokes without being one: whoever comes later finds an empty
-- board, whoever is there is told, and no stroke is on the wrong side of it.
local function clear(conn)
  perigee.publish(conn.session.topic, { type = "clear" }, { clear = true, transient = true })
end

app:websocket("/whiteboard", {
  max_message = 256 * 1024,
  max_outbox = 64 * MIB,
  authenticate = function(request)
    local board = request.query.board or ""
    if #board > MAX_BOARD_NAME_BYTES or board:find("[%c*]") then
      return nil, "Invalid board", 1008
    end
    return { topic = "board:" .. (board ~= "" and board or "default") }
  end,
  on_open = function(conn)
    show(conn, conn.session.topic)
  end,
  on_message = function(conn, data)
    local frame = json.decode(data)
    if type(frame) ~= "table" then
      return
    end
    if frame.type == "draw" then
      draw(conn, frame.stroke)
    elseif frame.type == "clear" then
      clear(conn)
    end
  end,
})

app:get("/whiteboard", page("whiteboard"))

return app
