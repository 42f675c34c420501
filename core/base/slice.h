/* A borrowed run of bytes.
 *
 * Whoever made it owns the bytes; it is valid until the function that received it returns. Copy to
 * keep. Growing storage is buf.h. */
#ifndef PERIGEE_BASE_SLICE_H
#define PERIGEE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  const char *data;
  size_t len;
} slice;

/* A slice of a string literal. */
#define SLICE(literal) ((slice){("" literal ""), sizeof(literal) - 1})

static inline slice slice_of(const void *data, size_t len) {
  return (slice){(const char *)data, len};
}

static inline slice slice_of_string(const char *string) {
  return (slice){string, strlen(string)};
}

static inline bool slice_is_equal(slice a, slice b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_has_prefix(slice s, slice prefix) {
  return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* The bytes after the first `count`; all of them when there are fewer. */
static inline slice slice_skip(slice s, size_t count) {
  if (count > s.len) count = s.len;
  return (slice){s.data + count, s.len - count};
}

static inline char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Eight bytes at once; no sum carries into the next byte. */
static inline uint64_t ascii_lower_word(uint64_t word) {
  const uint64_t each = UINT64_C(0x0101010101010101);
  uint64_t low_bits = word & each * 0x7f;
  uint64_t from_a = low_bits + each * (0x80 - 'A');
  uint64_t behind_z = low_bits + each * (0x7f - 'Z');
  uint64_t is_upper = (from_a ^ behind_z) & ~word & each * 0x80;
  return word | is_upper >> 2;
}

static inline uint64_t slice_load_word(const char *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

/* Fewer than eight bytes as a word, of which nothing matters but that equal bytes give equal words:
 * two halves of it may overlap. */
static inline uint64_t slice_load_few(const char *bytes, size_t len) {
  uint64_t word = 0;
  if (len >= 4) {
    uint32_t first, last;
    memcpy(&first, bytes, sizeof first);
    memcpy(&last, bytes + len - sizeof last, sizeof last);
    return first | (uint64_t)last << 32;
  }
  for (size_t i = 0; i < len; i++) word = word << 8 | (unsigned char)bytes[i];
  return word;
}

/* ASCII letters compare without case, every other byte as it is. */
static inline bool slice_is_equal_nocase(slice a, slice b) {
  size_t len = b.len; /* known where a literal is asked for, which comes second */
  if (a.len != len) return false;
  if (len < 8) {
    return ascii_lower_word(slice_load_few(a.data, len)) ==
           ascii_lower_word(slice_load_few(b.data, len));
  }
  for (size_t i = 0; i < len - 8; i += 8) {
    if (ascii_lower_word(slice_load_word(a.data + i)) !=
        ascii_lower_word(slice_load_word(b.data + i))) {
      return false;
    }
  }
  return ascii_lower_word(slice_load_word(a.data + len - 8)) ==
         ascii_lower_word(slice_load_word(b.data + len - 8));
}

static inline bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

/* Spaces and tabs off both ends (HTTP's optional white space). */
static inline slice slice_trim(slice s) {
  const char *at = s.data;
  const char *end = at + s.len;
  while (at < end && is_blank(*at)) at++;
  while (at < end && is_blank(end[-1])) end--;
  return slice_of(at, (size_t)(end - at));
}

/* Splits at the first `separator`: returns what is before it and leaves what is after it in
 * `*rest`. Without a separator the whole is returned and `*rest` becomes empty with data NULL. */
static inline slice slice_split(slice *rest, char separator) {
  slice whole = *rest;
  const char *at = whole.len > 0 ? memchr(whole.data, separator, whole.len) : NULL;
  if (at == NULL) {
    *rest = (slice){NULL, 0};
    return whole;
  }
  size_t len = (size_t)(at - whole.data);
  *rest = slice_skip(whole, len + 1);
  return (slice){whole.data, len};
}

#endif
