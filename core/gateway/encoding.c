#include "gateway/encoding.h"

#include "base/mem.h"
#include "codec/json_event.h"
#include "codec/position.h"
#include "codec/sse.h"
#include "codec/ws_frame.h"
#include "gateway/worker.h"

static ws_opcode opcode_of(const struct message *message) {
  return (message->flags & MESSAGE_BINARY) != 0 ? WS_OPCODE_BINARY : WS_OPCODE_TEXT;
}

void encoding_prepare(struct message *message) {
  ws_frame_encode_before(message_data(message), opcode_of(message), true, message->data.len);
}

static slice position_of(struct worker *worker, const struct message *message,
                         char text[WORKER_POSITION_BYTES]) {
  hub_position position;
  memcpy(position.heads, message->heads, sizeof position.heads);
  return slice_of(text, worker_format_position(worker, &position, text));
}

/* In a frame of its own, without which it is an event of a long-poll. */
static struct encoding *encode_envelope(struct worker *worker, const struct message *message) {
  char position[WORKER_POSITION_BYTES];
  json_event event = {.topic = hub_topic_name(message->topic),
                      .event = message->event,
                      .data = message->data,
                      .is_json = (message->flags & MESSAGE_JSON) != 0};
  if (message->number > 0) event.id = position_of(worker, message, position);
  struct buf json;
  buf_init(&json, 0);
  json_event_encode(&json, &event);
  size_t header = ws_frame_header_size(json.len);
  struct encoding *encoding = mem_alloc(sizeof *encoding + header + json.len);
  *encoding = (struct encoding){header + json.len, header, json.len};
  ws_frame_encode(encoding->data, WS_OPCODE_TEXT, true, json.len);
  memcpy(encoding->data + header, json.data, json.len);
  buf_deinit(&json);
  return encoding;
}

static struct encoding *encode_sse(struct worker *worker, const struct message *message,
                                   bool has_id) {
  char position[WORKER_POSITION_BYTES];
  sse_event event = {.data = message->data.len > 0 ? message->data : SLICE("")};
  if (message->event.len > 0) event.event = message->event;
  if (has_id && message->number > 0) event.id = position_of(worker, message, position);
  size_t event_len = sse_encoded_size(&event);
  sse_extent extent = sse_chunk_extent(event_len);
  struct encoding *encoding = mem_alloc(sizeof *encoding + extent.chunk_len);
  *encoding = (struct encoding){extent.chunk_len, extent.event_offset, extent.event_len};
  sse_encode_chunk(&event, event_len, encoding->data);
  return encoding;
}

static struct encoding *encoded(struct worker *worker, struct message *message,
                                encoding_kind kind) {
  struct encoding *encoding = message_find_encoding(message, (int)kind);
  if (encoding != NULL) return encoding;
  encoding = kind == ENCODING_ENVELOPE ? encode_envelope(worker, message)
                                       : encode_sse(worker, message, kind == ENCODING_SSE);
  return message_push_encoding(message, (int)kind, encoding);
}

static slice bytes_of(struct worker *worker, struct message *message, encoding_kind kind) {
  if (kind == ENCODING_WS) {
    size_t header = ws_frame_header_size(message->data.len);
    return slice_of(message->data.data - header, header + message->data.len);
  }
  struct encoding *encoding = encoded(worker, message, kind);
  return slice_of(encoding->data, encoding->len);
}

size_t encoding_size(struct worker *worker, struct message *message, encoding_kind kind) {
  if (worker->encodings.lanes[kind].release == message->release) {
    return worker->encodings.lanes[kind].len;
  }
  return bytes_of(worker, message, kind).len;
}

block_mark encoding_mark(const struct message *message) {
  block_mark mark = {.kind = message->number > 0 ? MARK_KEPT : MARK_LIVE};
  memcpy(mark.position.heads, message->heads, sizeof mark.position.heads);
  return mark;
}

static void copy_to_lane(struct worker *worker, struct message *message, encoding_kind kind,
                         slice bytes) {
  struct block *block = block_reserve(&worker->blocks, (int)kind, bytes.len);
  uint32_t at = block->used;
  memcpy(block->data + at, bytes.data, bytes.len);
  block_mark mark = encoding_mark(message);
  block_commit(block, bytes.len, mark.kind, &mark.position);
  worker->encodings.lanes[kind].release = message->release;
  worker->encodings.lanes[kind].block = block;
  worker->encodings.lanes[kind].at = at;
  worker->encodings.lanes[kind].len = (uint32_t)bytes.len;
}

slice encoding_bytes(struct worker *worker, struct message *message, encoding_kind kind,
                     bool is_unframed) {
  if (!is_unframed) return bytes_of(worker, message, kind);
  struct encoding *encoding = encoded(worker, message, kind);
  return slice_of(encoding->data + encoding->event_offset, encoding->event_len);
}

static void push_unframed(struct worker *worker, struct message *message, encoding_kind kind,
                          struct outbox *outbox) {
  slice bytes = encoding_bytes(worker, message, kind, true);
  struct block *block = block_reserve(&worker->blocks, BLOCK_PRIVATE, bytes.len);
  uint32_t at = block->used;
  memcpy(block->data + at, bytes.data, bytes.len);
  block_mark mark = encoding_mark(message);
  block_commit(block, bytes.len, mark.kind, &mark.position);
  outbox_push_block(outbox, block, at, (uint32_t)bytes.len);
}

void encoding_push(struct worker *worker, struct message *message, encoding_kind kind,
                   bool is_unframed, struct outbox *outbox) {
  if (is_unframed) {
    push_unframed(worker, message, kind, outbox);
    return;
  }
  if (worker->encodings.lanes[kind].release != message->release) {
    slice bytes = bytes_of(worker, message, kind);
    if (bytes.len > BLOCK_MESSAGE_BYTES) {
      outbox_push_message(outbox, message, bytes);
      return;
    }
    copy_to_lane(worker, message, kind, bytes);
  }
  const struct encoding_copy *copy = &worker->encodings.lanes[kind];
  outbox_push_block(outbox, copy->block, copy->at, copy->len);
}
