-- One room for all who have logged in. Anyone may log in as anyone: the token proves only which
-- name was asked for.
--
-- Shows: signed tokens, a secret that all workers share, refusing with a close code that a browser's
-- page can read, judging a request's JSON.
local perigee = require("perigee")
local json, crypto = perigee.json, perigee.crypto
local page = require("page")

local app = perigee.app()

local HOUR = 3600
local MAX_NAME_CHARACTERS = 40

local function sign(text)
  return crypto.base64_encode(crypto.hmac_sha256(perigee.secret("CHAT_SECRET"), text), { url = true })
end

-- "<claims>.<signature>", both base64url.
local function make_token(user, expires)
  local claims = crypto.base64_encode(json.encode({ user = user, expires = expires }), { url = true })
  return claims .. "." .. sign(claims)
end

local function read_token(token)
  local claims, signature = (token or ""):match("^([%w_-]+)%.([%w_-]+)$")
  if not claims or not crypto.equal(signature, sign(claims)) then
    return nil
  end
  -- Signed by us, so it is what make_token wrote.
  local content = json.decode((crypto.base64_decode(claims)))
  return content.expires > perigee.time() and content.user or nil
end

-- UTF-8: every byte but a continuation byte begins a character.
local function count_characters(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

local function is_name(user)
  if type(user) ~= "string" or user:find("%c") then
    return false
  end
  local count = count_characters(user)
  return count >= 1 and count <= MAX_NAME_CHARACTERS
end

app:on_start(function()
  local _, is_made = perigee.secret("CHAT_SECRET")
  if is_made then
    perigee.log.info("CHAT_SECRET is not set: made one, chat tokens end with this process")
  end
end)

app:post("/login", { max_body = 16 * 1024 }, function(request)
  local login = request:json()
  if type(login) ~= "table" or not is_name(login.user) then
    return { status = 400, json = { error = '"user" must be a name of 1 to 40 characters' } }
  end
  local expires = math.floor(perigee.time()) + HOUR
  return { json = { token = make_token(login.user, expires), expires = perigee.iso(expires) } }
end)

app:websocket("/chat", {
  authenticate = function(request)
    local user = read_token(request.query.token)
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
    if type(frame) ~= "table" or frame.type ~= "chat" or frame.message == nil then
      return
    end
    perigee.publish("chat", {
      type = "chat",
      message = frame.message,
      user = conn.session.user,
      timestamp = frame.timestamp or perigee.iso(),
    })
  end,
})

app:get("/chat", page("chat"))

return app
