#include "base/timer.h"

#include "base/mem.h"

void timers_init(struct timers *timers) {
  *timers = (struct timers){0};
}

void timers_deinit(struct timers *timers) {
  REQUIRE(timers->count == 0);
  mem_free(timers->heap);
  timers_init(timers);
}

void timer_init(struct timer *timer, timer_callback on_due) {
  *timer = (struct timer){.on_due = on_due};
}

static bool is_before(const struct timer *a, const struct timer *b) {
  return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void put(struct timers *timers, size_t index, struct timer *timer) {
  timers->heap[index] = timer;
  timer->place = index + 1;
}

static void sift_up(struct timers *timers, size_t index, struct timer *timer) {
  while (index > 0) {
    size_t parent = (index - 1) / 2;
    if (!is_before(timer, timers->heap[parent])) break;
    put(timers, index, timers->heap[parent]);
    index = parent;
  }
  put(timers, index, timer);
}

static void sift_down(struct timers *timers, size_t index, struct timer *timer) {
  for (;;) {
    size_t child = 2 * index + 1;
    if (child >= timers->count) break;
    if (child + 1 < timers->count && is_before(timers->heap[child + 1], timers->heap[child])) {
      child++;
    }
    if (!is_before(timers->heap[child], timer)) break;
    put(timers, index, timers->heap[child]);
    index = child;
  }
  put(timers, index, timer);
}

void timer_start(struct timers *timers, struct timer *timer, uint64_t due_ms) {
  timer_stop(timers, timer);
  timer->due_ms = due_ms;
  timer->order = timers->started++;
  if (timers->count == timers->capacity) {
    timers->capacity = timers->capacity > 0 ? timers->capacity * 2 : 16;
    timers->heap = mem_realloc(timers->heap, timers->capacity * sizeof(struct timer *));
  }
  sift_up(timers, timers->count++, timer);
}

void timer_stop(struct timers *timers, struct timer *timer) {
  if (timer->place == 0) return;
  size_t index = timer->place - 1;
  timer->place = 0;
  struct timer *last = timers->heap[--timers->count];
  if (last == timer) return;
  if (index > 0 && is_before(last, timers->heap[(index - 1) / 2])) {
    sift_up(timers, index, last);
  } else {
    sift_down(timers, index, last);
  }
}

uint64_t timers_next_due_ms(const struct timers *timers) {
  return timers->count > 0 ? timers->heap[0]->due_ms : UINT64_MAX;
}

int timers_run(struct timers *timers, uint64_t now_ms) {
  uint64_t started_before = timers->started;
  int fired = 0;
  while (timers->count > 0) {
    struct timer *timer = timers->heap[0];
    /* A timer started during this run has a later order; it may hide an older one that is due
     * later, which then waits for the next run, a poll of timeout zero away. */
    if (timer->due_ms > now_ms || timer->order >= started_before) break;
    timer_stop(timers, timer);
    fired++;
    timer->on_due(timer);
  }
  return fired;
}
