-- Three streams of server-sent events: the time, numbered updates, and prices that wander.
--
-- Shows: a clock that all readers share (app:every runs on one worker and publishes to all), named
-- events, counting readers over all workers, state in a shared dictionary.
local perigee = require("perigee")
local page = require("page")

local app = perigee.app()

-- A stream whose readers get what is published to its topic from now on.
local function stream(path, topic)
  app:sse(path, {
    origins = { "*" },
    on_open = function(conn)
      conn:subscribe(topic)
    end,
  })
end

stream("/events", "events")
stream("/updates", "updates")
stream("/stocks", "stocks")

app:every(2, function()
  perigee.publish("events", "Server time: " .. perigee.iso())
end)

app:every(1, function()
  local n = perigee.shared("feeds"):incr("updates")
  if n % 3 == 0 then
    local users = perigee.subscribers("updates")
    perigee.publish("updates", { users = users }, { event = "user-count" })
  else
    perigee.publish("updates", "Update #" .. n)
  end
end)

local opening = { PRGE = 120, LUNA = 48, HELI = 310, APOG = 87, ORBT = 15, NOVA = 205 }
local symbols = {}
for symbol in pairs(opening) do
  symbols[#symbols + 1] = symbol
end
table.sort(symbols)

-- Each step changes a price by up to 1 %, and pulls it a little towards where it opened.
local function next_price(symbol)
  local prices = perigee.shared("prices")
  local price = prices:get(symbol) or opening[symbol]
  price = price * (1 + (math.random() - 0.5) / 50) + (opening[symbol] - price) / 200
  price = math.floor(price * 100 + 0.5) / 100
  prices:set(symbol, price)
  return price
end

-- Two symbols at a time, four times a second.
local position = 0
app:every(0.25, function()
  for _ = 1, 2 do
    position = position % #symbols + 1
    local symbol = symbols[position]
    perigee.publish("stocks", {
      symbol = symbol,
      price = next_price(symbol),
      at = perigee.iso(),
    }, { event = "price-update" })
  end
end)

app:get("/feeds", page("feeds"))
app:get("/market", page("market"))

return app
