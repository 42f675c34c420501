--- GET /stocks: prices on a random walk. GET /market is the page that draws them.
---
--- Shows a topic that keeps as much as there are symbols: since every step publishes each symbol
--- once, its history is always the present prices, and a reader begins with those instead of with
--- an empty page.
---
---     curl -N http://localhost:3000/stocks

local perigee = require("perigee")
local page = require("page")

local SYMBOLS = {
  { name = "APOG", first = 182.40 },
  { name = "ORBT", first = 74.15 },
  { name = "LUNA", first = 31.80 },
  { name = "ECLP", first = 248.05 },
  { name = "NOVA", first = 12.60 },
  { name = "ZNTH", first = 96.30 },
}
local STEP_SECONDS = 0.5
local VOLATILITY = 0.004 -- of one step: lively enough to watch, and nothing is worthless in a day

local app = perigee.app()

app:topic("stocks", { history = #SYMBOLS })

app:get("/market", page("market"))

app:sse("/stocks", {
  on_open = function(conn)
    conn:subscribe("stocks", { from = "start" })
  end,
})

-- Steps multiply, so that a price wanders by its size and stays above zero.
local function step(price)
  local moved = price * (1 + VOLATILITY * (math.random() + math.random() - 1))
  return math.max(0.01, math.floor(moved * 100 + 0.5) / 100)
end

app:every(STEP_SECONDS, function()
  local prices = perigee.shared("stocks")
  local at = perigee.iso()
  for _, symbol in ipairs(SYMBOLS) do
    local price = step(prices:get(symbol.name) or symbol.first)
    prices:set(symbol.name, price)
    local update = { symbol = symbol.name, price = price, at = at }
    perigee.publish("stocks", update, { event = "price-update" })
  end
end)

return app
