/* WebSocket messages from a client's bytes (RFC 6455 sections 5 to 8): reassembly, the rules of
 * fragmentation, UTF-8 and close codes.
 *
 * A pull decoder: it gives one event at a time, so that the caller can stop between two and keep
 * the rest of the input for later. What to answer (pong, close frame) and when to close the
 * connection is the caller's. Frame headers are ws_frame.h. */
#ifndef PERIGEE_CODEC_WS_MESSAGE_H
#define PERIGEE_CODEC_WS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/utf8.h"
#include "codec/ws_frame.h"

typedef enum {
  WS_EVENT_NONE, /* all input is consumed, more is needed */
  WS_EVENT_TEXT,
  WS_EVENT_BINARY,
  WS_EVENT_PING,
  WS_EVENT_PONG,
  WS_EVENT_CLOSE,
  WS_EVENT_ERROR, /* the peer broke a rule or passed a limit: close with `code` */
} ws_event_kind;

typedef struct {
  ws_event_kind kind;
  uint16_t code; /* CLOSE: the peer's code, or 1005 if it gave none. ERROR: 1002, 1007 or 1009 */
  slice data;    /* but for ERROR: the payload, for CLOSE the reason; valid until the next call */
  const char *error; /* ERROR: what was wrong, a literal for the log */
} ws_event;

/* Memory does not bound the number of fragments, since they are joined as they arrive and empty
 * ones take none; time does. Conformance suites send 65,536 of 64 bytes. */
enum { WS_DECODER_FRAGMENTS_DEFAULT = 131072 };

/* Takes what most frames are between two messages: a message or a control frame of less than 64 KiB
 * that lies whole at the start of data[0..len), in one masked frame. It is unmasked in place, and
 * `event` is as ws_decoder_next's. Returns the bytes it took; 0 for anything else, without having
 * touched data or event: that is ws_decoder_next's to judge. */
size_t ws_message_take_whole(char *data, size_t len, uint64_t max_message_bytes, ws_event *event);

/* What is held of a message or a control frame that is incomplete after a read. */
struct ws_partial;

/* At most 64 bytes; `partial` is NULL whenever the input so far ended between two messages, and
 * while a message lies whole in the input. Private to ws_message.c. */
struct ws_decoder {
  uint64_t max_message_bytes;
  struct ws_partial *partial;
  uint64_t frame_remaining; /* payload bytes of the frame under way that have not arrived */
  uint32_t max_fragments;
  uint32_t fragments; /* frames of the message under way */
  uint8_t mask[4];
  uint8_t mask_phase; /* the payload bytes seen of the frame under way, modulo 4 */
  uint8_t header_len; /* bytes of an incomplete header in `header` */
  uint8_t header[WS_FRAME_DECODE_MAX];
  uint8_t frame_opcode;
  uint8_t message_opcode; /* text or binary while a message is under way, else 0 */
  utf8_state utf8;        /* of the text under way; at a boundary between messages */
  bool is_final;          /* the frame under way is the last of its message */
  bool is_in_frame;       /* a header has been read and its payload is not complete */
  bool is_delivered;      /* the last event lies in `partial`, which goes with the next call */
  bool is_over;           /* after CLOSE or ERROR; whatever comes is discarded */
};

/* Allocates nothing. `max_message_bytes` bounds the sum of a message's fragments, judged from their
 * headers; `max_fragments` (at least 1) the number of its frames. Passing either gives 1009. */
void ws_decoder_init(struct ws_decoder *decoder, uint64_t max_message_bytes,
                     uint32_t max_fragments);
void ws_decoder_deinit(struct ws_decoder *decoder);

/* Takes the next event from data[0..len), which it unmasks in place, and returns the bytes it took:
 * all of them for WS_EVENT_NONE and after WS_EVENT_ERROR. Of `event` only what its kind has is
 * written.
 *
 * Call it with what is left until it gives WS_EVENT_NONE; when nothing is left, only as long as
 * ws_decoder_is_holding: that gives the memory of a delivered message back. A message that lies
 * whole in the input is given as a slice of it. After WS_EVENT_CLOSE or WS_EVENT_ERROR the rest is
 * discarded. */
size_t ws_decoder_next(struct ws_decoder *decoder, char *data, size_t len, ws_event *event);

/* Whether the last event lies in memory that the next call gives back. */
static inline bool ws_decoder_is_holding(const struct ws_decoder *decoder) {
  return decoder->is_delivered;
}

/* Whether nothing of a message or a frame is under way: the decoder is as after ws_decoder_init,
 * and need not be kept. False after WS_EVENT_CLOSE and WS_EVENT_ERROR. */
static inline bool ws_decoder_is_idle(const struct ws_decoder *decoder) {
  return decoder->partial == NULL && decoder->header_len == 0 && decoder->message_opcode == 0 &&
         !decoder->is_in_frame && !decoder->is_over;
}

/* Bytes held of the message under way; 0 between messages. */
size_t ws_decoder_buffered(const struct ws_decoder *decoder);

#endif
