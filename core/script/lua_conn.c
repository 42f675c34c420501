#include "script/lua_conn.h"

#include <string.h>

#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "pubsub/log_memory.h"
#include "script/lua_request.h"
#include "script/lua_sandbox.h"
#include "script/lua_script.h"

/* What a userdata begins with that is one of these: quicker to look at than metatables. */
static const char box_mark = 0;

struct conn_box {
  const char *mark;
  struct conn *conn; /* NULL once it is forgotten */
  uint64_t id;
  const char *transport;
  int ref;         /* anchors the box while the connection lives */
  bool has_values; /* the box has a table of its own: session and request */
};

enum { VALUE_SESSION = 1, VALUE_REQUEST = 2 };

enum { NOT_A_CONNECTION = 1 }; /* beside the conn_results, which are not positive */

/* --- ids --- */

static uint64_t parse_id(const struct script *script, slice text) {
  slice epoch = slice_of(hub_epoch(gateway_hub(script->worker->gateway)), LOG_EPOCH_CHARS);
  if (!slice_has_prefix(text, epoch)) return 0;
  text = slice_skip(text, LOG_EPOCH_CHARS);
  if (text.len == 0 || text.len > 13) return 0;
  uint64_t id = 0;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.data[i];
    if (c >= '0' && c <= '9') {
      id = id * 36 + (uint64_t)(c - '0');
    } else if (c >= 'a' && c <= 'z') {
      id = id * 36 + 10 + (uint64_t)(c - 'a');
    } else {
      return 0;
    }
  }
  return id;
}

uint64_t lua_conn_check_id(lua_State *L, struct script *script, int index) {
  if (lua_type(L, index) == LUA_TSTRING) return parse_id(script, script_slice_at(L, index));
  struct conn_box *box = script_peek_box(L, index, script->conn_metatable);
  if (box != NULL) return box->id;
  luaL_error(L, "option \"except\" must be a connection or its id");
  return 0;
}

/* --- the box --- */

/* Not inlined: once a connection. */
__attribute__((noinline)) static void push_new(lua_State *L, struct script *script,
                                               struct conn *conn) {
  struct conn_box *box = lua_newuserdata(L, sizeof *box);
  *box = (struct conn_box){.mark = &box_mark,
                           .conn = conn,
                           .id = conn->subscriber.id,
                           .transport = conn->ops->transport};
  ref_push(L, script->conn_metatable);
  lua_setmetatable(L, -2);
  script_own_box(script, L);
  lua_pushvalue(L, -1);
  box->ref = ref_take(script, L);
  conn->script = box;
}

void lua_conn_push(lua_State *L, struct script *script, struct conn *conn) {
  const struct conn_box *box = conn->script;
  if (box != NULL) {
    ref_push(L, box->ref);
  } else {
    push_new(L, script, conn);
  }
}

/* Pushes the table of the box at `index`. */
static void push_values(lua_State *L, struct conn_box *box, int index) {
  if (!box->has_values) {
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, -1);
    lua_setfenv(L, index);
    box->has_values = true;
    return;
  }
  lua_getfenv(L, index);
}

static void push_session(lua_State *L, struct script *script, struct conn_box *box, int index) {
  push_values(L, box, index);
  lua_rawgeti(L, -1, VALUE_SESSION);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    if (box->conn != NULL && box->conn->request != NULL) {
      lua_request_push_session(L, script, box->conn->request);
    } else {
      lua_newtable(L);
    }
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, VALUE_SESSION);
  }
  lua_remove(L, -2);
}

bool lua_conn_push_session(lua_State *L, struct script *script, struct conn *conn) {
  struct conn_box *box = conn->script;
  if (box != NULL) {
    ref_push(L, box->ref);
    push_session(L, script, box, lua_gettop(L));
    lua_remove(L, -2);
  } else if (lua_request_has_box(conn->request)) {
    lua_request_push_session(L, script, conn->request);
  } else {
    return false;
  }
  return true;
}

static void push_request(lua_State *L, struct script *script, struct conn_box *box, int index) {
  if (box->conn != NULL) {
    if (box->conn->request == NULL) {
      luaL_error(L,
                 "this connection's request was not kept: when it was opened its route had no "
                 "handlers");
    }
    lua_request_push(L, script, box->conn->request);
    return;
  }
  push_values(L, box, index);
  lua_rawgeti(L, -1, VALUE_REQUEST);
  lua_remove(L, -2);
}

void lua_conn_forget(struct script *script, struct conn *conn) {
  lua_State *L = script->L;
  struct conn_box *box = conn->script;
  if (box != NULL) {
    ref_push(L, box->ref);
    int index = lua_gettop(L);
    push_session(L, script, box, index);
    lua_pop(L, 1);
    if (lua_request_has_box(conn->request)) {
      push_values(L, box, index);
      lua_request_push(L, script, conn->request);
      lua_rawseti(L, -2, VALUE_REQUEST);
    }
    lua_settop(L, index - 1);
    box->conn = NULL;
    ref_drop(script, &box->ref);
    conn->script = NULL;
  }
  lua_request_forget(script, conn->request, true);
}

/* --- methods --- */

static struct conn_box *check_box(lua_State *L) {
  /* json.null is a light userdata: it has no length. */
  if (lua_objlen(L, 1) == sizeof(struct conn_box)) {
    struct conn_box *box = lua_touserdata(L, 1);
    if (box != NULL && box->mark == &box_mark) return box;
  }
  luaL_typerror(L, 1, "connection (call with a colon: conn:send)");
  return NULL;
}

static int push_closed(lua_State *L) {
  return script_push_failure(L, conn_result_message(CONN_CLOSED), conn_result_code(CONN_CLOSED));
}

static int push_result(lua_State *L, conn_result result) {
  if (result == CONN_OK) {
    lua_pushboolean(L, true);
    return 1;
  }
  if (result == CONN_BAD_EVENT) {
    return luaL_error(L, "option \"event\" must be one line without NUL");
  }
  return script_push_failure(L, conn_result_message(result), conn_result_code(result));
}

typedef struct {
  slice event;
  uint64_t retry_ms;
  data_kind kind;
} send_options;

static void check_send_options(lua_State *L, int index, send_options *options) {
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(key, "event") == 0) {
      if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "option \"event\" must be a string");
      options->event = script_slice_at(L, -1);
    } else if (strcmp(key, "retry") == 0) {
      bool is_number = lua_type(L, -1) == LUA_TNUMBER;
      if (!is_number || !script_seconds_to_ms(lua_tonumber(L, -1), &options->retry_ms)) {
        luaL_error(L, "option \"retry\" must be seconds");
      }
    } else if (strcmp(key, "binary") == 0) {
      if (lua_toboolean(L, -1)) options->kind = DATA_BINARY;
    } else {
      script_unknown_option(L, "conn:send", NULL);
    }
  }
}

static int l_send(lua_State *L) {
  struct conn_box *box = check_box(L);
  send_options options = {.event = {"", 0}, .kind = lua_istable(L, 2) ? DATA_JSON : DATA_TEXT};
  if (!lua_isnoneornil(L, 3)) check_send_options(L, 3, &options);
  slice data;
  if (!script_check_data(L, script_of(L), 2, &data)) return 3;
  if (box->conn == NULL) return push_closed(L);
  conn_result result = conn_send(box->conn, data, options.kind, options.event, options.retry_ms);
  return push_result(L, result);
}

static void check_from(lua_State *L, conn_subscribe_options *options) {
  if (lua_type(L, -1) == LUA_TNUMBER) {
    double count = lua_tonumber(L, -1);
    if (!(count >= 0 && count <= 1e9) || count != (double)(uint64_t)count) {
      luaL_error(L, "option \"from\" must be a count of publications, \"now\" or \"start\"");
    }
    options->from = HUB_FROM_NEWEST;
    options->from_count = (uint64_t)count;
    return;
  }
  const char *from = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (strcmp(from, "start") == 0) {
    options->from = HUB_FROM_START;
  } else if (strcmp(from, "now") == 0) {
    options->from = HUB_FROM_NOW;
  } else {
    luaL_error(L, "option \"from\" must be \"now\", \"start\" or a count of publications");
  }
}

static relaying check_relay(lua_State *L) {
  if (lua_type(L, -1) == LUA_TBOOLEAN) return lua_toboolean(L, -1) ? RELAY_TO_ALL : RELAY_NONE;
  const char *to = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (strcmp(to, "others") != 0)
    luaL_error(L, "option \"relay\" must be true, false or \"others\"");
  return RELAY_TO_OTHERS;
}

/* False: nil, message and code are pushed. */
static bool check_subscribe_options(lua_State *L, struct script *script, int index,
                                    conn_subscribe_options *options) {
  static const char *const later[] = {"presence", NULL};
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(key, "since") == 0) {
      if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "option \"since\" must be a position");
      options->since = script_slice_at(L, -1);
    } else if (strcmp(key, "from") == 0) {
      check_from(L, options);
    } else if (strcmp(key, "reset") == 0) {
      options->reset_kind = lua_istable(L, -1) ? DATA_JSON : DATA_TEXT;
      if (!script_check_data(L, script, lua_gettop(L), &options->reset)) return false;
    } else if (strcmp(key, "envelope") == 0) {
      options->is_envelope = lua_toboolean(L, -1);
    } else if (strcmp(key, "relay") == 0) {
      options->relaying = check_relay(L);
    } else {
      script_unknown_option(L, "conn:subscribe", later);
    }
  }
  return true;
}

/* The names at argument 2: one, or a list; memory of Lua's, on the stack. */
static slice *check_topics(lua_State *L, size_t *count) {
  bool is_list = lua_type(L, 2) == LUA_TTABLE;
  *count = is_list ? lua_objlen(L, 2) : 1;
  if (*count == 0) luaL_argerror(L, 2, "an empty list of topics");
  slice *names = lua_newuserdata(L, *count * sizeof *names);
  if (!is_list) {
    names[0] = script_check_slice(L, 2);
    return names;
  }
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, 2, (int)(i + 1));
    if (lua_type(L, -1) != LUA_TSTRING) luaL_argerror(L, 2, "topics are strings");
    names[i] = script_slice_at(L, -1); /* the list keeps it alive */
    lua_pop(L, 1);
  }
  return names;
}

static void push_subscription(lua_State *L, slice topic, bool is_complete, int position) {
  lua_createtable(L, 0, 3);
  script_push_slice(L, topic);
  lua_setfield(L, -2, "topic");
  lua_pushboolean(L, is_complete);
  lua_setfield(L, -2, "complete");
  lua_pushvalue(L, position);
  lua_setfield(L, -2, "position");
}

static int l_subscribe(lua_State *L) {
  struct script *script = script_of(L);
  struct conn_box *box = check_box(L);
  lua_settop(L, 3);
  size_t count;
  slice *names = check_topics(L, &count);
  conn_subscribe_options options = {.from = HUB_FROM_NOW};
  if (!lua_isnil(L, 3) && !check_subscribe_options(L, script, 3, &options)) return 3;
  if (box->conn == NULL) return push_closed(L);
  if (strcmp(box->transport, "websocket") != 0) {
    if (options.is_envelope) {
      return luaL_error(L,
                        "option \"envelope\" is for WebSockets; events of a stream carry their id");
    }
    if (options.relaying != RELAY_NONE) {
      return luaL_error(L, "option \"relay\" is for WebSockets; a stream's reader sends nothing");
    }
  }
  subscribe_result *results = lua_newuserdata(L, count * sizeof *results);

  hub_position position;
  conn_result result = conn_subscribe(box->conn, names, count, &options, results, &position);
  if (result != CONN_OK) return push_result(L, result);

  char text[WORKER_POSITION_BYTES];
  size_t len = worker_format_position(script->worker, &position, text);
  lua_pushlstring(L, text, len);
  int at = lua_gettop(L);
  if (lua_type(L, 2) != LUA_TTABLE) {
    push_subscription(L, names[0], results[0].is_complete, at);
    return 1;
  }
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    push_subscription(L, names[i], results[i].is_complete, at);
    lua_rawseti(L, -2, (int)(i + 1));
  }
  return 1;
}

static int l_unsubscribe(lua_State *L) {
  struct conn_box *box = check_box(L);
  slice topic = script_check_slice(L, 2);
  lua_pushboolean(L, box->conn != NULL && conn_unsubscribe(box->conn, topic));
  return 1;
}

static int l_is_subscribed(lua_State *L) {
  struct conn_box *box = check_box(L);
  slice topic = script_check_slice(L, 2);
  lua_pushboolean(L, box->conn != NULL && conn_is_subscribed(box->conn, topic));
  return 1;
}

static bool is_close_code(double code) {
  /* RFC 6455 section 7.4: what an endpoint may send. */
  if (code >= 3000 && code <= 4999) return true;
  if (code >= 1007 && code <= 1014 && code != 1010) return true;
  return code >= 1000 && code <= 1003;
}

static int l_close(lua_State *L) {
  struct conn_box *box = check_box(L);
  int code = 1000;
  slice reason = {"", 0};
  if (!lua_isnoneornil(L, 2)) {
    double number = luaL_checknumber(L, 2);
    code = (int)number;
    if (!is_close_code(number) || number != code) {
      luaL_argerror(L, 2, "close codes are 1000-1003, 1007-1009, 1011-1014 and 3000-4999");
    }
  }
  if (!lua_isnoneornil(L, 3)) reason = script_check_slice(L, 3);
  if (reason.len > 123) luaL_argerror(L, 3, "a close reason has at most 123 bytes");
  if (box->conn == NULL || !conn_is_open(box->conn)) return push_closed(L);
  conn_close(box->conn, code, reason);
  lua_pushboolean(L, true);
  return 1;
}

static int l_position(lua_State *L) {
  struct script *script = script_of(L);
  struct conn_box *box = check_box(L);
  if (box->conn == NULL) return push_closed(L);
  worker_drain(script->worker);
  char text[WORKER_POSITION_BYTES];
  size_t len = worker_format_position(script->worker, &script->worker->topics.position, text);
  lua_pushlstring(L, text, len);
  return 1;
}

static int l_buffered(lua_State *L) {
  struct conn_box *box = check_box(L);
  lua_pushnumber(L, box->conn != NULL ? (double)conn_buffered(box->conn) : 0);
  return 1;
}

/* What a connection has beside its methods; nil for any other key. Called by the metatable's
 * __index (lua/perigee/connection.lua), which scripts cannot get at. */
static int l_field(lua_State *L) {
  struct conn_box *box = lua_touserdata(L, 1);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "id") == 0) {
    char id[GATEWAY_CONN_ID_BYTES];
    lua_pushlstring(L, id, gateway_format_conn_id(script_of(L)->worker->gateway, box->id, id));
  } else if (strcmp(key, "session") == 0) {
    push_session(L, script_of(L), box, 1);
  } else if (strcmp(key, "request") == 0) {
    push_request(L, script_of(L), box, 1);
  } else if (strcmp(key, "transport") == 0) {
    lua_pushstring(L, box->transport);
  } else {
    lua_pushnil(L);
  }
  return 1;
}

/* conn:send of text as compiled Lua calls it: no lua_State, so it is as cheap as a call in C.
 * Returns a conn_result, or NOT_A_CONNECTION; each userdata that a script can have begins with a
 * pointer of its own. */
static int send_text(void *userdata, const char *data, size_t len) {
  struct conn_box *box = userdata;
  if (box->mark != &box_mark) return NOT_A_CONNECTION;
  struct conn *conn = box->conn;
  if (conn == NULL) return CONN_CLOSED;
  return conn_send(conn, slice_of(data, len), DATA_TEXT, SLICE(""), 0);
}

static int l_failure(lua_State *L) {
  return push_result(L, (conn_result)lua_tointeger(L, 1));
}

static int on_newindex(lua_State *L) {
  struct conn_box *box = lua_touserdata(L, 1);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
  if (strcmp(key, "session") != 0) {
    return luaL_error(L, "a connection has no field \"%s\" to set; keep it in conn.session", key);
  }
  luaL_checktype(L, 3, LUA_TTABLE);
  push_values(L, box, 1);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, VALUE_SESSION);
  return 0;
}

static int on_tostring(lua_State *L) {
  struct conn_box *box = lua_touserdata(L, 1);
  char id[GATEWAY_CONN_ID_BYTES];
  gateway_format_conn_id(script_of(L)->worker->gateway, box->id, id);
  lua_pushfstring(L, "connection %s", id);
  return 1;
}

static const luaL_Reg connection_methods[] = {
    {"send", l_send},
    {"subscribe", l_subscribe},
    {"unsubscribe", l_unsubscribe},
    {"is_subscribed", l_is_subscribed},
    {"close", l_close},
    {"position", l_position},
    {"buffered", l_buffered},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__newindex", on_newindex},
    {"__tostring", on_tostring},
    {NULL, NULL},
};

/* What lua/perigee/connection.lua is made of; not for scripts. */
static const luaL_Reg core_functions[] = {
    {"field", l_field},
    {"failure", l_failure},
    {NULL, NULL},
};

void lua_conn_setup(struct script *script) {
  lua_State *L = script->L;
  script->conn_metatable = script_new_metatable(script, "connection", connection_methods, NULL);
  ref_push(L, script->conn_metatable);
  script_register(script, metamethods);
  lua_newtable(L);
  sandbox_push_ffi(L);
  lua_setfield(L, -2, "ffi");
  sandbox_run_library(script, "perigee.connection");
  lua_getfield(L, -2, "__index");
  lua_newtable(L);
  script_register(script, core_functions);
  lua_pushlightuserdata(L, (void *)(uintptr_t)send_text);
  lua_setfield(L, -2, "send_text");
  lua_call(L, 2, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
