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

struct outbox_events {
  /* All is written and nothing waits. Where nobody waits for it (`is_awaited`) it is not told of a
   * slice that was taken whole: what most flushes are. */
  void (*on_flushed)(struct outbox *outbox);
  /* The stream takes no more for now; NULL: nobody wants to know. */
  void (*on_blocked)(struct outbox *outbox);
  /* The stream is broken. */
  void (*on_broken)(struct outbox *outbox, int error);
  /* The turn ends and something waits, but there is no stream. It stays, for outbox_peek_message.
   * NULL: it is dropped. */
  void (*on_gathered)(struct outbox *outbox);
};

/* What waits when that is more than one slice; private to outbox.c. */
struct outbox_queue;

/* Empty, or one slice of a block, or a queue. One slice is what most outboxes ever hold, from a
 * handler to the end of its turn: it takes no memory beside the outbox. */
struct outbox {
  struct stream *stream;      /* borrowed; NULL: what is pushed is gathered, or dropped */
  struct block *block;        /* the slice's, one reference; NULL: there is none */
  uint32_t at;                /* block->data[at .. at + len): whole messages */
  uint32_t len;               /* 0 without a slice */
  struct outbox_queue *queue; /* NULL: there is none */
  const struct outbox_events *events;
  uint32_t dirty_place; /* on the worker's list of those to be flushed, from 1; 0: not there */
  bool is_awaited;      /* on_flushed is told in any case; true after outbox_init */
};

void outbox_init(struct outbox *outbox, const struct outbox_events *events, struct stream *stream);
/* Drops everything. Must not be on a dirty list. */
void outbox_deinit(struct outbox *outbox);

/* Moves what waits in `from`, and the rest that is under way, to an empty outbox of the same
 * stream. */
void outbox_take(struct outbox *outbox, struct outbox *from);

/* Queues block->data[at .. at + len) (retained) where that gives one slice, else nothing is done:
 * false. Inline: once a delivery. */
static inline bool outbox_push_slice(struct outbox *outbox, struct block *block, uint32_t at,
                                     uint32_t len) {
  if (outbox->block == NULL && outbox->queue == NULL) {
    outbox->block = block_retain(block);
    outbox->at = at;
  } else if (outbox->block != block || outbox->at + outbox->len != at) {
    return false;
  }
  outbox->len += len;
  return true;
}
/* What outbox_push_block does when that takes a queue. */
void outbox_queue_block(struct outbox *outbox, struct block *block, uint32_t at, uint32_t len);
/* Queues bytes of a block (retained); extends what is last there when adjacent. */
static inline void outbox_push_block(struct outbox *outbox, struct block *block, uint32_t at,
                                     uint32_t len) {
  if (!outbox_push_slice(outbox, block, at, len)) outbox_queue_block(outbox, block, at, len);
}
/* Ends a message of `len` bytes behind what the block has, which is for this outbox alone. */
static inline void outbox_push_private(struct outbox *outbox, struct block *block, size_t len) {
  uint32_t at = block->used;
  block_commit(block, len, MARK_PRIVATE, NULL);
  outbox_push_block(outbox, block, at, (uint32_t)len);
}
/* Queues bytes that live in a message (retained). */
void outbox_push_message(struct outbox *outbox, struct message *message, slice bytes);
/* Takes over a source. */
void outbox_push_source(struct outbox *outbox, struct source *source);

size_t outbox_queue_bytes(const struct outbox_queue *queue);

/* Bytes that wait, without what sources have yet to make. */
static inline size_t outbox_bytes(const struct outbox *outbox) {
  return outbox->queue == NULL ? outbox->len : outbox_queue_bytes(outbox->queue);
}
static inline bool outbox_is_empty(const struct outbox *outbox) {
  return outbox->block == NULL && outbox->queue == NULL;
}
/* Whether a source is among what waits. */
bool outbox_has_source(const struct outbox *outbox);

typedef enum {
  OUTBOX_WRITTEN,  /* the one slice that waited, at once */
  OUTBOX_TRIED,    /* more than that, or less: which may have taken a while */
  OUTBOX_HAS_MORE, /* outbox_flush is to be called again, after others */
} outbox_result;

/* Writes what the stream takes; once, or more often while a source has more, to a limit. What a
 * full stream leaves behind is copied out of shared blocks, so that a slow reader pins only its own
 * bytes. Tells on_flushed, on_blocked or on_broken. */
outbox_result outbox_flush(struct outbox *outbox);
/* To be called from the stream's on_writable; returns as outbox_flush. */
outbox_result outbox_on_writable(struct outbox *outbox, int error);

/* The source at its end, if nothing was pulled from that yet; NULL: there is none. Borrowed. */
struct source *outbox_peek_last_source(const struct outbox *outbox);

/* The first whole message that waits, where there is no stream; data NULL: none. Borrowed until the
 * outbox changes. */
slice outbox_peek_message(struct outbox *outbox);
/* Drops it. */
void outbox_drop_message(struct outbox *outbox, slice message);

/* Cuts the queue for a last word: keeps the rest of a WebSocket frame that was begun and drops
 * everything behind it. `*position` is lowered to before every publication that is dropped. */
void outbox_cut(struct outbox *outbox, hub_position *position);

#endif
