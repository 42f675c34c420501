#include "script/lua_request.h"

#include <string.h>

#include "base/url.h"
#include "gateway/limits.h"
#include "script/lua_json.h"

enum {
  MAX_QUERY_PAIRS = 100,
  MAX_FORM_PAIRS = 1000, /* the body's size is bounded already; this bounds the table */
};

struct request_box {
  struct request *request; /* NULL once it is forgotten */
  bool has_values;         /* the box has a table of its own: fields by name */
};

/* --- the box --- */

bool lua_request_has_box(const struct request *request) {
  return request != NULL && request_session(request) != 0;
}

static struct request_box *push_new_box(lua_State *L, struct script *script,
                                        struct request *request) {
  struct request_box *box = lua_newuserdata(L, sizeof *box);
  *box = (struct request_box){.request = request};
  ref_push(L, script->request_metatable);
  lua_setmetatable(L, -2);
  return box;
}

void lua_request_push(lua_State *L, struct script *script, struct request *request) {
  if (lua_request_has_box(request)) {
    ref_push(L, request_session(request));
    return;
  }
  push_new_box(L, script, request);
  script_own_box(script, L);
  lua_pushvalue(L, -1);
  request_set_session(request, ref_take(script, L));
}

void lua_request_lend(lua_State *L, struct script *script, struct exchange *exchange) {
  if (lua_request_has_box(exchange->request)) {
    ref_push(L, request_session(exchange->request));
  } else {
    exchange->box = push_new_box(L, script, exchange->request);
  }
}

void lua_request_take_back(struct exchange *exchange) {
  struct request_box *box = exchange->box;
  if (box != NULL) box->request = NULL;
  exchange->box = NULL;
}

/* Pushes the table of the box at `index`. */
static void push_values(lua_State *L, int index) {
  struct request_box *box = lua_touserdata(L, index);
  if (!box->has_values) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfenv(L, index);
    box->has_values = true;
    return;
  }
  lua_getfenv(L, index);
}

/* Keeps the value at the top, and leaves it there. */
static void keep_value(lua_State *L, int index, const char *name) {
  push_values(L, index);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

static bool push_kept(lua_State *L, int index, const char *name) {
  struct request_box *box = lua_touserdata(L, index);
  if (!box->has_values) return false;
  lua_getfenv(L, index);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

void lua_request_push_session(lua_State *L, struct script *script, struct request *request) {
  lua_request_push(L, script, request);
  int index = lua_gettop(L);
  if (!push_kept(L, index, "session")) {
    lua_newtable(L);
    keep_value(L, index, "session");
  }
  lua_remove(L, index);
}

void lua_request_set_session(lua_State *L, struct script *script, struct request *request,
                             int index) {
  lua_request_push(L, script, request);
  lua_pushvalue(L, index);
  keep_value(L, lua_gettop(L) - 1, "session");
  lua_pop(L, 2);
}

/* --- fields --- */

static void push_params(lua_State *L, const struct request *request) {
  lua_newtable(L);
  slice name;
  slice value;
  for (size_t i = 0; request_param(request, i, &name, &value); i++) {
    script_push_slice(L, name);
    script_push_slice(L, value);
    lua_rawset(L, -3);
  }
}

/* Pushes a decoded part of a query. The gateway has refused bad escapes in queries, not in forms:
 * false, with nothing pushed. */
static bool push_decoded(lua_State *L, struct script *script, slice text) {
  buf_clear(&script->scratch);
  if (!url_decode(text, true, &script->scratch)) return false;
  script_push_slice(L, buf_peek(&script->scratch));
  return true;
}

/* Pushes a table of the first value of each name; false, with nothing pushed, for a bad escape or
 * more than `max` pairs where that is an error. */
static bool push_pairs(lua_State *L, struct script *script, slice rest, int max, bool is_strict) {
  slice name;
  slice value;
  lua_newtable(L);
  for (int count = 0; url_next_pair(&rest, &name, &value); count++) {
    bool is_over = count == max;
    if (is_over && !is_strict) return true;
    if (is_over || !push_decoded(L, script, name)) {
      lua_pop(L, 1);
      return false;
    }
    if (!push_decoded(L, script, value)) {
      lua_pop(L, 2);
      return false;
    }
    lua_pushvalue(L, -2);
    lua_rawget(L, -4);
    bool is_first = lua_isnil(L, -1);
    lua_pop(L, 1);
    if (is_first) {
      lua_rawset(L, -3);
    } else {
      lua_pop(L, 2);
    }
  }
  return true;
}

static bool keeps_header(const struct request *request, slice name) {
  char *const *kept = request_route(request)->options.keep_headers;
  for (; kept != NULL && *kept != NULL; kept++) {
    if (slice_is_equal_nocase(slice_of_string(*kept), name)) return true;
  }
  return false;
}

/* Puts a header's values into the scratch; how many there are. Raises when it is gone. */
static size_t take_header(lua_State *L, struct script *script, const struct request *request,
                          slice name) {
  if (!request_has_headers(request) && !keeps_header(request, name)) {
    luaL_error(L, "headers of this connection are gone; name them in keep_headers");
  }
  buf_clear(&script->scratch);
  return request_header(request, name, &script->scratch);
}

static void push_cookies(lua_State *L, struct script *script, const struct request *request) {
  take_header(L, script, request, SLICE("cookie"));
  slice rest = buf_peek(&script->scratch);
  lua_newtable(L);
  /* RFC 6265 section 5.4 sends one header with "; " between; HTTP/2 may send several, which were
   * joined with ", " and no cookie value has a comma by its grammar. */
  for (int count = 0; rest.len > 0 && count < MAX_QUERY_PAIRS; count++) {
    slice value = slice_split(&rest, ';');
    slice name = slice_trim(slice_split(&value, '='));
    if (name.len == 0 || value.data == NULL) continue;
    script_push_slice(L, name);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    bool is_first = lua_isnil(L, -1);
    lua_pop(L, 1);
    if (is_first) {
      script_push_slice(L, slice_trim(value));
      lua_rawset(L, -3);
    } else {
      lua_pop(L, 1);
    }
  }
}

/* Headers are a box of their own, so that each is made only when it is asked for. */
static void push_headers(lua_State *L, struct script *script, int index) {
  int *box = lua_newuserdata(L, sizeof *box);
  *box = 0;
  ref_push(L, script->headers_metatable);
  lua_setmetatable(L, -2);
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, 1);
  lua_setfenv(L, -2);
}

static int on_headers_index(lua_State *L) {
  struct script *script = script_of(L);
  slice name = script_check_slice(L, 2);
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, 1);
  const struct request_box *box = lua_touserdata(L, -1);
  if (box->request == NULL) {
    return luaL_error(L, "the request is over and its headers are gone");
  }
  if (take_header(L, script, box->request, name) == 0) return 0;
  script_push_slice(L, buf_peek(&script->scratch));
  return 1;
}

typedef enum {
  FIELD_METHOD,
  FIELD_PATH,
  FIELD_HOST,
  FIELD_BODY,
  FIELD_REMOTE_ADDRESS,
  FIELD_SINCE,
  FIELD_PARAMS,
  FIELD_QUERY,
  FIELD_STAYS, /* those above stay readable when a connection is forgotten */
  FIELD_HEADERS = FIELD_STAYS,
  FIELD_COOKIES,
  FIELD_SESSION,
  FIELD_COUNT,
} field;

static const char *const field_names[FIELD_COUNT] = {
    "method", "path",  "host",    "body",    "remote_address", "since",
    "params", "query", "headers", "cookies", "session",
};

static slice field_slice(field which, const struct request *request) {
  switch (which) {
    case FIELD_METHOD:
      return request_method(request);
    case FIELD_PATH:
      return request_path(request);
    case FIELD_HOST:
      return request_host(request);
    case FIELD_BODY:
      return request_body(request);
    case FIELD_REMOTE_ADDRESS:
      return request_remote_address(request);
    default:
      return request_since(request);
  }
}

/* Pushes the field of a living request; tables are made once and kept in the box at `index`. */
static void push_field(lua_State *L, struct script *script, field which, int index) {
  const struct request_box *box = lua_touserdata(L, index);
  if (which < FIELD_PARAMS) {
    slice value = field_slice(which, box->request);
    if (which == FIELD_SINCE && value.data == NULL) {
      lua_pushnil(L);
    } else {
      script_push_slice(L, value);
    }
    return;
  }
  if (push_kept(L, index, field_names[which])) return;
  switch (which) {
    case FIELD_PARAMS:
      push_params(L, box->request);
      break;
    case FIELD_QUERY:
      push_pairs(L, script, request_query(box->request), MAX_QUERY_PAIRS, false);
      break;
    case FIELD_HEADERS:
      push_headers(L, script, index);
      break;
    case FIELD_COOKIES:
      push_cookies(L, script, box->request);
      break;
    default:
      lua_newtable(L); /* the session, where authenticate gave none */
      break;
  }
  keep_value(L, index, field_names[which]);
}

void lua_request_forget(struct script *script, struct request *request, bool is_kept) {
  if (!lua_request_has_box(request)) return;
  lua_State *L = script->L;
  int ref = request_session(request);
  ref_push(L, ref);
  int index = lua_gettop(L);
  struct request_box *box = lua_touserdata(L, index);
  for (int which = 0; is_kept && which < FIELD_STAYS; which++) {
    push_field(L, script, (field)which, index);
    if (which < FIELD_PARAMS) keep_value(L, index, field_names[which]);
    lua_pop(L, 1);
  }
  box->request = NULL;
  request_set_session(request, 0);
  ref_drop(script, &ref);
  lua_settop(L, index - 1);
}

void lua_request_forget_params(struct script *script, struct request *request) {
  if (!lua_request_has_box(request)) return;
  lua_State *L = script->L;
  ref_push(L, request_session(request));
  const struct request_box *box = lua_touserdata(L, -1);
  if (box->has_values) {
    lua_getfenv(L, -1);
    lua_pushnil(L);
    lua_setfield(L, -2, field_names[FIELD_PARAMS]);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* Upvalues: script, metatable, methods. */
static int on_index(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(3));
  if (!lua_isnil(L, -1) || lua_type(L, 2) != LUA_TSTRING) return 1;
  const struct request_box *box = lua_touserdata(L, 1);
  const char *key = lua_tostring(L, 2);
  for (int which = 0; which < FIELD_COUNT; which++) {
    if (strcmp(key, field_names[which]) != 0) continue;
    if (box->request != NULL) {
      push_field(L, script_of(L), (field)which, 1);
      return 1;
    }
    if (push_kept(L, 1, key)) return 1;
    if (which == FIELD_SINCE && box->has_values) return 0;
    return luaL_error(L, "the request is over: read %s before the handler returns", key);
  }
  return 0; /* `tls` is nil: a plain connection */
}

static int on_newindex(lua_State *L) {
  return luaL_error(L, "a request is read-only");
}

/* --- methods --- */

static struct request_box *check_box(lua_State *L) {
  struct request_box *box =
      script_check_box(L, 1, script_of(L)->request_metatable, "request (call with a colon)");
  if (box->request == NULL) luaL_error(L, "the request is over");
  return box;
}

static int l_query_all(lua_State *L) {
  struct script *script = script_of(L);
  struct request_box *box = check_box(L);
  slice wanted = script_check_slice(L, 2);
  slice rest = request_query(box->request);
  slice name;
  slice value;
  int found = 0;
  lua_newtable(L);
  lua_json_mark_array(L);
  for (int i = 0; i < MAX_QUERY_PAIRS && url_next_pair(&rest, &name, &value); i++) {
    buf_clear(&script->scratch);
    if (!url_decode(name, true, &script->scratch)) continue;
    if (!slice_is_equal(buf_peek(&script->scratch), wanted)) continue;
    if (push_decoded(L, script, value)) lua_rawseti(L, -2, ++found);
  }
  return 1;
}

static int l_json(lua_State *L) {
  struct request_box *box = check_box(L);
  lua_json_error error;
  int depth = (int)script_of(L)->worker->limits->json_depth;
  if (lua_json_decode(L, request_body(box->request), depth, &error) > 0) return 1;
  return script_push_failure(L, error.message, "json");
}

static int l_form(lua_State *L) {
  struct request_box *box = check_box(L);
  if (push_pairs(L, script_of(L), request_body(box->request), MAX_FORM_PAIRS, true)) return 1;
  return script_push_failure(L, "the body is not a urlencoded form", "form");
}

static const luaL_Reg request_methods[] = {
    {"query_all", l_query_all},
    {"json", l_json},
    {"form", l_form},
    {NULL, NULL},
};

static const luaL_Reg no_methods[] = {{NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__newindex", on_newindex},
    {NULL, NULL},
};

void lua_request_setup(struct script *script) {
  script->request_metatable = script_new_metatable(script, "request", request_methods, on_index);
  script->headers_metatable = script_new_metatable(script, "headers", no_methods, on_headers_index);
  ref_push(script->L, script->request_metatable);
  script_register(script, metamethods);
  ref_push(script->L, script->headers_metatable);
  script_register(script, metamethods);
  lua_pop(script->L, 2);
}
