#include "codec/json_encode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "codec/json_text.h"

/* The letter behind the backslash, or 'u' where there is no short form. */
static char escape_letter(char c) {
  switch (c) {
    case '"':
    case '\\':
      return c;
    case '\b':
      return 'b';
    case '\f':
      return 'f';
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    default:
      return 'u';
  }
}

enum { LONGEST_ESCAPE_BYTES = 6 };

static char *put_escape(char *out, char c) {
  char letter = escape_letter(c);
  *out++ = '\\';
  *out++ = letter;
  if (letter != 'u') return out;
  *out++ = '0';
  *out++ = '0';
  *out++ = (char)('0' + (c >> 4)); /* below 0x20, so 0 or 1 */
  *out++ = "0123456789abcdef"[c & 15];
  return out;
}

/* The text of a string that has something to escape, or is not ASCII. */
static int encode_escaped(struct buf *out, slice text) {
  if (!utf8_is_valid(text)) return JSON_NOT_UTF8;
  if (!buf_append_char(out, '"')) return JSON_TOO_LARGE;
  while (text.len > 0) {
    size_t run = json_text_plain_run(text.data, text.len, false);
    char *place = buf_reserve(out, run + LONGEST_ESCAPE_BYTES);
    /* Near the limit the room for an escape may be missing that is not needed. */
    if (place == NULL && run == text.len) place = buf_reserve(out, run);
    if (place == NULL) return JSON_TOO_LARGE;
    memcpy(place, text.data, run);
    out->len += run;
    text = slice_skip(text, run);
    if (text.len == 0) break;
    out->len += (size_t)(put_escape(place + run, text.data[0]) - (place + run));
    text = slice_skip(text, 1);
  }
  return buf_append_char(out, '"') ? JSON_ENCODED : JSON_TOO_LARGE;
}

int json_encode_string(struct buf *out, slice text) {
  size_t run = text.len > 0 ? json_text_plain_run(text.data, text.len, true) : 0;
  if (run < text.len) {
    size_t len_before = out->len;
    int result = encode_escaped(out, text);
    if (result != JSON_ENCODED) out->len = len_before;
    return result;
  }
  char *place = buf_reserve(out, run + 2);
  if (place == NULL) return JSON_TOO_LARGE;
  place[0] = '"';
  if (run > 0) memcpy(place + 1, text.data, run);
  place[run + 1] = '"';
  out->len += run + 2;
  return JSON_ENCODED;
}

enum {
  MAX_NUMBER_BYTES = 32, /* sign, 17 digits, point, at most 4 zeros before or e-308 behind */
  MAX_INTEGER_DIGITS = 20,
};

/* At least `width` digits, filled with zeros. */
static char *put_integer(char *out, uint64_t number, size_t width) {
  char digits[MAX_INTEGER_DIGITS];
  char *first = digits + MAX_INTEGER_DIGITS;
  do {
    *--first = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  size_t count = (size_t)(digits + MAX_INTEGER_DIGITS - first);
  while (count < width) {
    *--first = '0';
    count++;
  }
  memcpy(out, first, count);
  return out + count;
}

static const uint64_t INTEGER_POWERS[] = {1u,
                                          10u,
                                          100u,
                                          1000u,
                                          10000u,
                                          100000u,
                                          1000000u,
                                          10000000u,
                                          100000000u,
                                          1000000000u,
                                          10000000000u,
                                          100000000000u,
                                          1000000000000u,
                                          10000000000000u,
                                          100000000000000u,
                                          1000000000000000u,
                                          10000000000000000u,
                                          100000000000000000u,
                                          1000000000000000000u};
enum { MAX_INTEGER_POWER = 18 };

/* The numbers for which put_short_fraction's answer is final: their forms of up to 15 digits have
 * no exponent, and the powers of ten in question are exact. */
static bool is_common(double number) {
  return number >= 1e-4 && number < 1e15;
}

/* A common number that is not an integer and has at most 15 digits, which is what most are: then it
 * is an integer below 10^15 divided by a power of ten, both exact, and that division tells whether
 * it is so. NULL otherwise. */
static char *put_short_fraction(char *out, double number) {
  int places = MAX_INTEGER_POWER;
  while (number * json_text_powers[places] >= 1e15) places--;
  uint64_t scaled = (uint64_t)(number * json_text_powers[places] + 0.5);
  if (scaled >= INTEGER_POWERS[15] || (double)scaled / json_text_powers[places] != number)
    return NULL;
  for (int step = 8; step > 0; step /= 2) {
    while (places > step && scaled % INTEGER_POWERS[step] == 0) {
      scaled /= INTEGER_POWERS[step];
      places -= step;
    }
  }
  out = put_integer(out, scaled / INTEGER_POWERS[places], 1);
  *out++ = '.';
  return put_integer(out, scaled % INTEGER_POWERS[places], (size_t)places);
}

/* Digits d.ddd times ten to the `exponent`, as %g shows them with this precision. */
static char *put_digits(char *out, const char *digits, size_t count, int exponent, int precision) {
  while (count > 1 && digits[count - 1] == '0') count--;
  size_t whole = 1; /* digits before the point */
  bool has_exponent = exponent < -4 || exponent >= precision;
  if (!has_exponent && exponent < 0) {
    memcpy(out, "0.000", 5);
    out += 1 - exponent;
    whole = 0;
  } else if (!has_exponent) {
    whole = (size_t)exponent + 1;
  }
  size_t shown = whole < count ? whole : count;
  memcpy(out, digits, shown);
  out += shown;
  for (; shown < whole; shown++) *out++ = '0';
  if (count > whole) {
    if (whole > 0) *out++ = '.';
    memcpy(out, digits + whole, count - whole);
    out += count - whole;
  }
  if (!has_exponent) return out;
  *out++ = 'e';
  *out++ = exponent < 0 ? '-' : '+';
  return put_integer(out, (uint64_t)(exponent < 0 ? -exponent : exponent), 2);
}

enum { FEWEST_DIGITS = 15, MOST_DIGITS = 17 };

/* With at least `precision` digits. Positive and finite. */
static char *put_any_number(char *out, double number, int precision) {
  char digits[MOST_DIGITS];
  for (;; precision++) {
    char text[MAX_NUMBER_BYTES];
    snprintf(text, sizeof text, "%.*e", precision - 1, number);
    size_t count = 0;
    const char *at = text;
    /* The decimal point is passed whatever it is, for it depends on the locale. */
    for (; *at != 'e'; at++) {
      if (*at >= '0' && *at <= '9') digits[count++] = *at;
    }
    int exponent = (int)strtol(at + 1, NULL, 10);
    if (precision == MOST_DIGITS ||
        json_text_convert(digits, count, (long long)exponent - (precision - 1)) == number) {
      return put_digits(out, digits, count, exponent, precision);
    }
  }
}

int json_encode_number(struct buf *out, double number) {
  if (!isfinite(number)) return JSON_NOT_FINITE;
  char text[MAX_NUMBER_BYTES];
  char *end = text;
  if (signbit(number)) *end++ = '-';
  double size = fabs(number);
  if (size < (double)JSON_TEXT_MAX_INTEGER && (double)(uint64_t)size == size) {
    end = put_integer(end, (uint64_t)size, 1);
  } else {
    char *fraction_end = is_common(size) ? put_short_fraction(end, size) : NULL;
    int precision = is_common(size) ? FEWEST_DIGITS + 1 : FEWEST_DIGITS;
    end = fraction_end != NULL ? fraction_end : put_any_number(end, size, precision);
  }
  return buf_append(out, slice_of(text, (size_t)(end - text))) ? JSON_ENCODED : JSON_TOO_LARGE;
}
