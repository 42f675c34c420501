#include <lauxlib.h>

#include "codec/json.h"
#include "codec/json_encode.h"
#include "script/lua_json.h"
#include "script/lua_json_internal.h"

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
  return lua_json_fail(encoder->error, code, "cannot encode %s at value%.*s%s", what, (int)path.len,
                       room, rest);
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
      return lua_json_fail(encoder->error, "too_large", "the JSON text is too large");
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
  lua_json_push_array_metatable(L);
  struct encoder encoder = {
      .L = L, .out = out, .error = error, .array_metatable = lua_topointer(L, -1)};
  lua_pop(L, 1);
  error->offset = 0;
  bool is_encoded = encode_value(&encoder, NULL);
  if (!is_encoded) out->len = len_before;
  lua_settop(L, top);
  return is_encoded;
}
