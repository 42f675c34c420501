-- /whiteboard: strokes on boards.
local apps = require("spec.support.apps")
local gateway = require("spec.support.gateway")
local json = require("perigee.testing.json")

describe("/whiteboard", function()
  gateway.with_workers(describe, function(workers)
    local server
    before_each(function()
      server = apps.start(workers)
    end)

    local function open(board, worker)
      local ws = server:websocket(
        board and "/whiteboard?board=" .. board or "/whiteboard",
        { worker = worker }
      )
      local init = ws:expect({ type = "init" })
      assert.is_true(json.is_array(init.strokes), "strokes are an array")
      return ws, init.strokes
    end

    local function stroke(name, points)
      local list = {}
      for i = 1, points or 2 do
        list[i] = { x = i, y = i + 0.5 }
      end
      return { name = name, color = "#123456", width = 3, points = list }
    end

    local function draw(ws, name, points)
      ws:send({ type = "draw", stroke = stroke(name, points) })
    end

    local function names(strokes)
      local list = {}
      for i, entry in ipairs(strokes) do
        list[i] = entry.name
      end
      return table.concat(list, " ")
    end

    it("begins empty, keeps what is drawn, and shows it to all others", function()
      local ann, strokes = open("b", 1)
      assert.equal(0, #strokes)
      local bob = open("b", workers)
      bob:fence()
      draw(ann, "one")
      local event = bob:expect_json({ type = "draw", stroke = stroke("one") })
      assert.equal("one", event.stroke.name)
      ann:expect_nothing_queued()
      draw(bob, "two")
      ann:expect({ type = "draw", stroke = { name = "two" } })
      for worker = 1, workers do
        local late
        late, strokes = open("b", worker)
        assert.equal("one two", names(strokes))
        late:close()
      end
    end)

    it("gives strokes back as they were", function()
      local ann = open("b", 1)
      local bob = open("b", workers)
      bob:fence()
      ann:send(
        '{"type":"draw","stroke":{"points":[[0.125,-7],[1,2]],"tags":[],"note":null,"text":"<ü>"}}'
      )
      local event = bob:next()
      assert.truthy(event:gsub("%s", ""):find('"tags":[]', 1, true), event)
      assert.truthy(event:gsub("%s", ""):find("0.125", 1, true), event)
      local _, strokes = open("b", workers)
      local ok, why = json.matches(json.decode(event).stroke, strokes[1])
      assert.is_true(ok, why)
    end)

    it("has boards that know nothing of each other, and one for those who name none", function()
      local ann, other = open("a", 1), open("b", workers)
      local nameless = open(nil, 1)
      local default = open("default", workers)
      default:fence()
      draw(ann, "on a")
      draw(nameless, "on default")
      default:expect({ type = "draw", stroke = { name = "on default" } })
      ann:expect_nothing_queued()
      other:expect_nothing_queued()
    end)

    it("is cleared for all, the sender too, and for those who come later", function()
      local ann, bob = open("b", 1), open("b", workers)
      bob:fence()
      draw(ann, "one")
      bob:expect({ type = "draw" })
      bob:send({ type = "clear" })
      ann:expect_json({ type = "clear" })
      bob:expect_json({ type = "clear" })
      local eve, strokes = open("b", workers)
      assert.equal(0, #strokes)
      eve:expect_nothing_queued()
      draw(ann, "two")
      bob:expect({ type = "draw", stroke = { name = "two" } })
      eve:expect({ type = "draw", stroke = { name = "two" } })
      strokes = select(2, open("b", 1))
      assert.equal("two", names(strokes))
    end)

    it("shows early and late viewers the same, whatever races", function()
      local early = open("race", 1)
      early:fence()
      local painters = {}
      for i = 1, 4 do
        painters[i] = open("race", (i - 1) % workers + 1)
      end
      for round = 1, 10 do
        for i, painter in ipairs(painters) do
          draw(painter, ("r%d-%d"):format(round, i))
          if (round + i) % 5 == 0 then
            painter:send({ type = "clear" })
          end
        end
      end
      for _, painter in ipairs(painters) do
        painter:fence()
      end
      -- A last stroke that everybody sees tells where to stop; it comes after what is released.
      draw(painters[1], "last")
      painters[1]:fence()
      local board = {}
      while true do
        local event = json.decode((early:next()))
        if event.type == "clear" then
          board = {}
        else
          board[#board + 1] = event.stroke.name
          if event.stroke.name == "last" then
            break
          end
        end
      end
      for worker = 1, workers do
        local _, strokes = open("race", worker)
        assert.equal(table.concat(board, " "), names(strokes))
      end
    end)

    describe("that is empty of people", function()
      local function drawn_and_left(worker)
        server:freeze()
        local ann = open("b", worker)
        draw(ann, "kept")
        ann:fence()
        ann:close()
        server:wait_for({ connections = 0 })
      end

      it("is kept for 59 s", function()
        drawn_and_left(1)
        server:advance(59)
        local _, strokes = open("b", workers)
        assert.equal("kept", names(strokes))
      end)

      it("is gone after 60 s", function()
        drawn_and_left(1)
        server:advance(60)
        local _, strokes = open("b", workers)
        assert.equal(0, #strokes)
      end)

      it("is kept by one who opens it at 59.9 s on another worker", function()
        drawn_and_left(1)
        server:advance(59.9)
        local bob, strokes = open("b", workers)
        assert.equal("kept", names(strokes))
        -- The worker of the one who left must not forget it now.
        for _ = 1, 4 do
          server:advance(30)
          bob:fence()
        end
        local _, seen = open("b", 1)
        assert.equal("kept", names(seen))
      end)

      it("is kept while somebody is there", function()
        server:freeze()
        local ann = open("b", workers)
        draw(ann, "kept")
        for _ = 1, 6 do
          server:advance(20)
          ann:fence()
        end
        local _, strokes = open("b", 1)
        assert.equal("kept", names(strokes))
      end)
    end)

    it("takes 1,000 points a stroke and no more", function()
      local ann, bob = open("b", 1), open("b", workers)
      bob:fence()
      draw(ann, "long", 1000)
      bob:expect({ type = "draw", stroke = { name = "long" } })
      draw(ann, "longer", 1001)
      ann:expect_json({ type = "error", data = "The stroke has too many points" })
      bob:expect_nothing_queued()
      local _, strokes = open("b", 1)
      assert.equal("long", names(strokes))
    end)

    it("takes 2,000 strokes, counted over all workers, and no more", function()
      local painters = {}
      for i = 1, workers do
        painters[i] = open("full", i)
      end
      for i = 1, 2000 do
        painters[i % workers + 1]:send(
          ('{"type":"draw","stroke":{"name":"%d","points":[[1,2]]}}'):format(i)
        )
      end
      for _, painter in ipairs(painters) do
        painter:fence(20)
      end
      for _, painter in ipairs(painters) do
        draw(painter, "one too many")
        local answer
        repeat
          answer = painter:expect({})
        until answer.type ~= "draw" or answer.stroke.name == "one too many"
        local ok, why = json.matches({ type = "error", data = "The board is full" }, answer)
        assert.is_true(ok, why)
      end
      local late, strokes = open("full", workers)
      assert.equal(2000, #strokes)
      late:send({ type = "clear" })
      late:expect_json({ type = "clear" })
      painters[1]:fence()
      draw(painters[1], "room again")
      late:expect({ type = "draw", stroke = { name = "room again" } })
    end)

    it("takes 256 KiB a message and no more", function()
      local ann, bob = open("b", 1), open("b", workers)
      bob:fence()
      ann:send({
        type = "draw",
        stroke = { name = "big", text = ("x"):rep(255 * 1024), points = json.array() },
      })
      bob:expect({ type = "draw", stroke = { name = "big" } })
      ann:send(("x"):rep(256 * 1024 + 1))
      ann:expect_close(1009)
    end)

    it("shows a board larger than an outbox", function()
      local ann = open("large", 1)
      for i = 1, 12 do
        ann:send({
          type = "draw",
          stroke = { name = "s" .. i, text = ("x"):rep(200 * 1024), points = json.array() },
        })
      end
      ann:fence(10)
      local ws = server:websocket("/whiteboard?board=large", { worker = workers })
      local init = json.decode((ws:next(10)))
      assert.equal(12, #init.strokes)
    end)

    it("is not broken by frames that are no drawing", function()
      local ann, bob = open("b", 1), open("b", workers)
      bob:fence()
      for _, frame in ipairs({
        "hello",
        "[]",
        "{}",
        "null",
        '{"type":"dance"}',
        '{"type":"draw"}',
        '{"type":"draw","stroke":7}',
        '{"type":"draw","stroke":"x"}',
        '{"type":"draw","stroke":null}',
        '{"type":"draw","stroke":{"points":7}}',
      }) do
        ann:send(frame)
      end
      ann:send_binary("\0")
      ann:fence()
      draw(ann, "good")
      local event
      repeat
        event = bob:expect({ type = "draw" })
      until event.stroke.name == "good"
    end)

    it("has a page on the same path", function()
      local response = server:request({ path = "/whiteboard", worker = workers })
      assert.equal(200, response.status)
      assert.truthy(response.headers["content-type"]:find("^text/html"))
      assert.equal(200, server:get("/whiteboard?board=x").status)
    end)
  end)
end)
