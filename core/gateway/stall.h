/* Workers that are stuck: what holds them up, and who takes their new connections meanwhile.
 *
 * A worker beats at each turn and before each resume of a handler, and notes which handler that is:
 * plain stores in its `struct activity`. The main thread looks at them about once a second. A
 * worker without a beat for config->stall_timeout_ms is stuck, and named in the log; where workers
 * share a port, new connections go to the others as soon as it has missed two looks in a handler.
 * An idle worker does not beat either: after half the timeout it is woken, and answers by the turn
 * that follows. Nothing is interrupted: ending a gateway that is stuck is supervise.h's. */
#ifndef PERIGEE_GATEWAY_STALL_H
#define PERIGEE_GATEWAY_STALL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"
#include "gateway/config.h"

struct gateway;

/* --- what a worker notes --- */

/* Read by the main thread. */
struct activity {
  _Atomic(const char *) label; /* the handler that runs; NULL: none */
  _Atomic uint64_t conn_id;    /* its connection, or 0 */
  _Atomic uint64_t beat;
};

typedef struct {
  const char *label;
  uint64_t conn_id;
} stall_running;

/* The worker gets on. */
static inline void stall_beat(struct activity *activity) {
  uint64_t beat = atomic_load_explicit(&activity->beat, memory_order_relaxed);
  atomic_store_explicit(&activity->beat, beat + 1, memory_order_relaxed);
}

static inline void stall_leave(struct activity *activity, stall_running outer) {
  /* The text behind the label was written by this thread or before it took a lock. */
  atomic_store_explicit(&activity->label, outer.label, memory_order_release);
  atomic_store_explicit(&activity->conn_id, outer.conn_id, memory_order_relaxed);
}

/* A handler is about to be resumed; `label` is from stall_label, or static text. Returns what ran
 * before, for stall_leave. */
static inline stall_running stall_enter(struct activity *activity, const char *label,
                                        uint64_t conn_id) {
  stall_running outer = {atomic_load_explicit(&activity->label, memory_order_relaxed),
                         atomic_load_explicit(&activity->conn_id, memory_order_relaxed)};
  stall_leave(activity, (stall_running){label, conn_id});
  stall_beat(activity);
  return outer;
}

/* The one copy of this text, valid for the gateway's life: keep it where it is asked for often. Any
 * thread. */
const char *stall_label(struct gateway *gateway, slice text);

/* --- the main thread's watch --- */

/* One worker as it was at the last look. */
typedef struct {
  uint64_t beat;
  uint64_t since_ns; /* of clock_real_ns: when that beat was first seen, or it was woken */
  bool is_woken;     /* it was idle, and has not answered yet */
  bool is_stuck;     /* and the log says so */
} stall_seen;

struct stall_watch {
  pthread_mutex_t lock;
  struct map labels; /* under lock */
  stall_seen workers[CONFIG_WORKERS_MAX];
  uint64_t interval_ns;
  uint64_t looked_ns;
  uint64_t avoided;           /* a bit for each worker that gets no new connections */
  int groups[CONFIG_LISTENS]; /* one socket of each port that workers share */
  size_t group_count;
};

/* How often to look: often enough to keep to the timeout, once a second at most. */
uint64_t stall_interval_ms(const struct config *config);

/* Before the workers start, and before they have taken their sockets. */
void stall_init(struct gateway *gateway);
/* After the last thread. */
void stall_deinit(struct gateway *gateway);
/* All workers serve. */
void stall_begin(struct gateway *gateway);
/* One look; whether no worker is stuck. */
bool stall_look(struct gateway *gateway);
/* Before the workers are told to leave: from now on their sockets are theirs alone, and none is
 * woken, as it may be gone. */
void stall_stop(struct gateway *gateway);

#endif
