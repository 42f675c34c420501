--- App objects: what a script declares, kept until the script has returned its app.
---
--- Declaring has no side effect. `declare` walks the app, and those mounted in it, once, and hands
--- each declaration to the core.

local _, core = ...

local options = require("perigee.options")
local fail = options.fail

local M = {}

--- What the load has declared, mounts included, with whole patterns: for lua/perigee/describe.lua.
M.declared = { routes = {}, topics = {} }

--- @class perigee.App
local App = {}
App.__index = App
App.__metatable = "app"

-- As in core/gateway/routes.h.
local METHODS = { get = 1, post = 4, put = 8, patch = 16, delete = 32 }
local GET_AND_HEAD = 3

local behavior_options = {
  authenticate = { "function" },
  on_open = { "function" },
  on_close = { "function" },
  on_drain = { "function" },
  on_signal = { "function" },
  on_tick = { "function" },
  tick_every = { "seconds", above = 0 },
  origins = { "strings" },
  max_topics = { "count", limit = "topics_per_connection" },
  max_outbox = { "count", min = 1, limit = "outbox_bytes" },
  ping_every = { "seconds" },
  handler_timeout = { "seconds", above = 0 },
  keep_headers = { "strings" },
  compress = { "later" },
}

local websocket_options = setmetatable({
  on_message = { "function" },
  max_message = { "count", min = 1, limit = "message_bytes" },
  idle_timeout = { "seconds" },
  protocols = { "strings" },
  rate = { "rate" },
}, { __index = behavior_options })

local sse_options = setmetatable({
  retry = { "seconds" },
}, { __index = behavior_options })

local http_options = {
  authenticate = { "function" },
  origins = { "strings" },
  max_body = { "count", limit = "body_bytes" },
  timeout = { "seconds", above = 0 },
}

local topic_options = {
  history = { "count", max = 1e9 },
  bytes = { "count", min = 1, max = 1e12 },
  age = { "seconds", above = 0 },
  full = { "one_of", "drop", "refuse" },
  linger = { "seconds" },
  max_subscribers = { "count", min = 1, max = 1e9 },
  slow = { "one_of", "close", later = { "drop", "conflate" } },
  durable = { "later" },
  presence = { "later" },
  presence_grace = { "later" },
}

local everywhere_options = { everywhere = { "boolean" } }

local function check_app(self, where)
  if getmetatable(self) ~= App.__metatable then
    fail("%s is called with a colon: app:%s(…)", where, where:match("[%w_]+$"))
  end
  if not core.is_loading() then
    fail("%s after the script has loaded: declare it at the top of the script", where)
  end
end

local function check_pattern(pattern, where)
  if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
    fail('the pattern for %s must be a string that begins with "/"', where)
  end
end

local function check_function(fn, where)
  if type(fn) ~= "function" then
    fail("the handler for %s must be a function, not a %s", where, type(fn))
  end
end

local function copy(source)
  local target = {}
  for name, value in pairs(source) do
    target[name] = value
  end
  return target
end

local function add_connection_route(self, kind, pattern, behavior, known)
  local where = "app:" .. kind
  check_app(self, where)
  check_pattern(pattern, where)
  options.check(behavior, where, known)
  if behavior.on_tick and not behavior.tick_every then
    fail("on_tick for %s needs tick_every", where)
  end
  table.insert(self.routes, {
    kind = kind,
    methods = METHODS.get,
    pattern = pattern,
    options = copy(behavior),
    where = core.where(),
  })
end

--- Declares a WebSocket route.
---
--- @param pattern string "/rooms/:room", "/files/*path"
--- @param behavior perigee.WebSocketBehavior
function App:websocket(pattern, behavior)
  add_connection_route(self, "websocket", pattern, behavior, websocket_options)
end

--- Declares a route of server-sent events, which answers long-polls too: requests whose `Accept`
--- begins with `application/json`.
---
--- @param pattern string
--- @param behavior perigee.SseBehavior
function App:sse(pattern, behavior)
  add_connection_route(self, "sse", pattern, behavior, sse_options)
end

local function add_http_route(self, method, pattern, given, handler)
  local where = "app:" .. method
  check_app(self, where)
  check_pattern(pattern, where)
  if handler == nil then
    given, handler = {}, given
  end
  options.check(given, where, http_options)
  check_function(handler, where)
  local route = copy(given)
  route.handler = handler
  table.insert(self.routes, {
    kind = "http",
    methods = METHODS[method],
    pattern = pattern,
    options = route,
    where = core.where(),
  })
end

--- Declares a route for GET; HEAD and OPTIONS come by themselves.
---
--- The handler may suspend. It returns the response: a string (200, text/plain) or a table.
---
--- @param pattern string literal beats `:param` beats `*rest`
--- @param given? perigee.HttpOptions
--- @param handler fun(request: perigee.Request): string|perigee.Response
--- @overload fun(self: perigee.App, pattern: string, handler: fun(request: perigee.Request): string|perigee.Response)
function App:get(pattern, given, handler)
  add_http_route(self, "get", pattern, given, handler)
end

--- Declares a route for POST.
---
--- @param pattern string
--- @param given? perigee.HttpOptions
--- @param handler fun(request: perigee.Request): string|perigee.Response
--- @overload fun(self: perigee.App, pattern: string, handler: fun(request: perigee.Request): string|perigee.Response)
function App:post(pattern, given, handler)
  add_http_route(self, "post", pattern, given, handler)
end

--- Declares a route for PUT.
---
--- @param pattern string
--- @param given? perigee.HttpOptions
--- @param handler fun(request: perigee.Request): string|perigee.Response
--- @overload fun(self: perigee.App, pattern: string, handler: fun(request: perigee.Request): string|perigee.Response)
function App:put(pattern, given, handler)
  add_http_route(self, "put", pattern, given, handler)
end

--- Declares a route for PATCH.
---
--- @param pattern string
--- @param given? perigee.HttpOptions
--- @param handler fun(request: perigee.Request): string|perigee.Response
--- @overload fun(self: perigee.App, pattern: string, handler: fun(request: perigee.Request): string|perigee.Response)
function App:patch(pattern, given, handler)
  add_http_route(self, "patch", pattern, given, handler)
end

--- Declares a route for DELETE.
---
--- @param pattern string
--- @param given? perigee.HttpOptions
--- @param handler fun(request: perigee.Request): string|perigee.Response
--- @overload fun(self: perigee.App, pattern: string, handler: fun(request: perigee.Request): string|perigee.Response)
function App:delete(pattern, given, handler)
  add_http_route(self, "delete", pattern, given, handler)
end

--- Serves the files below a directory, with ETag, Last-Modified, Range and content types.
---
--- @param prefix string "/assets"
--- @param directory string seen from the main script's directory
function App:static(prefix, directory)
  check_app(self, "app:static")
  check_pattern(prefix, "app:static")
  if type(directory) ~= "string" or directory == "" then
    fail("the directory for app:static must be a string")
  end
  table.insert(self.routes, {
    kind = "static",
    methods = GET_AND_HEAD,
    pattern = prefix:gsub("/+$", "") .. "/*path",
    options = {},
    directory = core.directory(directory),
    where = core.where(),
  })
end

--- Says what topics of these names keep, for how long and for how many.
---
--- @param pattern string exact, or with one "*" at its end; the longest that matches wins
--- @param policy perigee.TopicPolicy
function App:topic(pattern, policy)
  check_app(self, "app:topic")
  if type(pattern) ~= "string" then
    fail("the pattern for app:topic must be a string")
  end
  options.check(policy, "app:topic", topic_options)
  table.insert(self.topics, { pattern = pattern, policy = copy(policy), where = core.where() })
end

local function is_everywhere(given, where)
  if given == nil then
    return false
  end
  options.check(given, where, everywhere_options)
  return given.everywhere == true
end

--- Runs `handler` every so many seconds, on the first worker, or on each with `everywhere`.
---
--- All timers count from the gateway's start, so a reload does not move them. A run that is still
--- suspended when the next is due makes that one be left out. The handler may suspend.
---
--- @param seconds number 0.001 to 1e8
--- @param handler fun()
--- @param given? perigee.EverywhereOptions
function App:every(seconds, handler, given)
  check_app(self, "app:every")
  if type(seconds) ~= "number" or not (seconds >= 0.001 and seconds <= 1e8) then
    fail("app:every needs seconds from 0.001 to 1e8")
  end
  check_function(handler, "app:every")
  table.insert(self.timers, {
    seconds = seconds,
    handler = handler,
    everywhere = is_everywhere(given, "app:every"),
  })
end

--- Runs `handler("boot")` when the gateway goes live, and `handler("reload")` when this code takes the
--- place of other code in it; on the first worker, or on each. The handler may suspend.
---
--- @param handler fun(why: "boot"|"reload")
--- @param given? perigee.EverywhereOptions
function App:on_start(handler, given)
  check_app(self, "app:on_start")
  check_function(handler, "app:on_start")
  table.insert(
    self.starts,
    { handler = handler, everywhere = is_everywhere(given, "app:on_start") }
  )
end

--- Runs `handler("stop")` after the last connection is closed, when it cannot suspend any more, and
--- `handler("reload")` when other code is about to take the place of this.
---
--- @param handler fun(why: "reload"|"stop")
--- @param given? perigee.EverywhereOptions
function App:on_stop(handler, given)
  check_app(self, "app:on_stop")
  check_function(handler, "app:on_stop")
  table.insert(self.stops, { handler = handler, everywhere = is_everywhere(given, "app:on_stop") })
end

--- Mounts another app: its routes below `prefix`, its topics, timers and handlers as they are.
---
--- @param prefix string "/" or "" for none
--- @param other perigee.App
function App:use(prefix, other)
  check_app(self, "app:use")
  if type(prefix) ~= "string" or (prefix ~= "" and prefix:sub(1, 1) ~= "/") then
    fail('the prefix for app:use must be "" or a string that begins with "/"')
  end
  if getmetatable(other) ~= App.__metatable then
    fail("app:use needs an app, not a %s", type(other))
  end
  table.insert(
    self.mounts,
    { prefix = (prefix:gsub("/+$", "")), app = other, where = core.where() }
  )
end

--- @return perigee.App
function M.new()
  return setmetatable(
    { routes = {}, topics = {}, timers = {}, starts = {}, stops = {}, mounts = {} },
    App
  )
end

-- A mounted app's own "/" is the prefix itself.
local function join(prefix, pattern)
  if prefix == "" then
    return pattern
  end
  return pattern == "/" and prefix or prefix .. pattern
end

local function check_declared(where, pattern, ok, message)
  if not ok then
    error(('%s: "%s": %s'):format(where, pattern, message), 0)
  end
end

local function declare(app, prefix, above)
  for _, route in ipairs(app.routes) do
    local pattern = join(prefix, route.pattern)
    check_declared(
      route.where,
      pattern,
      core.add_route(route.kind, route.methods, pattern, route.options, route.directory)
    )
    table.insert(M.declared.routes, { pattern = pattern, route = route })
  end
  for _, topic in ipairs(app.topics) do
    check_declared(topic.where, topic.pattern, core.add_topic(topic.pattern, topic.policy))
    table.insert(M.declared.topics, topic)
  end
  for _, timer in ipairs(app.timers) do
    core.add_every(timer.seconds, timer.handler, timer.everywhere)
  end
  for _, start in ipairs(app.starts) do
    core.add_start(start.handler, start.everywhere)
  end
  for _, stop in ipairs(app.stops) do
    core.add_stop(stop.handler, stop.everywhere)
  end
  above[app] = true
  for _, mount in ipairs(app.mounts) do
    if above[mount.app] then
      error(mount.where .. ": this app is mounted in itself", 0)
    end
    declare(mount.app, prefix .. mount.prefix, above)
  end
  above[app] = nil
end

--- Hands everything in the app to the core. Called by it, with what the script has returned.
---
--- @param app any
--- @param last_line string "file:line" of the script's end
function M.declare(app, last_line)
  if getmetatable(app) ~= App.__metatable then
    local message = "%s: the script returned %s; it must return an app (return app)"
    error(message:format(last_line, app == nil and "nothing" or "a " .. type(app)), 0)
  end
  declare(app, "", {})
  if core.is_dev() then
    declare(require("perigee.dev").app(), "", {})
  end
end

return M
