#include "script/lua_topic.h"

#include <string.h>

#include "base/mem.h"
#include "codec/position.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "pubsub/hub.h"
#include "script/lua_conn.h"
#include "script/lua_json.h"
#include "script/lua_task.h"

static struct hub *hub_of(const struct script *script) {
  return gateway_hub(script->worker->gateway);
}

static int push_position(lua_State *L, const struct script *script, const hub_position *position) {
  char text[WORKER_POSITION_BYTES];
  size_t len = worker_format_position(script->worker, position, text);
  lua_pushlstring(L, text, len);
  return 1;
}

/* nil, message, code for a negative result of the hub or of worker_publish. */
static int push_refusal(lua_State *L, int result) {
  switch (result) {
    case HUB_BAD_TOPIC:
      return script_push_failure(
          L, "a topic name is 1 to 255 bytes of UTF-8 without control characters and \"*\"",
          "topic");
    case HUB_FULL:
      return script_push_failure(L, "the topic is full", "full");
    case HUB_LOG_FAILED:
      return script_push_failure(L, "the log could not keep it", "log");
    case PUBLISH_BAD_UTF8:
      return script_push_failure(L, "text must be UTF-8; binary = true publishes bytes", "utf8");
    case PUBLISH_BAD_EVENT:
      return luaL_error(L, "option \"event\" must be one line without NUL");
    default:
      return script_push_failure(L, "too many topics", "limit");
  }
}

/* What perigee.publish returns. */
static int push_published(lua_State *L, const struct script *script, int result,
                          const hub_receipt *receipt) {
  if (result != HUB_OK) return push_refusal(L, result);
  if (receipt->is_kept) {
    push_position(L, script, &receipt->position);
  } else {
    lua_pushboolean(L, true);
  }
  lua_pushnumber(L, (double)receipt->receivers);
  return 2;
}

/* And perigee.clear, of a topic and of one publication. */
static int push_cleared(lua_State *L, const struct script *script, int result,
                        const hub_position *position) {
  return result == HUB_OK ? push_position(L, script, position) : push_refusal(L, result);
}

static int push_removed(lua_State *L, int result, bool was_kept) {
  if (result != HUB_OK) return push_refusal(L, result);
  lua_pushboolean(L, was_kept);
  return 1;
}

/* --- when the log takes its time --- */

/* A call that is suspended until its log has taken what it says. */
struct logged_call {
  struct commit commit;
  struct awaited awaited;
  const struct script *script;
};

static struct logged_call *call_of(struct awaited *awaited) {
  return CONTAINER_OF(awaited, struct logged_call, awaited);
}

static int push_logged_publish(struct awaited *awaited, lua_State *L) {
  const struct logged_call *call = call_of(awaited);
  return push_published(L, call->script, (int)call->commit.result, &call->commit.receipt);
}

static int push_logged_clear(struct awaited *awaited, lua_State *L) {
  const struct logged_call *call = call_of(awaited);
  return push_cleared(L, call->script, (int)call->commit.result, &call->commit.receipt.position);
}

static int push_logged_removal(struct awaited *awaited, lua_State *L) {
  const struct commit *commit = &call_of(awaited)->commit;
  return push_removed(L, (int)commit->result, commit->was_kept);
}

static void free_logged(struct awaited *awaited) {
  mem_free(call_of(awaited));
}

static void on_logged(struct commit *commit) {
  task_bring(&CONTAINER_OF(commit, struct logged_call, commit)->awaited);
}

/* For a handler that can suspend and is not ended. */
static struct logged_call *logged_call_new(const struct script *script,
                                           int (*push)(struct awaited *awaited, lua_State *L)) {
  struct logged_call *call = mem_alloc_zero(sizeof *call);
  call->commit.on_done = on_logged;
  call->awaited.push = push;
  call->awaited.free = free_logged;
  call->script = script;
  return call;
}

static int publish_later(lua_State *L, struct script *script, slice topic, slice data,
                         const publish_options *options) {
  task_check_can_suspend(L, script, "perigee.publish");
  if (task_is_ended(script)) return task_suspend(L, script, 0);
  struct logged_call *call = logged_call_new(script, push_logged_publish);
  worker_publish_later(script->worker, topic, data, options, &call->commit);
  return task_await(L, script, &call->awaited);
}

/* `number` 0: everything. */
static int clear_later(lua_State *L, struct script *script, slice topic, uint64_t number) {
  task_check_can_suspend(L, script, "perigee.clear");
  if (task_is_ended(script)) return task_suspend(L, script, 0);
  struct logged_call *call =
      logged_call_new(script, number > 0 ? push_logged_removal : push_logged_clear);
  call->commit.topic = mem_copy(topic);
  call->commit.number = number;
  call->commit.worker = script->worker->index;
  hub_commit(hub_of(script), &call->commit);
  return task_await(L, script, &call->awaited);
}

/* --- the functions --- */

static void check_publish_options(lua_State *L, struct script *script, int index,
                                  publish_options *options) {
  static const char *const later[] = {"key", "wait", NULL};
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(key, "event") == 0) {
      if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "option \"event\" must be a string");
      options->event = script_slice_at(L, -1);
    } else if (strcmp(key, "except") == 0) {
      options->except_id = lua_conn_check_id(L, script, lua_gettop(L));
    } else if (strcmp(key, "clear") == 0) {
      options->clear = lua_toboolean(L, -1);
    } else if (strcmp(key, "transient") == 0) {
      options->transient = lua_toboolean(L, -1);
    } else if (strcmp(key, "binary") == 0) {
      options->is_binary = lua_toboolean(L, -1);
    } else if (strcmp(key, "wait") == 0) {
      luaL_error(L, "not yet: wait"); /* `wait = false` would change something */
    } else {
      script_unknown_option(L, "perigee.publish", later);
    }
  }
}

static int l_publish(lua_State *L) {
  struct script *script = script_of(L);
  slice topic = script_check_slice(L, 1);
  publish_options options = {.event = {"", 0}, .origin_id = task_current_conn_id(script)};
  if (!lua_isnoneornil(L, 3)) check_publish_options(L, script, 3, &options);
  script_check_loaded(L, script, "perigee.publish");
  slice data;
  if (!script_check_data(L, script, 2, &data)) return 3;
  options.is_json = lua_istable(L, 2);

  hub_receipt receipt;
  int result = worker_publish(script->worker, topic, data, &options, &receipt);

  if (result == HUB_LOG_STALLED) return publish_later(L, script, topic, data, &options);
  return push_published(L, script, result, &receipt);
}

static int l_signal(lua_State *L) {
  struct script *script = script_of(L);
  slice topic = script_check_slice(L, 1);
  script_check_loaded(L, script, "perigee.signal");
  slice data;
  if (!script_check_data(L, script, 2, &data)) return 3;

  hub_receipt receipt;
  int result =
      worker_signal(script->worker, topic, data, false, task_current_conn_id(script), &receipt);

  if (result != HUB_OK) return push_refusal(L, result);
  lua_pushnumber(L, (double)receipt.receivers);
  return 1;
}

typedef struct {
  slice since;
  size_t limit; /* SIZE_MAX: none */
} history_options;

static void check_history_options(lua_State *L, int index, history_options *options) {
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(key, "since") == 0) {
      if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "option \"since\" must be a position");
      options->since = script_slice_at(L, -1);
    } else if (strcmp(key, "limit") == 0) {
      double limit = lua_tonumber(L, -1);
      if (lua_type(L, -1) != LUA_TNUMBER || !(limit >= 0 && limit <= 1e9)) {
        luaL_error(L, "option \"limit\" must be a count of publications");
      }
      options->limit = (size_t)limit;
    } else {
      script_unknown_option(L, "perigee.history", NULL);
    }
  }
}

static void push_publication(lua_State *L, const struct script *script,
                             const struct message *message) {
  hub_position position;
  memcpy(position.heads, message->heads, sizeof position.heads);
  lua_createtable(L, 0, 3);
  push_position(L, script, &position);
  lua_setfield(L, -2, "position");
  script_push_slice(L, message->data);
  lua_setfield(L, -2, "data");
  if (message->event.len > 0) {
    script_push_slice(L, message->event);
    lua_setfield(L, -2, "event");
  }
}

static int l_history(lua_State *L) {
  struct script *script = script_of(L);
  slice topic = script_check_slice(L, 1);
  history_options options = {.since = {NULL, 0}, .limit = SIZE_MAX};
  if (!lua_isnoneornil(L, 2)) check_history_options(L, 2, &options);
  script_check_loaded(L, script, "perigee.history");

  bool has_limit = options.limit != SIZE_MAX;
  hub_start start = worker_parse_since(script->worker, options.since,
                                       has_limit ? HUB_FROM_NEWEST : HUB_FROM_START, options.limit);
  hub_position position;
  bool is_complete = true;
  struct cut *cut;
  hub_result result = hub_history(hub_of(script), topic, &start, &cut, &position, &is_complete);

  if (result != HUB_OK) return push_refusal(L, result);
  /* From here only running out of memory raises, and that ends the process. */
  lua_newtable(L);
  lua_json_mark_array(L);
  const struct message *message;
  for (size_t i = 0; i < options.limit && (message = cut_next(cut)) != NULL; i++) {
    push_publication(L, script, message);
    lua_rawseti(L, -2, (int)(i + 1));
  }
  cut_free(cut);
  push_position(L, script, &position);
  lua_pushboolean(L, is_complete);
  return 3;
}

static int l_clear(lua_State *L) {
  struct script *script = script_of(L);
  slice topic = script_check_slice(L, 1);
  script_check_loaded(L, script, "perigee.clear");
  if (!lua_isnoneornil(L, 2)) {
    uint64_t number = 0;
    bool was_kept = false;
    hub_result result = HUB_OK;
    if (position_find(script_check_slice(L, 2), hub_epoch(hub_of(script)), &number)) {
      result = hub_remove(hub_of(script), topic, number, &was_kept);
    }
    if (result == HUB_LOG_STALLED) return clear_later(L, script, topic, number);
    return push_removed(L, result, was_kept);
  }
  hub_position position;
  hub_result result = hub_clear(hub_of(script), topic, &position);
  if (result == HUB_LOG_STALLED) return clear_later(L, script, topic, 0);
  return push_cleared(L, script, result, &position);
}

static int l_subscribers(lua_State *L) {
  struct script *script = script_of(L);
  slice topic = script_check_slice(L, 1);
  lua_pushnumber(L, (double)hub_subscribers(hub_of(script), topic));
  return 1;
}

static const luaL_Reg perigee_topic_functions[] = {
    {"publish", l_publish}, {"signal", l_signal},           {"history", l_history},
    {"clear", l_clear},     {"subscribers", l_subscribers}, {NULL, NULL},
};

void lua_topic_register(struct script *script) {
  script_register(script, perigee_topic_functions);
}
