-- Connections that are told of with their first bytes: an ordinary listener, not a worker's own.
local frame = require("perigee.testing.websocket_frame")
local gateway = require("spec.support.gateway")
local http = require("perigee.testing.http")

local APP = [[
  app:get("/", function() return "hello" end)
  app:get("/slow", function() perigee.sleep(1) return "slow" end)
  app:post("/", function(request) return request.body end)
  app:websocket("/ws", { on_message = function(conn, data) conn:send(data) end })
  app:sse("/feed", { on_open = function(conn) conn:send("welcome") end })
]]

describe("Whoever is accepted with what it has said", function()
  local server
  before_each(function()
    server = gateway.start({ app = APP, workers = 2 }):with({ listener = 1 })
  end)

  local function say(text)
    local conn = server:raw()
    conn:write(text)
    return conn
  end

  it("is answered, as often as it asks", function()
    for _ = 1, 20 do
      assert.equal("hello", server:get("/").body)
      assert.equal("a body", server:post("/", "a body").body)
    end
    local conn = say(http.request({ path = "/" }):rep(3))
    for _ = 1, 3 do
      assert.equal("hello", http.read_response(conn).body)
    end
  end)

  it("has its transport at once", function()
    server:sse("/feed"):expect("welcome")
    local socket = server:websocket("/ws")
    socket:send("one")
    socket:expect("one")
  end)

  it("is heard when a handshake brings its first message along", function()
    local conn = say(frame.handshake({ path = "/ws" }) .. frame.frame({ payload = "early" }))
    conn:read_until("\r\n\r\n")
    assert.equal("\129\5early", conn:read(7))
  end)

  it("may say the rest later", function()
    local conn = say("G")
    server:settle()
    conn:write("ET / HTTP/1.1\r\nHost: a\r\n")
    server:settle()
    conn:write("\r\n")
    assert.equal("hello", http.read_response(conn).body)
  end)

  it("is answered although it sends no more", function()
    local conn = say(http.request({ path = "/" }))
    conn:half_close()
    assert.equal("hello", http.read_response(conn).body)
    conn:expect_eof()
  end)

  it("may go on in the middle of a handler, to the limit of what waits", function()
    local conn = say(http.request({ path = "/slow" }) .. http.request({ path = "/" }):rep(1000))
    server:settle()
    server:advance(1)
    assert.equal("slow", http.read_response(conn).body)
    for _ = 1, 1000 do
      assert.equal("hello", http.read_response(conn).body)
    end
  end)

  it("is told what is wrong with it", function()
    assert.equal(400, http.read_response(say("nonsense\r\n\r\n")).status)
    local head = "GET / HTTP/1.1\r\nHost: a\r\nX: " .. ("x"):rep(20000) .. "\r\n\r\n"
    assert.equal(431, http.read_response(say(head)).status)
  end)

  it("may leave without a word, or in the middle of one", function()
    for _ = 1, 5 do
      server:raw():close()
      server:raw():reset()
      say("GET / HT"):close()
      say("GET / HT"):reset()
      say(http.request({ path = "/" })):reset()
    end
    server:wait_for({ http = 0, connections = 0 })
    assert.equal("hello", server:get("/").body)
  end)
end)

it("Beyond the limit of connections who is accepted is refused, heard or unheard", function()
  local server = gateway.start({ app = APP, arguments = { "--limit-connections", "1" } })
  server:websocket("/ws")
  server = server:with({ listener = 1 })
  for _ = 1, 12 do
    assert.equal(503, server:get("/").status)
  end
  assert.truthy(server:get("/feed"):expect(200).body:find("^retry: %d+\n\n$"))
end)

it("Whoever says nothing is accepted after a second, and its time begins", function()
  local server = gateway.start({
    app = APP,
    test_mode = false,
    arguments = { "--limit-header-timeout", "1" },
  })
  assert.equal(408, http.read_response(server:raw(), "GET", 30).status)
end)
