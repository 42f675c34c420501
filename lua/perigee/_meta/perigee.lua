---@meta perigee

error("this file is for editors; it is not to be required")

-- The module --------------------------------------------------------------------------------------

--- The gateway, as scripts see it: `local perigee = require("perigee")`.
---
--- Durations are seconds. Misuse (a wrong type, an unknown option) raises; what the world does
--- (a closed connection, a limit) returns `nil, message, code`.
---
--- @class perigee
--- @field crypto perigee.crypto digests, base64, random bytes
--- @field json perigee.json decodes and encodes
--- @field log perigee.log lines in the gateway's log
local perigee = {}

--- What `code` can be, the third result of a function that could not do its work. The message is for
--- people and may change; the code does not.
---
--- @alias perigee.Code
---| "base64" # the text is not base64
---| "closed" # the connection is closed, or closes while the function waits
---| "form" # the body is not a urlencoded form
---| "full" # a topic with `full = "refuse"`, its `max_subscribers`, or the shared dictionaries
---| "json" # the text is not JSON
---| "limit" # a limit of the gateway, or `max_topics` of the route
---| "log" # the log could not keep it
---| "retired" # the code was replaced by a reload, more than a minute ago
---| "stopping" # the gateway ends
---| "timeout" # the handler has been under way for longer than its route allows
---| "too_large" # past `max_outbox`, or past what a message may have
---| "topic" # no name for a topic
---| "type" # the value of this key is not a number
---| "utf8" # text that is not UTF-8; `binary = true` is for bytes

--- Makes an app, which the script returns at its end.
---
--- @return perigee.App app
function perigee.app() end

-- Topics ------------------------------------------------------------------------------------------

--- @class perigee.PublishOptions
--- @field event? string the event's name on an SSE stream; one line; none by default
--- @field except? perigee.Connection|string a connection, or its id, that does not get it
--- @field clear? boolean drops everything before it in the same step; false by default
--- @field transient? boolean never kept, but in order with the rest; false by default
--- @field binary? boolean bytes instead of UTF-8 text; false by default

--- Publishes to everyone who subscribes, on all workers. Returns before anything is written.
---
--- A string is published as it is; a table as JSON. Suspends only while the log of a topic with
--- history takes its time, as a spec can have it (`server:stall_log`); what was said may then be kept
--- although the suspension has ended with "closed", "timeout", "retired" or "stopping".
--- What the log refused, nobody was told of.
---
---     perigee.publish("room:" .. name, { type = "said", text = text }, { except = conn })
---
--- @param topic string 1 to 255 bytes of UTF-8 without control characters and `*`
--- @param data string|table
--- @param opts? perigee.PublishOptions
--- @return string|true|nil position `true` when the topic keeps nothing
--- @return integer|string receivers how many subscribe; or the message
--- @return "topic"|"full"|"limit"|"utf8"|"too_large"|"log"|"closed"|"timeout"|"retired"|"stopping"? code
function perigee.publish(topic, data, opts) end

--- Tells the `on_signal` of each subscriber, on any worker; nothing is sent to clients.
---
--- @param topic string
--- @param data string|table a table arrives as JSON
--- @return integer? receivers
--- @return string? message
--- @return "topic"|"limit"|"utf8"|"too_large"? code
function perigee.signal(topic, data) end

--- @class perigee.HistoryOptions
--- @field since? string a position: only what came after it
--- @field limit? integer at most so many: without `since` the newest, with it the first after it

--- @class perigee.Publication
--- @field position string what `clear` takes to remove it, and `since` to begin after it
--- @field data string as it was published; a table is JSON here
--- @field event? string the event's name, if it has one

--- Gets what a topic keeps, oldest first. Does not suspend.
---
--- @param topic string
--- @param opts? perigee.HistoryOptions
--- @return perigee.Publication[]? publications
--- @return string position where the list stands: what a later `since` takes; or the message
--- @return boolean|"topic"|"limit" complete false when something after `since` has been lost
function perigee.history(topic, opts) end

--- Empties a topic, or removes one publication. Suspends as `publish` does.
---
--- @param topic string
--- @param position? string of the publication to remove
--- @return string|boolean|nil position of the clearing; with `position` whether it was there
--- @return string? message
--- @return "topic"|"limit"|"log"|"closed"|"timeout"|"retired"|"stopping"? code
function perigee.clear(topic, position) end

--- Counts a topic's subscribers on all workers.
---
--- @param topic string
--- @return integer subscribers
function perigee.subscribers(topic) end

-- Time and tasks ----------------------------------------------------------------------------------

--- Suspends this handler, and nothing else, for so many seconds.
---
--- Not while loading, not in a coroutine of your own, not inside `table.sort`, `string.gsub` or
--- `require`: there it raises. A handler that goes on suspending after it was told the end is given
--- up.
---
--- @param seconds number 0 to 100 years
--- @return true? woken
--- @return string? message
--- @return "closed"|"timeout"|"retired"|"stopping"? code why it ended before its time
function perigee.sleep(seconds) end

--- Runs `fn` once, later, on this worker. It may suspend.
---
--- @param seconds number
--- @param fn fun()
--- @return perigee.Timer? timer
--- @return string? message
--- @return "limit"|"stopping"? code
function perigee.after(seconds, fn) end

--- What `perigee.after` gives.
---
--- @class perigee.Timer
local Timer = {}

--- Stops the timer.
---
--- @return boolean was_pending
function Timer:cancel() end

--- Runs `fn` soon, on this worker, beside the handler that asks. It may suspend.
---
--- @param fn fun()
--- @return true? started
--- @return string? message
--- @return "limit"|"stopping"? code
function perigee.spawn(fn) end

--- The wall clock: seconds since 1970, with milliseconds.
---
--- @return number seconds
function perigee.time() end

--- A monotonic clock, in seconds, from an arbitrary origin.
---
--- @return number seconds
function perigee.now() end

--- A time as ISO 8601 in UTC with milliseconds.
---
--- @param seconds? number since 1970, up to the year 9999; now by default
--- @return string text
function perigee.iso(seconds) end

-- Names and secrets -------------------------------------------------------------------------------

--- Makes an id that nobody can guess: 20 characters of `[0-9a-z]`.
---
--- @return string id
function perigee.id() end

--- Gets a secret: the environment variable of this name, else one that is made at the first call
--- and is the same for all workers until the gateway ends.
---
--- @param name string
--- @return string secret
--- @return boolean is_made true when the environment has no such variable
function perigee.secret(name) end

-- Shared dictionaries -----------------------------------------------------------------------------

--- A dictionary that all workers share. Each call is one step; it outlives reloads.
---
--- @class perigee.Shared
local Shared = {}

--- @alias perigee.SharedValue string|number|boolean

--- Gets a shared dictionary, made at its first use.
---
--- @param name string 1 to 255 bytes
--- @return perigee.Shared shared
function perigee.shared(name) end

--- Gets the value of a key; nil where there is none.
---
--- @param key string
--- @return perigee.SharedValue? value
function Shared:get(key) end

--- Sets the value of a key.
---
--- @param key string
--- @param value perigee.SharedValue|nil nil deletes
--- @param ttl? number seconds until it is gone; for ever by default
--- @return true? set
--- @return string? message
--- @return "full"? code
function Shared:set(key, value, ttl) end

--- Sets only where there is nothing.
---
--- @param key string
--- @param value perigee.SharedValue
--- @param ttl? number seconds
--- @return boolean? added
--- @return string? message
--- @return "full"? code
function Shared:add(key, value, ttl) end

--- Adds to a number, from 0 where there is none.
---
--- @param key string
--- @param by? number 1 by default
--- @param ttl? number seconds; counts only when this call makes the entry
--- @return number? value
--- @return string? message
--- @return "full"|"type"? code
function Shared:incr(key, by, ttl) end

--- Deletes a key.
---
--- @param key string
--- @return boolean was_there
function Shared:delete(key) end

--- Lists keys, in no particular order.
---
--- @param prefix? string "" by default
--- @param max? integer 100 by default
--- @return string[] keys
function Shared:keys(prefix, max) end

-- Tables that outlive a reload --------------------------------------------------------------------

--- Gets a table of this worker that outlives reloads.
---
--- What is in it must be data: a function or a metatable keeps the code that it is from in memory,
--- which the log tells by its path. May be called while the script loads; a table that a load has
--- made goes with it when that fails.
---
---     local seen = perigee.keep("seen")
---
--- @param name string 1 to 255 bytes
--- @param initial? table what it is at first; `{}` by default
--- @return table kept
function perigee.keep(name, initial) end

-- Cryptography ------------------------------------------------------------------------------------

--- Digests are raw bytes; `hex` and `base64_encode` make text of them.
---
--- @class perigee.crypto
local crypto = {}

--- Makes random bytes that nobody can guess.
---
--- @param count integer up to 1 MiB
--- @return string bytes
function crypto.random(count) end

--- SHA-256 (FIPS 180-4).
---
--- @param data string
--- @return string digest 32 bytes
function crypto.sha256(data) end

--- HMAC-SHA256 (RFC 2104).
---
--- @param key string
--- @param data string
--- @return string digest 32 bytes
function crypto.hmac_sha256(key, data) end

--- Writes bytes as hexadecimal digits.
---
--- @param data string
--- @return string text lower case
function crypto.hex(data) end

--- @class perigee.Base64Options
--- @field url? boolean the alphabet for URLs, without padding (RFC 4648 section 5); false by default

--- Writes bytes as base64 (RFC 4648).
---
--- @param data string
--- @param opts? perigee.Base64Options
--- @return string text
function crypto.base64_encode(data, opts) end

--- Reads both alphabets, padded or not.
---
--- @param text string
--- @return string? data
--- @return string? message
--- @return "base64"? code
function crypto.base64_decode(text) end

--- Compares without telling by its duration where they differ.
---
--- @param a string
--- @param b string
--- @return boolean is_equal
function crypto.equal(a, b) end

-- JSON --------------------------------------------------------------------------------------------

--- @class perigee.json
--- @field null userdata JSON's null
local json = {}

--- Decodes a text. Arrays are encoded as arrays again, empty ones too; `null` is `perigee.json.null`.
---
--- @param text string
--- @return any value nil where it is not JSON
--- @return string? message
--- @return "json"? code
function json.decode(text) end

--- Encodes a value; numbers have 17 digits where they need them. What JSON cannot say (NaN, functions,
--- arrays with holes, tables within themselves) raises.
---
--- @param value any
--- @return string? text
--- @return string? message
--- @return "utf8"|"too_large"? code
function json.encode(value) end

--- Marks a table as an array, so that it is one though it is empty.
---
--- @generic T: table
--- @param list T
--- @return T list the same table
function json.array(list) end

-- Log ---------------------------------------------------------------------------------------------

--- Lines in the gateway's log, with route and connection. They never raise. Without arguments
--- `format` is literal; tables are shown as JSON; control characters are escaped; 8 KiB a line.
---
--- @class perigee.log
local log = {}

--- Logs at the level `debug`.
---
--- @param format any
--- @param ... any
function log.debug(format, ...) end

--- Logs at the level `info`.
---
---     perigee.log.info("%s joined %s", user, room)
---
--- @param format any
--- @param ... any
function log.info(format, ...) end

--- Logs at the level `warn`.
---
--- @param format any
--- @param ... any
function log.warn(format, ...) end

--- Logs at the level `error`.
---
--- @param format any
--- @param ... any
function log.error(format, ...) end

return perigee
