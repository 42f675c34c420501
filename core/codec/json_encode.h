/* Writing JSON (RFC 8259): strings and numbers to bytes.
 *
 * Brackets, commas and the words are a char or two that whoever walks the values appends; reading
 * is json.h. No locale, no allocation but the growth of a caller's buf. */
#ifndef PERIGEE_CODEC_JSON_ENCODE_H
#define PERIGEE_CODEC_JSON_ENCODE_H

#include "base/buf.h"
#include "base/slice.h"

/* Results of the encoders; on an error nothing has been appended. */
enum {
  JSON_ENCODED = 0,
  JSON_NOT_UTF8 = -1,   /* a string is not valid UTF-8 */
  JSON_NOT_FINITE = -2, /* JSON has no NaN and no infinity */
  JSON_TOO_LARGE = -3,  /* past the buf's limit */
};

/* Appends a string with its quotes. Escaped are ", \ and control characters, nothing else. */
int json_encode_string(struct buf *out, slice text);

/* Appends a number that reads back as the same double: integers below 2^53 in full, others with as
 * few as possible of 15, 16 or 17 digits, in the form of C's %g. Minus zero keeps its sign. */
int json_encode_number(struct buf *out, double number);

#endif
