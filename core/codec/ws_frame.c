#include "codec/ws_frame.h"

#include "base/cpu.h"
#include "base/utf8.h"

enum {
  FINAL_BIT = 0x80,
  RESERVED_BITS = 0x70,
  OPCODE_BITS = 0x0F,
  MASK_BIT = 0x80,
  LENGTH_BITS = 0x7F,
  LENGTH_16 = 126, /* the length is in the next two bytes */
  LENGTH_64 = 127, /* the length is in the next eight bytes */
};

/* What the length bytes that have arrived say of the payload's length. */
typedef struct {
  uint64_t least;
  uint64_t most;
  size_t missing; /* bytes of the length that have not arrived */
} length_range;

static inline uint8_t byte_at(slice in, size_t at) {
  return (uint8_t)in.data[at];
}

static inline size_t length_bytes(uint8_t second) {
  uint8_t form = second & LENGTH_BITS;
  return form < LENGTH_16 ? 0 : form == LENGTH_16 ? 2 : 8;
}

static inline length_range judge_length(slice in) {
  size_t expected = length_bytes(byte_at(in, 1));
  if (expected == 0) {
    uint64_t len = byte_at(in, 1) & LENGTH_BITS;
    return (length_range){len, len, 0};
  }
  length_range range = {0, 0, expected};
  for (size_t i = 2; i < in.len && range.missing > 0; i++, range.missing--) {
    range.least = range.least << 8 | byte_at(in, i);
  }
  range.most = range.least;
  for (size_t i = 0; i < range.missing; i++) {
    range.least = range.least << 8;
    range.most = range.most << 8 | 0xFF;
  }
  return range;
}

static inline const char *first_byte_error(uint8_t first) {
  uint8_t opcode = first & OPCODE_BITS;
  if (first & RESERVED_BITS) return "reserved bits are set";
  if ((opcode & 0x7) > 2) return "the opcode is unknown";
  if (ws_opcode_is_control(opcode) && !(first & FINAL_BIT)) return "a control frame is fragmented";
  return NULL;
}

/* Section 5.2: the shortest form must be used, and the top bit of 64 is zero. */
static inline const char *length_error(slice in, length_range range) {
  uint8_t form = byte_at(in, 1) & LENGTH_BITS;
  if (form < LENGTH_16) return NULL;
  if (ws_opcode_is_control(byte_at(in, 0) & OPCODE_BITS)) {
    return "a control frame has more than 125 bytes";
  }
  if (range.most < (form == LENGTH_16 ? LENGTH_16 : UINT16_MAX + 1)) {
    return "the length is not in its shortest form";
  }
  if (range.least > INT64_MAX) return "the length has its top bit set";
  return NULL;
}

const char *ws_frame_error(slice in) {
  if (in.len < 1) return NULL;
  const char *error = first_byte_error(byte_at(in, 0));
  if (error != NULL || in.len < 2) return error;
  return length_error(in, judge_length(in));
}

/* The shortest form that the length stands in tells something before its bytes arrive. */
static inline uint64_t least_of_form(uint8_t second) {
  uint8_t form = second & LENGTH_BITS;
  return form < LENGTH_16 ? 0 : form == LENGTH_16 ? LENGTH_16 : UINT16_MAX + 1;
}

int ws_frame_decode(slice in, uint64_t max_payload, ws_frame_header *out) {
  if (in.len < 1) return WS_FRAME_PARTIAL;
  uint8_t first = byte_at(in, 0);
  if (first_byte_error(first) != NULL) return WS_FRAME_INVALID;
  if (in.len < 2) return WS_FRAME_PARTIAL;

  uint8_t second = byte_at(in, 1);
  uint8_t opcode = first & OPCODE_BITS;
  length_range range = judge_length(in);
  if (length_error(in, range) != NULL) return WS_FRAME_INVALID;
  if (!ws_opcode_is_control(opcode) &&
      (range.least > max_payload || least_of_form(second) > max_payload)) {
    return WS_FRAME_TOO_LARGE;
  }
  bool is_masked = (second & MASK_BIT) != 0;
  size_t mask_at = 2 + length_bytes(second);
  size_t size = mask_at + (is_masked ? sizeof(out->mask) : 0);
  if (in.len < size) return WS_FRAME_PARTIAL;

  *out = (ws_frame_header){.payload_len = range.least,
                           .opcode = opcode,
                           .is_final = (first & FINAL_BIT) != 0,
                           .is_masked = is_masked};
  if (is_masked) memcpy(out->mask, in.data + mask_at, sizeof(out->mask));
  return (int)size;
}

size_t ws_frame_encode(char *out, ws_opcode opcode, bool is_final, uint64_t payload_len) {
  out[0] = (char)((is_final ? FINAL_BIT : 0) | (int)opcode);
  size_t size = ws_frame_header_size(payload_len);
  if (size == 2) {
    out[1] = (char)payload_len;
    return size;
  }
  out[1] = size == 4 ? LENGTH_16 : LENGTH_64;
  for (size_t i = size - 1; i >= 2; i--) {
    out[i] = (char)(payload_len & 0xFF);
    payload_len >>= 8;
  }
  return size;
}

char *ws_frame_encode_before(char *payload, ws_opcode opcode, bool is_final, uint64_t payload_len) {
  char *start = payload - ws_frame_header_size(payload_len);
  ws_frame_encode(start, opcode, is_final, payload_len);
  return start;
}

/* The longest prefix of at most `max_bytes` that does not end within a character. */
static size_t cut_at_character(slice text, size_t max_bytes) {
  if (text.len <= max_bytes) return text.len;
  size_t len = max_bytes;
  while (len > 0 && ((uint8_t)text.data[len] & 0xC0) == 0x80) len--;
  return len;
}

size_t ws_frame_encode_close(char out[WS_FRAME_CLOSE_MAX], uint16_t code, slice reason) {
  if (code == WS_CLOSE_NO_CODE) return ws_frame_encode(out, WS_OPCODE_CLOSE, true, 0);
  size_t reason_len = cut_at_character(reason, WS_FRAME_CONTROL_MAX - 2);
  size_t size = ws_frame_encode(out, WS_OPCODE_CLOSE, true, 2 + reason_len);
  out[size++] = (char)(code >> 8);
  out[size++] = (char)(code & 0xFF);
  if (reason_len > 0) memcpy(out + size, reason.data, reason_len);
  return size + reason_len;
}

bool ws_frame_is_close_code(uint16_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
         (code >= 3000 && code <= 4999);
}

enum { STEP_BYTES = 16, STRIDE_BYTES = 64 };
enum { WIDE_STEP_BYTES = 32, WIDE_STRIDE_BYTES = 128, WIDE_FROM_BYTES = 1024 };

typedef uint32_t quad __attribute__((vector_size(STEP_BYTES)));

/* Through memcpy, so that no alignment is assumed; it compiles to one instruction each way. */
static inline quad load_step(const char *at) {
  quad bytes;
  memcpy(&bytes, at, sizeof(bytes));
  return bytes;
}

static inline void store_step(char *at, quad bytes) {
  memcpy(at, &bytes, sizeof(bytes));
}

static inline void xor_step(char *at, quad key) {
  store_step(at, load_step(at) ^ key);
}

#ifdef CPU_WIDE

typedef uint32_t wide __attribute__((vector_size(WIDE_STEP_BYTES), aligned(1), may_alias));

/* Whole strides; returns how many bytes that were. */
CPU_WIDE static size_t unmask_wide(char *data, size_t len, uint32_t word) {
  const wide key = {word, word, word, word, word, word, word, word};
  size_t at = 0;
  for (; len - at >= WIDE_STRIDE_BYTES; at += WIDE_STRIDE_BYTES) {
    wide *bytes = (wide *)(data + at);
    bytes[0] ^= key;
    bytes[1] ^= key;
    bytes[2] ^= key;
    bytes[3] ^= key;
  }
  return at;
}

#endif

/* Four bytes in memory order, moved down by `count`; what falls out comes in at the other end. */
static inline uint32_t turn(uint32_t bytes, unsigned count) {
  unsigned bits = 8 * count;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return bytes >> bits | bytes << (-bits & 31); /* compilers know this for a rotation */
#else
  return bytes << bits | bytes >> (-bits & 31);
#endif
}

/* The same mask over each four bytes. */
static inline quad quad_of(uint32_t word) {
  return (quad){word, word, word, word};
}

void ws_frame_unmask(char *data, size_t len, const uint8_t mask[4], uint64_t offset) {
  uint32_t word;
  memcpy(&word, mask, sizeof(word));
  word = turn(word, (unsigned)offset & 3); /* the mask as it lies over data[0..4) */

#ifdef CPU_WIDE
  if (len >= WIDE_FROM_BYTES && cpu_has_wide()) {
    size_t taken = unmask_wide(data, len, word);
    data += taken;
    len -= taken;
  }
#endif
  const quad key = quad_of(word);
  for (; len >= STRIDE_BYTES; data += STRIDE_BYTES, len -= STRIDE_BYTES) {
    xor_step(data, key);
    xor_step(data + STEP_BYTES, key);
    xor_step(data + 2 * STEP_BYTES, key);
    xor_step(data + 3 * STEP_BYTES, key);
  }
  if (len >= STEP_BYTES) {
    /* The last step may begin within the one before: its bytes are taken first, masked as yet. */
    char *last = data + len - STEP_BYTES;
    quad bytes = load_step(last);
    for (; data < last; data += STEP_BYTES) xor_step(data, key);
    store_step(last, bytes ^ quad_of(turn(word, (unsigned)len & 3)));
    return;
  }
  for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
    uint32_t bytes;
    memcpy(&bytes, data, sizeof(bytes));
    bytes ^= word;
    memcpy(data, &bytes, sizeof(bytes));
  }
  const uint8_t *rest = (const uint8_t *)&word;
  for (size_t i = 0; i < len; i++) data[i] = (char)((uint8_t)data[i] ^ rest[i]);
}
