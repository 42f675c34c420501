#include "script/lua_json.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>

#include "codec/json.h"
#include "codec/json_encode.h"

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

static void push_array_metatable(lua_State *L) {
  push_registered(L, &array_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "json.array");
  lua_setfield(L, -2, "__name");
  register_top(L, &array_key);
}

static bool fail(lua_json_error *error, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(lua_json_error *error, const char *code, const char *format, ...) {
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
  push_array_metatable(L);
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
  fail(error, "json", "%s at byte %zu", decoder.reader.error, error->offset + 1);
  return 0;
}

/* Encoding */

/* The way from the outermost value to the one at hand, for error messages: each level's key lives
 * in the C frame that walks it. */
struct step {
  const struct step *up;
  slice name; /* data NULL: `number` is the key */
  double number;
};

struct encoder {
  lua_State *L;
  struct buf *out;
  lua_json_error *error;
  const void *array_metatable;
  int depth;
};

enum { MAX_SHOWN_NAME_BYTES = 40 };

static bool is_name(slice name) {
  if (name.len == 0 || name.len > MAX_SHOWN_NAME_BYTES) return false;
  for (size_t i = 0; i < name.len; i++) {
    char c = ascii_lower(name.data[i]);
    bool is_letter = (c >= 'a' && c <= 'z') || c == '_';
    if (!is_letter && (i == 0 || c < '0' || c > '9')) return false;
  }
  return true;
}

/* False when there is no more room. */
static bool append_step(struct buf *path, const struct step *step) {
  if (step->name.data == NULL) return buf_append_format(path, "[%.17g]", step->number);
  if (is_name(step->name)) {
    return buf_append_format(path, ".%.*s", (int)step->name.len, step->name.data);
  }
  char shown[MAX_SHOWN_NAME_BYTES];
  size_t len = step->name.len < sizeof shown ? step->name.len : sizeof shown;
  for (size_t i = 0; i < len; i++) {
    char c = step->name.data[i];
    shown[i] = c >= ' ' && c <= '~' ? c : '?';
  }
  const char *rest = len < step->name.len ? "..." : "";
  return buf_append_format(path, "[\"%.*s\"%s]", (int)len, shown, rest);
}

/* `what` completes "cannot encode". A very long path is shown from its beginning. */
static bool fail_at(struct encoder *encoder, const struct step *last, const char *code,
                    const char *what) {
  const struct step *steps[LUA_JSON_ENCODE_DEPTH + 1];
  size_t count = 0;
  for (; last != NULL; last = last->up) steps[count++] = last;
  char room[128];
  struct buf path = {room, 0, sizeof room, sizeof room};
  while (count > 0 && append_step(&path, steps[count - 1])) count--;
  const char *rest = count > 0 ? "..." : "";
  return fail(encoder->error, code, "cannot encode %s at value%.*s%s", what, (int)path.len, room,
              rest);
}

static bool check(struct encoder *encoder, const struct step *last, int result) {
  switch (result) {
    case JSON_ENCODED:
      return true;
    case JSON_NOT_UTF8:
      return fail_at(encoder, last, "utf8", "a string that is not UTF-8");
    case JSON_NOT_FINITE:
      return fail_at(encoder, last, "json", "NaN or infinity");
    default:
      return fail(encoder->error, "too_large", "the JSON text is too large");
  }
}

static inline bool put(struct encoder *encoder, char c) {
  struct buf *out = encoder->out;
  if (out->len < out->capacity) {
    out->data[out->len++] = c;
    return true;
  }
  return buf_append_char(out, c) || check(encoder, NULL, JSON_TOO_LARGE);
}

static bool put_word(struct encoder *encoder, slice word) {
  return buf_append(encoder->out, word) || check(encoder, NULL, JSON_TOO_LARGE);
}

static bool encode_value(struct encoder *encoder, const struct step *up);

enum { SLOTS_OF_A_TABLE = 8 };

/* Whether the table on the top of the stack is marked as an array. */
static bool is_marked_array(struct encoder *encoder) {
  if (!lua_getmetatable(encoder->L, -1)) return false;
  bool is_array = lua_topointer(encoder->L, -1) == encoder->array_metatable;
  lua_pop(encoder->L, 1);
  return is_array;
}

/* The key at `index` as a step. Of a number nothing is converted in place: that would confuse
 * lua_next. False for a key that JSON cannot have. */
static bool take_key(lua_State *L, int index, struct step *step) {
  switch (lua_type(L, index)) {
    case LUA_TSTRING:
      step->name.data = lua_tolstring(L, index, &step->name.len);
      return true;
    case LUA_TNUMBER:
      step->name.data = NULL;
      step->number = lua_tonumber(L, index);
      return true;
    default:
      return false;
  }
}

static bool fail_key(struct encoder *encoder, const struct step *up, int index) {
  char what[80];
  snprintf(what, sizeof what, "a key of type %s", luaL_typename(encoder->L, index));
  return fail_at(encoder, up, "json", what);
}

enum shape { ARRAY, STRING_KEYS, NUMBER_KEYS, UNFIT };

/* What a table is that begins with a number, or is marked. `step` gets the key that does not fit.
 * The table is on the top of the stack; `count` is lua_objlen's. */
static enum shape find_shape(struct encoder *encoder, bool is_marked, int count,
                             struct step *step) {
  lua_State *L = encoder->L;
  int in_sequence = 0;
  bool has_one = false;
  bool has_others = false;
  struct step other = *step; /* some key outside the sequence */
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TNUMBER) {
      if (!take_key(L, -1, step)) *step = (struct step){.up = step->up, .name = SLICE("?")};
      lua_pop(L, 1);
      return UNFIT;
    }
    double key = lua_tonumber(L, -1);
    has_one = has_one || key == 1;
    if (key >= 1 && key <= count && (double)(int)key == key) {
      in_sequence++;
    } else {
      has_others = true;
      other.name.data = NULL;
      other.number = key;
    }
  }
  if (!has_others && in_sequence == count) return ARRAY;
  if (!has_others) { /* a hole below `count` */
    other.name.data = NULL;
    other.number = count;
  }
  *step = other;
  return is_marked || has_one ? UNFIT : NUMBER_KEYS;
}

/* Items `first` to `count` of the table on the top of the stack. */
static bool encode_items(struct encoder *encoder, int first, int count, struct step *step) {
  lua_State *L = encoder->L;
  for (int i = first; i <= count; i++) {
    if (i > 1 && !put(encoder, ',')) return false;
    lua_rawgeti(L, -1, i);
    step->number = i;
    if (!encode_value(encoder, step)) return false;
    lua_pop(L, 1);
  }
  return true;
}

static bool fail_unfit(struct encoder *encoder, bool is_marked, const struct step *step) {
  return fail_at(encoder, step, "json",
                 is_marked ? "an array with holes or other keys"
                           : "a table that is an array with holes or other keys");
}

/* A table on the top of the stack that holds 1 first, or is marked. Tables come in order as long as
 * they grew in order, so the first pass tries to write as it goes; where the order ends, keys are
 * counted and the rest is taken by index. Nothing is written twice. */
static bool encode_array(struct encoder *encoder, bool is_marked, const struct step *up) {
  lua_State *L = encoder->L;
  struct step step = {.up = up};
  int written = 0;
  if (!put(encoder, '[')) return false;
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    if (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) != written + 1) {
      lua_pop(L, 2);
      int count = (int)lua_objlen(L, -1);
      if (find_shape(encoder, is_marked, count, &step) != ARRAY) {
        return fail_unfit(encoder, is_marked, &step);
      }
      return encode_items(encoder, written + 1, count, &step) && put(encoder, ']');
    }
    if (written > 0 && !put(encoder, ',')) return false;
    step.number = ++written;
    if (!encode_value(encoder, &step)) return false;
    lua_pop(L, 1);
  }
  return put(encoder, ']');
}

static bool encode_key(struct encoder *encoder, const struct step *step) {
  if (step->name.data != NULL) {
    return check(encoder, step, json_encode_string(encoder->out, step->name)) && put(encoder, ':');
  }
  return put(encoder, '"') &&
         check(encoder, step, json_encode_number(encoder->out, step->number)) &&
         put(encoder, '"') && put(encoder, ':');
}

/* The table on the top of the stack, all of whose keys must be of `key_type`. */
static bool encode_object(struct encoder *encoder, int key_type, const struct step *up) {
  lua_State *L = encoder->L;
  bool is_first = true;
  if (!put(encoder, '{')) return false;
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    struct step step = {.up = up};
    if (!take_key(L, -2, &step)) return fail_key(encoder, up, -2);
    if (lua_type(L, -2) != key_type) {
      return fail_at(encoder, &step, "json", "a table that mixes string and number keys");
    }
    if (!is_first && !put(encoder, ',')) return false;
    is_first = false;
    if (!encode_key(encoder, &step) || !encode_value(encoder, &step)) return false;
    lua_pop(L, 1);
  }
  return put(encoder, '}');
}

/* An unmarked table whose first key is a number, but not 1. */
static bool encode_numbered(struct encoder *encoder, const struct step *up) {
  struct step step = {.up = up};
  int count = (int)lua_objlen(encoder->L, -1);
  switch (find_shape(encoder, false, count, &step)) {
    case ARRAY:
      return put(encoder, '[') && encode_items(encoder, 1, count, &step) && put(encoder, ']');
    case NUMBER_KEYS:
      return encode_object(encoder, LUA_TNUMBER, up);
    default:
      return fail_unfit(encoder, false, &step);
  }
}

/* The table on the top of the stack, which stays there; after a failure the stack is higher. */
static bool encode_table(struct encoder *encoder, const struct step *up) {
  lua_State *L = encoder->L;
  if (is_marked_array(encoder)) return encode_array(encoder, true, up);
  lua_pushnil(L);
  if (lua_next(L, -2) == 0) return put(encoder, '{') && put(encoder, '}');
  int key_type = lua_type(L, -2);
  bool is_one = key_type == LUA_TNUMBER && lua_tonumber(L, -2) == 1;
  lua_pop(L, 2);
  if (is_one) return encode_array(encoder, false, up);
  if (key_type == LUA_TNUMBER) return encode_numbered(encoder, up);
  return encode_object(encoder, LUA_TSTRING, up);
}

static bool encode_nested(struct encoder *encoder, const struct step *up) {
  if (encoder->depth >= LUA_JSON_ENCODE_DEPTH || !lua_checkstack(encoder->L, SLOTS_OF_A_TABLE)) {
    return fail_at(encoder, up, "json", "tables nested so deeply, or in a cycle,");
  }
  encoder->depth++;
  bool is_encoded = encode_table(encoder, up);
  encoder->depth--;
  return is_encoded;
}

/* The value on the top of the stack, which stays there; after a failure the stack is higher. */
static bool encode_value(struct encoder *encoder, const struct step *up) {
  lua_State *L = encoder->L;
  struct buf *out = encoder->out;
  int type = lua_type(L, -1);
  switch (type) {
    case LUA_TSTRING: {
      slice text;
      text.data = lua_tolstring(L, -1, &text.len);
      return check(encoder, up, json_encode_string(out, text));
    }
    case LUA_TNUMBER:
      return check(encoder, up, json_encode_number(out, lua_tonumber(L, -1)));
    case LUA_TBOOLEAN:
      return put_word(encoder, lua_toboolean(L, -1) ? SLICE("true") : SLICE("false"));
    case LUA_TNIL:
      return put_word(encoder, SLICE("null"));
    case LUA_TTABLE:
      return encode_nested(encoder, up);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, -1) == NULL) return put_word(encoder, SLICE("null"));
      break;
    default:
      break;
  }
  char what[80];
  snprintf(what, sizeof what, "a %s", lua_typename(L, type));
  return fail_at(encoder, up, "json", what);
}

bool lua_json_encode(lua_State *L, int index, struct buf *out, lua_json_error *error) {
  int top = lua_gettop(L);
  size_t len_before = out->len;
  luaL_checkstack(L, SLOTS_OF_A_TABLE, "encoding JSON");
  lua_pushvalue(L, index);
  push_registered(L, &array_key);
  struct encoder encoder = {
      .L = L, .out = out, .error = error, .array_metatable = lua_topointer(L, -1)};
  lua_pop(L, 1);
  error->offset = 0;
  bool is_encoded = encode_value(&encoder, NULL);
  if (!is_encoded) out->len = len_before;
  lua_settop(L, top);
  return is_encoded;
}

/* The library */

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
  if (!lua_json_encode(L, 1, &box->text, &error)) return luaL_error(L, "%s", error.message);
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
  push_array_metatable(L);
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
