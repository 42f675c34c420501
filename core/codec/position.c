#include "codec/position.h"

enum { BASE = 36, MAX_DIGITS = 13 /* 2^64 - 1 in base 36 */ };

static bool is_epoch(const char *epoch) {
  for (int i = 0; i < POSITION_EPOCH_BYTES; i++) {
    char c = ascii_lower(epoch[i]);
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z')) return false;
  }
  return true;
}

/* Writes backwards, so that `end` is where the text ends. Returns where it begins. */
static char *encode_number(uint64_t number, char *end) {
  do {
    *--end = "0123456789abcdefghijklmnopqrstuvwxyz"[number % BASE];
    number /= BASE;
  } while (number > 0);
  return end;
}

size_t position_encode(const position_part *parts, size_t count, char out[POSITION_MAX_BYTES]) {
  size_t len = 0;
  for (size_t i = 0; i < count; i++) {
    char digits[MAX_DIGITS];
    char *first = encode_number(parts[i].number, digits + MAX_DIGITS);
    size_t digit_count = (size_t)(digits + MAX_DIGITS - first);
    size_t separator = i > 0 ? 1 : 0;
    size_t more = separator + POSITION_EPOCH_BYTES + 1 + digit_count;
    if (len + more > POSITION_MAX_BYTES || !is_epoch(parts[i].epoch)) return 0;
    if (separator > 0) out[len++] = '~';
    memcpy(out + len, parts[i].epoch, POSITION_EPOCH_BYTES);
    len += POSITION_EPOCH_BYTES;
    out[len++] = '.';
    memcpy(out + len, first, digit_count);
    len += digit_count;
  }
  return len;
}

/* Exactly the form that encode_number writes, so no leading zeros and no capitals. */
static bool decode_number(slice text, uint64_t *number) {
  if (text.len == 0 || text.len > MAX_DIGITS) return false;
  if (text.data[0] == '0' && text.len > 1) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.data[i];
    bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && !(c >= 'a' && c <= 'z')) return false;
    uint64_t digit = (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
    if (__builtin_mul_overflow(value, (uint64_t)BASE, &value)) return false;
    if (__builtin_add_overflow(value, digit, &value)) return false;
  }
  *number = value;
  return true;
}

static bool decode_part(slice text, position_part *part) {
  if (text.len <= POSITION_EPOCH_BYTES || text.data[POSITION_EPOCH_BYTES] != '.') return false;
  if (!is_epoch(text.data)) return false;
  memcpy(part->epoch, text.data, POSITION_EPOCH_BYTES);
  return decode_number(slice_skip(text, POSITION_EPOCH_BYTES + 1), &part->number);
}

int position_decode(slice text, position_part *out, size_t max) {
  if (text.len > POSITION_MAX_BYTES) return 0;
  size_t count = 0;
  while (text.len > 0 && count < max) {
    position_part part;
    if (decode_part(slice_split(&text, '~'), &part)) out[count++] = part;
  }
  return (int)count;
}

bool position_find(slice text, const char epoch[POSITION_EPOCH_BYTES], uint64_t *number) {
  position_part parts[POSITION_MAX_PARTS];
  int count = position_decode(text, parts, POSITION_MAX_PARTS);
  for (int i = 0; i < count; i++) {
    if (memcmp(parts[i].epoch, epoch, POSITION_EPOCH_BYTES) != 0) continue;
    *number = parts[i].number;
    return true;
  }
  return false;
}
