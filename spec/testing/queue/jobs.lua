-- The jobs of the queue: who has which, in dictionaries that all workers share.
local perigee = require("perigee")

local M = {}

M.LEASE_SECONDS = 30
M.ATTEMPTS = 3
M.KEPT_SECONDS = 3600

local jobs = perigee.shared("jobs")
local waiting = perigee.shared("waiting")

local function read(id)
  local text = jobs:get(id)
  return text and perigee.json.decode(text)
end
M.read = read

local function write(job, ttl)
  jobs:set(job.id, perigee.json.encode(job), ttl)
end

local function tell(event, job)
  perigee.publish(
    "jobs",
    { id = job.id, kind = job.kind, attempt = job.attempt },
    { event = event }
  )
end

local function offer(job)
  waiting:set(job.id, job.kind)
  perigee.signal("hands:" .. job.kind, job.id)
end

function M.add(kind, payload, delay)
  local number = jobs:incr("number")
  local job = { id = ("j%06d"):format(number), kind = kind, payload = payload, attempt = 0 }
  job.state = "waiting"
  write(job)
  tell("queued", job)
  if delay then
    perigee.after(delay, function()
      offer(job)
    end)
  else
    offer(job)
  end
  return job
end

-- Takes a waiting job of a kind, for one who can work; two who ask at once get two.
function M.take(kind, hand)
  for _, id in ipairs(waiting:keys("", 1000)) do
    if waiting:get(id) == kind and waiting:delete(id) then
      local job = read(id)
      job.state, job.hand, job.attempt = "taken", hand, job.attempt + 1
      job.due = perigee.time() + M.LEASE_SECONDS
      write(job)
      tell("taken", job)
      return job
    end
  end
end

function M.finish(id, hand, result)
  local job = read(id)
  if not job or job.state ~= "taken" or job.hand ~= hand then
    return nil, "this job is not yours"
  end
  job.state, job.result, job.hand = "done", result, nil
  write(job, M.KEPT_SECONDS)
  tell("done", job)
  return job
end

local function give_up(job)
  job.hand = nil
  if job.attempt >= M.ATTEMPTS then
    job.state = "failed"
    write(job, M.KEPT_SECONDS)
    tell("failed", job)
    perigee.log.warn("job %s failed after %d attempts", job.id, job.attempt)
    return
  end
  job.state = "waiting"
  write(job)
  tell("lost", job)
  offer(job)
end

-- Those of a hand that has gone, or whose time is over.
function M.release(is_lost)
  for _, id in ipairs(jobs:keys("j", 1000)) do
    local job = read(id)
    if job and job.state == "taken" and is_lost(job) then
      give_up(job)
    end
  end
end

return M
