--- GET /events: the server's time, every two seconds.
---
--- Shows the smallest application: one topic, one timer, one event stream. The timer runs on one
--- worker and publishes once; the topic carries it to every reader on every worker.
---
---     curl -N http://localhost:3000/events

local perigee = require("perigee")

local app = perigee.app()

app:sse("/events", {
  on_open = function(conn)
    conn:subscribe("events")
  end,
})

app:every(2, function()
  perigee.publish("events", "Server time: " .. perigee.iso())
end)

return app
