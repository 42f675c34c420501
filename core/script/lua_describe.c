#include "script/lua_describe.h"

#include <string.h>

#include "gateway/routes.h"
#include "pubsub/policy.h"
#include "script/lua_generation.h"
#include "script/lua_script.h"

typedef struct {
  const char *what;
  bool has_colour;
} description;

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

/* As lua_app.c reads them. What has no default is not there: whoever sets it differs. */
static void push_route_defaults(lua_State *L, route_kind kind, const struct limits *limits) {
  route_options options = route_options_default(kind, limits);
  const char *timeout = kind == ROUTE_HTTP ? "timeout" : "handler_timeout";
  lua_newtable(L);
  set_number(L, "max_message", (double)options.max_message_bytes);
  set_number(L, "max_outbox", (double)options.max_outbox_bytes);
  set_number(L, "max_body", (double)options.max_body_bytes);
  set_number(L, "max_topics", (double)options.max_topics);
  set_number(L, "idle_timeout", (double)options.idle_timeout_ms / 1000);
  set_number(L, "ping_every", (double)options.ping_every_ms / 1000);
  set_number(L, timeout, (double)options.handler_timeout_ms / 1000);
}

static void push_topic_defaults(lua_State *L) {
  lua_newtable(L);
  set_number(L, "history", (double)policy_default.history_count);
  set_number(L, "bytes", (double)policy_default.history_bytes);
  set_string(L, "full", policy_default.refuse_when_full ? "refuse" : "drop");
  set_string(L, "slow", "close");
}

static void push_defaults(lua_State *L, const struct limits *limits) {
  static const struct {
    const char *name;
    route_kind kind;
  } kinds[] = {{"http", ROUTE_HTTP},
               {"websocket", ROUTE_WEBSOCKET},
               {"sse", ROUTE_SSE},
               {"static", ROUTE_STATIC}};
  lua_newtable(L);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    push_route_defaults(L, kinds[i].kind, limits);
    lua_setfield(L, -2, kinds[i].name);
  }
  push_topic_defaults(L);
  lua_setfield(L, -2, "topic");
}

/* Those that were set to another value than they have by themselves. */
static void push_limits(lua_State *L, const struct limits *limits) {
  int count = 0;
  lua_newtable(L);
  for (int i = 0; i < LIMIT_COUNT; i++) {
    uint64_t value;
    memcpy(&value, (const char *)limits + limit_infos[i].offset, sizeof value);
    if (value == limit_infos[i].initial) continue;
    lua_newtable(L);
    set_string(L, "name", limit_infos[i].name);
    set_string(L, "unit", limit_infos[i].unit);
    set_number(L, "value", (double)value);
    set_number(L, "initial", (double)limit_infos[i].initial);
    lua_rawseti(L, -2, ++count);
  }
}

/* Arguments: the script, the description. */
static int describe_protected(lua_State *L) {
  const struct script *script = lua_touserdata(L, 1);
  const description *wanted = lua_touserdata(L, 2);
  ref_push(L, script->loading->environment);
  lua_getfield(L, -1, "require");
  lua_pushliteral(L, "perigee.describe");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, wanted->what);
  push_defaults(L, script->worker->limits);
  push_limits(L, script->worker->limits);
  lua_pushboolean(L, wanted->has_colour);
  lua_call(L, 3, 1);
  return 1;
}

bool lua_describe(struct worker *worker, const char *what, bool has_colour, struct buf *out) {
  struct script *script = worker->script;
  lua_State *L = script->L;
  description wanted = {what, has_colour};
  lua_pushcfunction(L, describe_protected);
  lua_pushlightuserdata(L, script);
  lua_pushlightuserdata(L, &wanted);
  bool is_ok = lua_pcall(L, 2, 1, 0) == 0;
  buf_append(out, is_ok ? script_slice_at(L, -1) : slice_of_string(script_error_text(L, -1)));
  lua_settop(L, 0);
  return is_ok;
}
