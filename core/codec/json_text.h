/* What reading and writing JSON have in common: runs of plain bytes, and decimal digits to doubles.
 *
 * Inside the codec only. */
#ifndef PERIGEE_CODEC_JSON_TEXT_H
#define PERIGEE_CODEC_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What a byte means inside a string. */
enum { JSON_TEXT_PLAIN = 0, JSON_TEXT_SPECIAL = 1, JSON_TEXT_NON_ASCII = 2 };

static inline int json_text_kind(char c) {
  unsigned char byte = (unsigned char)c;
  if (byte >= 0x80) return JSON_TEXT_NON_ASCII;
  return byte < 0x20 || byte == '"' || byte == '\\' ? JSON_TEXT_SPECIAL : JSON_TEXT_PLAIN;
}

/* Bytes before the first control character, quote or backslash; with `ascii_only` also before the
 * first byte that is not ASCII. */
static inline size_t json_text_plain_run(const char *data, size_t len, bool ascii_only) {
  size_t i = 0;
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i last_control = _mm_set1_epi8(0x1f);
  for (; i + 16 <= len; i += 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + i));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
    __m128i mark = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
    mark = _mm_or_si128(mark, control);
    if (ascii_only) mark = _mm_or_si128(mark, bytes); /* movemask looks at the top bit alone */
    int stops = _mm_movemask_epi8(mark);
    if (stops != 0) return i + (size_t)__builtin_ctz((unsigned)stops);
  }
#endif
  int stop_kinds = ascii_only ? JSON_TEXT_SPECIAL | JSON_TEXT_NON_ASCII : JSON_TEXT_SPECIAL;
  while (i < len && (json_text_kind(data[i]) & stop_kinds) == 0) i++;
  return i;
}

/* Powers of ten that are exact as doubles. */
static const double json_text_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                          1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { JSON_TEXT_MAX_POWER = 22 };

/* Up to here every integer is exact as a double. */
#define JSON_TEXT_MAX_INTEGER ((uint64_t)1 << 53)

enum {
  /* A double lies exactly between two others only with fewer digits than this, so what follows
   * matters only in being zero or not. */
  JSON_TEXT_DECISIVE_DIGITS = 780,
  JSON_TEXT_EXPONENT_BYTES = 24,
};

/* digits[0..count) times ten to the `exponent`, by strtod. There is no decimal point in its text,
 * for that depends on the locale, and a script can set the locale. */
static inline double json_text_convert(const char *digits, size_t count, long long exponent) {
  char text[JSON_TEXT_DECISIVE_DIGITS + 1 + JSON_TEXT_EXPONENT_BYTES];
  memcpy(text, digits, count);
  snprintf(text + count, sizeof text - count, "e%lld", exponent);
  return strtod(text, NULL);
}

#endif
