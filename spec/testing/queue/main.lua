-- A queue of jobs: POST /jobs puts one in, hands on /work take them, /feed tells everybody.
--
-- Stands for an application that was not written with the spec kit in mind.
local perigee = require("perigee")
local jobs = require("jobs")

local app = perigee.app()
local tokens = perigee.shared("tokens")

local PASSWORDS = { ann = "correct horse", bob = "battery staple" }

app:topic("jobs", { history = 100 })

local function authenticate(request)
  local token = (request.headers.authorization or ""):match("^Bearer (.+)$") or request.query.token
  local user = token and tokens:get(token)
  if not user then
    return nil, "log in first", 401
  end
  return { user = user }
end

app:post("/login", function(request)
  local body = request:json()
  local is_known = type(body) == "table" and body.user and PASSWORDS[body.user] == body.password
  if not is_known then
    return { status = 401, json = { error = "unknown user or password" } }
  end
  local token = perigee.crypto.hex(perigee.crypto.random(16))
  tokens:set(token, body.user, 8 * 3600)
  return { json = { token = token } }
end)

app:post("/jobs", { authenticate = authenticate }, function(request)
  local body, message = request:json()
  if type(body) ~= "table" or type(body.kind) ~= "string" then
    return { status = 400, json = { error = message or "kind is missing" } }
  end
  local job = jobs.add(body.kind, body.payload, body.delay)
  return { status = 202, json = { id = job.id }, headers = { Location = "/jobs/" .. job.id } }
end)

app:get("/jobs/:id", { authenticate = authenticate }, function(request)
  local job = jobs.read(request.params.id)
  if not job then
    return { status = 404, json = { error = "no such job" } }
  end
  return { json = { id = job.id, state = job.state, result = job.result } }
end)

app:sse("/feed", {
  on_open = function(conn)
    conn:subscribe("jobs", { since = conn.request.since, reset = { reset = true } })
  end,
})

local function work(conn)
  if conn.session.job then
    return
  end
  local job = jobs.take(conn.session.kind, conn.id)
  if job then
    conn.session.job = job.id
    conn:send({ type = "job", id = job.id, payload = job.payload })
  end
end

app:websocket("/work/:kind", {
  authenticate = authenticate,
  on_open = function(conn)
    conn.session.kind = conn.request.params.kind
    conn:subscribe("hands:" .. conn.session.kind)
    conn:send({ type = "welcome", user = conn.session.user })
    work(conn)
  end,
  on_signal = work,
  on_message = function(conn, data)
    local message = perigee.json.decode(data)
    if type(message) ~= "table" or message.type ~= "done" then
      conn:close(1008, "say done")
      return
    end
    local job, why = jobs.finish(message.id, conn.id, message.result)
    if not job then
      conn:send({ type = "error", text = why })
      return
    end
    conn.session.job = nil
    work(conn)
  end,
  on_close = function(conn)
    jobs.release(function(job)
      return job.hand == conn.id
    end)
  end,
})

app:every(1, function()
  local now = perigee.time()
  jobs.release(function(job)
    return job.due <= now
  end)
end)

return app
