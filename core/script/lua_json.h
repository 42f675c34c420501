/* JSON, straight between bytes and Lua values.
 *
 * Objects are plain tables, arrays are tables with the metatable that json.array gives, so that
 * they are arrays again when they are encoded, empty ones too; null is json.null, a light userdata
 * of NULL. The grammar and the numbers are codec/json.h's affair. */
#ifndef PERIGEE_SCRIPT_LUA_JSON_H
#define PERIGEE_SCRIPT_LUA_JSON_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

/* Deeper than anything that can be decoded, so that what was decoded can be wrapped and encoded. */
enum { LUA_JSON_ENCODE_DEPTH = 1024 + 32 };

/* What went wrong. `message` is for people and complete: it has the place in it, as a byte counted
 * from 1 in a text, or as a path in a value ("value.users[3].name"). */
typedef struct {
  const char *code; /* static: "json"; from the encoder also "utf8" and "too_large" */
  size_t offset;    /* from the decoder: bytes before the fault */
  char message[256];
} lua_json_error;

/* Pushes the value that `text` holds and returns 1, or pushes nothing, fills `error` and returns
 * 0. Objects and arrays may stand in each other to `max_depth` (JSON_MAX_DEPTH unless there is a
 * reason). `text` is borrowed and may belong to a Lua string on the stack. Raises only when Lua is
 * out of memory; nothing of C's is held then. */
int lua_json_decode(lua_State *L, slice text, int max_depth, lua_json_error *error);

/* Appends the value at `index`. False, with `error` filled and nothing appended, for what JSON
 * cannot say.
 *
 * A table is an array when it is marked as one or its keys are 1 to n, n > 0. Else it is an
 * object: its keys are strings, or numbers (which become strings) without a 1 among them; a table
 * that mixes the two, or is an array with holes, is refused, for its shape would depend on its
 * contents. Tables nest to LUA_JSON_ENCODE_DEPTH, which ends cycles too. No metamethod is called
 * and no Lua code runs, not even a finalizer. Raises only when Lua is out of memory; `out`, the
 * caller's, then holds a part of the text. */
bool lua_json_encode(lua_State *L, int index, struct buf *out, lua_json_error *error);

/* Marks the table at the top as an array, as json.array does. */
void lua_json_mark_array(lua_State *L);

/* Pushes the table `perigee.json`: decode (to `max_depth`), encode, array, null. */
void lua_json_open(lua_State *L, int max_depth);

#endif
