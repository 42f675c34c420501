local testing = require("perigee.testing")

describe("The chat", function()
  local server
  before_each(function()
    server = testing.start("main.lua")
  end)

  it("tells everybody, and those who come later", function()
    local ann, bob = server:websocket("/chat"), server:websocket("/chat")
    ann:send({ name = "Ann", text = "hello" })
    ann:expect({ data = { name = "Ann", text = "hello" } })
    bob:expect({ data = { name = "Ann", text = "hello" } })
    server:websocket("/chat"):expect({ data = { text = "hello" } })
  end)

  it("gives who comes back what was missed, and nothing twice", function()
    local ann, bob = server:websocket("/chat"), server:websocket("/chat")
    ann:send({ text = "one" })
    local position = bob:expect({ data = { text = "one" } }).id
    bob:drop()
    ann:send({ text = "two" })
    ann:expect_later({ data = { text = "two" } })

    bob = server:websocket("/chat?since=" .. position)
    bob:expect({ data = { text = "two" } })
    bob:expect_nothing_queued()
  end)

  it("begins anew for who was away for too long", function()
    server:websocket("/chat?since=unknown"):expect({ type = "reset" })
  end)

  it("forgets after a day", function()
    local ann = server:websocket("/chat")
    ann:send({ text = "old" })
    ann:expect({ data = { text = "old" } })
    ann:close()
    server:advance(24 * 3600)
    server:websocket("/chat"):expect_nothing_queued()
  end)

  it("refuses what is no message, and tells nobody", function()
    local ann, bob = server:websocket("/chat"), server:websocket("/chat")
    for _, data in ipairs({ "not JSON", "[]", '{"text":"  "}', '{"text":7}' }) do
      ann:send(data)
      ann:expect({ type = "refused" })
    end
    bob:expect_nothing_queued()
  end)

  it("has a page, and says how it is", function()
    assert.truthy(server:get("/"):expect(200).body:find("<title>", 1, true))
    server:get("/health"):expect(200, { status = "ok", people = 0 })
    server:websocket("/chat")
    server:get("/health"):expect(200, { people = 1 })
  end)
end)
