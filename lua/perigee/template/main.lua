--- A chat: everybody who is at /chat hears what is said there, and who comes late, or comes back, is
--- told what was said before.

local perigee = require("perigee")

local NAME_BYTES = 80
local TEXT_BYTES = 1000

local app = perigee.app()

-- The last 200, for a day at most.
app:topic("chat", { history = 200, age = 24 * 3600 })

app:get("/", function()
  return { file = "public/index.html" }
end)

app:get("/health", function()
  return { json = { status = "ok", people = perigee.subscribers("chat") } }
end)

local function is_text(value, max_bytes)
  return type(value) == "string" and #value <= max_bytes and value:find("%S") ~= nil
end

app:websocket("/chat", {
  max_message = 4096,
  rate = { messages = 10, per = 1, excess = "wait" },

  -- `since` is in the URL of those who come back: they get exactly what they missed.
  on_open = function(conn)
    conn:subscribe("chat", {
      since = conn.request.since,
      from = 50,
      reset = { type = "reset" },
      envelope = true,
    })
  end,

  on_message = function(conn, data)
    local said = perigee.json.decode(data)
    if type(said) ~= "table" or not is_text(said.text, TEXT_BYTES) then
      conn:send({ type = "refused", reason = "A message needs a text of 1 to 1000 bytes" })
      return
    end
    perigee.publish("chat", {
      name = is_text(said.name, NAME_BYTES) and said.name or "somebody",
      text = said.text,
      time = perigee.time(),
    })
  end,
})

return app
