#include "script/lua_json.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>

#include "codec/json.h"
#include "script/lua_json_internal.h"

/* Its address is the registry's key of the metatable that marks arrays. */
static const char array_key = 0;

static void push_registered(lua_State *L, const void *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

/* Registers the value on the top of the stack, which stays there. */
static void register_top(lua_State *L, const void *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void lua_json_push_array_metatable(lua_State *L) {
  push_registered(L, &array_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "json.array");
  lua_setfield(L, -2, "__name");
  register_top(L, &array_key);
}

bool lua_json_fail(lua_json_error *error, const char *code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  error->code = code;
  return false;
}

/* Decoding */

struct decoder {
  lua_State *L;
  struct json_reader reader;
  int array_metatable; /* its place on the stack */
};

enum {
  /* So many items wait on the stack for their table, which can then be made in the right size:
   * growing it one by one costs more than all else. Most objects and points fit; 128 levels of
   * these fit Lua's stack. */
  WAITING_ITEMS = 16,
  SLOTS_OF_A_LEVEL = 2 * WAITING_ITEMS + 6,
  /* Decoded strings with escapes: on C's stack up to this, else in a userdata. */
  SMALL_SCRATCH_BYTES = 1024,
};

static bool push_value(struct decoder *decoder, json_token token);

/* Moves the waiting items, `count` values above `table`, into the table as first, first + 1 … */
static void store_items(lua_State *L, int table, int first, int count) {
  for (int i = count - 1; i >= 0; i--) lua_rawseti(L, table, first + i);
}

/* Puts a new table under the `slots` values on the top of the stack. */
static int insert_table(lua_State *L, int slots, int array_size, int object_size) {
  int table = lua_gettop(L) - slots + 1;
  lua_createtable(L, array_size, object_size);
  /* There is a placeholder below the items, so that none of them has to move. */
  lua_replace(L, table - 1);
  return table - 1;
}

static bool push_array(struct decoder *decoder) {
  lua_State *L = decoder->L;
  lua_pushnil(L); /* the placeholder */
  int table = 0;
  int stored = 0;
  int waiting = 0;
  for (;;) {
    json_token token = json_read(&decoder->reader);
    bool is_end = token == JSON_ARRAY_END;
    if (!is_end) {
      if (!push_value(decoder, token)) return false;
      waiting++;
      if (waiting < WAITING_ITEMS) continue;
    }
    if (table == 0) table = insert_table(L, waiting, is_end ? waiting : 2 * waiting, 0);
    store_items(L, table, stored + 1, waiting);
    stored += waiting;
    waiting = 0;
    if (is_end) break;
  }
  lua_pushvalue(L, decoder->array_metatable);
  lua_setmetatable(L, table);
  return true;
}

static bool push_object(struct decoder *decoder) {
  lua_State *L = decoder->L;
  lua_pushnil(L); /* the placeholder */
  int table = 0;
  int waiting = 0;
  for (;;) {
    json_token token = json_read(&decoder->reader);
    bool is_end = token == JSON_OBJECT_END;
    if (!is_end) {
      if (token != JSON_KEY) return false;
      lua_pushlstring(L, decoder->reader.string.data, decoder->reader.string.len);
      if (!push_value(decoder, json_read(&decoder->reader))) return false;
      waiting++;
      if (waiting < WAITING_ITEMS) continue;
    }
    if (table == 0) table = insert_table(L, 2 * waiting, 0, is_end ? waiting : 2 * waiting);
    /* In the order of the text, so that of two equal keys the last one wins. */
    for (int i = 0; i < waiting; i++) {
      lua_pushvalue(L, table + 1 + 2 * i);
      lua_pushvalue(L, table + 2 + 2 * i);
      lua_rawset(L, table);
    }
    lua_settop(L, table);
    waiting = 0;
    if (is_end) break;
  }
  return true;
}

/* Pushes one value. False when the text is invalid; the stack is then the caller's to clear. */
static bool push_value(struct decoder *decoder, json_token token) {
  lua_State *L = decoder->L;
  switch (token) {
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
      if (!lua_checkstack(L, SLOTS_OF_A_LEVEL)) {
        decoder->reader.error = "nested too deeply";
        decoder->reader.error_offset = (size_t)(decoder->reader.at - decoder->reader.begin) - 1;
        return false;
      }
      return token == JSON_OBJECT_BEGIN ? push_object(decoder) : push_array(decoder);
    case JSON_STRING:
      lua_pushlstring(L, decoder->reader.string.data, decoder->reader.string.len);
      return true;
    case JSON_NUMBER:
      lua_pushnumber(L, decoder->reader.number);
      return true;
    case JSON_TRUE:
    case JSON_FALSE:
      lua_pushboolean(L, token == JSON_TRUE);
      return true;
    case JSON_NULL:
      lua_pushlightuserdata(L, NULL);
      return true;
    default:
      return false;
  }
}

int lua_json_decode(lua_State *L, slice text, int max_depth, lua_json_error *error) {
  int top = lua_gettop(L);
  luaL_checkstack(L, SLOTS_OF_A_LEVEL, "decoding JSON");
  lua_json_push_array_metatable(L);
  struct decoder decoder = {.L = L, .array_metatable = top + 1};
  /* Room for the longest string that the text can hold, so the buf never grows: it borrows memory
   * that is C's stack or Lua's, and nothing is lost if Lua raises. */
  char small[SMALL_SCRATCH_BYTES];
  struct buf scratch = {small, 0, sizeof small, sizeof small};
  if (text.len > sizeof small && memchr(text.data, '\\', text.len) != NULL) {
    scratch = (struct buf){lua_newuserdata(L, text.len), 0, text.len, text.len};
  }
  json_reader_init(&decoder.reader, text, max_depth, &scratch);
  if (push_value(&decoder, json_read(&decoder.reader)) && json_read(&decoder.reader) == JSON_END) {
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
    return 1;
  }
  lua_settop(L, top);
  error->offset = decoder.reader.error_offset;
  lua_json_fail(error, "json", "%s at byte %zu", decoder.reader.error, error->offset + 1);
  return 0;
}

/* Where json.encode writes. Lua's collector owns it, so nothing is lost when Lua raises. */
struct box {
  struct buf text;
  /* Making the Lua string may run finalizers, and these may encode too: they make a box of their
   * own. A box that stays busy, because making the string raised, is replaced in the same way. */
  bool is_busy;
};

static const char box_key = 0;

enum {
  MAX_TEXT_BYTES = 64 * 1024 * 1024, /* far above what any limit lets a client receive */
  KEPT_TEXT_BYTES = 256 * 1024,      /* a larger buf goes back after use */
};

static int free_box(lua_State *L) {
  struct box *box = lua_touserdata(L, 1);
  buf_deinit(&box->text);
  box->is_busy = true;
  return 0;
}

/* Pushes the box too, which keeps it alive. */
static struct box *push_box(lua_State *L) {
  push_registered(L, &box_key);
  struct box *box = lua_touserdata(L, -1);
  if (box != NULL && !box->is_busy) return box;
  lua_pop(L, 1);
  box = lua_newuserdata(L, sizeof *box);
  *box = (struct box){.is_busy = false};
  buf_init(&box->text, MAX_TEXT_BYTES);
  if (luaL_newmetatable(L, "perigee.json.box")) {
    lua_pushcfunction(L, free_box);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  register_top(L, &box_key);
  return box;
}

void lua_json_mark_array(lua_State *L) {
  lua_json_push_array_metatable(L);
  lua_setmetatable(L, -2);
}

static int decode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  slice text;
  text.data = lua_tolstring(L, 1, &text.len);
  lua_json_error error;
  int max_depth = (int)lua_tointeger(L, lua_upvalueindex(1));
  if (lua_json_decode(L, text, max_depth, &error)) return 1;
  lua_pushnil(L);
  lua_pushstring(L, error.message);
  lua_pushstring(L, error.code);
  return 3;
}

static int encode(lua_State *L) {
  luaL_checkany(L, 1);
  struct box *box = push_box(L);
  buf_clear(&box->text);
  lua_json_error error;
  if (!lua_json_encode(L, 1, &box->text, &error)) {
    /* A value that JSON cannot say is a mistake of the script; what its strings hold came from
     * elsewhere. */
    if (strcmp(error.code, "json") == 0) return luaL_error(L, "%s", error.message);
    lua_pushnil(L);
    lua_pushstring(L, error.message);
    lua_pushstring(L, error.code);
    return 3;
  }
  box->is_busy = true;
  lua_pushlstring(L, box->text.data, box->text.len);
  box->is_busy = false;
  if (box->text.capacity > KEPT_TEXT_BYTES) buf_deinit(&box->text);
  return 1;
}

static int array(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_json_push_array_metatable(L);
  lua_setmetatable(L, 1);
  return 1;
}

void lua_json_open(lua_State *L, int max_depth) {
  static const luaL_Reg functions[] = {
      {"decode", decode}, {"encode", encode}, {"array", array}, {NULL, NULL}};
  lua_newtable(L);
  lua_pushinteger(L, max_depth);
  luaL_setfuncs(L, functions, 1);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
}
