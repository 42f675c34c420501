-- A live blog: every post that there is, then each new one as it is published.
--
-- Shows: history and recovery (a reader that comes back gets exactly what it missed), a bearer
-- token asked for before anything else, answering a bad request.
local perigee = require("perigee")
local crypto = perigee.crypto
local page = require("page")

local app = perigee.app()

local token = os.getenv("BLOG_TOKEN")
if token == "" then
  token = nil
end

app:topic("blog", { history = 1000, bytes = 64 * 1024 * 1024 })

app:sse("/blog-updates", {
  origins = { "*" },
  on_open = function(conn)
    conn:subscribe("blog", { since = conn.request.since, from = "start" })
  end,
})

local function may_publish(request)
  local given = (request.headers.authorization or ""):match("^[Bb]earer +(.*)$")
  if token and not (given and crypto.equal(given, token)) then
    return nil, "A bearer token is needed to publish", 401
  end
  return {}
end

local function bad_request(reason)
  return { status = 400, body = reason }
end

app:post("/new-post", { authenticate = may_publish }, function(request)
  local post, message = request:json()
  if post == nil then
    return bad_request("Invalid JSON: " .. message)
  end
  if type(post) ~= "table" or type(post.title) ~= "string" or not post.title:find("%S") then
    return bad_request("A post needs a title")
  end
  post.id = perigee.id()
  post.timestamp = perigee.iso()
  perigee.publish("blog", post)
  return "Post published"
end)

app:get("/blog", page("blog"))

return app
