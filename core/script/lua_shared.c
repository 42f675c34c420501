#include "script/lua_shared.h"
#include "script/lua_json.h"

#include <string.h>

#include "gateway/gateway.h"
#include "pubsub/shared.h"

enum { DEFAULT_KEYS = 100 };

static int l_shared(lua_State *L) {
  struct script *script = script_of(L);
  slice name = script_check_slice(L, 1);
  struct shared *shared = shared_find(gateway_shared(script->worker->gateway), name);
  if (shared == NULL && (name.len == 0 || name.len > SHARED_NAME_BYTES)) {
    return luaL_argerror(L, 1, "a name has 1 to 255 bytes");
  }
  if (shared == NULL) {
    return luaL_error(
        L, "the shared dictionaries are full (limit shared_bytes): no room for \"%s\"", name.data);
  }
  struct shared **box = lua_newuserdata(L, sizeof(struct shared *));
  *box = shared;
  ref_push(L, script->shared_metatable);
  lua_setmetatable(L, -2);
  return 1;
}

static struct shared *check_box(lua_State *L) {
  struct shared **box = script_check_box(L, 1, script_of(L)->shared_metatable, "shared dictionary");
  return *box;
}

static shared_value check_value(lua_State *L, int index) {
  shared_value value = {.type = SHARED_NONE};
  switch (lua_type(L, index)) {
    case LUA_TSTRING:
      value.type = SHARED_STRING;
      value.string = script_slice_at(L, index);
      break;
    case LUA_TNUMBER:
      value.type = SHARED_NUMBER;
      value.number = lua_tonumber(L, index);
      break;
    case LUA_TBOOLEAN:
      value.type = SHARED_BOOLEAN;
      value.boolean = lua_toboolean(L, index);
      break;
    default:
      luaL_typerror(L, index, "string, number or boolean");
  }
  return value;
}

/* 0: for ever. */
static uint64_t check_ttl(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return 0;
  uint64_t ttl_ms = script_check_ms(L, index);
  if (ttl_ms == 0) luaL_argerror(L, index, "a time to live is more than 0 seconds");
  return ttl_ms;
}

static int push_full(lua_State *L) {
  return script_push_failure(L, "the shared dictionaries are full", "full");
}

static int l_get(lua_State *L) {
  struct shared *shared = check_box(L);
  slice key = script_check_slice(L, 2);
  shared_value value = shared_get(shared, key, &script_of(L)->scratch);
  switch (value.type) {
    case SHARED_STRING:
      script_push_slice(L, value.string);
      break;
    case SHARED_NUMBER:
      lua_pushnumber(L, value.number);
      break;
    case SHARED_BOOLEAN:
      lua_pushboolean(L, value.boolean);
      break;
    default:
      lua_pushnil(L);
  }
  return 1;
}

static int l_set(lua_State *L) {
  struct shared *shared = check_box(L);
  slice key = script_check_slice(L, 2);
  shared_value value = {.type = SHARED_NONE};
  luaL_checkany(L, 3);
  if (!lua_isnil(L, 3)) value = check_value(L, 3);
  uint64_t ttl_ms = check_ttl(L, 4);
  script_check_loaded(L, script_of(L), "shared:set");
  if (shared_set(shared, key, &value, ttl_ms) == SHARED_FULL) return push_full(L);
  lua_pushboolean(L, true);
  return 1;
}

static int l_add(lua_State *L) {
  struct shared *shared = check_box(L);
  slice key = script_check_slice(L, 2);
  shared_value value = check_value(L, 3);
  uint64_t ttl_ms = check_ttl(L, 4);
  script_check_loaded(L, script_of(L), "shared:add");
  shared_result result = shared_add(shared, key, &value, ttl_ms);
  if (result == SHARED_FULL) return push_full(L);
  lua_pushboolean(L, result == SHARED_OK);
  return 1;
}

static int l_incr(lua_State *L) {
  struct shared *shared = check_box(L);
  slice key = script_check_slice(L, 2);
  double by = luaL_optnumber(L, 3, 1);
  uint64_t ttl_ms = check_ttl(L, 4);
  script_check_loaded(L, script_of(L), "shared:incr");
  double number = 0;
  switch (shared_incr(shared, key, by, ttl_ms, &number)) {
    case SHARED_FULL:
      return push_full(L);
    case SHARED_NOT_NUMBER:
      return script_push_failure(L, "the value of this key is not a number", "type");
    default:
      lua_pushnumber(L, number);
      return 1;
  }
}

static int l_delete(lua_State *L) {
  struct shared *shared = check_box(L);
  slice key = script_check_slice(L, 2);
  script_check_loaded(L, script_of(L), "shared:delete");
  lua_pushboolean(L, shared_delete(shared, key));
  return 1;
}

/* Under the lock: copies a key, its length in front. */
static void copy_key(void *context, slice key) {
  struct buf *out = context;
  buf_append(out, slice_of(&key.len, sizeof key.len));
  buf_append(out, key);
}

static int l_keys(lua_State *L) {
  struct script *script = script_of(L);
  struct shared *shared = check_box(L);
  slice prefix = lua_isnoneornil(L, 2) ? SLICE("") : script_check_slice(L, 2);
  double max = luaL_optnumber(L, 3, DEFAULT_KEYS);
  if (!(max >= 0 && max <= 1e9)) return luaL_argerror(L, 3, "a count of keys");
  buf_clear(&script->scratch);
  size_t count = shared_keys(shared, prefix, (size_t)max, copy_key, &script->scratch);
  lua_createtable(L, (int)count, 0);
  lua_json_mark_array(L);
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    size_t len;
    memcpy(&len, script->scratch.data + at, sizeof len);
    lua_pushlstring(L, script->scratch.data + at + sizeof len, len);
    lua_rawseti(L, -2, (int)(i + 1));
    at += sizeof len + len;
  }
  return 1;
}

static const luaL_Reg perigee_shared_functions[] = {
    {"shared", l_shared},
    {NULL, NULL},
};

static const luaL_Reg shared_methods[] = {
    {"get", l_get},       {"set", l_set},   {"add", l_add}, {"incr", l_incr},
    {"delete", l_delete}, {"keys", l_keys}, {NULL, NULL},
};

void lua_shared_setup(struct script *script) {
  script->shared_metatable = script_new_metatable(script, "shared", shared_methods, NULL);
}

void lua_shared_register(struct script *script) {
  script_register(script, perigee_shared_functions);
}
