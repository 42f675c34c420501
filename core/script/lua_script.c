#include "script/lua_script.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "script/lua_json.h"

/* --- references --- */

/* Each shelf is marked in 50 us or so. The first is the registry itself, which costs one call less
 * to push from; its references are positive. Place p (from 1) of another, which is the registry's
 * reference r, is the reference -(r * SHELF_PLACES + p - 1). */
enum { SHELF_PLACES = 512 };

static struct shelf *find_shelf(struct script *script, int table) {
  struct shelf *shelf = script->shelves;
  while (shelf->table != table) shelf++;
  return shelf;
}

static struct shelf *add_shelf(struct script *script, lua_State *L) {
  size_t bytes = (script->shelf_count + 1) * sizeof *script->shelves;
  script->shelves = mem_realloc(script->shelves, bytes);
  lua_createtable(L, SHELF_PLACES, 0);
  struct shelf *shelf = &script->shelves[script->shelf_count++];
  *shelf = (struct shelf){.table = luaL_ref(L, LUA_REGISTRYINDEX)};
  return shelf;
}

/* One with a free place; the fuller ones are first. */
static struct shelf *free_shelf(struct script *script, lua_State *L) {
  while (script->full_shelves < script->shelf_count) {
    struct shelf *shelf = &script->shelves[script->full_shelves];
    if (shelf->used < SHELF_PLACES) return shelf;
    script->full_shelves++;
  }
  return add_shelf(script, L);
}

int ref_take(struct script *script, lua_State *L) {
  script->refs++;
  if (script->registry_used < SHELF_PLACES) {
    script->registry_used++;
    return luaL_ref(L, LUA_REGISTRYINDEX);
  }
  struct shelf *shelf = free_shelf(script, L);
  ref_push(L, shelf->table);
  lua_insert(L, -2);
  int place = luaL_ref(L, -2);
  lua_pop(L, 1);
  shelf->used++;
  return -(shelf->table * SHELF_PLACES + place - 1);
}

void ref_push_shelved(lua_State *L, int ref) {
  unsigned at = (unsigned)-ref;
  lua_rawgeti(L, LUA_REGISTRYINDEX, (int)(at / SHELF_PLACES));
  lua_rawgeti(L, -1, (int)(at % SHELF_PLACES) + 1);
  lua_replace(L, -2);
}

static void drop_shelved(struct script *script, int ref) {
  unsigned at = (unsigned)-ref;
  struct shelf *shelf = find_shelf(script, (int)(at / SHELF_PLACES));
  ref_push(script->L, shelf->table);
  luaL_unref(script->L, -1, (int)(at % SHELF_PLACES) + 1);
  lua_pop(script->L, 1);
  shelf->used--;
  uint32_t index = (uint32_t)(shelf - script->shelves);
  if (index < script->full_shelves) script->full_shelves = index;
}

void ref_drop(struct script *script, int *ref) {
  if (*ref == 0) return;
  script->refs--;
  if (*ref > 0) {
    script->registry_used--;
    luaL_unref(script->L, LUA_REGISTRYINDEX, *ref);
  } else {
    drop_shelved(script, *ref);
  }
  *ref = 0;
}

void refs_deinit(struct script *script) {
  mem_free(script->shelves);
}

int ref_take_standing(struct script *script, lua_State *L) {
  script->standing_refs++;
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

void ref_drop_standing(struct script *script, int *ref) {
  if (*ref == 0) return;
  script->standing_refs--;
  luaL_unref(script->L, LUA_REGISTRYINDEX, *ref);
  *ref = 0;
}

/* --- the rest --- */

void script_register(struct script *script, const luaL_Reg *functions) {
  lua_pushlightuserdata(script->L, script);
  luaL_setfuncs(script->L, functions, 1);
}

int script_new_metatable(struct script *script, const char *name, const luaL_Reg *methods,
                         lua_CFunction index) {
  lua_State *L = script->L;
  lua_newtable(L);
  int metatable = lua_gettop(L);
  lua_newtable(L);
  lua_pushlightuserdata(L, script);
  lua_pushvalue(L, metatable);
  luaL_setfuncs(L, methods, 2);
  if (index != NULL) {
    lua_pushlightuserdata(L, script);
    lua_pushvalue(L, metatable);
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, index, 3);
    lua_remove(L, -2);
  }
  lua_setfield(L, metatable, "__index");
  /* Hides the metatable from scripts, and names the type. */
  lua_pushstring(L, name);
  lua_setfield(L, metatable, "__metatable");
  return ref_take_standing(script, L);
}

void script_own_box(struct script *script, lua_State *L) {
  ref_push(L, script->library_environment);
  lua_setfenv(L, -2);
}

void *script_peek_box(lua_State *L, int index, int metatable) {
  void *box = lua_touserdata(L, index);
  if (box == NULL || !lua_getmetatable(L, index)) return NULL;
  ref_push(L, metatable);
  bool is_ours = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_ours ? box : NULL;
}

void *script_check_box(lua_State *L, int index, int metatable, const char *name) {
  void *box = script_peek_box(L, index, metatable);
  if (box == NULL) luaL_typerror(L, index, name);
  return box;
}

slice script_check_slice(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TSTRING) luaL_typerror(L, index, "string");
  return script_slice_at(L, index);
}

int script_push_failure(lua_State *L, const char *message, const char *code) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  lua_pushstring(L, code);
  return 3;
}

void script_check_loaded(lua_State *L, struct script *script, const char *name) {
  if (!script->is_loading) return;
  luaL_error(L, "%s while the script loads: loading only declares; use app:on_start", name);
}

bool script_seconds_to_ms(double seconds, uint64_t *ms) {
  const double longest = 100.0 * 365 * 24 * 3600;
  if (!(seconds >= 0 && seconds <= longest)) return false;
  *ms = (uint64_t)ceil(seconds * 1000 - 1e-6);
  return true;
}

uint64_t script_check_ms(lua_State *L, int index) {
  uint64_t ms = 0;
  if (lua_type(L, index) != LUA_TNUMBER) luaL_typerror(L, index, "number of seconds");
  if (!script_seconds_to_ms(lua_tonumber(L, index), &ms)) {
    luaL_argerror(L, index, "seconds must be from 0 to 100 years");
  }
  return ms;
}

void script_unknown_option(lua_State *L, const char *function, const char *const *later) {
  if (lua_type(L, -2) != LUA_TSTRING) {
    luaL_error(L, "option names are strings: a %s is none for %s", luaL_typename(L, -2), function);
  }
  const char *key = lua_tostring(L, -2);
  for (const char *const *name = later; name != NULL && *name != NULL; name++) {
    if (strcmp(*name, key) != 0) continue;
    if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) return;
    luaL_error(L, "not yet: %s", key);
  }
  luaL_error(L, "unknown option \"%s\" for %s", key, function);
}

bool script_check_data(lua_State *L, struct script *script, int index, slice *data) {
  int type = lua_type(L, index);
  if (type == LUA_TSTRING) {
    *data = script_slice_at(L, index);
    return true;
  }
  if (type != LUA_TTABLE) luaL_typerror(L, index, "string or table");
  lua_json_error error;
  buf_clear(&script->scratch);
  if (lua_json_encode(L, index, &script->scratch, &error)) {
    *data = buf_peek(&script->scratch);
    return true;
  }
  if (strcmp(error.code, "json") == 0) luaL_error(L, "%s", error.message);
  script_push_failure(L, error.message, error.code);
  return false;
}

const char *script_error_text(lua_State *L, int index) {
  if (lua_type(L, index) == LUA_TSTRING || lua_type(L, index) == LUA_TNUMBER) {
    return lua_tostring(L, index);
  }
  if (lua_type(L, index) == LUA_TTABLE) {
    /* A table with a message is what libraries raise; it stays where the caller has the stack. */
    lua_pushliteral(L, "message");
    lua_rawget(L, index > 0 ? index : index - 1);
    if (lua_type(L, -1) == LUA_TSTRING) return lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  return lua_pushfstring(L, "(an error value of type %s)", luaL_typename(L, index));
}
