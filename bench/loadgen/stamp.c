#include "loadgen/stamp.h"

#include <string.h>

/* Where the fields begin; what is between them is fixed. */
enum { PUBLISHER_AT = 2, SEQUENCE_AT = 7, DUE_AT = 16, END_AT = 32 };

/* Where the last stamp was found: usually where the next one is too. */
static size_t usual_offset;

static void put_hex(char *out, uint64_t value, int digits) {
  for (int i = digits - 1; i >= 0; i--, value >>= 4) out[i] = "0123456789abcdef"[value & 15];
}

static uint64_t get_hex(const char *data, int digits) {
  uint64_t value = 0;
  for (int i = 0; i < digits; i++) {
    unsigned c = (unsigned char)data[i];
    value = value << 4 | (c <= '9' ? c - '0' : c - 'a' + 10u);
  }
  return value;
}

void stamp_encode(char *out, stamp value) {
  memcpy(out, "~~pppp:ssssssss:tttttttttttttttt~~", STAMP_BYTES);
  put_hex(out + PUBLISHER_AT, value.publisher, 4);
  put_hex(out + SEQUENCE_AT, value.sequence, 8);
  put_hex(out + DUE_AT, value.due_ns, 16);
}

bool stamp_decode(const char *data, stamp *out) {
  if (data[SEQUENCE_AT - 1] != ':' || data[DUE_AT - 1] != ':') return false;
  out->publisher = (uint32_t)get_hex(data + PUBLISHER_AT, 4);
  out->sequence = (uint32_t)get_hex(data + SEQUENCE_AT, 8);
  out->due_ns = get_hex(data + DUE_AT, 16);
  return true;
}

static bool is_stamp(const char *data) {
  return data[0] == '~' && data[1] == '~' && data[END_AT] == '~' && data[END_AT + 1] == '~';
}

size_t stamp_find(const char *data, size_t len, size_t offset, size_t *rest) {
  *rest = 0;
  if (offset == 0 && usual_offset + STAMP_BYTES <= len && is_stamp(data + usual_offset) &&
      memchr(data, '~', usual_offset) == NULL) {
    return usual_offset;
  }
  while (offset < len) {
    const char *found = memchr(data + offset, '~', len - offset);
    if (found == NULL) return len;
    size_t at = (size_t)(found - data);
    if (len - at < STAMP_BYTES) {
      *rest = len - at;
      return len;
    }
    if (is_stamp(found)) {
      if (offset == 0) usual_offset = at;
      return at;
    }
    offset = at + 1;
  }
  return len;
}
