---@meta

error("this file is for editors; it is not to be required")

-- Behaviors and options of routes -----------------------------------------------------------------

--- Says who may enter. Asked once, before a body is read or a connection opens; it may suspend.
---
--- Returns a table, which becomes `session`, or nil, a reason and a code: an HTTP status, 204 or 400
--- to 599, or for WebSockets a close code, 1008, 1013 or 3000 to 4999, with which the connection
--- closes after a handshake that succeeds. Off WebSocket a close code is 403; so is no code. An error
--- is 500. The reason is sent to the client.
---
---     authenticate = function(request)
---       if request.headers.authorization == "Bearer sesame" then
---         return { user = "ada" }
---       end
---       return nil, "who are you?", 401
---     end
---
--- @alias perigee.Authenticate fun(request: perigee.Request): table?, string?, integer?

--- What WebSocket and SSE routes have in common. All handlers may suspend; one connection's events
--- come one at a time, in order.
---
--- @class perigee.Behavior
--- @field authenticate? perigee.Authenticate asked once, first
--- @field on_open? fun(conn: perigee.Connection) first; what others publish waits until it has returned
--- @field on_close? fun(conn: perigee.Connection, code: integer, reason: string) exactly once for each on_open
--- @field on_drain? fun(conn: perigee.Connection) the outbox fell below its soft limit again
--- @field on_signal? fun(conn: perigee.Connection, data: string, topic: string) what `perigee.signal` sends
--- @field on_tick? fun(conn: perigee.Connection) every tick_every seconds
--- @field tick_every? number seconds; needed with on_tick
--- @field origins? string[] allowed Origins; the same host only by default; "*" is any
--- @field max_topics? integer 100 by default; more: subscribe gives "limit"
--- @field max_outbox? integer bytes, 1 MiB by default; more: closed with 1013
--- @field ping_every? number seconds; 25 by default, 15 on SSE; 0: never
--- @field handler_timeout? number seconds, 300 by default: then a suspension ends with "timeout"
--- @field keep_headers? string[] headers that stay readable after on_open

--- What `app:websocket` takes.
---
--- @class perigee.WebSocketBehavior: perigee.Behavior
--- @field on_message? fun(conn: perigee.Connection, data: string, is_binary: boolean) for each message of the client
--- @field max_message? integer bytes, 64 KiB by default; more: 1009
--- @field idle_timeout? number seconds without a byte, 60 by default; 0: none
--- @field protocols? string[] subprotocols that are spoken; of those that a client offers its first counts
--- @field rate? perigee.RateOptions none by default

--- How many messages a client may send: a token bucket, which is full at first.
---
--- @class perigee.RateOptions
--- @field messages integer so many messages
--- @field per? number seconds, 1 by default
--- @field excess? "close"|"drop"|"wait" "close" (1008) by default

--- What `app:sse` takes. Its route answers long-polls too: requests with `Accept: application/json`.
--- For these `ping_every` is how long they wait, and `max_outbox` what an answer has of events.
---
--- @class perigee.SseBehavior: perigee.Behavior
--- @field retry? number seconds after which a client tries again

--- What `app:get`, `app:post`, `app:put`, `app:patch` and `app:delete` take before the handler.
---
--- @class perigee.HttpOptions
--- @field authenticate? perigee.Authenticate asked once, first
--- @field origins? string[] listed ones get CORS headers; a write with another Origin gets 403
--- @field max_body? integer bytes, 1 MiB by default; more: 413
--- @field timeout? number seconds, 30 by default; then 503

-- Responses ---------------------------------------------------------------------------------------

--- What an HTTP handler returns; at most one of body, html, json, file and redirect.
---
--- @class perigee.Response
--- @field status? integer 200 to 599; 200 by default, 303 with redirect
--- @field headers? table<string, string|number|(string|number)[]> a list is several headers of one name
--- @field cookies? table<string, perigee.Cookie|false> false deletes
--- @field body? string text/plain unless headers say otherwise
--- @field html? string text/html
--- @field json? any application/json
--- @field file? string a path below the script's directory
--- @field redirect? string a location

--- A cookie of a response.
---
--- @class perigee.Cookie
--- @field value? string "" by default
--- @field max_age? number seconds; until the browser ends by default
--- @field path? string "/" by default
--- @field domain? string the host only by default
--- @field http_only? boolean true by default
--- @field secure? boolean false by default
--- @field same_site? "Lax"|"Strict"|"None" "Lax" by default; "None" needs secure

-- Topic policies and timers -----------------------------------------------------------------------

--- What `app:topic` takes: what the topics of these names keep.
---
--- @class perigee.TopicPolicy
--- @field history? integer publications kept, 0 by default: live only
--- @field bytes? integer of history, 16 MiB by default
--- @field age? number seconds; what is older is dropped
--- @field full? "drop"|"refuse" drops the oldest by default; or publish gives "full"
--- @field linger? number seconds without subscribers until the history is forgotten; never by default
--- @field max_subscribers? integer more: subscribe gives "full"
--- @field slow? "close" what is done to a client that the publication would take past max_outbox

--- What `app:every`, `app:on_start` and `app:on_stop` take last.
---
--- @class perigee.EverywhereOptions
--- @field everywhere? boolean on each worker instead of the first only; false by default
