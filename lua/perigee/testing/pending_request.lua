--- A request of a spec that was sent and is not answered yet: for handlers that wait for something.

local failure = require("perigee.testing.failure")
local http = require("perigee.testing.http")
local posix = require("perigee.testing.posix")

--- @class perigee.testing.PendingRequest
local PendingRequest = {}
PendingRequest.__index = PendingRequest

local M = {}

--- Writes the request; see http.request for `opts`.
function M.send(conn, opts)
  conn:write(http.request(opts))
  return setmetatable({ conn = conn, method = opts.method or "GET" }, PendingRequest)
end

--- Waits for the answer. The connection is closed then.
---
--- @param seconds? number 2 by default
--- @return perigee.testing.Response
function PendingRequest:response(seconds)
  local response = http.read_final_response(self.conn, self.method, seconds)
  self.conn:close()
  return response
end

--- Nothing of an answer has come, and all workers have come to rest.
function PendingRequest:expect_nothing_queued()
  if self.conn.settle then
    self.conn.settle()
  end
  self.conn:fill(posix.now())
  local got = self.conn:peek()
  if got ~= "" or self.conn.ended then
    self.conn:report({
      { "expected", "no answer yet" },
      { "got", got ~= "" and failure.quote(got) or self.conn:describe_end(self.conn.ended) },
    })
  end
end

--- The client goes away, and the connection ends with RST.
function PendingRequest:reset()
  self.conn:reset()
end

return M
