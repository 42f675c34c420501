/* UTF-8 validation (RFC 3629), in pieces as they arrive.
 *
 * Refuses overlong forms, surrogates and what is above U+10FFFF as soon as the offending byte is
 * seen, without waiting for the end of the sequence. ASCII runs are checked 16 or more bytes a
 * step. No allocation. */
#ifndef PERIGEE_BASE_UTF8_H
#define PERIGEE_BASE_UTF8_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

/* Where a check stands between two pieces: zero at the start and at every character boundary,
 * UTF8_INVALID for ever once a bad byte was seen. Otherwise opaque. */
typedef uint8_t utf8_state;
enum { UTF8_BOUNDARY = 0, UTF8_INVALID = 1 };

/* The state after `piece`. */
utf8_state utf8_check(utf8_state state, slice piece);

/* Eight bytes, of which only the high bits are of interest. */
static inline uint64_t utf8_load(const char *at) {
  uint64_t bytes;
  memcpy(&bytes, at, sizeof(bytes));
  return bytes;
}

/* Whether it is ASCII of 8 to 32 bytes, as short messages are: words that may overlap. False says
 * nothing. */
static inline bool utf8_is_short_ascii(slice whole) {
  if (whole.len < 8 || whole.len > 32) return false;
  const char *at = whole.data, *last = at + whole.len - 8;
  uint64_t all = utf8_load(at) | utf8_load(last);
  if (whole.len > 16) all |= utf8_load(at + 8) | utf8_load(last - 8);
  return (all & 0x8080808080808080u) == 0;
}

/* Whether the whole is valid and ends at a character boundary. Inline: twice an echo. */
static inline bool utf8_is_valid(slice whole) {
  return utf8_is_short_ascii(whole) || utf8_check(UTF8_BOUNDARY, whole) == UTF8_BOUNDARY;
}

#endif
