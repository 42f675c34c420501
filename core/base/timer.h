/* Timers over base/clock: a heap of due times, one per worker.
 *
 * Timers do not know the event loop: their owner asks timers_next_due_ms how long it may sleep and
 * calls timers_run when awake. A timer is embedded in its owner's struct and costs no allocation
 * of its own. One thread. */
#ifndef PERIGEE_BASE_TIMER_H
#define PERIGEE_BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer;
typedef void (*timer_callback)(struct timer *timer);

struct timer {
  uint64_t due_ms;
  uint64_t order; /* timers due at the same time fire in the order in which they were started */
  timer_callback on_due;
  size_t place; /* index in the heap plus one; zero while not started */
};

struct timers {
  struct timer **heap;
  size_t count;
  size_t capacity;
  uint64_t started; /* source of `order` */
};

void timers_init(struct timers *timers);
/* No timer may be started any more. */
void timers_deinit(struct timers *timers);

void timer_init(struct timer *timer, timer_callback on_due);
static inline bool timer_is_started(const struct timer *timer) {
  return timer->place > 0;
}
/* Starts, or moves a started timer. It fires once; `on_due` may start it again. */
void timer_start(struct timers *timers, struct timer *timer, uint64_t due_ms);
/* No effect on a timer that is not started. */
void timer_stop(struct timers *timers, struct timer *timer);

/* When the earliest timer is due (clock_now_ms's scale), or UINT64_MAX. */
uint64_t timers_next_due_ms(const struct timers *timers);

/* Fires all timers due at `now_ms`, earliest first, but none that was started meanwhile, so that a
 * timer of zero milliseconds cannot hold the loop. Callbacks may start and stop any timer.
 * Returns how many fired. */
int timers_run(struct timers *timers, uint64_t now_ms);

#endif
