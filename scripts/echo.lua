-- A WebSocket that answers what it hears, and tells the others.
--
-- Shows: the shortest behavior, publishing to all but the sender, text and binary messages, a page
-- and a WebSocket on one path.
local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

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

app:get("/echo", page("echo"))

return app
