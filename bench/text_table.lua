--- Tables as text: aligned for a terminal, or as Markdown.

local M = {}

-- Characters, not bytes: "≥" is one.
local function width(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

local function pad(text, columns, to_the_right)
  local fill = (" "):rep(columns - width(text))
  return to_the_right and fill .. text or text .. fill
end

local function widths(lines)
  local list = {}
  for _, line in ipairs(lines) do
    for i, cell in ipairs(line) do
      list[i] = math.max(list[i] or 0, width(cell))
    end
  end
  return list
end

--- `lines` is a list of lists of texts, the head first. All columns but the first are aligned
--- to the right.
function M.aligned(lines)
  local columns, out = widths(lines), {}
  for i, line in ipairs(lines) do
    local cells = {}
    for j, cell in ipairs(line) do
      cells[j] = pad(cell, columns[j], j > 1)
    end
    out[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(out, "\n") .. "\n"
end

function M.markdown(lines)
  local out = {}
  for i, line in ipairs(lines) do
    out[#out + 1] = "| " .. table.concat(line, " | ") .. " |"
    if i == 1 then
      out[#out + 1] = "|---" .. ("|---:"):rep(#line - 1) .. "|"
    end
  end
  return table.concat(out, "\n") .. "\n"
end

return M
