/* UTF-8 validation (RFC 3629), in pieces as they arrive.
 *
 * Refuses overlong forms, surrogates and what is above U+10FFFF as soon as the offending byte is
 * seen, without waiting for the end of the sequence. ASCII runs are checked 16 or more bytes a
 * step. No allocation. */
#ifndef PERIGEE_BASE_UTF8_H
#define PERIGEE_BASE_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Where a check stands between two pieces: zero at the start and at every character boundary,
 * UTF8_INVALID for ever once a bad byte was seen. Otherwise opaque. */
typedef uint8_t utf8_state;
enum { UTF8_BOUNDARY = 0, UTF8_INVALID = 1 };

/* The state after `piece`. */
utf8_state utf8_check(utf8_state state, slice piece);

/* Whether the whole is valid and ends at a character boundary. */
static inline bool utf8_is_valid(slice whole) {
  return utf8_check(UTF8_BOUNDARY, whole) == UTF8_BOUNDARY;
}

#endif
