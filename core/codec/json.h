/* Reading JSON (RFC 8259): bytes to tokens.
 *
 * Strict: one value of any kind with nothing but white space around it, no comments, no trailing
 * commas, no leading zeros, no NaN, no byte order mark; strings are valid UTF-8 and an escaped
 * surrogate has its partner. A key may stand twice in an object; by custom the last one wins,
 * which is the affair of whoever builds values. How long a text may be was decided by the limit
 * under which it was read; how deep it nests is limited here. What values become belongs to
 * script/lua_json.h, writing to json_encode.h. No I/O, no clock, no locale, no allocation but the
 * growth of a caller's buf. */
#ifndef PERIGEE_CODEC_JSON_H
#define PERIGEE_CODEC_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum {
  JSON_MAX_DEPTH = 128,    /* the default: no real document comes near, and no stack is in danger */
  JSON_DEPTH_LIMIT = 1024, /* what `max_depth` can be at most */
};

typedef enum {
  JSON_INVALID = -1, /* see `error` and `error_offset` */
  JSON_END = 0,      /* the value was whole and nothing follows */
  JSON_OBJECT_BEGIN,
  JSON_OBJECT_END,
  JSON_ARRAY_BEGIN,
  JSON_ARRAY_END,
  JSON_KEY, /* in `string`; the next token belongs to the key's value */
  JSON_STRING,
  JSON_NUMBER,
  JSON_TRUE,
  JSON_FALSE,
  JSON_NULL,
} json_token;

struct json_reader {
  /* Results of the last json_read, valid until the next. A string is a slice of the text, or of
   * the scratch buf when it has escapes. */
  slice string;
  double number;
  const char *error;   /* static; NULL until JSON_INVALID */
  size_t error_offset; /* bytes before the fault, or before the string or number that has it */

  /* The reader's own. */
  const char *begin;
  const char *at;
  const char *end;
  struct buf *scratch;
  int depth;
  int max_depth;
  int state;
  uint64_t objects[JSON_DEPTH_LIMIT / 64]; /* one bit a level: an object, not an array */
};

/* `text` and `scratch` stay the caller's and must outlive the reading. `scratch` takes one decoded
 * string at a time and grows to the longest, never beyond text.len; a string that passes its limit
 * is an error. `max_depth` counts objects and arrays within each other; 0 allows neither. */
void json_reader_init(struct json_reader *reader, slice text, int max_depth, struct buf *scratch);

/* The next token. JSON_END and JSON_INVALID are given again for ever. A number is the double
 * nearest to what is written; one too large for a double is invalid. */
json_token json_read(struct json_reader *reader);

#endif
