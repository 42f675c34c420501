--- Medians and spreads, and numbers as people read them.

local M = {}

function M.sorted(values)
  local list = {}
  for i, value in ipairs(values) do
    list[i] = value
  end
  table.sort(list)
  return list
end

function M.median(values)
  local list = M.sorted(values)
  local middle = math.floor((#list + 1) / 2)
  return #list % 2 == 1 and list[middle] or (list[middle] + list[middle + 1]) / 2
end

--- The least and the most.
function M.range(values)
  local list = M.sorted(values)
  return list[1], list[#list]
end

--- a[i] / b[i].
function M.ratios(a, b)
  local list = {}
  for i = 1, math.min(#a, #b) do
    list[i] = a[i] / b[i]
  end
  return list
end

--- "187k", "3.93M", "958".
function M.short(value)
  if value >= 999500 then
    return ("%.2fM"):format(value / 1e6)
  elseif value >= 9995 then
    return ("%.0fk"):format(value / 1e3)
  elseif value >= 100 then
    return ("%.0f"):format(value)
  end
  return ("%.1f"):format(value)
end

return M
