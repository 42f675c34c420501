#include "script/lua_keep.h"

enum { MAX_NAME = 255 };

/* Registry keys: all tables by name, and of the load that is under way the names that it made. */
static const char kept_key = 'k';
static const char provisional_key = 'p';

static void push_registry(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

static void set_new_table(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void lua_keep_setup(struct script *script) {
  set_new_table(script->L, &kept_key);
  set_new_table(script->L, &provisional_key);
}

void lua_keep_push(lua_State *L) {
  push_registry(L, &kept_key);
}

/* Code that is live has it: it does not go with the load that made it. */
static void confirm(lua_State *L, int name) {
  push_registry(L, &provisional_key);
  lua_pushvalue(L, name);
  lua_pushnil(L);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* keep(name [, initial]) */
static int l_keep(lua_State *L) {
  slice name = script_check_slice(L, 1);
  if (name.len == 0 || name.len > MAX_NAME) luaL_argerror(L, 1, "a name has 1 to 255 bytes");
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  push_registry(L, &kept_key);
  lua_pushvalue(L, 1);
  lua_rawget(L, 3);
  bool is_loading = script_of(L)->is_loading;
  if (!lua_isnil(L, -1)) {
    if (!is_loading) confirm(L, 1);
    return 1;
  }
  if (is_loading) {
    push_registry(L, &provisional_key);
    lua_pushvalue(L, 1);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
  }
  if (lua_isnil(L, 2)) {
    lua_newtable(L);
    lua_replace(L, 2);
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawset(L, 3);
  lua_pushvalue(L, 2);
  return 1;
}

void lua_keep_confirm(struct script *script) {
  set_new_table(script->L, &provisional_key);
}

void lua_keep_discard(struct script *script) {
  lua_State *L = script->L;
  push_registry(L, &kept_key);
  push_registry(L, &provisional_key);
  for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_pushnil(L);
    lua_rawset(L, -6);
  }
  lua_pop(L, 2);
  set_new_table(L, &provisional_key);
}

static const luaL_Reg perigee_keep_functions[] = {
    {"keep", l_keep},
    {NULL, NULL},
};

void lua_keep_register(struct script *script) {
  script_register(script, perigee_keep_functions);
}
