-- /chat and POST /login.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("/chat", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
    end)

    local function escape(text)
      return (
        text:gsub("[^%w._~-]", function(c)
          return ("%%%02X"):format(c:byte())
        end)
      )
    end

    local function login(user, worker)
      local response = server:post("/login", { user = user }, { worker = worker })
      assert.equal(200, response.status, response.body)
      return json.decode(response.body)
    end

    local function enter(user, worker, login_worker)
      local token = login(user, login_worker or worker).token
      local ws = server:websocket("/chat?token=" .. escape(token), { worker = worker })
      ws:fence()
      return ws
    end

    it("carries what one says to all, the sender included", function()
      local ann, bob = enter("Ann", 1), enter("Bob", workers)
      ann:send({ type = "chat", message = "Grüße", timestamp = "2026-01-01T00:00:00.000Z" })
      local expected =
        { type = "chat", message = "Grüße", user = "Ann", timestamp = "2026-01-01T00:00:00.000Z" }
      ann:expect_json(expected)
      bob:expect_json(expected)
      bob:send({ type = "chat", message = "hi", timestamp = 7 })
      ann:expect_json({ type = "chat", message = "hi", user = "Bob", timestamp = 7 })
    end)

    it("does not believe who a message says it is from", function()
      local ann = enter("Ann", 1)
      ann:send({ type = "chat", message = "x", user = "Bob", timestamp = 1 })
      ann:expect_json({ type = "chat", message = "x", user = "Ann", timestamp = 1 })
    end)

    it("takes a token that another worker signed", function()
      local ann = enter("Ann", workers, 1)
      ann:send({ type = "chat", message = "x", timestamp = 1 })
      ann:expect({ user = "Ann" })
      local bob = enter("Bob", 1, workers)
      bob:send({ type = "chat", message = "y", timestamp = 1 })
      bob:expect({ user = "Bob" })
    end)

    it("lets nobody in without a token, and says why", function()
      local token = login("Ann").token
      local bad = {
        "/chat",
        "/chat?token=",
        "/chat?token=nonsense",
        "/chat?token=..",
        "/chat?token=" .. escape(token) .. "x",
        "/chat?token=" .. escape(token:sub(1, -2)),
        "/chat?token=" .. escape(token:sub(2)),
        "/chat?token=" .. ("x"):rep(4000),
        "/chat?token=%FF%FE",
        "/chat?other=" .. escape(token),
      }
      for _, path in ipairs(bad) do
        server:websocket(path, { worker = workers }):expect_close(1008, "Invalid token")
      end
    end)

    it("lets nobody in whose token was changed in any byte", function()
      local token = login("Ann").token
      for at = 1, #token, 3 do
        local byte = token:sub(at, at)
        local changed = token:sub(1, at - 1) .. (byte == "A" and "B" or "A") .. token:sub(at + 1)
        local ws = server:websocket("/chat?token=" .. escape(changed))
        ws:expect_close(1008, "Invalid token")
      end
    end)

    it("lets a token in for an hour", function()
      server:freeze()
      local granted = login("Ann")
      server:advance(3590)
      local ws = server:websocket("/chat?token=" .. escape(granted.token), { worker = workers })
      ws:send({ type = "chat", message = "still", timestamp = 1 })
      ws:expect({ message = "still" })
      server:advance(11)
      server:websocket("/chat?token=" .. escape(granted.token)):expect_close(1008, "Invalid token")
    end)

    it("says when a token ends", function()
      local expires = login("Ann").expires
      local at = type(expires) == "string" and apps.parse_iso(expires) or expires
      if at > 1e11 then
        at = at / 1000
      end
      assert.is_true(math.abs(at - os.time() - 3600) < 30)
    end)

    it("logs in names of 1 to 40 characters, and no others", function()
      for _, user in ipairs({ "A", ("ü"):rep(40), "Ann Lee", "李小龙" }) do
        assert.is_string(login(user).token)
      end
      local bodies = {
        '{"user":""}',
        '{"user":"' .. ("ü"):rep(41) .. '"}',
        '{"user":7}',
        '{"user":null}',
        "{}",
        "[]",
        "",
        "not JSON",
      }
      for _, body in ipairs(bodies) do
        local response =
          server:request({ method = "POST", path = "/login", body = body, worker = workers })
        assert.equal(400, response.status, body)
      end
    end)

    it("ignores other frames", function()
      local ann, bob = enter("Ann", 1), enter("Bob", workers)
      for _, frame in ipairs({
        "hello",
        "{}",
        "[]",
        "7",
        '{"type":"dance"}',
        '{"type":"chat"}',
      }) do
        ann:send(frame)
      end
      ann:send_binary("\0\1")
      ann:expect_nothing_queued()
      bob:expect_nothing_queued()
      ann:send({ type = "chat", message = "still here", timestamp = 1 })
      bob:expect({ message = "still here" })
    end)
  end)

  it("makes a secret at start where none is set, says so, and all workers share it", function()
    local server = apps.start(4, { CHAT_SECRET = false })
    server.log:allow("CHAT_SECRET")
    local token = json.decode(server:post("/login", { user = "Ann" }, { worker = 1 }).body).token
    for worker = 1, 4 do
      local ws = server:websocket("/chat?token=" .. token, { worker = worker })
      ws:send({ type = "chat", message = "x", timestamp = 1 })
      ws:expect({ user = "Ann" })
      ws:close()
    end
    server.log:expect("CHAT_SECRET")
    -- Another start has another secret.
    local other = apps.start(1, { CHAT_SECRET = false })
    other.log:allow("CHAT_SECRET")
    other:websocket("/chat?token=" .. token):expect_close(1008, "Invalid token")
  end)
end)
