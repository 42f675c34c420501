#include "pubsub/history.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

/* A dropped message lives until its whole segment goes. With this bound a segment pins at most as
 * much, and a message above it is alone in its segment and goes when it is dropped. */
enum { SEGMENT_BYTES = 16 * 1024 };

/* A history appends to its last segment while cuts hold it. A cut reads only the places below the
 * count that it saw under the lock, so neither disturbs the other; `kept` and `bytes` are the
 * history's own. */
struct segment {
  atomic_uint references;
  unsigned count;
  unsigned kept; /* messages neither dropped nor removed */
  size_t bytes;
  struct message *messages[HISTORY_SEGMENT_MESSAGES];
};

/* A message in a history; at the end, segment is segment_count and index 0. */
struct place {
  size_t segment;
  size_t index;
};

static bool is_removed(const struct message *message) {
  return atomic_load_explicit(&message->is_removed, memory_order_acquire);
}

static void segment_release(struct segment *segment) {
  if (atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) != 1) return;
  for (unsigned i = 0; i < segment->count; i++) message_release(segment->messages[i]);
  mem_free(segment);
}

static void trash_push(struct trash *trash, struct segment *segment) {
  if (trash->count == trash->capacity) {
    trash->capacity = trash->capacity > 0 ? trash->capacity * 2 : 4;
    trash->segments = mem_realloc(trash->segments, trash->capacity * sizeof(struct segment *));
  }
  trash->segments[trash->count++] = segment;
}

void trash_empty(struct trash *trash) {
  for (size_t i = 0; i < trash->count; i++) segment_release(trash->segments[i]);
  mem_free(trash->segments);
  *trash = (struct trash){0};
}

void history_init(struct history *history) {
  *history = (struct history){0};
}

void history_deinit(struct history *history, struct trash *trash) {
  history_clear(history, trash);
  mem_free(history->segments);
  history_init(history);
}

static void push_segment(struct history *history) {
  if (history->segment_count == history->segment_capacity) {
    history->segment_capacity = history->segment_capacity > 0 ? history->segment_capacity * 2 : 2;
    history->segments =
        mem_realloc(history->segments, history->segment_capacity * sizeof(struct segment *));
  }
  struct segment *segment = mem_alloc(sizeof *segment);
  atomic_init(&segment->references, 1);
  segment->count = 0;
  segment->kept = 0;
  segment->bytes = 0;
  history->segments[history->segment_count++] = segment;
}

static void drop_segment(struct history *history, size_t at, struct trash *trash) {
  trash_push(trash, history->segments[at]);
  history->segment_count--;
  memmove(&history->segments[at], &history->segments[at + 1],
          (history->segment_count - at) * sizeof(struct segment *));
  if (at == 0) history->first = 0;
}

static size_t first_index(const struct history *history, size_t segment) {
  return segment == 0 ? history->first : 0;
}

void history_append(struct history *history, struct message *message) {
  size_t cost = message_cost_bytes(message);
  struct segment *last =
      history->segment_count > 0 ? history->segments[history->segment_count - 1] : NULL;
  if (last == NULL || last->count == HISTORY_SEGMENT_MESSAGES ||
      last->bytes + cost > SEGMENT_BYTES) {
    push_segment(history);
    last = history->segments[history->segment_count - 1];
  }
  last->messages[last->count++] = message_retain(message);
  last->kept++;
  last->bytes += cost;
  history->count++;
  history->total_bytes += cost;
}

/* The invariant that makes history_peek one step: the first place holds a message that is not
 * removed, or there is no segment. */
static void settle_front(struct history *history, struct trash *trash) {
  while (history->segment_count > 0) {
    struct segment *segment = history->segments[0];
    if (segment->kept == 0) {
      drop_segment(history, 0, trash);
    } else if (is_removed(segment->messages[history->first])) {
      history->first++;
    } else {
      return;
    }
  }
}

struct message *history_peek(struct history *history) {
  return history->count > 0 ? history->segments[0]->messages[history->first] : NULL;
}

struct message *history_peek_newest(struct history *history) {
  for (size_t s = history->segment_count; s-- > 0;) {
    struct segment *segment = history->segments[s];
    for (size_t i = segment->count; i-- > first_index(history, s);) {
      if (!is_removed(segment->messages[i])) return segment->messages[i];
    }
  }
  return NULL;
}

static void forget(struct history *history, struct segment *segment, struct message *message) {
  segment->kept--;
  history->count--;
  history->total_bytes -= message_cost_bytes(message);
}

void history_drop_oldest(struct history *history, struct trash *trash) {
  struct message *message = history_peek(history);
  if (message == NULL) return;
  forget(history, history->segments[0], message);
  history->first++;
  settle_front(history, trash);
}

void history_clear(struct history *history, struct trash *trash) {
  for (size_t i = 0; i < history->segment_count; i++) trash_push(trash, history->segments[i]);
  history->segment_count = 0;
  history->first = 0;
  history->count = 0;
  history->total_bytes = 0;
}

typedef enum { BY_RELEASE, BY_NUMBER } order;

static uint64_t key_of(const struct message *message, order by) {
  return by == BY_RELEASE ? message->release : message->number;
}

/* The first message with a key above `after`. */
static struct place find_after(const struct history *history, uint64_t after, order by) {
  size_t low = 0, high = history->segment_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const struct segment *segment = history->segments[middle];
    if (key_of(segment->messages[segment->count - 1], by) > after) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (low == history->segment_count) return (struct place){low, 0};
  const struct segment *segment = history->segments[low];
  size_t index = first_index(history, low);
  while (key_of(segment->messages[index], by) <= after) index++;
  return (struct place){low, index};
}

bool history_remove(struct history *history, uint64_t number, struct trash *trash) {
  if (number == 0) return false;
  struct place place = find_after(history, number - 1, BY_NUMBER);
  if (place.segment == history->segment_count) return false;
  struct segment *segment = history->segments[place.segment];
  struct message *message = segment->messages[place.index];
  if (message->number != number || is_removed(message)) return false;
  atomic_store_explicit(&message->is_removed, true, memory_order_release);
  forget(history, segment, message);
  /* Else publishing and removing for ever behind one old message would never give back. */
  if (segment->kept == 0) drop_segment(history, place.segment, trash);
  settle_front(history, trash);
  return true;
}

/* A run of messages in one segment. */
struct run {
  struct segment *segment; /* one reference */
  size_t next;
  size_t end;
};

/* The runs of one history that are left, and the release of its next message. */
struct part {
  size_t run;
  size_t run_end;
  uint64_t release;
};

/* The parts are a heap with the earliest release on top once reading has begun. */
struct cut {
  struct run *runs;
  size_t run_count;
  size_t run_capacity;
  bool is_heap;
  size_t part_count;
  size_t part_capacity;
  struct part parts[];
};

struct cut *cut_new(size_t topics) {
  struct cut *cut = mem_alloc_zero(sizeof *cut + topics * sizeof(struct part));
  cut->part_capacity = topics;
  return cut;
}

void cut_free(struct cut *cut) {
  if (cut == NULL) return;
  for (size_t i = 0; i < cut->run_count; i++) segment_release(cut->runs[i].segment);
  mem_free(cut->runs);
  mem_free(cut);
}

bool cut_is_empty(const struct cut *cut) {
  return cut->part_count == 0;
}

static void push_run(struct cut *cut, struct segment *segment, size_t next) {
  if (cut->run_count == cut->run_capacity) {
    cut->run_capacity = cut->run_capacity > 0 ? cut->run_capacity * 2 : 4;
    cut->runs = mem_realloc(cut->runs, cut->run_capacity * sizeof(struct run));
  }
  atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
  cut->runs[cut->run_count++] = (struct run){segment, next, segment->count};
}

static void add_from(struct cut *cut, const struct history *history, struct place from) {
  if (from.segment >= history->segment_count) return;
  REQUIRE(cut->part_count < cut->part_capacity && !cut->is_heap);
  size_t run = cut->run_count;
  uint64_t release = history->segments[from.segment]->messages[from.index]->release;
  for (size_t s = from.segment; s < history->segment_count; s++) {
    push_run(cut, history->segments[s], s == from.segment ? from.index : 0);
  }
  cut->parts[cut->part_count++] = (struct part){run, cut->run_count, release};
}

/* The later of `from` and the place from which `newest` messages are left. */
static struct place skip_to_newest(const struct history *history, struct place from,
                                   size_t newest) {
  struct place at = {history->segment_count, 0};
  while (newest > 0 && at.segment > from.segment) {
    const struct segment *segment = history->segments[at.segment - 1];
    at.segment--;
    at.index = first_index(history, at.segment);
    if (segment->kept <= newest) {
      newest -= segment->kept;
      continue;
    }
    at.index = segment->count;
    while (newest > 0) newest -= !is_removed(segment->messages[--at.index]);
  }
  if (at.segment == from.segment && at.index < from.index) at.index = from.index;
  return at;
}

void cut_add(struct cut *cut, const struct history *history, uint64_t after_release,
             size_t newest) {
  struct place from = find_after(history, after_release, BY_RELEASE);
  if (newest < history->count) from = skip_to_newest(history, from, newest);
  add_from(cut, history, from);
}

void cut_add_after_number(struct cut *cut, const struct history *history, uint64_t number) {
  add_from(cut, history, find_after(history, number, BY_NUMBER));
}

static void sift_down(struct cut *cut, size_t at) {
  struct part moving = cut->parts[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= cut->part_count) break;
    if (child + 1 < cut->part_count && cut->parts[child + 1].release < cut->parts[child].release) {
      child++;
    }
    if (cut->parts[child].release >= moving.release) break;
    cut->parts[at] = cut->parts[child];
    at = child;
  }
  cut->parts[at] = moving;
}

/* The earliest message, which the cut then is past. */
static struct message *take_earliest(struct cut *cut) {
  struct part *part = &cut->parts[0];
  struct run *run = &cut->runs[part->run];
  struct message *message = run->segment->messages[run->next++];
  if (run->next == run->end) run = &cut->runs[++part->run];
  if (part->run == part->run_end) {
    *part = cut->parts[--cut->part_count];
  } else {
    part->release = run->segment->messages[run->next]->release;
  }
  if (cut->part_count > 1) sift_down(cut, 0);
  return message;
}

struct message *cut_next(struct cut *cut) {
  if (!cut->is_heap) {
    for (size_t i = cut->part_count / 2; i-- > 0;) sift_down(cut, i);
    cut->is_heap = true;
  }
  while (cut->part_count > 0) {
    struct message *message = take_earliest(cut);
    if (!is_removed(message)) return message;
  }
  return NULL;
}
