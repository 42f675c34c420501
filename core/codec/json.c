#include "codec/json.h"

#include <math.h>
#include <stdbool.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "codec/json_text.h"

enum state {
  AT_VALUE,      /* a value must come */
  AT_FIRST_ITEM, /* after an opening bracket: an item or the closing one */
  AT_NEXT_ITEM,  /* after an item: a comma or the closing bracket */
  AT_END,        /* after the outermost value */
};

void json_reader_init(struct json_reader *reader, slice text, int max_depth, struct buf *scratch) {
  REQUIRE(max_depth >= 0 && max_depth <= JSON_DEPTH_LIMIT);
  if (text.data == NULL) text = SLICE("");
  reader->string = (slice){NULL, 0};
  reader->number = 0;
  reader->error = NULL;
  reader->error_offset = 0;
  reader->begin = text.data;
  reader->at = text.data;
  reader->end = text.data + text.len;
  reader->scratch = scratch;
  reader->depth = 0;
  reader->max_depth = max_depth;
  reader->state = AT_VALUE;
}

static json_token fail(struct json_reader *reader, const char *at, const char *error) {
  reader->error = error;
  reader->error_offset = (size_t)(at - reader->begin);
  return JSON_INVALID;
}

static json_token fail_here(struct json_reader *reader, const char *error) {
  return fail(reader, reader->at, reader->at == reader->end ? "the text ends too early" : error);
}

enum { NO_CHAR = -1 };

/* The next character behind white space, which is passed; NO_CHAR at the end. */
static inline int peek(struct json_reader *reader) {
  while (reader->at < reader->end) {
    char c = *reader->at;
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return (unsigned char)c;
    reader->at++;
  }
  return NO_CHAR;
}

static bool is_in_object(const struct json_reader *reader) {
  int level = reader->depth - 1;
  return (reader->objects[level / 64] >> (level % 64) & 1) != 0;
}

static json_token open_bracket(struct json_reader *reader, bool is_object) {
  if (reader->depth >= reader->max_depth) return fail(reader, reader->at, "nested too deeply");
  uint64_t bit = (uint64_t)1 << (reader->depth % 64);
  uint64_t *word = &reader->objects[reader->depth / 64];
  *word = is_object ? *word | bit : *word & ~bit;
  reader->depth++;
  reader->at++;
  reader->state = AT_FIRST_ITEM;
  return is_object ? JSON_OBJECT_BEGIN : JSON_ARRAY_BEGIN;
}

static json_token close_bracket(struct json_reader *reader) {
  json_token token = is_in_object(reader) ? JSON_OBJECT_END : JSON_ARRAY_END;
  reader->at++;
  reader->depth--;
  reader->state = reader->depth > 0 ? AT_NEXT_ITEM : AT_END;
  return token;
}

static void end_value(struct json_reader *reader) {
  reader->state = reader->depth > 0 ? AT_NEXT_ITEM : AT_END;
}

static json_token read_word(struct json_reader *reader, slice word, json_token token) {
  slice rest = slice_of(reader->at, (size_t)(reader->end - reader->at));
  for (size_t i = 0; i < word.len; i++) {
    if (i < rest.len && rest.data[i] == word.data[i]) continue;
    reader->at += i < rest.len ? i : rest.len;
    return fail_here(reader, "a value was expected");
  }
  reader->at += word.len;
  end_value(reader);
  return token;
}

/* `text` is the number without sign and exponent; `exponent` is that of its last digit. */
static double convert_slowly(slice text, long long exponent) {
  char digits[JSON_TEXT_DECISIVE_DIGITS + 1];
  size_t count = 0;
  bool has_more = false;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.data[i];
    if (c == '.' || (c == '0' && count == 0)) continue;
    if (count < JSON_TEXT_DECISIVE_DIGITS) {
      digits[count++] = c;
    } else {
      has_more = has_more || c != '0';
      exponent++;
    }
  }
  if (has_more) {
    digits[count++] = '1';
    exponent--;
  }
  return count > 0 ? json_text_convert(digits, count, exponent) : 0;
}

/* The parts of a number as they are read. */
struct decimal {
  uint64_t mantissa;  /* of the first MANTISSA_DIGITS digits */
  int digit_count;    /* without leading zeros */
  long long exponent; /* of the last digit */
};

enum { MANTISSA_DIGITS = 19, EXPONENT_CAP = 1000 * 1000 * 1000 };

static const char *read_digits(const char *at, const char *end, struct decimal *decimal) {
  for (; at < end && *at >= '0' && *at <= '9'; at++) {
    if (decimal->digit_count < MANTISSA_DIGITS) {
      decimal->mantissa = decimal->mantissa * 10 + (uint64_t)(*at - '0');
    }
    if (decimal->mantissa > 0) decimal->digit_count++;
  }
  return at;
}

/* Behind the "e". NULL when there are no digits; then `*stop` is where they were missed. */
static const char *read_exponent(const char *at, const char *end, long long *out,
                                 const char **stop) {
  bool is_negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+')) at++;
  const char *first = at;
  long long exponent = 0;
  for (; at < end && *at >= '0' && *at <= '9'; at++) {
    if (exponent < EXPONENT_CAP) exponent = exponent * 10 + (*at - '0');
  }
  *out = is_negative ? -exponent : exponent;
  *stop = at;
  return at > first ? at : NULL;
}

static double convert(const struct decimal *decimal, slice text) {
  if (decimal->mantissa <= JSON_TEXT_MAX_INTEGER) {
    /* No digit is missing: 19 of them are more than this. Both operands are exact, so the one
     * rounding of IEEE arithmetic is the right one (Clinger, How to read floating point numbers
     * accurately). */
    double mantissa = (double)decimal->mantissa;
    long long exponent = decimal->exponent;
    if (exponent == 0 || decimal->mantissa == 0) return mantissa;
    if (exponent > 0 && exponent <= JSON_TEXT_MAX_POWER) {
      return mantissa * json_text_powers[exponent];
    }
    if (exponent < 0 && exponent >= -JSON_TEXT_MAX_POWER) {
      return mantissa / json_text_powers[-exponent];
    }
  }
  return convert_slowly(text, decimal->exponent);
}

static json_token read_number(struct json_reader *reader) {
  const char *begin = reader->at;
  const char *end = reader->end;
  bool is_negative = *begin == '-';
  const char *digits = begin + (is_negative ? 1 : 0);
  struct decimal decimal = {0};
  reader->at = read_digits(digits, end, &decimal);
  if (reader->at == digits) return fail_here(reader, "a digit was expected");
  if (*digits == '0' && reader->at > digits + 1) {
    return fail(reader, digits, "a number begins with a needless zero");
  }
  if (reader->at < end && *reader->at == '.') {
    const char *fraction = ++reader->at;
    reader->at = read_digits(fraction, end, &decimal);
    if (reader->at == fraction) return fail_here(reader, "a digit was expected");
    decimal.exponent = -(reader->at - fraction);
  }
  slice text = slice_of(digits, (size_t)(reader->at - digits));
  if (reader->at < end && (*reader->at == 'e' || *reader->at == 'E')) {
    long long exponent;
    const char *after = read_exponent(reader->at + 1, end, &exponent, &reader->at);
    if (after == NULL) return fail_here(reader, "a digit was expected");
    decimal.exponent += exponent;
  }
  double number = convert(&decimal, text);
  if (isinf(number)) return fail(reader, begin, "a number is out of range");
  reader->number = is_negative ? -number : number;
  end_value(reader);
  return JSON_NUMBER;
}

/* Four hexadecimal digits, or -1. */
static int read_hex(const char *at, const char *end) {
  if (end - at < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; i++) {
    char c = ascii_lower(at[i]);
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + (c - 'a' + 10);
    } else {
      return -1;
    }
  }
  return value;
}

static char *put_utf8(char *out, unsigned character) {
  if (character < 0x80) {
    *out++ = (char)character;
    return out;
  }
  if (character < 0x800) {
    *out++ = (char)(0xc0 | character >> 6);
  } else if (character < 0x10000) {
    *out++ = (char)(0xe0 | character >> 12);
    *out++ = (char)(0x80 | (character >> 6 & 0x3f));
  } else {
    *out++ = (char)(0xf0 | character >> 18);
    *out++ = (char)(0x80 | (character >> 12 & 0x3f));
    *out++ = (char)(0x80 | (character >> 6 & 0x3f));
  }
  *out++ = (char)(0x80 | (character & 0x3f));
  return out;
}

/* Behind "\u". Returns where the decoded character ends in `*out`'s run, or NULL after fail. */
static char *read_unicode_escape(struct json_reader *reader, char *out) {
  const char *escape = reader->at - 2;
  int unit = read_hex(reader->at, reader->end);
  if (unit < 0) {
    fail(reader, escape, "\\u needs four hexadecimal digits");
    return NULL;
  }
  reader->at += 4;
  unsigned character = (unsigned)unit;
  if (unit >= 0xd800 && unit <= 0xdfff) {
    const char *at = reader->at;
    bool has_partner = unit < 0xdc00 && reader->end - at >= 6 && at[0] == '\\' && at[1] == 'u';
    int low = has_partner ? read_hex(at + 2, reader->end) : -1;
    if (low < 0xdc00 || low > 0xdfff) {
      fail(reader, escape, "a surrogate has no partner");
      return NULL;
    }
    reader->at += 6;
    character = 0x10000 + ((unsigned)unit - 0xd800) * 0x400 + ((unsigned)low - 0xdc00);
  }
  return put_utf8(out, character);
}

/* At the backslash. */
static char *read_escape(struct json_reader *reader, char *out) {
  const char *escape = reader->at;
  if (reader->end - escape < 2) {
    fail(reader, reader->end, "the text ends too early");
    return NULL;
  }
  reader->at += 2;
  char c = escape[1];
  switch (c) {
    case '"':
    case '\\':
    case '/':
      break;
    case 'b':
      c = '\b';
      break;
    case 'f':
      c = '\f';
      break;
    case 'n':
      c = '\n';
      break;
    case 'r':
      c = '\r';
      break;
    case 't':
      c = '\t';
      break;
    case 'u':
      return read_unicode_escape(reader, out);
    default:
      fail(reader, escape, "there is no such escape");
      return NULL;
  }
  *out++ = c;
  return out;
}

/* Goes on with a string at its first escape, into the scratch buf. No escape is shorter than what
 * it stands for, so the raw string's length is room enough; it is found first, or an early escape
 * in a long text would reserve for all that follows. */
static bool read_escaped_string(struct json_reader *reader, const char *begin) {
  const char *quote = reader->at;
  while (quote < reader->end && *quote != '"') {
    quote += *quote == '\\' && reader->end - quote > 1 ? 2 : 1;
    quote += json_text_plain_run(quote, (size_t)(reader->end - quote), false);
  }
  buf_clear(reader->scratch);
  char *out = buf_reserve(reader->scratch, (size_t)(quote - begin));
  if (out == NULL) {
    fail(reader, begin - 1, "a string is too long");
    return false;
  }
  size_t run = (size_t)(reader->at - begin);
  memcpy(out, begin, run);
  out += run;
  while (reader->at < reader->end && *reader->at == '\\') {
    out = read_escape(reader, out);
    if (out == NULL) return false;
    run = json_text_plain_run(reader->at, (size_t)(reader->end - reader->at), false);
    memcpy(out, reader->at, run);
    out += run;
    reader->at += run;
  }
  reader->scratch->len = (size_t)(out - reader->scratch->data);
  reader->string = buf_peek(reader->scratch);
  return true;
}

/* At the opening quote. */
static bool read_string(struct json_reader *reader) {
  const char *begin = reader->at + 1;
  const char *end = reader->end;
  reader->at = begin + json_text_plain_run(begin, (size_t)(end - begin), true);
  bool is_ascii = reader->at == end || json_text_kind(*reader->at) != JSON_TEXT_NON_ASCII;
  if (!is_ascii) reader->at += json_text_plain_run(reader->at, (size_t)(end - reader->at), false);
  if (reader->at < end && *reader->at == '\\') {
    if (!read_escaped_string(reader, begin)) return false;
    is_ascii = false;
  } else {
    reader->string = slice_of(begin, (size_t)(reader->at - begin));
  }
  if (reader->at == end || *reader->at != '"') {
    fail_here(reader, "a control character stands in a string");
    return false;
  }
  /* What escapes stand for is valid, so the raw bytes tell; and they need no second look when the
   * string turned out to be ASCII. */
  slice raw = slice_of(begin, (size_t)(reader->at - begin));
  if (!is_ascii && !utf8_is_valid(raw)) {
    fail(reader, begin - 1, "a string is not valid UTF-8");
    return false;
  }
  reader->at++;
  return true;
}

static json_token read_value(struct json_reader *reader) {
  int c = peek(reader);
  switch (c) {
    case '{':
      return open_bracket(reader, true);
    case '[':
      return open_bracket(reader, false);
    case '"':
      if (!read_string(reader)) return JSON_INVALID;
      end_value(reader);
      return JSON_STRING;
    case 't':
      return read_word(reader, SLICE("true"), JSON_TRUE);
    case 'f':
      return read_word(reader, SLICE("false"), JSON_FALSE);
    case 'n':
      return read_word(reader, SLICE("null"), JSON_NULL);
    default:
      if (c == '-' || (c >= '0' && c <= '9')) return read_number(reader);
      return fail_here(reader, "a value was expected");
  }
}

static json_token read_key(struct json_reader *reader) {
  if (peek(reader) != '"') return fail_here(reader, "a key in quotes was expected");
  if (!read_string(reader)) return JSON_INVALID;
  if (peek(reader) != ':') return fail_here(reader, "a colon was expected");
  reader->at++;
  reader->state = AT_VALUE;
  return JSON_KEY;
}

static json_token read_item(struct json_reader *reader) {
  bool in_object = is_in_object(reader);
  int c = peek(reader);
  if (c == (in_object ? '}' : ']')) return close_bracket(reader);
  if (reader->state == AT_NEXT_ITEM) {
    if (c != ',') {
      return fail_here(reader,
                       in_object ? "a comma or } was expected" : "a comma or ] was expected");
    }
    reader->at++;
  }
  return in_object ? read_key(reader) : read_value(reader);
}

json_token json_read(struct json_reader *reader) {
  if (reader->error != NULL) return JSON_INVALID;
  switch ((enum state)reader->state) {
    case AT_VALUE:
      return read_value(reader);
    case AT_FIRST_ITEM:
    case AT_NEXT_ITEM:
      return read_item(reader);
    case AT_END:
      break;
  }
  if (peek(reader) == NO_CHAR) return JSON_END;
  return fail(reader, reader->at, "something follows the value");
}
