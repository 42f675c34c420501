--- /echo (WebSocket): what you say comes back to you and goes to all others.
---
--- Shows the two ways of speaking: `conn:send` to one connection, `perigee.publish` to a topic,
--- here to everybody but the one who spoke. The same path answers a browser's GET with the page.

local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

app:get("/echo", page("echo"))

app:websocket("/echo", {
  on_open = function(conn)
    conn:send("Welcome to the WebSocket server!")
    conn:subscribe("echo")
  end,

  on_message = function(conn, data, is_binary)
    if is_binary then
      conn:send(data, { binary = true })
      return
    end
    conn:send("Echo: " .. data)
    perigee.publish("echo", "Broadcast: " .. data, { except = conn })
  end,
})

app:every(5, function()
  perigee.publish("echo", "Server time: " .. perigee.iso())
end)

return app
