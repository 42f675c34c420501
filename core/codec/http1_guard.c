#include "codec/http1_guard.h"

#include <arpa/inet.h>

enum { IS_TOKEN = 1, IS_REG_NAME = 2, IS_CONTROL = 4 };

/* tchar of RFC 9110 section 5.6.2; unreserved and sub-delims of RFC 3986 section 2; control
 * characters but tabs. */
static const uint8_t classes[256] = {
    [0x00 ... '\t' - 1] = IS_CONTROL,
    ['\t' + 1 ... 0x1f] = IS_CONTROL,
    [0x7f] = IS_CONTROL,
    ['0' ... '9'] = IS_TOKEN | IS_REG_NAME,
    ['A' ... 'Z'] = IS_TOKEN | IS_REG_NAME,
    ['a' ... 'z'] = IS_TOKEN | IS_REG_NAME,
    ['!'] = IS_TOKEN | IS_REG_NAME,
    ['#'] = IS_TOKEN,
    ['$'] = IS_TOKEN | IS_REG_NAME,
    ['%'] = IS_TOKEN,
    ['&'] = IS_TOKEN | IS_REG_NAME,
    ['\''] = IS_TOKEN | IS_REG_NAME,
    ['('] = IS_REG_NAME,
    [')'] = IS_REG_NAME,
    ['*'] = IS_TOKEN | IS_REG_NAME,
    ['+'] = IS_TOKEN | IS_REG_NAME,
    [','] = IS_REG_NAME,
    ['-'] = IS_TOKEN | IS_REG_NAME,
    ['.'] = IS_TOKEN | IS_REG_NAME,
    [';'] = IS_REG_NAME,
    ['='] = IS_REG_NAME,
    ['^'] = IS_TOKEN,
    ['_'] = IS_TOKEN | IS_REG_NAME,
    ['`'] = IS_TOKEN,
    ['|'] = IS_TOKEN,
    ['~'] = IS_TOKEN | IS_REG_NAME,
};

enum { STEP_BYTES = 16 };
typedef uint8_t step __attribute__((vector_size(STEP_BYTES)));
typedef uint64_t step_halves __attribute__((vector_size(STEP_BYTES)));

/* Sixteen bytes at once: control characters but tabs become 0xff, others 0. */
static inline step_halves mark_controls(const char *at) {
  step bytes;
  memcpy(&bytes, at, sizeof(bytes));
  return (step_halves)(((bytes < 0x20) & (bytes != '\t')) | (bytes == 0x7f));
}

static inline size_t first_mark(step_halves marks) {
  size_t skipped = marks[0] != 0 ? 0 : STEP_BYTES / 2;
  uint64_t half = marks[0] != 0 ? marks[0] : marks[1];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return skipped + (size_t)__builtin_ctzll(half) / 8;
#else
  return skipped + (size_t)__builtin_clzll(half) / 8;
#endif
}

/* The first control character but tabs from byte `at` on, or the end. */
static inline size_t find_control(slice bytes, size_t at) {
  for (; bytes.len - at >= STEP_BYTES; at += STEP_BYTES) {
    step_halves marks = mark_controls(bytes.data + at);
    if ((marks[0] | marks[1]) != 0) return at + first_mark(marks);
  }
  while (at < bytes.len && (classes[(unsigned char)bytes.data[at]] & IS_CONTROL) == 0) at++;
  return at;
}

http1_line_result http1_guard_scan_line(slice bytes, size_t *at, http1_fault *fault) {
  *at = find_control(bytes, *at);
  if (*at == bytes.len) return HTTP1_LINE_PARTIAL;
  if (bytes.data[*at] == '\r') {
    if (*at + 1 == bytes.len) return HTTP1_LINE_PARTIAL;
    if (bytes.data[*at + 1] == '\n') {
      *at += 2;
      return HTTP1_LINE_COMPLETE;
    }
    *fault = (http1_fault){400, "CR without LF"};
  } else if (bytes.data[*at] == '\n') {
    *fault = (http1_fault){400, "LF without CR"};
  } else {
    *fault = (http1_fault){400, "control character"};
  }
  return HTTP1_LINE_INVALID;
}

/* How many bytes at the start are of a class. */
static inline size_t count_class(slice text, uint8_t class) {
  const char *at = text.data;
  const char *end = at + text.len;
  while (at < end && (classes[(unsigned char)*at] & class) != 0) at++;
  return (size_t)(at - text.data);
}

bool http1_guard_is_token(slice text) {
  return text.len > 0 && count_class(text, IS_TOKEN) == text.len;
}

bool http1_guard_is_field_value(slice text) {
  return find_control(text, 0) == text.len;
}

/* The line has no name that ends at a colon. */
static http1_fault judge_bad_field(slice line) {
  if (line.data[0] == ' ' || line.data[0] == '\t') return (http1_fault){400, "folded header line"};
  if (memchr(line.data, ':', line.len) == NULL) {
    return (http1_fault){400, "header line without a colon"};
  }
  return (http1_fault){400, "invalid header name"};
}

http1_fault http1_guard_split_field(slice line, slice *name, slice *value) {
  size_t len = count_class(line, IS_TOKEN);
  if (len == 0 || len == line.len || line.data[len] != ':') return judge_bad_field(line);
  *name = slice_of(line.data, len);
  *value = slice_trim(slice_skip(line, len + 1));
  return (http1_fault){0, NULL};
}

bool http1_guard_parse_length(slice text, uint64_t *out) {
  uint64_t length = 0;
  for (size_t i = 0; i < text.len; i++) {
    if (text.data[i] < '0' || text.data[i] > '9') return false;
    uint64_t digit = (uint64_t)(text.data[i] - '0');
    if (length > (UINT64_MAX - digit) / 10) return false;
    length = length * 10 + digit;
  }
  *out = length;
  return text.len > 0;
}

bool http1_guard_parse_chunk_size(slice line, slice *digits, uint64_t *out) {
  uint64_t size = 0;
  size_t at = 0;
  for (; at < line.len; at++) {
    char c = ascii_lower(line.data[at]);
    bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'a' || c > 'f')) break;
    if (size > UINT64_MAX >> 4) return false;
    size = size << 4 | (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
  }
  *digits = slice_of(line.data, at);
  *out = size;
  /* RFC 9112 section 7.1.1 allows white space before the semicolon, and says it is bad. */
  slice extension = slice_trim(slice_skip(line, at));
  return at > 0 && (at == line.len || (extension.len > 0 && extension.data[0] == ';'));
}

static bool is_port(slice text) {
  unsigned port = 0;
  for (size_t i = 0; i < text.len; i++) {
    unsigned digit = (unsigned char)text.data[i] - (unsigned)'0';
    if (digit > 9 || i == 5) return false;
    port = port * 10 + digit;
  }
  return port <= 65535;
}

static bool is_hex(char c) {
  c = ascii_lower(c);
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* The length of the reg-name (RFC 3986 section 3.2.2) at the start of a text; a bad escape ends it.
 */
static size_t count_reg_name(slice text) {
  size_t len = 0;
  for (;;) {
    len += count_class(slice_skip(text, len), IS_REG_NAME);
    bool is_escape = text.len - len >= 3 && text.data[len] == '%' && is_hex(text.data[len + 1]) &&
                     is_hex(text.data[len + 2]);
    if (!is_escape) return len;
    len += 3;
  }
}

static bool is_ipv6(slice text) {
  char address[INET6_ADDRSTRLEN];
  struct in6_addr parsed;
  if (text.len == 0 || text.len >= sizeof(address)) return false;
  memcpy(address, text.data, text.len);
  address[text.len] = '\0';
  return inet_pton(AF_INET6, address, &parsed) == 1;
}

bool http1_guard_is_host(slice text) {
  slice port = text;
  if (text.len > 0 && text.data[0] == '[') {
    slice address = slice_split(&port, ']');
    if (port.data == NULL || !is_ipv6(slice_skip(address, 1))) return false;
  } else {
    size_t len = count_reg_name(text);
    if (len == 0) return false;
    port = slice_skip(text, len);
  }
  if (port.len == 0) return true;
  /* RFC 3986 section 3.2.3: the colon may stand without a port. */
  return port.data[0] == ':' && is_port(slice_skip(port, 1));
}
