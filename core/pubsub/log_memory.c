#include "pubsub/log_memory.h"

#include <string.h>

#include "base/mem.h"
#include "base/random.h"

struct mark {
  struct map_entry entry;
  struct list by_age; /* the longest remembered first */
  uint64_t number;
  char topic[];
};

void log_memory_init(struct log_memory *log, size_t max_marks) {
  *log = (struct log_memory){.max_marks = max_marks};
  random_text(log->epoch, LOG_EPOCH_CHARS);
  map_init(&log->marks);
  list_init(&log->marks_by_age);
}

static uint64_t take(struct log_memory *log, struct mark *mark) {
  uint64_t number = mark->number;
  map_remove(&log->marks, &mark->entry);
  list_remove(&mark->by_age);
  mem_free(mark);
  return number;
}

static struct mark *oldest(struct log_memory *log) {
  return LIST_OWNER(list_peek(&log->marks_by_age), struct mark, by_age);
}

void log_memory_deinit(struct log_memory *log) {
  while (log->marks.count > 0) take(log, oldest(log));
  map_deinit(&log->marks);
}

static struct mark *find(const struct log_memory *log, slice topic) {
  struct map_entry *entry = map_find(&log->marks, topic);
  return entry != NULL ? MAP_OWNER(entry, struct mark, entry) : NULL;
}

void log_memory_push_mark(struct log_memory *log, slice topic, uint64_t mark) {
  uint64_t before = log_memory_take_mark(log, topic);
  if (before > mark) mark = before;
  /* What the floor says already needs no place. */
  if (mark <= log->floor) return;
  struct mark *added = mem_alloc(sizeof *added + topic.len);
  memcpy(added->topic, topic.data, topic.len);
  added->number = mark;
  map_insert(&log->marks, &added->entry, slice_of(added->topic, topic.len));
  list_insert(&log->marks_by_age, &added->by_age);
  while (log->marks.count > log->max_marks) {
    uint64_t lost = take(log, oldest(log));
    if (lost > log->floor) log->floor = lost;
  }
}

uint64_t log_memory_take_mark(struct log_memory *log, slice topic) {
  struct mark *mark = find(log, topic);
  return mark != NULL ? take(log, mark) : 0;
}

uint64_t log_memory_find_mark(const struct log_memory *log, slice topic) {
  const struct mark *mark = find(log, topic);
  return mark != NULL ? mark->number : 0;
}
