/* The memory log: numbers what is kept, and remembers what was lost.
 *
 * One per hub, used under its lock. Its epoch is new at every start. A *mark* is the highest number
 * that a topic has lost (trimmed, cleared or forgotten); marks of topics that are gone live in a
 * bounded table, and what falls out of it raises the log's floor: below it nothing is claimed. */
#ifndef PERIGEE_PUBSUB_LOG_MEMORY_H
#define PERIGEE_PUBSUB_LOG_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/slice.h"

enum { LOG_EPOCH_CHARS = 6 };

struct log_memory {
  char epoch[LOG_EPOCH_CHARS];
  uint64_t head;  /* number of the newest kept publication or clear */
  uint64_t floor; /* positions below it make no claim */
  struct map marks;
  struct list marks_by_age;
  size_t max_marks;
};

void log_memory_init(struct log_memory *log, size_t max_marks);
void log_memory_deinit(struct log_memory *log);

static inline uint64_t log_memory_next(struct log_memory *log) {
  return ++log->head;
}

/* Remembers the mark of a topic that is forgotten. No effect for 0. */
void log_memory_push_mark(struct log_memory *log, slice topic, uint64_t mark);
/* Takes a mark back when the topic returns; 0 when there is none. */
uint64_t log_memory_take_mark(struct log_memory *log, slice topic);
/* Looks only. */
uint64_t log_memory_find_mark(const struct log_memory *log, slice topic);

#endif
