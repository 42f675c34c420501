--- GET /blog-updates (SSE) and POST /new-post: a blog that writes itself while it is read.
---
--- Shows history and positions. The topic keeps the posts, so there is no other store; each event
--- carries its position as `id:`, and a reader that comes back with Last-Event-ID is handed exactly
--- what it missed, by whichever worker it meets.
---
---     curl -N http://localhost:3000/blog-updates
---     curl -d '{"title":"Hello","content":"…"}' http://localhost:3000/new-post
---
--- With BLOG_TOKEN in the environment only those may post who send it: `Authorization: Bearer …`.

local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

local POST_BYTES = 256 * 1024 -- far below what an outbox holds: no post ends a reader's stream

app:topic("blog", { history = 1000 })

app:get("/blog", page("blog"))

app:sse("/blog-updates", {
  on_open = function(conn)
    conn:subscribe("blog", { since = conn.request.since, from = "start" })
  end,
})

local function may_post(request)
  local token = os.getenv("BLOG_TOKEN")
  if not token or token == "" then
    return true
  end
  local scheme, given = (request.headers.authorization or ""):match("^(%a+) +(.*)$")
  return scheme ~= nil and scheme:lower() == "bearer" and perigee.crypto.equal(given, token)
end

local function refuse(reason)
  return { status = 400, body = reason }
end

app:post("/new-post", { max_body = POST_BYTES }, function(request)
  if not may_post(request) then
    return {
      status = 401,
      headers = { ["WWW-Authenticate"] = "Bearer" },
      body = "Posting needs the blog's token",
    }
  end
  local post, message = request:json()
  if post == nil then
    return refuse("The body is not JSON: " .. message)
  end
  local title = type(post) == "table" and post.title
  if type(title) ~= "string" or not title:find("%S") then
    return refuse("A post needs a title")
  end
  post.id = perigee.id()
  post.timestamp = perigee.iso()
  local published, why = perigee.publish("blog", post)
  if not published then
    return { status = 503, body = why }
  end
  return "Post published"
end)

return app
