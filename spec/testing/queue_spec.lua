-- A suite for an application that was not written with the kit in mind, as its author would write it.
local testing = require("perigee.testing")

-- The suite does not know whether it meets a process with two workers or an app in this process.
local function specs_of(start)
  -- `ann` is the same gateway, for one who is logged in.
  local server, ann
  before_each(function()
    server = start("spec/testing/queue/main.lua")
    local login = { user = "ann", password = "correct horse" }
    local token = server:post("/login", login):expect(200).json.token
    ann = server:with({ headers = { Authorization = "Bearer " .. token } })
  end)

  local function add(job)
    return ann:post("/jobs", job):expect(202, { id = match.is_string() }).json.id
  end

  local function state_of(id)
    return ann:get("/jobs/" .. id):expect(200).json.state
  end

  local function hand(kind)
    local ws = ann:websocket("/work/" .. kind)
    ws:expect({ type = "welcome", user = "ann" })
    return ws
  end

  describe("at the door", function()
    it("knows its users by their passwords", function()
      local bad = { user = "ann", password = "horse" }
      server:post("/login", bad):expect(401, { error = "unknown user or password" })
      server:post("/login", "no JSON"):expect(401)
    end)

    it("lets nobody in without a token", function()
      server:post("/jobs", { kind = "mail" }):expect(401, "log in first")
      server:get("/jobs/j000001"):expect(401)
      assert.status(401, server:websocket("/work/mail", { any_status = true }))
    end)

    it("forgets who was in after eight hours", function()
      server:advance(8 * 3600 - 1)
      ann:post("/jobs", { kind = "mail" }):expect(202)
      server:advance(1)
      ann:post("/jobs", { kind = "mail" }):expect(401)
    end)

    it("says what a job lacks", function()
      ann:post("/jobs", {}):expect(400, { error = "kind is missing" })
      ann:post("/jobs", "{"):expect(400)
      ann:get("/jobs/j999999"):expect(404, { error = "no such job" })
    end)
  end)

  describe("at work", function()
    it("gives a waiting job to the hand that comes", function()
      local id = add({ kind = "mail", payload = { to = "bob" } })
      assert.equal("waiting", state_of(id))
      local ws = hand("mail")
      ws:expect({ type = "job", id = id, payload = { to = "bob" } })
      assert.equal("taken", state_of(id))
      ws:send({ type = "done", id = id, result = { sent = true } })
      ws:expect_nothing_queued()
      ann:get("/jobs/" .. id):expect(200, { id = id, state = "done", result = { sent = true } })
    end)

    it("gives each job to one hand, on whatever worker, and none to the busy", function()
      local hands = { hand("mail"), hand("mail") }
      local other = hand("print")
      local ids = { add({ kind = "mail" }), add({ kind = "mail" }), add({ kind = "mail" }) }
      local taken = {}
      for _, ws in ipairs(hands) do
        local id = ws:expect({ type = "job" }).id
        taken[id] = true
        ws:expect_nothing_queued()
      end
      other:expect_nothing_queued()
      assert.same({ [ids[1]] = true, [ids[2]] = true }, taken)
      hands[2]:send({ type = "done", id = ids[1] })
      hands[2]:send({ type = "done", id = ids[2] })
      hands[2]:expect_later({ type = "job", id = ids[3] })
    end)

    it("waits as long as a job is to wait", function()
      local ws = hand("mail")
      local id = add({ kind = "mail", delay = 600 })
      server:advance(599)
      ws:expect_nothing_queued()
      server:advance(1)
      ws:expect({ type = "job", id = id })
    end)

    it("takes a job back from a hand that is gone", function()
      for _, way in ipairs({ "close", "drop", "reset" }) do
        local first = hand("mail")
        local id = add({ kind = "mail" })
        first:expect({ type = "job", id = id })
        local second = hand("mail")
        first[way](first)
        second:expect({ type = "job", id = id })
        second:send({ type = "done", id = id })
        second:close()
        server:settle()
        assert.equal("done", state_of(id))
      end
    end)

    it("takes a job back from a hand that takes too long, three times at most", function()
      local feed = server:sse("/feed")
      local id = add({ kind = "mail" })
      feed:expect_event("queued", { id = id })
      for attempt = 1, 3 do
        local slow = hand("mail")
        slow:expect({ type = "job", id = id })
        feed:expect_event("taken", { id = id, attempt = attempt })
        server:advance(29)
        feed:expect_nothing_queued()
        server:advance(1)
        feed:expect_event(attempt < 3 and "lost" or "failed", { id = id })
        slow:send({ type = "done", id = id })
        slow:expect({ type = "error", text = "this job is not yours" })
        slow:close()
      end
      assert.equal("failed", state_of(id))
      server.log:expect("failed after 3 attempts")
    end)

    it("closes on what it does not understand", function()
      local ws = hand("mail")
      ws:send("hello")
      ws:expect_close(1008, "say done")
    end)

    it("forgets a job an hour after it is done", function()
      local ws = hand("mail")
      local id = add({ kind = "mail" })
      ws:expect({ type = "job" })
      ws:send({ type = "done", id = id })
      ws:expect_nothing_queued()
      server:advance(3599)
      assert.equal("done", state_of(id))
      server:advance(1)
      ann:get("/jobs/" .. id):expect(404)
    end)
  end)

  describe("in its feed", function()
    it("tells a reader that comes back what it has missed", function()
      local feed = server:sse("/feed")
      local first = add({ kind = "mail" })
      local position = feed:expect_event("queued", { id = first }).id
      feed:drop()
      local second = add({ kind = "mail" })
      local again = server:sse("/feed", { last_event_id = position })
      again:expect_event("queued", { id = second })
      again:expect_nothing_queued()
      server:sse("/feed", { last_event_id = "somewhere" }):expect({ reset = true })
    end)

    it("does not wait for a reader that does not read", function()
      local slow = server:sse("/feed", { receive_buffer = 4096 })
      slow:pause()
      local feed = server:sse("/feed")
      for _ = 1, 50 do
        local id = add({ kind = "mail" })
        feed:expect_event("queued", { id = id })
      end
      slow:resume()
      slow:expect_later({ id = "j000050" })
    end)

    it("counts its readers on all workers", function()
      local feed = server:sse("/feed")
      server:sse("/feed")
      local function count(perigee)
        return perigee.subscribers("jobs")
      end
      assert.equal(2, server:exec(count))
      feed:close()
      server:wait_for({ connections = 1 })
      assert.equal(1, server:exec_on(#server.workers, count))
    end)
  end)
end

describe("The queue", function()
  specs_of(testing.start)
end)

describe("The queue as an app", function()
  specs_of(testing.app)
end)
