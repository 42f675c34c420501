#include "script/lua_app.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "gateway/dev.h"
#include "gateway/gateway.h"
#include "pubsub/policy.h"
#include "script/lua_sandbox.h"
#include "script/lua_timer.h"

/* --- reading options; the Lua half has checked names, types and ranges --- */

static void read_ms(lua_State *L, int table, const char *name, uint64_t *out) {
  lua_getfield(L, table, name);
  if (lua_isnumber(L, -1)) script_seconds_to_ms(lua_tonumber(L, -1), out);
  lua_pop(L, 1);
}

static void read_count(lua_State *L, int table, const char *name, uint64_t *out) {
  lua_getfield(L, table, name);
  if (lua_isnumber(L, -1)) *out = (uint64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
}

static bool read_is(lua_State *L, int table, const char *name, const char *text) {
  lua_getfield(L, table, name);
  bool is = lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), text) == 0;
  lua_pop(L, 1);
  return is;
}

/* A list of strings, ending with NULL; NULL when the option is not there. */
static char **read_strings(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  char **list = NULL;
  if (lua_istable(L, -1)) {
    size_t count = lua_objlen(L, -1);
    list = mem_alloc_zero((count + 1) * sizeof *list);
    for (size_t i = 0; i < count; i++) {
      lua_rawgeti(L, -1, (int)(i + 1));
      list[i] = mem_copy(script_slice_at(L, -1));
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  return list;
}

static void read_rate(lua_State *L, int table, route_options *options) {
  lua_getfield(L, table, "rate");
  if (lua_istable(L, -1)) {
    int rate = lua_gettop(L);
    lua_getfield(L, rate, "messages");
    options->rate_messages = lua_tonumber(L, -1);
    lua_pop(L, 1);
    options->rate_per_ms = 1000;
    read_ms(L, rate, "per", &options->rate_per_ms);
    options->excess = EXCESS_CLOSE;
    if (read_is(L, rate, "excess", "drop")) options->excess = EXCESS_DROP;
    if (read_is(L, rate, "excess", "wait")) options->excess = EXCESS_WAIT;
  }
  lua_pop(L, 1);
}

static void read_origins(lua_State *L, int table, route_options *options) {
  options->origins = read_strings(L, table, "origins");
  for (char **origin = options->origins; origin != NULL && *origin != NULL; origin++) {
    if (strcmp(*origin, "*") == 0) options->any_origin = true;
  }
}

static void lower_all(char **list) {
  for (; list != NULL && *list != NULL; list++) {
    for (char *c = *list; *c != '\0'; c++) *c = ascii_lower(*c);
  }
}

static route_options read_options(lua_State *L, int table, route_kind kind,
                                  const struct limits *limits) {
  route_options options = route_options_default(kind, limits);
  uint64_t max_topics = options.max_topics;
  read_origins(L, table, &options);
  options.protocols = read_strings(L, table, "protocols");
  options.keep_headers = read_strings(L, table, "keep_headers");
  lower_all(options.keep_headers);
  read_count(L, table, "max_message", &options.max_message_bytes);
  read_count(L, table, "max_outbox", &options.max_outbox_bytes);
  read_count(L, table, "max_body", &options.max_body_bytes);
  read_count(L, table, "max_topics", &max_topics);
  options.max_topics = (uint32_t)max_topics;
  read_ms(L, table, "idle_timeout", &options.idle_timeout_ms);
  read_ms(L, table, "ping_every", &options.ping_every_ms);
  read_ms(L, table, kind == ROUTE_HTTP ? "timeout" : "handler_timeout",
          &options.handler_timeout_ms);
  read_ms(L, table, "tick_every", &options.tick_every_ms);
  read_ms(L, table, "retry", &options.retry_ms);
  read_rate(L, table, &options);
  return options;
}

static const char *const handler_names[APP_HANDLERS] = {
    "authenticate", "on_open",   "on_message", "on_close",
    "on_drain",     "on_signal", "on_tick",    "handler",
};

/* Only LuaJIT's debug.getinfo knows; scripts do not have it. */
static bool has_parameters(lua_State *L, int function) {
  int top = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_getfield(L, -1, "debug");
  lua_getfield(L, -1, "getinfo");
  ref_push(L, function);
  lua_pushliteral(L, "u");
  lua_call(L, 2, 1);
  lua_getfield(L, -1, "nparams");
  lua_getfield(L, -2, "isvararg");
  bool has_some = lua_tointeger(L, -2) > 0 || lua_toboolean(L, -1);
  lua_settop(L, top);
  return has_some;
}

static void take_handlers(lua_State *L, struct script *script, int table, struct route *route) {
  struct route_script *handlers = mem_alloc_zero(sizeof *handlers);
  for (int i = 0; i < APP_HANDLERS; i++) {
    lua_getfield(L, table, handler_names[i]);
    if (!lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    handlers->handlers[i] = ref_take_standing(script, L);
    if (i < APP_HTTP) route->handlers |= 1U << i;
  }
  int handler = handlers->handlers[APP_HTTP];
  handlers->takes_request = handler != 0 && has_parameters(L, handler);
  handlers->generation = script->loading;
  route->script = handlers;
}

static int push_refusal(lua_State *L, const char *message) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  return 2;
}

static bool is_directory(slice path) {
  struct stat status;
  return path.data != NULL && stat(path.data, &status) == 0 && S_ISDIR(status.st_mode);
}

/* core.add_route(kind, methods, pattern, options [, directory]) */
static int l_add_route(lua_State *L) {
  static const char *const kinds[] = {"http", "websocket", "sse", "static", NULL};
  struct script *script = script_of(L);
  route_kind kind = (route_kind)luaL_checkoption(L, 1, NULL, kinds);
  unsigned methods = (unsigned)luaL_checkinteger(L, 2);
  slice pattern = script_check_slice(L, 3);
  luaL_checktype(L, 4, LUA_TTABLE);
  slice directory = lua_isnoneornil(L, 5) ? slice_of(NULL, 0) : script_check_slice(L, 5);

  if (kind == ROUTE_STATIC && !is_directory(directory)) {
    lua_pushnil(L);
    lua_pushfstring(L, "there is no directory %s", directory.data);
    return 2;
  }
  const char *error = NULL;
  route_options options = read_options(L, 4, kind, script->worker->limits);
  struct route *route =
      routes_add(script->loading->routes, kind, methods, pattern, &options, directory, &error);
  if (route == NULL) {
    route_options_free(&options);
    return push_refusal(L, error);
  }
  take_handlers(L, script, 4, route);
  lua_pushboolean(L, true);
  return 1;
}

/* core.add_topic(pattern, policy) */
static int l_add_topic(lua_State *L) {
  struct script *script = script_of(L);
  slice pattern = script_check_slice(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  topic_policy policy = policy_default;
  read_count(L, 2, "history", &policy.history_count);
  read_count(L, 2, "bytes", &policy.history_bytes);
  read_ms(L, 2, "age", &policy.age_ms);
  read_ms(L, 2, "linger", &policy.linger_ms);
  read_count(L, 2, "max_subscribers", &policy.max_subscribers);
  policy.refuse_when_full = read_is(L, 2, "full", "refuse");
  switch (policies_add(script->loading->policies, pattern, &policy)) {
    case POLICY_DUPLICATE:
      return push_refusal(L, "this topic pattern has a policy already");
    case POLICY_BAD_PATTERN:
      return push_refusal(L,
                          "a topic pattern is 1 to 255 bytes of UTF-8 without control "
                          "characters, with a \"*\" at most at its end");
    default:
      lua_pushboolean(L, true);
      return 1;
  }
}

/* Whether what this declaration asks for runs on this worker. */
static bool runs_here(lua_State *L, const struct script *script, int everywhere) {
  return script->worker->index == 0 || lua_toboolean(L, everywhere);
}

/* core.add_start(handler, everywhere) */
static int l_add_start(lua_State *L) {
  struct script *script = script_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (!runs_here(L, script, 2)) return 0;
  lua_pushvalue(L, 1);
  handler_list_add(script, L, &script->loading->on_start);
  return 0;
}

/* core.add_stop(handler, everywhere) */
static int l_add_stop(lua_State *L) {
  struct script *script = script_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (!runs_here(L, script, 2)) return 0;
  lua_pushvalue(L, 1);
  handler_list_add(script, L, &script->loading->on_stop);
  return 0;
}

/* core.add_every(seconds, handler, everywhere, name) */
static int l_add_every(lua_State *L) {
  struct script *script = script_of(L);
  uint64_t period_ms = script_check_ms(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (!runs_here(L, script, 3)) return 0;
  lua_pushvalue(L, 2);
  every_new(script->loading, L, period_ms);
  return 0;
}

/* core.where(): "file:line" of the innermost function of a script; "" without one. */
static int l_where(lua_State *L) {
  sandbox_push_where(L, 1);
  return 1;
}

static int l_is_loading(lua_State *L) {
  lua_pushboolean(L, script_of(L)->is_loading);
  return 1;
}

/* core.limit(name): the limit of this name. */
static int l_limit(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (int i = 0; i < LIMIT_COUNT; i++) {
    if (strcmp(limit_infos[i].name, name) != 0) continue;
    const char *limits = (const char *)script_of(L)->worker->limits;
    uint64_t value;
    memcpy(&value, limits + limit_infos[i].offset, sizeof value);
    lua_pushnumber(L, (double)value);
    return 1;
  }
  return luaL_error(L, "no limit is named %s", name);
}

/* core.directory(path): a path of the script's, seen from the main script's directory. */
static int l_directory(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  if (path[0] == '/') {
    lua_pushvalue(L, 1);
  } else {
    lua_pushfstring(L, "%s/%s", script_of(L)->directory, path);
  }
  return 1;
}

/* core.is_dev(): whether pages are told of changes. */
static int l_is_dev(lua_State *L) {
  const struct config *config = gateway_config(script_of(L)->worker->gateway);
  lua_pushboolean(L, config->is_dev && !config->is_check);
  return 1;
}

/* core.dev_state(): the version of what pages are made of, and why the last load has failed, if it
 * has. */
static int l_dev_state(lua_State *L) {
  struct script *script = script_of(L);
  struct gateway *gateway = script->worker->gateway;
  struct buf *text = &script->scratch;
  buf_clear(text);
  dev_append_version(gateway, text);
  size_t version_len = text->len;
  bool has_failed = dev_append_failure(gateway, text);
  lua_pushlstring(L, text->data, version_len);
  if (!has_failed) return 1;
  script_push_slice(L, slice_skip(buf_peek(text), version_len));
  return 2;
}

static const luaL_Reg core_functions[] = {
    {"add_route", l_add_route},   {"add_topic", l_add_topic}, {"add_start", l_add_start},
    {"add_stop", l_add_stop},     {"add_every", l_add_every}, {"where", l_where},
    {"is_loading", l_is_loading}, {"limit", l_limit},         {"directory", l_directory},
    {"is_dev", l_is_dev},         {"dev_state", l_dev_state}, {NULL, NULL},
};

void lua_app_register(struct script *script) {
  script_register(script, core_functions);
}

void lua_app_free_route(void *context, void *route_script) {
  struct route_script *handlers = route_script;
  struct script *script = ((struct generation *)context)->script;
  for (int i = 0; i < APP_HANDLERS; i++) ref_drop_standing(script, &handlers->handlers[i]);
  mem_free(handlers);
}
