#include "base/url.h"

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = ascii_lower(c);
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/* Decodes the byte at the start of `rest` and moves past it; -1 for a bad escape or a NUL. */
static int decode_next(slice *rest, bool plus_is_space) {
  char c = rest->data[0];
  size_t len = 1;
  if (c == '%') {
    if (rest->len < 3) return -1;
    int high = hex_value(rest->data[1]);
    int low = hex_value(rest->data[2]);
    if (high < 0 || low < 0) return -1;
    c = (char)(high * 16 + low);
    len = 3;
  } else if (c == '+' && plus_is_space) {
    c = ' ';
  }
  if (c == '\0') return -1;
  *rest = slice_skip(*rest, len);
  return (unsigned char)c;
}

bool url_decode(slice text, bool plus_is_space, struct buf *out) {
  if (text.len == 0) return true;
  /* What is decoded is never longer than what it came from. */
  char *place = buf_reserve(out, text.len);
  if (place == NULL) return false;
  size_t len = 0;
  while (text.len > 0) {
    int c = decode_next(&text, plus_is_space);
    if (c < 0) return false;
    place[len++] = (char)c;
  }
  out->len += len;
  return true;
}

bool url_is_decodable(slice text) {
  if (text.len == 0) return true;
  if (memchr(text.data, '\0', text.len) != NULL) return false;
  const char *escape;
  while (text.len > 0 && (escape = memchr(text.data, '%', text.len)) != NULL) {
    text = slice_skip(text, (size_t)(escape - text.data));
    if (decode_next(&text, false) < 0) return false;
  }
  return true;
}

bool url_next_pair(slice *rest, slice *name, slice *value) {
  while (rest->len > 0) {
    slice pair = slice_split(rest, '&');
    if (pair.len == 0) continue;
    *name = slice_split(&pair, '=');
    *value = pair;
    return true;
  }
  return false;
}

static bool is_unreserved(char c) {
  char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

bool url_encode(slice text, struct buf *out) {
  static const char digits[] = "0123456789ABCDEF";
  size_t escaped_count = 0;
  for (size_t i = 0; i < text.len; i++) {
    if (!is_unreserved(text.data[i])) escaped_count++;
  }
  char *place = buf_reserve(out, text.len + 2 * escaped_count);
  if (place == NULL) return false;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    if (is_unreserved(text.data[i])) {
      *place++ = (char)c;
    } else {
      *place++ = '%';
      *place++ = digits[c >> 4];
      *place++ = digits[c & 15];
    }
  }
  out->len += text.len + 2 * escaped_count;
  return true;
}
