---@meta

error("this file is for editors; it is not to be required")

-- Connections -------------------------------------------------------------------------------------

--- One client's WebSocket, SSE stream or long-poll.
---
--- After it is closed, what would reach the client answers `nil, "the connection is closed",
--- "closed"`; the fields stay.
---
--- @class perigee.Connection
--- @field id string unique in the gateway's life, on all workers
--- @field session table what authenticate returned, else `{}`: the script's own
--- @field request perigee.Request the request that it began with
--- @field transport "websocket"|"sse"|"poll" which of the three it is
local Connection = {}

--- @class perigee.SendOptions
--- @field event? string the event's name, on SSE and long-polls
--- @field retry? number seconds after which an SSE client tries again
--- @field binary? boolean bytes instead of UTF-8 text; false by default

--- Queues `data` to this client alone. Returns before it is on the wire.
---
--- A string is sent as it is; a table is sent as JSON. Past `max_outbox` the connection closes with
--- 1013; a long-poll is answered.
---
--- @param data string|table
--- @param opts? perigee.SendOptions
--- @return true? queued
--- @return string? message
--- @return "closed"|"too_large"|"utf8"? code
function Connection:send(data, opts) end

--- @class perigee.SubscribeOptions
--- @field since? string a position: what came after it is replayed
--- @field from? "now"|"start"|integer where to begin without a usable `since`; "now" by default; n: the newest n
--- @field reset? string|table sent before the replay when `since` could not be honoured
--- @field envelope? boolean WebSocket: messages are `{"topic":…,"id":…,"event":…,"data":…}`; false by default
--- @field relay? boolean|"others" WebSocket: what the client sends is published; false by default

--- @class perigee.Subscription
--- @field topic string its name
--- @field complete boolean false when something after `since` has been lost
--- @field position string the cut: everything after it will be delivered

--- Subscribes to a topic, or to a list at one cut, and queues the replay.
---
--- A second time it is the same subscription, without a replay.
---
--- With `relay` each message of the client becomes a publication of the topic without a call into
--- Lua, for all subscribers, the client too, or for the others. It passes `max_message` and `rate`
--- as any message; what the topic refuses (`full`) is dropped. Until the subscription ends
--- `on_message` is not told.
---
---     conn:subscribe("news", { since = conn.request.since, from = 10 })
---
--- @param topic string|string[]
--- @param opts? perigee.SubscribeOptions
--- @return perigee.Subscription|perigee.Subscription[]|nil subscription a list for a list
--- @return string? message
--- @return "topic"|"limit"|"full"|"closed"|"utf8"? code
function Connection:subscribe(topic, opts) end

--- Ends a subscription.
---
--- @param topic string
--- @return boolean was_subscribed
function Connection:unsubscribe(topic) end

--- Says whether this connection subscribes to a topic.
---
--- @param topic string
--- @return boolean is_subscribed
function Connection:is_subscribed(topic) end

--- Begins a close in good order; on_close is told when no more events can come.
---
--- @param code? integer 1000 (the default) to 1003, 1007 to 1009, 1011 to 1014, 3000 to 4999
--- @param reason? string at most 123 bytes
--- @return true? closing
--- @return string? message
--- @return "closed"? code
function Connection:close(code, reason) end

--- The position up to which this connection has been served.
---
--- @return string? position
--- @return string? message
--- @return "closed"? code
function Connection:position() end

--- Counts the bytes that are queued and not yet written.
---
--- @return integer bytes
function Connection:buffered() end

-- Requests ----------------------------------------------------------------------------------------

--- An HTTP request, read-only; the same in authenticate, in handlers and as `conn.request`.
---
--- On a connection `headers` and `cookies` are readable until on_open has returned; afterwards only
--- what keep_headers names is, and the rest raises.
---
--- @class perigee.Request
--- @field method string upper case
--- @field path string as received, without the query
--- @field host string lower case, with port
--- @field params table<string, string> of the pattern, decoded
--- @field query table<string, string> the first value of each name, decoded; at most 100
--- @field headers table<string, string> case ignored, repeats joined with ", "
--- @field cookies table<string, string> the first value of each name
--- @field body string "" where there is none
--- @field remote_address string without port; "unix"
--- @field tls nil always nil: there is no TLS yet
--- @field session table what authenticate returned, else `{}`
--- @field since? string the position asked for by Last-Event-ID, ?last-event-id= or ?since=
local Request = {}

--- Lists all values of a query parameter.
---
--- @param name string
--- @return string[] values
function Request:query_all(name) end

--- The body as JSON, whatever the content type.
---
--- @return any value
--- @return string? message
--- @return "json"? code
function Request:json() end

--- The body as a urlencoded form: the first value of each name, at most 1000.
---
--- @return table<string, string>? form
--- @return string? message
--- @return "form"? code
function Request:form() end
