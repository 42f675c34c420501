--- GET /updates: counts seconds, and each third second says how many are reading.
---
--- Shows named events, the number of subscribers over all workers, and a dictionary that all
--- workers share: a variable of this script would belong to one worker, and be lost with it.
---
---     curl -N http://localhost:3000/updates

local perigee = require("perigee")

local app = perigee.app()

app:sse("/updates", {
  on_open = function(conn)
    conn:subscribe("updates")
  end,
})

app:every(1, function()
  local n = perigee.shared("updates"):incr("n")
  if n % 3 == 0 then
    local users = perigee.subscribers("updates")
    perigee.publish("updates", { users = users }, { event = "user-count" })
  else
    perigee.publish("updates", ("Update #%d"):format(n))
  end
end)

return app
