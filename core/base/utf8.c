#include "base/utf8.h"

#include <string.h>

#include "base/cpu.h"

/* An automaton whose state is a shift count: each byte selects a row of nine fields of six bits,
 * and the field at the present state is the next state. So a step is one load, which does not wait
 * for the step before, and one shift. */
enum {
  BOUNDARY = 0,
  TAIL_1 = 6, /* one continuation byte is missing, any of 80..BF */
  TAIL_2 = 12,
  TAIL_3 = 18,
  AFTER_E0 = 24, /* the next is A0..BF, or the form would be overlong */
  AFTER_ED = 30, /* the next is 80..9F, or it would be a surrogate */
  AFTER_F0 = 36, /* the next is 90..BF, or the form would be overlong */
  AFTER_F4 = 42, /* the next is 80..8F, or it would be above U+10FFFF */
  BAD = 48,
};

/* The public names are fixed: UTF8_BOUNDARY is BOUNDARY, UTF8_INVALID stands for BAD. */
_Static_assert((int)UTF8_BOUNDARY == (int)BOUNDARY, "a check starts at zero");

#define TO(target, state) ((uint64_t)(target) << (state))
#define LEAD(target)                                                            \
  (TO(target, BOUNDARY) | TO(BAD, TAIL_1) | TO(BAD, TAIL_2) | TO(BAD, TAIL_3) | \
   TO(BAD, AFTER_E0) | TO(BAD, AFTER_ED) | TO(BAD, AFTER_F0) | TO(BAD, AFTER_F4) | TO(BAD, BAD))
#define TAIL(after_e0, after_ed, after_f0, after_f4)                                    \
  (TO(BAD, BOUNDARY) | TO(BOUNDARY, TAIL_1) | TO(TAIL_1, TAIL_2) | TO(TAIL_2, TAIL_3) | \
   TO(after_e0, AFTER_E0) | TO(after_ed, AFTER_ED) | TO(after_f0, AFTER_F0) |           \
   TO(after_f4, AFTER_F4) | TO(BAD, BAD))

/* RFC 3629 section 4. */
static const uint64_t rows[256] = {
    [0x00 ... 0x7F] = LEAD(BOUNDARY),
    [0x80 ... 0x8F] = TAIL(BAD, TAIL_1, BAD, TAIL_2),
    [0x90 ... 0x9F] = TAIL(BAD, TAIL_1, TAIL_2, BAD),
    [0xA0 ... 0xBF] = TAIL(TAIL_1, BAD, TAIL_2, BAD),
    [0xC0 ... 0xC1] = LEAD(BAD),
    [0xC2 ... 0xDF] = LEAD(TAIL_1),
    [0xE0] = LEAD(AFTER_E0),
    [0xE1 ... 0xEC] = LEAD(TAIL_2),
    [0xED] = LEAD(AFTER_ED),
    [0xEE ... 0xEF] = LEAD(TAIL_2),
    [0xF0] = LEAD(AFTER_F0),
    [0xF1 ... 0xF3] = LEAD(TAIL_3),
    [0xF4] = LEAD(AFTER_F4),
    [0xF5 ... 0xFF] = LEAD(BAD),
};

enum { STEP_BYTES = 16, STRIDE_BYTES = 64 };
enum { WIDE_STEP_BYTES = 32, WIDE_STRIDE_BYTES = 128, WIDE_FROM_BYTES = 1024 };

typedef uint64_t pair __attribute__((vector_size(STEP_BYTES)));

static inline pair load(const char *at) {
  pair bytes;
  memcpy(&bytes, at, sizeof(bytes));
  return bytes;
}

static inline bool has_high_bit(pair bytes) {
  return ((bytes[0] | bytes[1]) & 0x8080808080808080u) != 0;
}

#ifdef CPU_WIDE

typedef char wide __attribute__((vector_size(WIDE_STEP_BYTES), aligned(1), may_alias));

CPU_WIDE static const char *skip_ascii_wide(const char *at, const char *end) {
  for (; end - at >= WIDE_STRIDE_BYTES; at += WIDE_STRIDE_BYTES) {
    const wide *bytes = (const wide *)at;
    wide all = (bytes[0] | bytes[1]) | (bytes[2] | bytes[3]);
    if (__builtin_ia32_pmovmskb256(all) != 0) break;
  }
  return at;
}

#endif

/* The first place from `at` where ASCII is no longer certain; a multiple of STEP_BYTES away. */
static inline const char *skip_ascii(const char *at, const char *end) {
#ifdef CPU_WIDE
  if (end - at >= WIDE_FROM_BYTES && cpu_has_wide()) at = skip_ascii_wide(at, end);
#endif
  while (end - at >= STRIDE_BYTES) {
    pair low = load(at) | load(at + STEP_BYTES);
    pair high = load(at + 2 * STEP_BYTES) | load(at + 3 * STEP_BYTES);
    if (has_high_bit(low | high)) break;
    at += STRIDE_BYTES;
  }
  while (end - at >= STEP_BYTES && !has_high_bit(load(at))) at += STEP_BYTES;
  return at;
}

utf8_state utf8_check(utf8_state state, slice piece) {
  if (state == UTF8_INVALID || piece.len == 0) return state;
  uint64_t at_state = state;
  const char *at = piece.data;
  const char *end = at + piece.len;
  while (end - at >= STEP_BYTES) {
    if (at_state == BOUNDARY) {
      at = skip_ascii(at, end);
      if (end - at < STEP_BYTES) break;
    }
    for (int i = 0; i < STEP_BYTES; i++) {
      at_state = rows[(uint8_t)at[i]] >> (at_state & 63);
    }
    at_state &= 63;
    if (at_state == BAD) return UTF8_INVALID;
    at += STEP_BYTES;
  }
  for (; at < end; at++) at_state = rows[(uint8_t)*at] >> (at_state & 63);
  at_state &= 63;
  return at_state == BAD ? UTF8_INVALID : (utf8_state)at_state;
}
