/* What waits to be written to one client, in order.
 *
 * Slices of blocks and of messages, and *sources* (a replay, a file) that make their bytes when
 * their turn comes; those do not count against the limit. Nothing is written when something is
 * pushed: the worker flushes all dirty outboxes when its turn ends, one write each. */
#ifndef PERIGEE_GATEWAY_OUTBOX_H
#define PERIGEE_GATEWAY_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "gateway/block.h"
#include "net/stream.h"
#include "pubsub/message.h"

struct outbox;
struct source;

struct source_ops {
  /* The next bytes: a block with one reference, the caller's; NULL when there are no more. */
  struct block *(*pull)(struct source *source);
  /* The mark of the first publication not yet pulled, for the position of a cut connection. False
   * when there is none. */
  bool (*peek_mark)(struct source *source, block_mark *mark);
  void (*free)(struct source *source);
};
struct source {
  const struct source_ops *ops;
};

typedef enum { OUTBOX_BLOCK, OUTBOX_MESSAGE, OUTBOX_SOURCE } outbox_item_kind;

typedef struct {
  outbox_item_kind kind;
  struct block *block;     /* one reference; for a source what was pulled last, or NULL */
  struct message *message; /* OUTBOX_MESSAGE: one reference */
  struct source *source;   /* OUTBOX_SOURCE: owned */
  const char *data;        /* what is left of the bytes */
  size_t len;
  const char *begin; /* where the bytes began: a frame's beginning */
} outbox_item;

struct outbox_events {
  /* All is written and nothing waits. */
  void (*on_flushed)(struct outbox *outbox);
  /* The stream takes no more for now; NULL: nobody wants to know. */
  void (*on_blocked)(struct outbox *outbox);
  /* The stream is broken. */
  void (*on_broken)(struct outbox *outbox, int error);
};

struct outbox {
  const struct outbox_events *events;
  struct stream *stream; /* borrowed; NULL: what is pushed is dropped */
  struct outbox *next_dirty;
  outbox_item *items; /* items[first .. first + count) */
  uint32_t first;
  uint32_t count;
  uint32_t capacity;
  uint32_t owned; /* of the items, from the first: those whose bytes are this outbox's own */
  uint32_t source_count;
  uint32_t in_flight; /* bytes of the rest that the stream writes */
  size_t bytes;       /* in block and message items */
  bool is_dirty;
  bool is_blocked; /* a rest is under way: nothing is written until it is done */
};

void outbox_init(struct outbox *outbox, const struct outbox_events *events, struct stream *stream);
/* Drops everything. Must not be on a dirty list. */
void outbox_deinit(struct outbox *outbox);

/* Moves what waits in `from`, and the rest that is under way, to an empty outbox of the same
 * stream. */
void outbox_take(struct outbox *outbox, struct outbox *from);

/* Queues bytes of a block (retained); extends the last item when adjacent. */
void outbox_push_block(struct outbox *outbox, struct block *block, const char *data, size_t len);
/* Queues bytes that live in a message (retained). */
void outbox_push_message(struct outbox *outbox, struct message *message, slice bytes);
/* Takes over a source. */
void outbox_push_source(struct outbox *outbox, struct source *source);

/* Bytes that wait, without what sources have yet to make. */
static inline size_t outbox_bytes(const struct outbox *outbox) {
  return outbox->bytes + outbox->in_flight;
}
static inline bool outbox_is_empty(const struct outbox *outbox) {
  return outbox->count == 0 && outbox->in_flight == 0;
}

/* Writes what the stream takes; once, or more often while a source has more, to a limit: true when
 * it is to be called again. What a full stream leaves behind is copied out of shared blocks, so
 * that a slow reader pins only its own bytes. Tells on_flushed, on_blocked or on_broken. */
bool outbox_flush(struct outbox *outbox);
/* To be called from the stream's on_writable; returns as outbox_flush. */
bool outbox_on_writable(struct outbox *outbox, int error);

/* Cuts the queue for a last word: keeps the rest of a WebSocket frame that was begun and drops
 * everything behind it. `*position` is lowered to before every publication that is dropped. */
void outbox_cut(struct outbox *outbox, hub_position *position);

#endif
