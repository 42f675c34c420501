-- /rooms: rooms and private messages.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")

describe("/rooms", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
    end)

    local function visitor(worker)
      local ws = server:websocket("/rooms", { worker = worker })
      local hello = ws:expect_json({
        type = "connection",
        data = { id = apps.is_text, message = "Connected successfully" },
      })
      return ws, hello.data.id
    end

    local function join(ws, room)
      ws:send({ type = "join-room", room = room })
      ws:expect_json({ type = "room-joined", data = { room = room } })
    end

    it("give everyone an id of their own", function()
      local seen = {}
      for i = 1, 12 do
        local _, id = visitor((i - 1) % workers + 1)
        assert.is_nil(seen[id])
        seen[id] = true
      end
    end)

    it("tell the joiner, and the others who came", function()
      local ann = visitor(1)
      local bob, bob_id = visitor(workers)
      local eve = visitor(1)
      join(ann, "blue")
      ann:expect_nothing_queued()
      join(bob, "blue")
      ann:expect_json({ type = "user-joined", data = { userId = bob_id, room = "blue" } })
      bob:expect_nothing_queued()
      eve:expect_nothing_queued()
    end)

    it("carry messages to every member, the sender included, and to nobody else", function()
      local ann, ann_id = visitor(1)
      local bob = visitor(workers)
      local eve = visitor(math.min(2, workers))
      join(ann, "blue")
      join(bob, "blue")
      ann:expect({ type = "user-joined" })
      join(eve, "red")
      ann:send({ type = "room-message", room = "blue", data = { text = "hi", list = { 1, 2 } } })
      local expected = {
        type = "room-message",
        data = { room = "blue", senderId = ann_id, message = { text = "hi", list = { 1, 2 } } },
      }
      ann:expect_json(expected)
      bob:expect_json(expected)
      eve:expect_nothing_queued()
    end)

    it("give back JSON values as they were", function()
      local ann, id = visitor(workers)
      join(ann, "r")
      for _, text in ipairs({
        "[]",
        "{}",
        "null",
        "true",
        '""',
        "0.1",
        "[[],{}]",
        '{"a":[]}',
        '"\\u0000ü"',
        "9007199254740991",
      }) do
        ann:send('{"type":"room-message","room":"r","data":' .. text .. "}")
        local answer = ann:next()
        local json = require("perigee.testing.json")
        local value, wanted = json.decode(answer), json.decode('{"v":' .. text .. "}")
        assert.equal(id, value.data.senderId)
        local ok, why = json.matches(wanted.v, value.data.message)
        assert.is_true(ok, why)
        if text == "[]" or text == "{}" or text == "null" then
          assert.truthy(answer:gsub("%s", ""):find('"message":' .. text, 1, true), answer)
        end
      end
    end)

    it("tell those who stay when somebody leaves", function()
      local ann = visitor(1)
      local bob, bob_id = visitor(workers)
      join(ann, "blue")
      join(bob, "blue")
      ann:expect({ type = "user-joined" })
      bob:send({ type = "leave-room", room = "blue" })
      ann:expect_json({ type = "user-left", data = { userId = bob_id, room = "blue" } })
      bob:expect_nothing_queued()
      ann:send({ type = "room-message", room = "blue", data = "alone?" })
      ann:expect({ type = "room-message" })
      bob:expect_nothing_queued()
    end)

    it("tell it for every room when somebody closes, drops or is reset", function()
      local ann = visitor(1)
      join(ann, "blue")
      join(ann, "red")
      for _, how in ipairs({ "close", "drop", "reset" }) do
        local bob, bob_id = visitor(workers)
        join(bob, "blue")
        ann:expect({ type = "user-joined" })
        join(bob, "red")
        ann:expect({ type = "user-joined" })
        bob[how](bob)
        local left = {}
        for _ = 1, 2 do
          local event = ann:expect({ type = "user-left", data = { userId = bob_id } })
          left[event.data.room] = true
        end
        assert.same({ blue = true, red = true }, left)
        ann:expect_nothing_queued()
      end
    end)

    it("answer joining again and tell nobody", function()
      local ann, bob = visitor(1), visitor(workers)
      join(ann, "blue")
      join(bob, "blue")
      ann:expect({ type = "user-joined" })
      join(bob, "blue")
      bob:fence()
      ann:expect_nothing_queued()
      -- Having joined twice is left once.
      bob:send({ type = "leave-room", room = "blue" })
      ann:expect({ type = "user-left" })
      bob:send({ type = "leave-room", room = "blue" })
      bob:fence()
      ann:expect_nothing_queued()
    end)

    it("ignore leaving and speaking where one is not", function()
      local ann, bob = visitor(1), visitor(workers)
      join(ann, "blue")
      bob:send({ type = "leave-room", room = "blue" })
      bob:send({ type = "room-message", room = "blue", data = "let me in" })
      bob:expect_nothing_queued()
      ann:expect_nothing_queued()
    end)

    it("carry private messages to one connection alone, on whichever worker", function()
      local ann, ann_id = visitor(1)
      local bob, bob_id = visitor(workers)
      local eve = visitor(1)
      ann:send({ type = "private-message", targetId = bob_id, data = { secret = {} } })
      bob:expect_json({
        type = "private-message",
        data = { senderId = ann_id, message = { secret = {} } },
      })
      bob:send({ type = "private-message", targetId = ann_id, data = "thanks" })
      ann:expect_json({ type = "private-message", data = { senderId = bob_id, message = "thanks" } })
      ann:expect_nothing_queued()
      bob:expect_nothing_queued()
      eve:expect_nothing_queued()
    end)

    it("know who is not there", function()
      local ann = visitor(1)
      local bob, bob_id = visitor(workers)
      bob:close()
      local unknown = { type = "error", data = "Unknown recipient" }
      ann:send({ type = "private-message", targetId = bob_id, data = "?" })
      ann:expect_json(unknown)
      ann:send({ type = "private-message", targetId = "nobody", data = "?" })
      ann:expect_json(unknown)
      ann:send({ type = "private-message", data = "?" })
      ann:expect_json(unknown)
      for _, target in ipairs({ "", "*", "a\nb", ("x"):rep(1000) }) do
        ann:send({ type = "private-message", targetId = target, data = "?" })
        ann:expect_json(unknown)
      end
      ann:send('{"type":"private-message","targetId":7,"data":"?"}')
      ann:expect_json(unknown)
    end)

    it("cannot be mistaken for a private address", function()
      local ann = visitor(1)
      local bob, bob_id = visitor(workers)
      for _, room in ipairs({
        bob_id,
        "private:" .. bob_id,
        "conn:" .. bob_id,
        "user:" .. bob_id,
        "rooms:" .. bob_id,
      }) do
        ann:send({ type = "join-room", room = room })
        ann:next()
      end
      ann:send({ type = "private-message", targetId = bob_id, data = "for you" })
      bob:expect({ type = "private-message" })
      ann:expect_nothing_queued()
    end)

    it("refuse names that are none", function()
      local ann = visitor(1)
      local invalid = { type = "error", data = "Invalid room" }
      for _, frame in ipairs({
        '{"type":"join-room"}',
        '{"type":"join-room","room":7}',
        '{"type":"join-room","room":null}',
        '{"type":"join-room","room":["a"]}',
        '{"type":"join-room","room":"' .. ("x"):rep(5000) .. '"}',
        '{"type":"leave-room"}',
        '{"type":"room-message","data":"x"}',
        '{"type":"room-message","room":{},"data":"x"}',
      }) do
        ann:send(frame)
        ann:expect_json(invalid)
      end
      ann:expect_nothing_queued()
    end)

    it("answer what they do not understand", function()
      local ann = visitor(workers)
      for _, frame in ipairs({
        '{"type":"dance"}',
        "{}",
        "[]",
        "7",
        "null",
        '"text"',
        '{"type":7}',
        '{"type":["join-room"]}',
      }) do
        ann:send(frame)
        ann:expect_json({ type = "error", data = "Unknown message type" })
      end
      for _, frame in ipairs({
        "",
        "hello",
        "{",
        '{"type":"join-room",}',
        "{'type':1}",
        '{"a":1} x',
      }) do
        ann:send(frame)
        ann:expect_json({ type = "error", data = "Invalid JSON" })
      end
    end)

    it("take room names of any script", function()
      local ann, bob = visitor(1), visitor(workers)
      for _, room in ipairs({ "Grüße 👋", "a:b", "with space", "x" }) do
        join(ann, room)
        join(bob, room)
        ann:expect({ type = "user-joined" })
      end
    end)
  end)
end)
