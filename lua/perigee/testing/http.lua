--- An HTTP/1.1 client for specs: requests to bytes, bytes to responses, strict about what a server may
--- send.

local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local posix = require("perigee.testing.posix")

local M = {}

--- @class perigee.testing.Response
--- @field status integer
--- @field headers table<string, string> by lower-case name, repeats joined with ", "
--- @field list { [1]: string, [2]: string }[] the header lines as sent
--- @field body string
--- @field json any the body decoded; fails the spec when it is not JSON
local Response = {}

function Response.__index(self, name)
  if name == "json" then
    local value, problem = json.try_decode(self.body)
    if problem then
      self:fail_expected("a body of JSON", problem)
    end
    return value
  end
  return Response[name]
end

--- Fails the spec with what came instead; where `pattern` is of JSON, the body's members in order.
function Response:fail_expected(expected, why, pattern)
  local show = json.is_pattern(pattern) and json.show or failure.quote
  local body = self.body ~= "" and show(self.body or "") or "no body"
  local rows = {
    { "expected", expected },
    { "got", ("status %d, %s"):format(self.status, body) },
    { "because", why },
  }
  if self.conn then
    self.conn:report(rows)
  end
  failure.report("The response", rows)
end

--- The status must be this, and the body too when something is said of it: a string exactly, a table
--- as JSON with at least these members, a function that accepts it. Returns the response.
---
--- @param status integer
--- @param body? perigee.testing.Pattern
--- @return perigee.testing.Response
function Response:expect(status, body)
  if body ~= nil then
    failure.check_pattern(body)
  end
  local shown = "status " .. status .. (body and ", " .. failure.show(body) or "")
  if self.status ~= status then
    self:fail_expected(shown, nil, body)
  elseif json.is_callable(body) then
    if not body(self.body) then
      self:fail_expected(shown)
    end
  elseif type(body) == "table" then
    local value, problem = json.try_decode(self.body)
    local ok, why = nil, problem
    if not problem then
      ok, why = json.matches(body, value, true)
    end
    if not ok then
      self:fail_expected(shown, why, body)
    end
  elseif body and body ~= self.body then
    self:fail_expected(shown, failure.difference(body, self.body))
  end
  return self
end

--- A request as bytes. `headers` is a list of `{ name, value }` or a map; Host comes by itself
--- unless `host = false`; Content-Length too where there is a body and no length is given.
function M.request(opts)
  local lines = {
    ("%s %s HTTP/%s"):format(opts.method or "GET", opts.path or "/", opts.version or "1.1"),
  }
  local function add(name, value)
    lines[#lines + 1] = name .. ": " .. tostring(value)
  end
  if opts.host ~= false then
    add("Host", opts.host or "localhost")
  end
  local has_length = false
  local function header(name, value)
    has_length = has_length
      or name:lower() == "content-length"
      or name:lower() == "transfer-encoding"
    add(name, value)
  end
  for key, value in pairs(opts.headers or {}) do
    if type(key) == "number" then
      header(value[1], value[2])
    else
      header(key, value)
    end
  end
  if opts.chunks then
    add("Transfer-Encoding", "chunked")
  elseif opts.body and not has_length then
    add("Content-Length", #opts.body)
  end
  local body = opts.body or ""
  if opts.chunks then
    local parts = {}
    for i, data in ipairs(opts.chunks) do
      parts[i] = ("%x\r\n%s\r\n"):format(#data, data)
    end
    body = table.concat(parts) .. "0\r\n\r\n"
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

--- Adds what a client's options say to the headers of its request: `origin`, and its `headers`.
---
--- @param headers { [1]: string, [2]: string }[]
--- @param opts { origin?: string, headers?: table<string, string> }
--- @return { [1]: string, [2]: string }[] headers
function M.add_headers(headers, opts)
  if opts.origin then
    headers[#headers + 1] = { "Origin", opts.origin }
  end
  for name, value in pairs(opts.headers or {}) do
    headers[#headers + 1] = { name, value }
  end
  return headers
end

--- Reads a response's head. Returns `{ status, reason, version, headers, list }`: `headers` maps
--- lower-case names to values, repeats joined with ", "; `list` keeps `{ name, value }` as sent.
function M.read_head(conn, seconds)
  local head = conn:read_until("\r\n\r\n", seconds, "an answer")
  local first, rest = head:match("^(.-)\r\n(.*)\r\n$")
  local version, status, reason = first:match("^HTTP/(1%.[01]) (%d%d%d) (.*)$")
  if not version then
    conn:fail(("not a status line: %q"):format(first))
  end
  local headers, list = {}, {}
  for line in rest:gmatch("(.-)\r\n") do
    local name, value = line:match("^([%w!#$%%&'*+.^_`|~-]+): ?(.-)[ \t]*$")
    if not name or value:find("[%z\r\n]") then
      conn:fail(("not a header line: %q"):format(line))
    end
    local key = name:lower()
    headers[key] = headers[key] and headers[key] .. ", " .. value or value
    list[#list + 1] = { name, value }
  end
  return setmetatable({
    status = tonumber(status),
    reason = reason,
    version = version,
    headers = headers,
    list = list,
  }, Response)
end

--- Takes one chunk of a chunked body. Returns its bytes, "" for the last one (whose trailers are
--- taken too).
function M.read_chunk(conn, seconds)
  local line = conn:read_until("\r\n", seconds, "a chunk of the body")
  local size = line:match("^(%x+)\r\n$")
  if not size then
    conn:fail(("not a chunk size: %q"):format(line))
  end
  local count = tonumber(size, 16)
  if count == 0 then
    local trailer = conn:read_until("\r\n", seconds, "the end of the body")
    while trailer ~= "\r\n" do
      trailer = conn:read_until("\r\n", seconds, "the end of the body")
    end
    return ""
  end
  local data = conn:read(count, seconds)
  if conn:read(2, seconds) ~= "\r\n" then
    conn:fail("a chunk does not end in CRLF")
  end
  return data
end

local function has_no_body(response, method)
  return method == "HEAD"
    or response.status == 204
    or response.status == 304
    or response.status < 200
end

--- Reads one whole response to a request of `method`; interim ones (100) are responses of their
--- own. `body_until_end` tells that the body was ended by the connection's end.
function M.read_response(conn, method, seconds)
  local response = M.read_head(conn, seconds)
  local headers = response.headers
  if headers["transfer-encoding"] and headers["content-length"] then
    conn:fail("a response with both lengths")
  end
  if has_no_body(response, method) then
    response.body = ""
  elseif headers["transfer-encoding"] then
    if headers["transfer-encoding"]:lower() ~= "chunked" then
      conn:fail("unknown Transfer-Encoding " .. headers["transfer-encoding"])
    end
    local parts = {}
    repeat
      local data = M.read_chunk(conn, seconds)
      parts[#parts + 1] = data
    until data == ""
    response.body = table.concat(parts)
  elseif headers["content-length"] then
    local count = headers["content-length"]:match("^%d+$")
    if not count then
      conn:fail("bad Content-Length " .. headers["content-length"])
    end
    response.body = conn:read(tonumber(count), seconds)
  else
    response.body = conn:read_all(seconds)
    response.body_until_end = true
  end
  return response
end

--- The same, passing over interim ones.
function M.read_final_response(conn, method, seconds)
  local response
  repeat
    response = M.read_response(conn, method, seconds)
  until response.status >= 200
  response.conn = conn
  return response
end

--- Writes a request and reads its final response.
function M.exchange(conn, opts)
  conn:write(M.request(opts))
  return M.read_final_response(conn, opts.method or "GET", opts.seconds)
end

local days = { Sun = 1, Mon = 2, Tue = 3, Wed = 4, Thu = 5, Fri = 6, Sat = 7 }
local months =
  { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

--- Days since 1970 by the civil calendar; os.time would take the zone of the machine.
function M.day_number(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year
    + math.floor(year / 4)
    - math.floor(year / 100)
    + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5)
    + day
    - 719469
end

--- Unix seconds of an IMF-fixdate, or nil when it is not one (the weekday is checked too).
function M.parse_date(text)
  local weekday, day, name, year, hour, minute, second = (text or ""):match(
    "^(%a%a%a), (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  )
  local month
  for i, candidate in ipairs(months) do
    month = candidate == name and i or month
  end
  if not month then
    return nil
  end
  local day_number = M.day_number(tonumber(year), month, tonumber(day))
  if (day_number + 4) % 7 + 1 ~= days[weekday] then
    return nil
  end
  return day_number * 86400 + hour * 3600 + minute * 60 + second
end

--- Seconds from Unix's origin, by the machine's clock.
function M.wall()
  return os.time()
end

M.deadline = posix.deadline

return M
