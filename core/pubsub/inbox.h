/* What waits for one worker, in release order: publications, and tasks posted to it.
 *
 * Entries are pushed under the hub's lock by any thread and taken by the worker. An inbox has a
 * limit; past it publications are no longer pushed and the inbox is *overrun* until its worker has
 * joined again (topic.h). Tasks are always taken. */
#ifndef PERIGEE_PUBSUB_INBOX_H
#define PERIGEE_PUBSUB_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pubsub/message.h"

typedef void (*inbox_task)(void *context);

/* A message (one reference), a task, or in a batch neither: then `context` is a hub topic (one
 * reference) of which publications were lost to an overrun. */
typedef struct {
  struct message *message;
  inbox_task task;
  void *context;
} inbox_entry;

struct inbox {
  inbox_entry *entries;
  size_t count;
  size_t capacity;
  size_t bytes; /* cost of the messages in it */
  size_t max_entries;
  size_t max_bytes;
  bool is_overrun;
  /* Whether there is anything to take; read without the lock. */
  atomic_bool is_filled;
  /* Called under the lock when the inbox was empty and another thread pushed. NULL while the
   * worker is not attached: then nothing is pushed. */
  void (*wake)(void *context);
  void *wake_context;
};

/* Taken entries: the worker's own, read without a lock from `next` on. Those before `tasks_end` are
 * tasks only: publications may overtake tasks (topics_catch_up), never each other. */
struct inbox_batch {
  inbox_entry *entries;
  size_t count;
  size_t capacity;
  size_t next;
  size_t tasks_end;
};

void inbox_init(struct inbox *inbox, size_t max_entries, size_t max_bytes);
/* Releases what is left. */
void inbox_deinit(struct inbox *inbox);

/* Under the hub's lock. Retains the message; false when the inbox is overrun (it is marked). An
 * empty inbox takes a message of any size. */
bool inbox_push_message(struct inbox *inbox, struct message *message);
void inbox_push_task(struct inbox *inbox, inbox_task task, void *context);
/* Under the hub's lock: moves everything to the end of `batch`, and ends an overrun. */
void inbox_take(struct inbox *inbox, struct inbox_batch *batch);
/* Appends to a batch; takes over the entry's reference. */
void inbox_batch_push(struct inbox_batch *batch, inbox_entry entry);

static inline bool inbox_is_filled(struct inbox *inbox) {
  return atomic_load_explicit(&inbox->is_filled, memory_order_acquire);
}

#endif
