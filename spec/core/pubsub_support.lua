-- What the specs of pubsub/ share: declarations, and a hub with workers and clients that note what
-- they are handed. Whoever calls back from C must not be compiled: such specs begin with jit.off.
local support = require("spec.core.support")
local ffi = require("ffi")

jit.off(true, true)

support.cdef([[
  struct hub; struct hub_topic; struct topic; struct cut; struct policies; struct inbox;
  typedef struct {
    uint64_t history_count, history_bytes, age_ms, linger_ms, max_subscribers;
    bool refuse_when_full;
    uint64_t kept_since;
  } topic_policy;
  extern const topic_policy policy_default;
  struct policies *policies_new(void);
  void policies_free(struct policies *policies);
  int policies_add(struct policies *policies, slice pattern, const topic_policy *policy);
  topic_policy policies_find(const struct policies *policies, slice topic);

  struct message {
    uint32_t references; unsigned flags;
    struct hub_topic *topic;
    uint64_t release, number, heads[2], published_ms, except_id, origin_id;
    slice event, data;
    bool is_removed;
    struct encoding *encodings[4];
  };
  struct message *message_new(slice event, slice data, unsigned flags);
  struct message *message_retain(struct message *message);
  void message_release(struct message *message);
  struct encoding *message_push_encoding(struct message *message, int kind, struct encoding *e);
  size_t message_cost_bytes(const struct message *message);
  uint64_t message_count(void);

  typedef struct {
    size_t worker_count, max_topics, max_history_bytes, max_inbox_entries, max_inbox_bytes,
           max_marks;
  } hub_options;
  typedef struct { uint64_t heads[2]; } hub_position;
  typedef struct { hub_position position; bool is_kept; uint64_t receivers; } hub_receipt;
  typedef struct {
    bool has_since, is_since_known; uint64_t since_number; int from; uint64_t from_count;
  } hub_start;
  typedef struct {
    uint64_t topics, subscribers, history_messages, history_bytes, releases;
  } hub_counts;
  struct hub *hub_new(const hub_options *options);
  void hub_free(struct hub *hub);
  const char *hub_epoch(const struct hub *hub);
  bool hub_topic_name_is_valid(slice name);
  slice hub_topic_name(const struct hub_topic *topic);
  void hub_set_policies(struct hub *hub, struct policies *policies);
  void hub_attach(struct hub *hub, size_t worker, void (*wake)(void *), void *context);
  void hub_detach(struct hub *hub, size_t worker);
  bool hub_post(struct hub *hub, size_t worker, void (*task)(void *), void *context);
  int hub_publish(struct hub *hub, size_t worker, slice topic, struct message *message,
                  hub_receipt *receipt);
  int hub_clear(struct hub *hub, slice topic, hub_position *position);
  int hub_remove(struct hub *hub, slice topic, uint64_t number, bool *was_kept);
  struct list { struct list *next, *prev; };
  struct commit {
    struct list link; struct message *message; uint64_t number; char *topic; size_t worker;
    void (*on_done)(struct commit *commit); int result; hub_receipt receipt;
  };
  void hub_commit(struct hub *hub, struct commit *commit);
  void hub_set_log_state(struct hub *hub, int state);
  char *mem_copy(slice bytes);
  uint64_t hub_subscribers(struct hub *hub, slice topic);
  int hub_history(struct hub *hub, slice topic, const hub_start *start, struct cut **cut,
                  hub_position *position, bool *is_complete);
  void hub_sweep(struct hub *hub);
  hub_counts hub_count(struct hub *hub);
  struct message *cut_next(struct cut *cut);
  void cut_free(struct cut *cut);

  struct subscriber; struct subscription;
  struct subscriber_ops {
    void (*deliver)(struct subscriber *, uint32_t tag, struct message *);
    void (*lost)(struct subscriber *, uint32_t tag);
  };
  struct subscriber {
    const struct subscriber_ops *ops; uint64_t id;
    struct subscription *subscriptions; uint32_t subscription_count;
  };
  struct topics {
    struct hub *hub; struct inbox *inbox; size_t worker;
    struct { void *buckets; size_t bucket_count, count; } by_name;
    struct { void *entries; size_t count, capacity, next, tasks_end; } batch;
    uint64_t last_release;
    hub_position taken_position, position;
    size_t fan_at;
    uint64_t topic_count, subscription_count;
    bool is_draining, is_fanning_out;
  };
  typedef struct { bool was_subscribed, is_complete; } subscribe_result;
  void topics_init(struct topics *topics, struct hub *hub, size_t worker);
  void topics_deinit(struct topics *topics);
  bool topics_drain(struct topics *topics, uint64_t deadline_ns);
  void topics_catch_up(struct topics *topics);
  void topics_end_fan_out(struct topics *topics);
  bool topics_has_waiting(struct topics *topics);
  void topics_refresh(struct topics *topics);
  int topics_subscribe(struct topics *topics, struct subscriber *subscriber, const slice *names,
                       size_t count, const hub_start *start, uint32_t tag,
                       subscribe_result *results, struct cut **replay, hub_position *position);
  struct subscription *topics_find(struct topics *topics, struct subscriber *subscriber,
                                   slice name);
  bool topics_unsubscribe(struct topics *topics, struct subscriber *subscriber, slice name);
  void topics_unsubscribe_all(struct topics *topics, struct subscriber *subscriber);
]])
support.cdef("void clock_freeze(void); void clock_advance(uint64_t ms);")

local lib = support.lib
local M = { lib = lib }

M.OK, M.BAD_TOPIC, M.FULL, M.LIMIT = 0, -1, -2, -3
M.BINARY, M.TRANSIENT, M.CLEAR, M.SIGNAL = 1, 2, 4, 8
M.LOG_WORKS, M.LOG_FAILS, M.LOG_STALLS = 0, 1, 2
local NO_LIMIT = 0xFFFFFFFFFFFFFFFFULL

--- From now on time stands still, in every spec of this process.
function M.freeze()
  lib.clock_freeze()
end

function M.advance(ms)
  lib.clock_advance(ms)
end

function M.policy(fields)
  local policy =
    ffi.new("topic_policy", { 0, 16 * 1024 * 1024, NO_LIMIT, NO_LIMIT, NO_LIMIT, false })
  for name, value in pairs(fields) do
    policy[name] = value
  end
  return policy
end

--- A set of policies from `{ pattern = fields }`.
function M.policies(list)
  local policies = lib.policies_new()
  for pattern, fields in pairs(list) do
    assert(lib.policies_add(policies, support.slice(pattern), M.policy(fields)) == 0)
  end
  return policies
end

--- `{ since = n }`, `{ foreign = true }`, `{ from = "start" | n }`.
function M.start(opts)
  opts = opts or {}
  local start = ffi.new("hub_start")
  start.has_since = opts.since ~= nil or opts.foreign == true
  start.is_since_known = opts.since ~= nil
  start.since_number = opts.since or 0
  start.from = opts.from == "start" and 1 or type(opts.from) == "number" and 2 or 0
  start.from_count = type(opts.from) == "number" and opts.from or 0
  return start
end

--- The messages of a cut as a list of strings; frees the cut.
function M.read(cut)
  local list = {}
  if cut ~= nil then
    local message = lib.cut_next(cut)
    while message ~= nil do
      list[#list + 1] = support.string(message.data)
      message = lib.cut_next(cut)
    end
    lib.cut_free(cut)
  end
  return list
end

local clients = {}
local ops = ffi.new("struct subscriber_ops")
local on_deliver = ffi.cast(
  "void (*)(struct subscriber *, uint32_t, struct message *)",
  function(subscriber, tag, message)
    local client = clients[tonumber(subscriber.id)]
    client.got[#client.got + 1] = support.string(message.data)
    client.tag = tag
    if client.on_deliver then
      client.on_deliver(message)
    end
  end
)
local on_lost = ffi.cast("void (*)(struct subscriber *, uint32_t)", function(subscriber)
  local client = clients[tonumber(subscriber.id)]
  client.got[#client.got + 1] = "LOST"
end)
ops.deliver = on_deliver
ops.lost = on_lost

local wakes = {}
local on_wake = ffi.cast("void (*)(void *)", function(context)
  local worker = tonumber(ffi.cast("intptr_t", context))
  wakes[worker] = (wakes[worker] or 0) + 1
end)
local tasks = {}
local on_task = ffi.cast("void (*)(void *)", function(context)
  local number = tonumber(ffi.cast("intptr_t", context))
  local task = tasks[number]
  tasks[number] = nil
  task()
end)

local commits = {}
local function address_of(commit)
  return tonumber(ffi.cast("intptr_t", ffi.cast("struct commit *", commit)))
end
local on_committed = ffi.cast("void (*)(struct commit *)", function(commit)
  local address = address_of(commit)
  table.insert(commits[address].done, commit.result)
  commits[address] = nil
end)

local Hub = {}
Hub.__index = Hub

local defaults = {
  worker_count = 1,
  max_topics = 1000,
  max_history_bytes = 1e9,
  max_inbox_entries = 1000,
  max_inbox_bytes = 1e9,
  max_marks = 1000,
}

--- A hub with its workers attached. `hub:close()` checks that nothing is left.
function M.hub(options, policies)
  local filled = ffi.new("hub_options")
  for name, value in pairs(defaults) do
    filled[name] = options[name] or value
  end
  wakes = {}
  local hub = setmetatable({ hub = lib.hub_new(filled), workers = {}, clients = {} }, Hub)
  hub.before = lib.message_count()
  if policies then
    hub:set_policies(policies)
  end
  for worker = 0, tonumber(filled.worker_count) - 1 do
    local topics = ffi.cast("struct topics *", ffi.C.malloc(ffi.sizeof("struct topics")))
    lib.topics_init(topics, hub.hub, worker)
    lib.hub_attach(hub.hub, worker, on_wake, ffi.cast("void *", worker))
    hub.workers[worker] = topics
  end
  return hub
end

function Hub:close()
  for _, client in pairs(self.clients) do
    lib.topics_unsubscribe_all(self.workers[client.worker], client.subscriber)
    clients[client.id] = nil
  end
  for worker, topics in pairs(self.workers) do
    lib.hub_detach(self.hub, worker)
    lib.topics_drain(topics, 0)
    lib.topics_deinit(topics)
    ffi.C.free(topics)
  end
  lib.hub_free(self.hub)
  assert(lib.message_count() == self.before, "messages are left")
end

function Hub:set_policies(list)
  lib.hub_set_policies(self.hub, M.policies(list))
end

--- How often the worker was woken since the last time this was asked.
function Hub:wakes(worker)
  local count = wakes[worker] or 0
  wakes[worker] = 0
  return count
end

local next_id = 0

function Hub:client(worker)
  next_id = next_id + 1
  local client = { id = next_id, worker = worker or 0, got = {} }
  client.subscriber = ffi.new("struct subscriber", { ops, client.id })
  clients[client.id] = client
  self.clients[client.id] = client
  return client
end

--- What the client was handed since the last time this was asked.
function M.got(client)
  local got = client.got
  client.got = {}
  return got
end

--- Options: worker, flags, except (a client), keep (returns the message too).
function Hub:publish(topic, data, opts)
  opts = opts or {}
  local message = lib.message_new(support.slice(""), support.slice(data), opts.flags or 0)
  message.except_id = opts.except and opts.except.id or 0
  local receipt = ffi.new("hub_receipt")
  local result =
    lib.hub_publish(self.hub, opts.worker or 64, support.slice(topic), message, receipt)
  lib.message_release(message)
  if result ~= M.OK then
    return nil, result
  end
  return tonumber(receipt.position.heads[0]), tonumber(receipt.receivers), receipt.is_kept
end

function Hub:set_log_state(state)
  lib.hub_set_log_state(self.hub, state)
end

--- A publication that waits for the log. Returns a list: its result, once its worker was told.
function Hub:commit(topic, data, worker)
  local commit = ffi.new("struct commit")
  local done = {}
  commits[address_of(commit)] = { commit = commit, done = done }
  commit.message = lib.message_new(support.slice(""), support.slice(data), 0)
  commit.topic = lib.mem_copy(support.slice(topic))
  commit.worker = worker
  commit.on_done = on_committed
  lib.hub_commit(self.hub, commit)
  return done
end

function Hub:clear(topic)
  local position = ffi.new("hub_position")
  assert(lib.hub_clear(self.hub, support.slice(topic), position) == M.OK)
  return tonumber(position.heads[0])
end

function Hub:remove(topic, number)
  local was_kept = ffi.new("bool[1]")
  assert(lib.hub_remove(self.hub, support.slice(topic), number, was_kept) == M.OK)
  return was_kept[0]
end

--- The messages, whether complete, and the position.
function Hub:history(topic, opts)
  local cut = ffi.new("struct cut *[1]")
  local position, is_complete = ffi.new("hub_position"), ffi.new("bool[1]")
  local start = M.start(opts)
  local result = lib.hub_history(self.hub, support.slice(topic), start, cut, position, is_complete)
  if result ~= M.OK then
    return nil, result
  end
  return M.read(cut[0]), is_complete[0], tonumber(position.heads[0])
end

--- Returns a list of results, the replay as strings and the position; with opts.keep_cut the cut
--- itself instead of strings.
function Hub:subscribe(client, names, opts)
  opts = opts or {}
  names = type(names) == "table" and names or { names }
  local held, slices = {}, ffi.new("slice[?]", #names)
  for i, name in ipairs(names) do
    held[i] = support.slice(name)
    slices[i - 1] = held[i]
  end
  local results = ffi.new("subscribe_result[?]", #names)
  local cut, position = ffi.new("struct cut *[1]"), ffi.new("hub_position")
  local result = lib.topics_subscribe(
    self.workers[client.worker],
    client.subscriber,
    slices,
    #names,
    M.start(opts),
    opts.tag or 0,
    results,
    cut,
    position
  )
  if result ~= M.OK then
    assert(cut[0] == nil)
    return nil, result
  end
  local list = {}
  for i = 1, #names do
    list[i] = { was = results[i - 1].was_subscribed, complete = results[i - 1].is_complete }
  end
  return list, opts.keep_cut and cut[0] or M.read(cut[0]), tonumber(position.heads[0])
end

function Hub:unsubscribe(client, name)
  return lib.topics_unsubscribe(self.workers[client.worker], client.subscriber, support.slice(name))
end

function Hub:leave(client)
  lib.topics_unsubscribe_all(self.workers[client.worker], client.subscriber)
end

function Hub:drain(worker, deadline_ns)
  return lib.topics_drain(self.workers[worker or 0], deadline_ns or 0)
end

--- Posts a Lua function as a task.
function Hub:post(worker, task)
  local number = #tasks + 1
  tasks[number] = task
  return lib.hub_post(self.hub, worker, on_task, ffi.cast("void *", number))
end

function Hub:position(worker)
  return tonumber(self.workers[worker or 0].position.heads[0])
end

function Hub:counts()
  local counts = lib.hub_count(self.hub)
  return {
    topics = tonumber(counts.topics),
    subscribers = tonumber(counts.subscribers),
    messages = tonumber(counts.history_messages),
    bytes = tonumber(counts.history_bytes),
    releases = tonumber(counts.releases),
  }
end

function Hub:subscribers(topic)
  return tonumber(lib.hub_subscribers(self.hub, support.slice(topic)))
end

return M
