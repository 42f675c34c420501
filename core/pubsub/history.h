/* What a topic keeps: a queue of messages in counted, append-only segments, and cuts of it.
 *
 * A history is changed under the hub's lock only. A cut holds the segments it needs, so that
 * making one costs a few pointers and reading it needs no lock. What falls out is collected and
 * released by the caller after the lock. Knows no numbers of logs and no policy: hub.c decides
 * what falls out. */
#ifndef PERIGEE_PUBSUB_HISTORY_H
#define PERIGEE_PUBSUB_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pubsub/message.h"

enum { HISTORY_SEGMENT_MESSAGES = 64 };

struct segment; /* counted atomically; holds up to HISTORY_SEGMENT_MESSAGES messages */

struct history {
  struct segment **segments; /* a ring would save moves; segments are few */
  size_t segment_count;
  size_t segment_capacity;
  size_t first;       /* index of the oldest message in segments[0] */
  size_t count;       /* messages kept, removed ones not counted */
  size_t total_bytes; /* their cost */
};

/* Segments to release after the lock, with their messages and those messages' topics. */
struct trash {
  struct segment **segments;
  size_t count;
  size_t capacity;
};

void history_init(struct history *history);
/* Moves everything into `trash`. */
void history_deinit(struct history *history, struct trash *trash);

/* Appends; the history takes a reference of its own. */
void history_append(struct history *history, struct message *message);
/* The oldest message that is not removed, or NULL. Borrowed. */
struct message *history_peek(struct history *history);
/* The newest message that is not removed, or NULL. Borrowed. */
struct message *history_peek_newest(struct history *history);
/* Drops the oldest message (removed ones in front of it too). */
void history_drop_oldest(struct history *history, struct trash *trash);
/* Drops all. */
void history_clear(struct history *history, struct trash *trash);
/* Marks the message with this number removed; what it leaves empty goes to `trash`. False when it
 * is not here. */
bool history_remove(struct history *history, uint64_t number, struct trash *trash);

/* Releases what was collected. Not under the lock. */
void trash_empty(struct trash *trash);

/* Messages of one or more histories, as they stood when the cut was made, in release order. */
struct cut;

/* An empty cut for up to `topics` histories; the caller frees it, not under the hub's lock. NULL
 * may be freed. */
struct cut *cut_new(size_t topics);
void cut_free(struct cut *cut);
/* Adds the messages with a release after `after_release`, and of those the newest `newest` only
 * (SIZE_MAX: all). Under the hub's lock: retains segments, copies nothing. */
void cut_add(struct cut *cut, const struct history *history, uint64_t after_release, size_t newest);
/* Adds the messages with a number above `number`. Under the hub's lock. */
void cut_add_after_number(struct cut *cut, const struct history *history, uint64_t number);
/* Whether nothing is left in it. */
bool cut_is_empty(const struct cut *cut);
/* The next message in release order, passing over removed ones; NULL at the end. Borrowed from
 * the cut. No more is added once reading has begun. */
struct message *cut_next(struct cut *cut);

#endif
