--- The clients that a gateway gives to a spec: HTTP, WebSocket, event streams, long-polls, raw
--- connections.

local connection = require("perigee.testing.connection")
local failure = require("perigee.testing.failure")
local json = require("perigee.testing.json")
local pending_request = require("perigee.testing.pending_request")
local poll = require("perigee.testing.poll")
local sse = require("perigee.testing.sse")
local websocket = require("perigee.testing.websocket")

--- The methods of a server that open clients.
---
--- @class perigee.testing.Clients
local Clients = {}

local PLACE = { worker = "number", listener = "number", host = "string boolean" }

local function with_place(known)
  for name, types in pairs(PLACE) do
    known[name] = types
  end
  return known
end

local WEBSOCKET_OPTIONS = with_place({
  headers = "table",
  origin = "string",
  protocols = "table",
  any_status = "boolean",
  receive_buffer = "number",
  auto_pong = "boolean",
  auto_close = "boolean",
  key = "string",
  version = "string",
  method = "string",
})

local SSE_OPTIONS = with_place({
  headers = "table",
  origin = "string",
  last_event_id = "string",
  any_status = "boolean",
  receive_buffer = "number",
  version = "string",
})

local POLL_OPTIONS = with_place({
  headers = "table",
  origin = "string",
  since = "string",
  any_status = "boolean",
  receive_buffer = "number",
  version = "string",
  seconds = "number",
})

local REQUEST_OPTIONS = with_place({
  method = "string",
  path = "string",
  headers = "table",
  body = "string table",
  chunks = "table",
  version = "string",
  seconds = "number",
  receive_buffer = "number",
})

local RAW_OPTIONS = with_place({ receive_buffer = "number" })

--- Where a client goes: `{ worker = n }`, by default each worker in its turn; `{ listener = n }` for
--- an ordinary listener.
function Clients:target(opts)
  opts = opts or {}
  if opts.listener or not self.is_test then
    return self.listeners[opts.listener or 1] or failure.raise("there is no such listener"), nil
  end
  local worker = opts.worker or self.home
  if not worker then
    worker = self.last_worker % #self.workers + 1
    self.last_worker = worker
  end
  local target = self.workers[worker]
  if not target then
    failure.raise(("there is no worker %s, there are %d"):format(worker, #self.workers))
  end
  return target, worker
end

--- The URL of a worker's own listener.
---
--- @param worker? integer
--- @return string
function Clients:url(worker)
  return self:target({ worker = worker or 1 }).url
end

local function host_of(target)
  if target.path then
    return "localhost"
  end
  local host = target.host:find(":", 1, true) and "[" .. target.host .. "]" or target.host
  return host .. ":" .. target.port
end

--- What a Host header says for a worker or listener.
function Clients:host(opts)
  return host_of(self:target(opts or { worker = 1 }))
end

-- The options, and those of `with` that they leave open; headers one by one.
local function with_defaults(self, opts)
  local result = {}
  for _, from in ipairs({ self.defaults or {}, opts or {} }) do
    for key, value in pairs(from) do
      if key == "headers" then
        result.headers = result.headers or {}
        for name, text in pairs(value) do
          result.headers[name] = text
        end
      else
        result[key] = value
      end
    end
  end
  return result
end

-- The options of a client, and where it goes: with what failures tell of this gateway.
local function prepare(self, opts, what, path)
  local result = with_defaults(self, opts)
  local target, worker = self:target(result)
  if result.host == nil then
    result.host = host_of(target)
  end
  result.path = path or result.path
  result.name = ("%s%s%s"):format(
    what,
    result.path and " " .. result.path or "",
    worker and (" on worker %d"):format(worker) or ""
  )
  result.log = function()
    return self.log:tail()
  end
  result.clock = function()
    return self.is_frozen and "the gateway's clock stands still: server:advance moves it" or nil
  end
  result.in_vain = function(what_for, seconds)
    return self:in_vain(what_for, seconds)
  end
  if self.is_test then
    result.settle = function()
      self:settle()
    end
  end
  return result, target
end

local function adopt(self, client)
  self.clients[#self.clients + 1] = client
  return client
end

local function next_number(self)
  self.client_count = self.client_count + 1
  return self.client_count
end

-- A new client, numbered, as `begin(target, options)` makes it; its end is the server's to see to.
local function open(self, what, begin, path, options)
  local opts, target = prepare(self, options, what .. " #" .. next_number(self), path)
  return adopt(self, begin(target, opts))
end

--- @class perigee.testing.ClientOptions
--- @field worker? integer each in its turn by default
--- @field headers? table<string, string>
--- @field origin? string
--- @field any_status? boolean a refusal is returned as a response instead of failing the spec
--- @field receive_buffer? integer bytes that the system keeps for a client that does not read
--- @field listener? integer an ordinary listener instead of a worker's own
--- @field host? string the Host header

--- @class perigee.testing.CommonOptions
--- @field headers? table<string, string>
--- @field worker? integer
--- @field listener? integer
--- @field host? string

--- @class perigee.testing.WebSocketOptions: perigee.testing.ClientOptions
--- @field protocols? string[]
--- @field auto_pong? boolean true by default
--- @field auto_close? boolean true by default: a close frame is answered

--- @class perigee.testing.EventStreamOptions: perigee.testing.ClientOptions
--- @field last_event_id? string the position of a reader that comes back

--- @class perigee.testing.PollOptions: perigee.testing.ClientOptions
--- @field since? string the position of the answer before
--- @field seconds? number how long to wait for the answer, 2 by default

--- The same gateway, whose clients all have these options where they do not say otherwise:
---
---     local ann = server:with({ headers = { Authorization = "Bearer " .. token } })
---     ann:post("/jobs", { kind = "mail" }):expect(202)
---
--- @param options perigee.testing.CommonOptions
--- @return perigee.testing.Server
function Clients:with(options)
  failure.check_options(options, "server:with", with_place({ headers = "table" }))
  local defaults = with_defaults(self, options)
  return setmetatable({ defaults = defaults }, { __index = self, __newindex = self })
end

--- Opens a WebSocket; fails when the handshake is refused, unless `any_status` is set.
---
--- @param path string
--- @param options? perigee.testing.WebSocketOptions
--- @return perigee.testing.WebSocket
function Clients:websocket(path, options)
  failure.check_options(options, "server:websocket", WEBSOCKET_OPTIONS)
  return open(self, "WebSocket", websocket.open, path, options)
end

--- Opens an event stream; fails when it is refused, unless `any_status` is set.
---
--- @param path string
--- @param options? perigee.testing.EventStreamOptions
--- @return perigee.testing.EventStream
function Clients:sse(path, options)
  failure.check_options(options, "server:sse", SSE_OPTIONS)
  return open(self, "Event stream", sse.open, path, options)
end

--- Sends a long-poll on a connection of its own, and does not wait for its answer:
---
---     local waiting = server:begin_poll("/feed", { since = poll.position })
---     waiting:expect_nothing_queued()
---     server:post("/feed", "two")
---     waiting:answer():expect("two")
---
--- @param path string
--- @param options? perigee.testing.PollOptions
--- @return perigee.testing.PendingPoll
function Clients:begin_poll(path, options)
  failure.check_options(options, "server:poll", POLL_OPTIONS)
  return open(self, "Long-poll", poll.send, path, options)
end

--- The same, and waits for its answer; fails when that is another one, unless `any_status` is set.
---
--- @param path string
--- @param options? perigee.testing.PollOptions
--- @return perigee.testing.Poll
function Clients:poll(path, options)
  return self:begin_poll(path, options):answer(options and options.seconds)
end

--- A raw connection, for specs of a protocol.
---
--- @return perigee.testing.Connection
function Clients:raw(options)
  failure.check_options(options, "server:raw", RAW_OPTIONS)
  return open(self, "Connection", connection.open, nil, options)
end

local function with_body(opts)
  if type(opts.body) ~= "table" then
    return
  end
  local headers = { ["Content-Type"] = "application/json" }
  for name, value in pairs(opts.headers or {}) do
    if type(name) == "string" and name:lower() == "content-type" then
      headers["Content-Type"] = nil
    end
    headers[name] = value
  end
  opts.body, opts.headers = json.encode(opts.body), headers
end

--- Sends a request on a connection of its own, and does not wait for its answer: `method`, `path`,
--- `headers`, `body` (a table goes as JSON), `worker`, `listener`, `host`, `version`, `chunks`,
--- `seconds`.
---
---     local slow = server:begin({ path = "/slow" })
---     server:advance(5)
---     slow:response():expect(200)
---
--- @return perigee.testing.PendingRequest
function Clients:begin(options)
  failure.check_options(options, "server:request", REQUEST_OPTIONS)
  local what = options.method or "GET"
  local opts, target = prepare(self, options, what, options.path or "/")
  with_body(opts)
  return pending_request.send(adopt(self, connection.open(target, opts)), opts)
end

--- The same, and waits for its answer.
---
--- @return perigee.testing.Response
function Clients:request(options)
  return self:begin(options):response(options.seconds)
end

local function request(self, method, path, body, options)
  local opts = { method = method, path = path, body = body }
  for name, value in pairs(options or {}) do
    if opts[name] ~= nil then
      failure.raise(('unknown option "%s" for server:%s'):format(name, method:lower()))
    end
    opts[name] = value
  end
  return self:request(opts)
end

--- @class perigee.testing.RequestOptions
--- @field headers? table<string, string>
--- @field worker? integer each in its turn by default
--- @field listener? integer
--- @field seconds? number

--- @param path string
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:get(path, options)
  return request(self, "GET", path, nil, options)
end

--- @param path string
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:head(path, options)
  return request(self, "HEAD", path, nil, options)
end

--- @param path string
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:delete(path, options)
  return request(self, "DELETE", path, nil, options)
end

--- @param path string
--- @param body? string|table a table goes as JSON
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:post(path, body, options)
  return request(self, "POST", path, body or "", options)
end

--- @param path string
--- @param body? string|table a table goes as JSON
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:put(path, body, options)
  return request(self, "PUT", path, body or "", options)
end

--- @param path string
--- @param body? string|table a table goes as JSON
--- @param options? perigee.testing.RequestOptions
--- @return perigee.testing.Response
function Clients:patch(path, body, options)
  return request(self, "PATCH", path, body or "", options)
end

return Clients
