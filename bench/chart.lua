--- The ratios as a bar chart in SVG, written as text.

local M = {}

local WIDTH, LABEL, VALUE = 760, 290, 60
local ROW, BAR, TOP = 24, 14, 34

-- Beyond it a bar is cut: a ratio of 3 must not make the rest unreadable.
local MOST = 1.5

local STYLE = [[
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.met { fill: #2f7d4f } .below { fill: #b3541e } .aim { stroke: #24292f; stroke-width: 2 }
.grid { stroke: #8c959f; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #d0d7de } .aim { stroke: #d0d7de } .met { fill: #56b37c } .below { fill: #d9793f }
}
</style>
]]

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function x_of(ratio)
  return LABEL + math.min(ratio, MOST) / MOST * (WIDTH - LABEL - VALUE)
end

local function bar(result, y)
  local from, to, aim = x_of(0), x_of(result.ratio), x_of(result.aimed)
  return ([[
<text x="%d" y="%d" text-anchor="end">%s</text>
<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>
<line class="aim" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>
<text x="%.1f" y="%d">%s</text>
]]):format(
    LABEL - 8,
    y + 11,
    escape(result.name),
    result.is_met and "met" or "below",
    from,
    y,
    to - from,
    BAR,
    aim,
    y - 3,
    aim,
    y + BAR + 3,
    math.max(to, aim) + 6,
    y + 11,
    result.value
  )
end

--- The results of comparison.lua that have a ratio.
function M.svg(results)
  local bars = {}
  for _, result in ipairs(results) do
    if result.ratio then
      bars[#bars + 1] = bar(result, TOP + #bars * ROW)
    end
  end
  local height = TOP + #bars * ROW + 4
  local one = x_of(1)
  return ([[
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" role="img"
  aria-label="Messages per second of server CPU, gateway over floor">
%s<text x="%d" y="16">gateway / floor, messages per second of server CPU; the mark is the aim</text>
<line class="grid" x1="%.1f" y1="24" x2="%.1f" y2="%d"/>
%s</svg>
]]):format(WIDTH, height, WIDTH, STYLE, 8, one, one, height, table.concat(bars))
end

return M
