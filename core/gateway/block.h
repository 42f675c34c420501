/* Blocks: where bytes that wait to be written stand while a turn lasts.
 *
 * A worker copies each short message into its current block once; the outboxes of all who get it
 * refer to those bytes, and what they get next is usually adjacent, so that a whole turn is one
 * slice in one write. Counted without atomics: blocks never leave their worker. */
#ifndef PERIGEE_GATEWAY_BLOCK_H
#define PERIGEE_GATEWAY_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "pubsub/hub.h"

/* Where a message ends in its block, and what it was. */
typedef enum {
  MARK_PRIVATE, /* sent to this connection alone: no position */
  MARK_LIVE,    /* a publication that is not kept */
  MARK_KEPT,
} mark_kind;
typedef struct {
  uint32_t end;
  mark_kind kind;
  hub_position position; /* MARK_LIVE, MARK_KEPT: at its release */
} block_mark;

/* Lowers a position to before the publication of this mark: it is not yet handed over. Marks of
 * private messages change nothing. */
static inline void position_limit(hub_position *position, const block_mark *mark) {
  if (mark->kind == MARK_PRIVATE) return;
  for (int i = 0; i < MESSAGE_LOGS; i++) {
    /* A kept publication is itself the head of its log, the memory log. */
    uint64_t before = mark->position.heads[i] - (i == 0 && mark->kind == MARK_KEPT ? 1 : 0);
    if (before < position->heads[i]) position->heads[i] = before;
  }
}

struct block {
  struct block_pool *pool;
  uint32_t references;
  uint32_t used;
  uint32_t capacity;
  uint32_t mark_count;
  uint32_t mark_capacity;
  block_mark *marks; /* by `end`, ascending */
  char data[];
};

/* Freed blocks of the standard size, for the next turn. */
struct block_pool {
  struct block *free[16];
  uint32_t free_count;
  uint64_t alive;
};

/* One lane per wire encoding, so that a topic's messages are adjacent for all who share the
 * encoding, and one for what goes to single connections. */
enum { BLOCK_LANES = MESSAGE_ENCODINGS + 1, BLOCK_PRIVATE = MESSAGE_ENCODINGS };

enum {
  BLOCK_BYTES = 68 * 1024,        /* the standard size: a message of 64 KiB fits, frame and all */
  BLOCK_MESSAGE_BYTES = 4 * 1024, /* longer messages are not copied */
};

struct block_writer {
  struct block_pool pool;
  struct block *lanes[BLOCK_LANES];
};

void block_writer_init(struct block_writer *writer);
/* No outbox may refer to a block any more. */
void block_writer_deinit(struct block_writer *writer);

/* What block_reserve does when the lane's block has no room. Never inlined: seldom. */
__attribute__((noinline)) struct block *block_begin(struct block_writer *writer, int lane,
                                                    size_t len);
/* Room for `len` contiguous bytes: the block, whose data + used is where to write; borrowed from
 * the lane. Followed by block_commit. More than BLOCK_BYTES gives a block of its own size. */
static inline struct block *block_reserve(struct block_writer *writer, int lane, size_t len) {
  struct block *block = writer->lanes[lane];
  if (block != NULL && len <= block->capacity - block->used) return block;
  return block_begin(writer, lane, len);
}
/* What block_commit does when there is no room for another mark. Never inlined: seldom. */
__attribute__((noinline)) void block_grow_marks(struct block *block);
/* `len` bytes were written, and end a message. Inline: once a message. */
static inline void block_commit(struct block *block, size_t len, mark_kind kind,
                                const hub_position *position) {
  block->used += (uint32_t)len;
  if (__builtin_expect(block->mark_count == block->mark_capacity, 0)) block_grow_marks(block);
  block_mark *mark = &block->marks[block->mark_count++];
  mark->end = block->used;
  mark->kind = kind;
  if (position != NULL) mark->position = *position;
}

/* A block of its own with room for `capacity` bytes; one reference, the caller's. */
struct block *block_new(struct block_pool *pool, size_t capacity);
static inline struct block *block_retain(struct block *block) {
  block->references++;
  return block;
}
/* Nobody refers to it any more. */
void block_free(struct block *block);
static inline void block_release(struct block *block) {
  if (--block->references == 0) block_free(block);
}

/* The first mark whose message ends after `offset`: the message that the byte there belongs to.
 * NULL behind the last. */
const block_mark *block_find_mark(const struct block *block, uint32_t offset);

/* The end of a turn: blocks that nobody refers to begin anew. */
void block_writer_recycle(struct block_writer *writer);

#endif
