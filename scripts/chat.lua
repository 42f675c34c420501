--- POST /login and /chat?token=… (WebSocket): one room for everybody who has a token.
---
--- Shows `authenticate`, which decides before a connection opens, and tokens that any worker can
--- check because they are signed and not stored: base64url(JSON) "." base64url(HMAC-SHA256). There
--- is no password: anyone may log in as anyone. Put your own check into `POST /login`.
---
---     curl -d '{"user":"Ada"}' http://localhost:3000/login

local perigee = require("perigee")
local page = require("page")

local crypto, json = perigee.crypto, perigee.json
local TOKEN_SECONDS = 3600
local NAME_CHARACTERS = 40

local app = perigee.app()

app:get("/chat", page("chat"))

app:on_start(function()
  local _, is_made = perigee.secret("CHAT_SECRET")
  if is_made then
    perigee.log.warn("CHAT_SECRET is not set: the chat's tokens end with this gateway")
  end
end)

local function encode(data)
  return crypto.base64_encode(data, { url = true })
end

local function signature(payload)
  return encode(crypto.hmac_sha256(perigee.secret("CHAT_SECRET"), payload))
end

local function make_token(user, expires)
  local payload = encode(json.encode({ user = user, expires = expires }))
  return payload .. "." .. signature(payload)
end

-- The user, or nil. The signature is compared as text: decoded, two texts can mean the same bytes.
local function read_token(token)
  local payload, signed = token:match("^([^.]+)%.([^.]+)$")
  if not payload or not crypto.equal(signature(payload), signed) then
    return nil
  end
  local claims = json.decode(crypto.base64_decode(payload))
  return claims.expires > perigee.time() and claims.user or nil
end

-- Characters, not bytes: all but UTF-8's continuation bytes are counted.
local function is_name(user)
  if type(user) ~= "string" or user:find("%c") or user:find("\194[\128-\159]") then
    return false
  end
  local _, characters = user:gsub("[^\128-\191]", "")
  return characters >= 1 and characters <= NAME_CHARACTERS
end

app:post("/login", function(request)
  local body, message = request:json()
  if body == nil then
    return { status = 400, json = { error = "The body is not JSON: " .. message } }
  end
  local user = type(body) == "table" and body.user
  if not is_name(user) then
    local reason = ("user must be 1 to %d characters"):format(NAME_CHARACTERS)
    return { status = 400, json = { error = reason } }
  end
  local expires = perigee.time() + TOKEN_SECONDS
  return { json = { token = make_token(user, expires), expires = perigee.iso(expires) } }
end)

local function is_timestamp(value)
  return type(value) == "string" or type(value) == "number"
end

app:websocket("/chat", {
  authenticate = function(request)
    local user = read_token(request.query.token or "")
    if not user then
      return nil, "Invalid token", 1008
    end
    return { user = user }
  end,

  on_open = function(conn)
    conn:subscribe("chat")
  end,

  on_message = function(conn, data)
    local frame = json.decode(data)
    if type(frame) ~= "table" or frame.type ~= "chat" or type(frame.message) ~= "string" then
      return
    end
    perigee.publish("chat", {
      type = "chat",
      message = frame.message,
      user = conn.session.user,
      timestamp = is_timestamp(frame.timestamp) and frame.timestamp or perigee.iso(),
    })
  end,
})

return app
