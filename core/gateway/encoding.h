/* A publication's bytes for each kind of reader, made once and shared.
 *
 * The WebSocket encoding stands inside the message, its header in the headroom, made before the
 * message is released; the others are made by the first worker that needs them. Short encodings are
 * copied into the worker's block of their lane once a turn, so that what one reader gets is
 * adjacent. */
#ifndef PERIGEE_GATEWAY_ENCODING_H
#define PERIGEE_GATEWAY_ENCODING_H

#include <stdbool.h>

#include "base/buf.h"
#include "gateway/block.h"
#include "gateway/outbox.h"
#include "pubsub/message.h"

struct worker;

/* What a subscription's tag says: which of a message's encodings it gets. */
typedef enum {
  ENCODING_WS,       /* a WebSocket frame of the data, as published */
  ENCODING_ENVELOPE, /* a frame of {"topic", "id", "event", "data"} */
  ENCODING_SSE,      /* an event with `id:`, in an HTTP chunk */
  ENCODING_SSE_BARE, /* the same without `id:` */
} encoding_kind;
_Static_assert((int)ENCODING_SSE_BARE + 1 == (int)MESSAGE_ENCODINGS, "a place for each encoding");

/* Before the message is published: writes the WebSocket header into the headroom. */
void encoding_prepare(struct message *message);

/* Queues the message's encoding. `is_unframed`: without transfer framing (an SSE stream to
 * HTTP/1.0, a long-poll), which cannot be shared and is copied. */
void encoding_push(struct worker *worker, struct message *message, encoding_kind kind,
                   bool is_unframed, struct outbox *outbox);

/* Its size in bytes, for limits. */
size_t encoding_size(struct worker *worker, struct message *message, encoding_kind kind);

/* Its bytes; borrowed from the message. */
slice encoding_bytes(struct worker *worker, struct message *message, encoding_kind kind,
                     bool is_unframed);

/* The mark of a publication. */
block_mark encoding_mark(const struct message *message);

/* The message that was copied last into a lane this turn. */
struct encoding_copy {
  uint64_t release; /* 0: none */
  struct block *block;
  uint32_t at; /* block->data[at .. at + len) */
  uint32_t len;
};

/* One per worker. */
struct encoding_cache {
  struct encoding_copy lanes[MESSAGE_ENCODINGS];
};

#endif
