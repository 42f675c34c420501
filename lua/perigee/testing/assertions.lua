--- What the kit adds to luassert: `assert.status(201, response)` and `assert.json({ … }, value)`.

local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")

local M = {}

local function is_response(value)
  return type(value) == "table" and type(value.status) == "number" and value.body ~= nil
end

-- response:expect has the better words for it; luassert wants a verdict and arguments to show.
local function status(state, arguments)
  local expected, response = arguments[1], arguments[2]
  if not is_response(response) then
    error("assert.status takes a status and a response", 2)
  end
  state.failure_message = ("expected status %s\ngot status %d %s"):format(
    tostring(expected),
    response.status,
    failure.quote(response.body)
  )
  return response.status == expected
end

local function like(state, arguments)
  local expected, actual = arguments[1], arguments[2]
  local value, problem = actual, nil
  if is_response(actual) then
    actual = actual.body
  end
  if type(actual) == "string" then
    value, problem = json.try_decode(actual)
  end
  local ok, why = nil, problem
  if not problem then
    ok, why = json.matches(expected, value, true)
  end
  state.failure_message = ("expected JSON like %s\ngot %s\nbecause %s"):format(
    failure.show(expected),
    type(actual) == "string" and json.show(actual) or failure.show(actual),
    why or "it matches"
  )
  return ok or false
end

--- Makes the assertions known to luassert, where there is one.
function M.register()
  local ok, assert = pcall(require, "luassert")
  if not ok then
    return
  end
  assert:register("assertion", "status", status)
  assert:register("assertion", "json", like)
end

return M
