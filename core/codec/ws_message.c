#include "codec/ws_message.h"

#include "base/buf.h"
#include "base/mem.h"

struct ws_partial {
  struct buf message;
  uint8_t control_len;
  char control[WS_FRAME_CONTROL_MAX];
};

_Static_assert(sizeof(struct ws_decoder) <= 64, "an idle connection pays for it");

static struct ws_partial *partial_of(struct ws_decoder *decoder) {
  if (decoder->partial == NULL) {
    decoder->partial = mem_alloc(sizeof(*decoder->partial));
    buf_init(&decoder->partial->message, (size_t)decoder->max_message_bytes);
    decoder->partial->control_len = 0;
  }
  return decoder->partial;
}

static void free_partial(struct ws_decoder *decoder) {
  if (decoder->partial == NULL) return;
  buf_deinit(&decoder->partial->message);
  mem_free(decoder->partial);
  decoder->partial = NULL;
}

void ws_decoder_init(struct ws_decoder *decoder, uint64_t max_message_bytes,
                     uint32_t max_fragments) {
  REQUIRE(max_message_bytes <= SIZE_MAX / 2 && max_fragments > 0);
  *decoder =
      (struct ws_decoder){.max_message_bytes = max_message_bytes, .max_fragments = max_fragments};
}

void ws_decoder_deinit(struct ws_decoder *decoder) {
  free_partial(decoder);
}

size_t ws_decoder_buffered(const struct ws_decoder *decoder) {
  if (decoder->partial == NULL || decoder->message_opcode == 0) return 0;
  return decoder->partial->message.len;
}

/* Gives back what the last event lay in. A control frame may have been delivered from within a
 * message, which stays. */
static void release_delivered(struct ws_decoder *decoder) {
  if (!decoder->is_delivered) return;
  decoder->is_delivered = false;
  if (decoder->message_opcode == 0) {
    free_partial(decoder);
  } else {
    decoder->partial->control_len = 0;
  }
}

/* The functions below fill in `event` when there is one and say whether there is. Events are built
 * in place and member by member: returned by value from one to the next, they cost half of the time
 * that a short message takes. */
static bool tell_error(ws_event *event, uint16_t code, const char *error) {
  event->kind = WS_EVENT_ERROR;
  event->code = code;
  event->error = error;
  return true;
}

static void give_up(struct ws_decoder *decoder) {
  free_partial(decoder);
  decoder->message_opcode = 0;
  decoder->is_over = true;
}

static bool fail(struct ws_decoder *decoder, ws_event *event, uint16_t code, const char *error) {
  give_up(decoder);
  return tell_error(event, code, error);
}

static bool deliver(ws_event *event, ws_event_kind kind, slice data) {
  event->kind = kind;
  event->data = data;
  return true;
}

/* What the order of frames and the client's role forbid, as far as the bytes of the header tell.
 * Sections 5.1 and 5.4. */
static const char *role_error(const struct ws_decoder *decoder, slice header) {
  if (header.len < 1) return NULL;
  uint8_t opcode = (uint8_t)header.data[0] & 0x0F;
  bool is_within = decoder->message_opcode != 0;
  if (opcode == WS_OPCODE_CONTINUATION && !is_within) {
    return "a continuation without a message to continue";
  }
  if (opcode != WS_OPCODE_CONTINUATION && !ws_opcode_is_control(opcode) && is_within) {
    return "a new message within a fragmented one";
  }
  if (header.len >= 2 && !((uint8_t)header.data[1] & 0x80)) return "the frame is not masked";
  return NULL;
}

/* The frame that has begun is of a message: the first one, or one more. */
static bool begin_fragment(struct ws_decoder *decoder, ws_event *event) {
  if (decoder->frame_opcode != WS_OPCODE_CONTINUATION) {
    decoder->message_opcode = decoder->frame_opcode;
    decoder->fragments = 0;
  }
  if (decoder->fragments == decoder->max_fragments) {
    return fail(decoder, event, WS_CLOSE_TOO_LARGE, "the message has too many fragments");
  }
  decoder->fragments++;
  return false;
}

static bool begin_frame(struct ws_decoder *decoder, ws_event *event,
                        const ws_frame_header *header) {
  decoder->header_len = 0;
  decoder->is_in_frame = true;
  decoder->is_final = header->is_final;
  decoder->frame_opcode = header->opcode;
  decoder->frame_remaining = header->payload_len;
  memcpy(decoder->mask, header->mask, sizeof(decoder->mask));
  decoder->mask_phase = 0;
  return ws_opcode_is_control(header->opcode) ? false : begin_fragment(decoder, event);
}

/* Reads the header of the next frame from the start of `in` and sets `*used` to the bytes it took.
 * The only event it gives is an error; without one the decoder is in a frame afterwards, or all of
 * `in` was used. */
static bool take_header(struct ws_decoder *decoder, ws_event *event, slice in, size_t *used) {
  slice bytes = in;
  size_t held = decoder->header_len;
  if (held > 0) {
    size_t more = sizeof(decoder->header) - held;
    if (more > in.len) more = in.len;
    memcpy(decoder->header + held, in.data, more);
    bytes = slice_of(decoder->header, held + more);
  }
  /* Between frames all bytes of earlier fragments are in the buffer, so the sum is the buffer's. */
  uint64_t max_payload = decoder->max_message_bytes - ws_decoder_buffered(decoder);
  ws_frame_header header;
  int size = ws_frame_decode(bytes, max_payload, &header);
  const char *error = size == WS_FRAME_INVALID ? ws_frame_error(bytes) : role_error(decoder, bytes);
  if (error != NULL) return fail(decoder, event, WS_CLOSE_PROTOCOL_ERROR, error);
  if (size == WS_FRAME_TOO_LARGE) {
    return fail(decoder, event, WS_CLOSE_TOO_LARGE, "the message is too large");
  }
  if (size == WS_FRAME_PARTIAL) {
    if (held == 0) memcpy(decoder->header, in.data, in.len);
    decoder->header_len = (uint8_t)bytes.len;
    *used = in.len;
    return false;
  }
  *used = (size_t)size - held;
  return begin_frame(decoder, event, &header);
}

static const char *text_error(utf8_state state) {
  return state == UTF8_INVALID ? "the text is not UTF-8" : "the text ends within a character";
}

static void hold_message(struct ws_decoder *decoder, slice piece) {
  if (piece.len == 0) return;
  /* The limit was checked when the header came. */
  REQUIRE(buf_append(&partial_of(decoder)->message, piece));
}

static bool finish_message(struct ws_decoder *decoder, ws_event *event, slice last_piece) {
  bool is_text = decoder->message_opcode == WS_OPCODE_TEXT;
  if (is_text && decoder->utf8 != UTF8_BOUNDARY) {
    return fail(decoder, event, WS_CLOSE_INVALID_DATA, text_error(decoder->utf8));
  }
  slice whole = last_piece;
  if (ws_decoder_buffered(decoder) > 0) {
    hold_message(decoder, last_piece);
    whole = buf_peek(&decoder->partial->message);
  }
  decoder->message_opcode = 0;
  decoder->is_delivered = decoder->partial != NULL;
  return deliver(event, is_text ? WS_EVENT_TEXT : WS_EVENT_BINARY, whole);
}

static bool take_message_piece(struct ws_decoder *decoder, ws_event *event, slice piece) {
  if (decoder->message_opcode == WS_OPCODE_TEXT) {
    decoder->utf8 = utf8_check(decoder->utf8, piece);
    if (decoder->utf8 == UTF8_INVALID) {
      return fail(decoder, event, WS_CLOSE_INVALID_DATA, text_error(decoder->utf8));
    }
  }
  if (!decoder->is_in_frame && decoder->is_final) return finish_message(decoder, event, piece);
  hold_message(decoder, piece);
  return false;
}

/* Section 5.5.1. */
static bool tell_close(ws_event *event, slice payload) {
  uint16_t code = WS_CLOSE_NO_CODE;
  if (payload.len == 1) {
    return tell_error(event, WS_CLOSE_PROTOCOL_ERROR, "a close frame has half a code");
  }
  if (payload.len >= 2) {
    code = (uint16_t)((uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1]);
    if (!ws_frame_is_close_code(code)) {
      return tell_error(event, WS_CLOSE_PROTOCOL_ERROR, "the close code is not allowed");
    }
  }
  slice reason = slice_skip(payload, 2);
  if (!utf8_is_valid(reason)) {
    return tell_error(event, WS_CLOSE_INVALID_DATA, "the close reason is not UTF-8");
  }
  event->code = code;
  return deliver(event, WS_EVENT_CLOSE, reason);
}

/* `payload` is all of a control frame's. */
static bool tell_control(ws_event *event, uint8_t opcode, slice payload) {
  if (opcode == WS_OPCODE_CLOSE) return tell_close(event, payload);
  return deliver(event, opcode == WS_OPCODE_PING ? WS_EVENT_PING : WS_EVENT_PONG, payload);
}

static bool take_control_piece(struct ws_decoder *decoder, ws_event *event, slice piece) {
  slice whole = piece;
  bool is_held = decoder->partial != NULL && decoder->partial->control_len > 0;
  if (is_held || (decoder->is_in_frame && piece.len > 0)) {
    struct ws_partial *partial = partial_of(decoder);
    if (piece.len > 0) memcpy(partial->control + partial->control_len, piece.data, piece.len);
    partial->control_len = (uint8_t)(partial->control_len + piece.len);
    whole = slice_of(partial->control, partial->control_len);
  }
  if (decoder->is_in_frame) return false;
  decoder->is_delivered = is_held;
  tell_control(event, decoder->frame_opcode, whole);
  if (event->kind == WS_EVENT_ERROR) give_up(decoder);
  if (event->kind == WS_EVENT_CLOSE) {
    /* A message that was under way will never be finished. */
    decoder->message_opcode = 0;
    decoder->is_delivered = decoder->partial != NULL;
    decoder->is_over = true;
  }
  return true;
}

/* data[0..len) is payload of the frame under way, possibly none of it. */
static bool take_payload(struct ws_decoder *decoder, ws_event *event, char *data, size_t len) {
  ws_frame_unmask(data, len, decoder->mask, decoder->mask_phase);
  decoder->mask_phase = (uint8_t)((decoder->mask_phase + len) & 3);
  decoder->frame_remaining -= len;
  decoder->is_in_frame = decoder->frame_remaining > 0;
  slice piece = slice_of(data, len);
  return ws_opcode_is_control(decoder->frame_opcode) ? take_control_piece(decoder, event, piece)
                                                     : take_message_piece(decoder, event, piece);
}

static bool tell_text(ws_event *event, slice whole) {
  if (utf8_is_valid(whole)) return deliver(event, WS_EVENT_TEXT, whole);
  utf8_state state = utf8_check(UTF8_BOUNDARY, whole);
  return tell_error(event, WS_CLOSE_INVALID_DATA, text_error(state));
}

/* Whether a frame that begins with this byte is final and begins nothing that another one ends. */
static bool is_first_of_whole(uint8_t first) {
  switch (first) {
    case 0x80 | WS_OPCODE_TEXT:
    case 0x80 | WS_OPCODE_BINARY:
    case 0x80 | WS_OPCODE_CLOSE:
    case 0x80 | WS_OPCODE_PING:
    case 0x80 | WS_OPCODE_PONG:
      return true;
    default:
      return false;
  }
}

size_t ws_message_take_whole(char *data, size_t len, uint64_t max_message_bytes, ws_event *event) {
  enum { SHORT_HEADER = 6, HEADER = 8 }; /* the mask included */
  if (len < SHORT_HEADER) return 0;
  uint8_t first = (uint8_t)data[0], second = (uint8_t)data[1], opcode = first & 0x0F;
  if (!is_first_of_whole(first) || second < 0x80 || second > 0xFE) return 0;
  size_t header = SHORT_HEADER, payload = second & 0x7F;
  if (payload == 126) {
    if (len < HEADER || ws_opcode_is_control(opcode)) return 0;
    header = HEADER;
    payload = (size_t)(uint8_t)data[2] << 8 | (uint8_t)data[3];
    if (payload < 126) return 0;
  }
  if (payload > len - header || payload > max_message_bytes) return 0;
  data += header;
  ws_frame_unmask(data, payload, (const uint8_t *)data - 4, 0);
  slice whole = slice_of(data, payload);
  if (opcode == WS_OPCODE_TEXT) {
    tell_text(event, whole);
  } else if (opcode == WS_OPCODE_BINARY) {
    deliver(event, WS_EVENT_BINARY, whole);
  } else {
    tell_control(event, opcode, whole);
  }
  return header + payload;
}

static size_t take_whole(struct ws_decoder *decoder, ws_event *event, char *data, size_t len) {
  if (!ws_decoder_is_idle(decoder)) return 0;
  size_t taken = ws_message_take_whole(data, len, decoder->max_message_bytes, event);
  if (taken > 0) decoder->is_over = event->kind == WS_EVENT_ERROR || event->kind == WS_EVENT_CLOSE;
  return taken;
}

static size_t take_pieces(struct ws_decoder *decoder, ws_event *event, char *data, size_t len) {
  release_delivered(decoder);
  bool has_event = false;
  size_t at = 0;
  while (at < len && !has_event && !decoder->is_over) {
    if (!decoder->is_in_frame) {
      size_t used = 0;
      has_event = take_header(decoder, event, slice_of(data + at, len - at), &used);
      at += used;
    }
    if (!has_event && decoder->is_in_frame) {
      size_t piece = len - at;
      if (piece > decoder->frame_remaining) piece = (size_t)decoder->frame_remaining;
      has_event = take_payload(decoder, event, data + at, piece);
      at += piece;
    }
  }
  return at;
}

size_t ws_decoder_next(struct ws_decoder *decoder, char *data, size_t len, ws_event *event) {
  event->kind = WS_EVENT_NONE;
  size_t taken = take_whole(decoder, event, data, len);
  if (taken == 0) taken = take_pieces(decoder, event, data, len);
  return event->kind == WS_EVENT_NONE || event->kind == WS_EVENT_ERROR ? len : taken;
}
