/* WebSocket framing (RFC 6455 section 5): bytes to frame headers and back, and the mask.
 *
 * Pure functions: no I/O, no allocation, no clock. Which frames may follow which, whether they must
 * be masked, reassembly and UTF-8 belong to ws_message.h. */
#ifndef PERIGEE_CODEC_WS_FRAME_H
#define PERIGEE_CODEC_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

typedef enum {
  WS_OPCODE_CONTINUATION = 0x0,
  WS_OPCODE_TEXT = 0x1,
  WS_OPCODE_BINARY = 0x2,
  WS_OPCODE_CLOSE = 0x8,
  WS_OPCODE_PING = 0x9,
  WS_OPCODE_PONG = 0xA,
} ws_opcode;

enum {
  WS_FRAME_DECODE_MAX = 14,   /* the longest header, with a mask */
  WS_FRAME_HEADER_MAX = 10,   /* the longest header without one: what we send */
  WS_FRAME_CONTROL_MAX = 125, /* payload of a control frame, section 5.5 */
  WS_FRAME_CLOSE_MAX = 2 + WS_FRAME_CONTROL_MAX,
};

enum { WS_FRAME_PARTIAL = 0, WS_FRAME_INVALID = -1, WS_FRAME_TOO_LARGE = -2 };

/* Close codes that stand for something (section 7.4.1). The last two are never on the wire. */
enum {
  WS_CLOSE_NORMAL = 1000,
  WS_CLOSE_GOING_AWAY = 1001,
  WS_CLOSE_PROTOCOL_ERROR = 1002,
  WS_CLOSE_INVALID_DATA = 1007,
  WS_CLOSE_POLICY = 1008,
  WS_CLOSE_TOO_LARGE = 1009,
  WS_CLOSE_INTERNAL_ERROR = 1011,
  WS_CLOSE_SERVICE_RESTART = 1012,
  WS_CLOSE_TRY_AGAIN_LATER = 1013,
  WS_CLOSE_NO_CODE = 1005,
  WS_CLOSE_ABNORMAL = 1006,
};

typedef struct {
  uint64_t payload_len;
  uint8_t opcode; /* a ws_opcode */
  bool is_final;
  bool is_masked;
  uint8_t mask[4]; /* zeros when not masked, so that unmasking changes nothing */
} ws_frame_header;

/* Whether the opcode, known to be valid, is one of a control frame. */
static inline bool ws_opcode_is_control(uint8_t opcode) {
  return (opcode & 0x8) != 0;
}

/* Decodes the header at the start of `in`.
 *
 * Returns the header's length in bytes, or WS_FRAME_PARTIAL, WS_FRAME_INVALID or
 * WS_FRAME_TOO_LARGE. `out` is written only when the result is positive. A wrong byte is refused
 * when it arrives, whatever is missing behind it; the length is judged before any payload arrives,
 * so an oversized frame is refused without buffering it. `max_payload` is for data frames; control
 * frames have the limit of section 5.5. WS_FRAME_DECODE_MAX bytes are never partial. */
int ws_frame_decode(slice in, uint64_t max_payload, ws_frame_header *out);

/* Why ws_frame_decode finds the header at the start of `in` invalid; NULL if it does not. A string
 * literal, for the log. */
const char *ws_frame_error(slice in);

/* Bytes that ws_frame_encode writes for a payload of this length: 2, 4 or 10. */
static inline size_t ws_frame_header_size(uint64_t payload_len) {
  return payload_len < 126 ? 2 : payload_len <= UINT16_MAX ? 4 : WS_FRAME_HEADER_MAX;
}

/* Writes the header of an unmasked frame, as a server sends it; returns its size, at most
 * WS_FRAME_HEADER_MAX. */
size_t ws_frame_encode(char *out, ws_opcode opcode, bool is_final, uint64_t payload_len);

/* Writes the header so that it ends where `payload` begins, and returns its start. The caller has
 * kept WS_FRAME_HEADER_MAX bytes free in front. */
char *ws_frame_encode_before(char *payload, ws_opcode opcode, bool is_final, uint64_t payload_len);

/* Writes a whole close frame and returns its size. WS_CLOSE_NO_CODE makes an empty one. A reason
 * that does not fit is cut at a character boundary. The caller has checked the code with
 * ws_frame_is_close_code and that the reason is UTF-8. */
size_t ws_frame_encode_close(char out[WS_FRAME_CLOSE_MAX], uint16_t code, slice reason);

/* Whether the code may stand in a close frame: 1000 to 1003, 1007 to 1014 (the registry to which
 * section 7.4.2 leaves the rest of the range), 3000 to 4999. */
bool ws_frame_is_close_code(uint16_t code);

/* Masks or unmasks in place (section 5.3). `offset` is the place of data[0] in the frame's payload:
 * only its last two bits count. Any alignment, any length. */
void ws_frame_unmask(char *data, size_t len, const uint8_t mask[4], uint64_t offset);

#endif
