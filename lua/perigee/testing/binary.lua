--- Where the gateway is: what a spec says, what PERIGEE names, beside this library, on PATH; and its
--- module, which runs it in this process.

local lfs = require("lfs")

local M = {}

-- The directory that holds perigee/testing/binary.lua, with its slash.
local root = debug.getinfo(1, "S").source:match("^@(.*)perigee/testing/binary%.lua$") or "./"

local function is_file(path)
  return lfs.attributes(path, "mode") == "file"
end

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end
M.absolute = absolute

--- The absolute path; raises where there is none.
---
--- @param wanted? string
--- @return string
function M.find(wanted)
  wanted = wanted or os.getenv("PERIGEE")
  if wanted then
    if not is_file(absolute(wanted)) then
      error("there is no gateway at " .. absolute(wanted) .. " (option binary, or PERIGEE)", 0)
    end
    return absolute(wanted)
  end
  -- Installed the library is below share/lua/5.1, in a source tree beside build.
  local candidates = { root .. "../../../bin/perigee", root .. "../build/perigee" }
  for directory in (os.getenv("PATH") or ""):gmatch("[^:]+") do
    candidates[#candidates + 1] = directory .. "/perigee"
  end
  for _, path in ipairs(candidates) do
    if is_file(path) then
      return absolute(path)
    end
  end
  error(
    "there is no perigee beside the library or on PATH: install it, or name it in PERIGEE or the"
      .. " option binary",
    0
  )
end

--- The absolute path of the module: beside the gateway that PERIGEE names, or beside this library.
---
--- @return string
function M.find_module()
  local candidates
  local binary = os.getenv("PERIGEE")
  if binary then
    local directory = absolute(binary):match("^(.*/)")
    candidates = { directory, directory .. "../lib/lua/5.1/" }
  else
    candidates = { root .. "../../../lib/lua/5.1/", root .. "../build/" }
  end
  for _, directory in ipairs(candidates) do
    local path = absolute(directory .. "perigee_core.so")
    if is_file(path) then
      return path
    end
  end
  local found = package.searchpath("perigee_core", package.cpath)
  if found then
    return absolute(found)
  end
  error(
    "there is no perigee_core.so in "
      .. table.concat(candidates, " or ")
      .. ": it is built and installed with perigee",
    0
  )
end

return M
