#include "script/lua_sandbox.h"

#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "gateway/gateway.h"
#include "gateway/sources.h"
#include "script/embedded_lua.h"
#include "script/lua_log.h"

/* A table of modules has the core's functions, for the embedded Lua code, at this key; a module
 * under way is marked by its address. */
static const char core_key = 'c';

enum { MAX_MODULE_NAME = 200 };

/* The upvalues of functions that belong to a generation: they find what is its own wherever they
 * are called from. */
enum { UPVALUE_MODULES = 2, UPVALUE_ENVIRONMENT = 3, UPVALUES = 3 };

static void push_environment(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(UPVALUE_ENVIRONMENT));
}

/* --- loading text --- */

bool sandbox_load_file(struct script *script, lua_State *L, const char *path) {
  struct buf source;
  const char *error;
  buf_init(&source, 0);
  if (!sources_read(script->sources, path, &source, &error)) {
    buf_deinit(&source);
    lua_pushfstring(L, "%s: %s", path, error);
    return false;
  }
  lua_pushfstring(L, "@%s", path);
  slice text = buf_peek(&source);
  /* A first line for the shell is a comment to us; its newline stays, for the line numbers. */
  if (slice_has_prefix(text, SLICE("#"))) {
    const char *newline = memchr(text.data, '\n', text.len);
    text = slice_skip(text, newline != NULL ? (size_t)(newline - text.data) : text.len);
  }
  int status =
      luaL_loadbufferx(L, text.len > 0 ? text.data : "", text.len, lua_tostring(L, -1), "t");
  lua_remove(L, -2);
  buf_deinit(&source);
  return status == 0;
}

static const struct embedded_lua *find_embedded(const char *name) {
  for (const struct embedded_lua *module = embedded_lua; module->name != NULL; module++) {
    if (strcmp(module->name, name) == 0 && strstr(name, "._meta") == NULL) return module;
  }
  return NULL;
}

/* --- require --- */

static bool is_module_name(slice name) {
  if (name.len == 0 || name.len > MAX_MODULE_NAME) return false;
  char before = '.';
  for (size_t i = 0; i < name.len; i++) {
    char c = name.data[i];
    bool is_plain = (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
                    c == '_' || c == '-';
    if (!is_plain && (c != '.' || before == '.')) return false;
    before = c;
  }
  return before != '.';
}

static bool is_readable(const struct script *script, const char *path) {
  const char *error;
  return sources_read(script->sources, path, NULL, &error);
}

/* Pushes the path of a module's file, or raises with what was looked for. */
static const char *find_file(lua_State *L, const struct script *script, const char *name) {
  bool is_here = strcmp(script->directory, ".") == 0;
  const char *directory = is_here ? "" : script->directory;
  const char *slash = is_here ? "" : "/";
  const char *path = luaL_gsub(L, name, ".", "/");
  const char *first = lua_pushfstring(L, "%s%s%s.lua", directory, slash, path);
  if (is_readable(script, first)) return first;
  const char *second = lua_pushfstring(L, "%s%s%s/init.lua", directory, slash, path);
  if (is_readable(script, second)) return second;
  luaL_error(L, "module \"%s\" not found: looked for %s and %s", name, first, second);
  return NULL;
}

bool sandbox_has_position(const char *message) {
  const char *colon = strstr(message, ": ");
  if (colon == NULL || colon == message) return false;
  const char *digit = colon;
  while (digit > message && digit[-1] >= '0' && digit[-1] <= '9') digit--;
  return digit < colon && digit > message + 1 && digit[-1] == ':';
}

void sandbox_push_where(lua_State *L, int level) {
  lua_Debug frame;
  for (; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.source[0] == '@' && frame.currentline > 0) {
      lua_pushfstring(L, "%s:%d", frame.short_src, frame.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

int sandbox_on_load_error(lua_State *L) {
  const char *message = script_error_text(L, 1);
  if (sandbox_has_position(message)) {
    lua_pushstring(L, message);
    return 1;
  }
  sandbox_push_where(L, 1);
  const char *where = lua_tostring(L, -1);
  if (where[0] == '\0') {
    lua_pushstring(L, message);
  } else {
    lua_pushfstring(L, "%s: %s", where, message);
  }
  return 1;
}

/* Calls the chunk at the top with the module's name and pushes what the module is. One that fails
 * may be required again, and its error keeps its own position. */
static void run_module(lua_State *L, const char *name, bool is_embedded) {
  int chunk = lua_gettop(L);
  push_environment(L);
  lua_setfenv(L, chunk);
  lua_pushcfunction(L, sandbox_on_load_error);
  lua_insert(L, chunk);
  lua_pushstring(L, name);
  if (is_embedded) {
    lua_pushlightuserdata(L, (void *)&core_key);
    lua_rawget(L, lua_upvalueindex(UPVALUE_MODULES));
  }
  if (lua_pcall(L, is_embedded ? 2 : 1, 1, chunk) != 0) {
    lua_pushnil(L);
    lua_setfield(L, lua_upvalueindex(UPVALUE_MODULES), name);
    lua_error(L);
  }
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, true);
  }
}

void sandbox_push_ffi(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_getfield(L, -1, "ffi");
  if (lua_isnil(L, -1)) { /* opening it puts it there */
    lua_pop(L, 1);
    lua_pushcfunction(L, luaopen_ffi);
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
  }
  lua_remove(L, -2);
}

/* The standard library's own modules: those that the script has anyway, by their names, and what
 * LuaJIT keeps for require alone. Pushes the module, or returns false. */
static bool push_standard(lua_State *L, const struct script *script, const char *name) {
  static const char *const plain[] = {"string", "table", "math",  "os",       "io",
                                      "bit",    "jit",   "debug", "coroutine"};
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
    if (strcmp(name, plain[i]) != 0) continue;
    lua_getfield(L, lua_upvalueindex(UPVALUE_ENVIRONMENT), name);
    return true;
  }
  bool is_safe = strcmp(name, "table.new") == 0 || strcmp(name, "table.clear") == 0 ||
                 strcmp(name, "string.buffer") == 0;
  if (!is_safe && !gateway_config(script->worker->gateway)->is_unsafe) return false;
  if (strcmp(name, "ffi") == 0) {
    sandbox_push_ffi(L);
    return true;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, name);
    if (lua_isfunction(L, -1)) {
      lua_pushstring(L, name);
      lua_call(L, 1, 1);
      return true;
    }
  }
  return false;
}

/* The library's files have no line that would mean anything to a script's author: "=" keeps them
 * out of positions. */
static void load_embedded(lua_State *L, const struct embedded_lua *module) {
  lua_pushfstring(L, "=%s", module->name);
  int status = luaL_loadbufferx(L, module->source, module->len, lua_tostring(L, -1), "t");
  lua_remove(L, -2);
  if (status != 0) lua_error(L);
}

static int l_require(lua_State *L) {
  struct script *script = script_of(L);
  slice given = script_check_slice(L, 1);
  const char *name = given.data;
  if (!is_module_name(given)) {
    return luaL_error(L, "\"%s\" is no module name: names joined by dots, as in \"rooms.list\"",
                      name);
  }
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(UPVALUE_MODULES));
  lua_getfield(L, 2, name);
  if (lua_touserdata(L, -1) == &core_key) {
    return luaL_error(L, "module \"%s\" requires itself", name);
  }
  if (!lua_isnil(L, -1)) return 1;
  if (push_standard(L, script, name)) {
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
  }
  lua_settop(L, 2);
  const struct embedded_lua *embedded = find_embedded(name);
  if (embedded != NULL) {
    load_embedded(L, embedded);
  } else {
    const char *path = find_file(L, script, name);
    if (!sandbox_load_file(script, L, path)) return lua_error(L);
  }
  lua_pushlightuserdata(L, (void *)&core_key);
  lua_setfield(L, 2, name);
  run_module(L, name, embedded != NULL);
  lua_pushvalue(L, -1);
  lua_setfield(L, 2, name);
  return 1;
}

/* --- the library --- */

static int push_load_result(lua_State *L, int status) {
  if (status == 0) {
    push_environment(L);
    lua_setfenv(L, -2);
    return 1;
  }
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* As Lua's, without bytecode, which could break out of the language. */
static int l_loadstring(lua_State *L) {
  slice text = script_check_slice(L, 1);
  const char *name = luaL_optstring(L, 2, text.data);
  return push_load_result(L, luaL_loadbufferx(L, text.data, text.len, name, "t"));
}

/* load(text or function [, name]) */
static int l_load(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING) return l_loadstring(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *name = luaL_optstring(L, 2, "=(load)");
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  for (;;) {
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1) || (lua_isstring(L, -1) && lua_objlen(L, -1) == 0)) break;
    if (!lua_isstring(L, -1)) return luaL_error(L, "a load function returns strings");
    luaL_addvalue(&text);
  }
  lua_pop(L, 1);
  luaL_pushresult(&text);
  slice whole = script_slice_at(L, -1);
  return push_load_result(L, luaL_loadbufferx(L, whole.data, whole.len, name, "t"));
}

static const luaL_Reg sandbox_functions[] = {
    {"require", l_require}, {"loadstring", l_loadstring},
    {"load", l_load},       {"print", lua_log_print},
    {NULL, NULL},
};

static int on_new_global(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return luaL_error(L, "a global must have a name");
  const char *name = lua_tostring(L, 2);
  return luaL_error(L, "global \"%s\" is assigned; write local %s", name, name);
}

/* What a sandboxed script does not get: {library, name}; "" is the global table. */
static const char *const removed[][2] = {
    {"", "dofile"},    {"", "loadfile"},       {"", "module"},    {"os", "exit"},
    {"os", "execute"}, {"os", "setlocale"},    {"io", "popen"},   {"", "package"},
    {"", "ffi"},       {"package", "loadlib"}, {"jit", "attach"}, {"jit", "util"},
    {"jit", "opt"},    {"", "newproxy"},
};

static void remove_unsafe(lua_State *L) {
  for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
    if (removed[i][0][0] == '\0') {
      lua_pushnil(L);
      lua_setglobal(L, removed[i][1]);
      continue;
    }
    lua_getglobal(L, removed[i][0]);
    if (lua_istable(L, -1)) {
      lua_pushnil(L);
      lua_setfield(L, -2, removed[i][1]);
    }
    lua_pop(L, 1);
  }
  /* Of debug only what tells and changes nothing. */
  lua_newtable(L);
  lua_getglobal(L, "debug");
  lua_getfield(L, -1, "traceback");
  lua_setfield(L, -3, "traceback");
  lua_pop(L, 1);
  lua_setglobal(L, "debug");
}

/* Pushes a copy of the globals, whose libraries are copies too: what a script changes in them ends
 * with its generation. */
static void push_library(struct script *script) {
  lua_State *L = script->L;
  ref_push(L, script->library_environment);
  int globals = lua_gettop(L);
  lua_newtable(L);
  int library = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, globals) != 0; lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    if (lua_istable(L, -2) && !lua_rawequal(L, -2, globals)) {
      lua_newtable(L);
      for (lua_pushnil(L); lua_next(L, -4) != 0;) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
      }
    } else {
      lua_pushvalue(L, -2);
    }
    lua_rawset(L, library);
  }
  lua_remove(L, globals);
}

static void seed_random(lua_State *L) {
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, (double)(random_u64() >> 11));
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}

void sandbox_open(struct script *script) {
  lua_State *L = script->L;
  luaL_openlibs(L);
  seed_random(L);
  if (!gateway_config(script->worker->gateway)->is_unsafe) remove_unsafe(L);
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  script->library_environment = ref_take_standing(script, L);
}

void sandbox_push_environment(struct script *script) {
  lua_State *L = script->L;
  int core = lua_gettop(L);
  lua_newtable(L);
  int environment = lua_gettop(L);
  lua_pushvalue(L, environment);
  lua_setfield(L, environment, "_G");

  lua_newtable(L); /* its metatable */
  push_library(script);
  lua_pushlightuserdata(L, script);
  lua_newtable(L); /* modules */
  lua_pushlightuserdata(L, (void *)&core_key);
  lua_pushvalue(L, core);
  lua_rawset(L, -3);
  lua_pushvalue(L, environment);
  luaL_setfuncs(L, sandbox_functions, UPVALUES);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, on_new_global);
  lua_setfield(L, -2, "__newindex");
  lua_pushliteral(L, "environment");
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, environment);
  lua_remove(L, core);
}

void sandbox_run_library(struct script *script, const char *name) {
  lua_State *L = script->L;
  int core = lua_gettop(L);
  load_embedded(L, find_embedded(name));
  ref_push(L, script->library_environment);
  lua_setfenv(L, -2);
  lua_pushstring(L, name);
  lua_pushvalue(L, core);
  lua_call(L, 2, 1);
  lua_remove(L, core);
}
