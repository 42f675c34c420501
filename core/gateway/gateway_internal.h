/* The process's struct, for gateway.c, which starts and stops it, embedded.c, which does so on one
 * thread, reload.c, stall.c, and control.c, which serves tests. */
#ifndef PERIGEE_GATEWAY_GATEWAY_INTERNAL_H
#define PERIGEE_GATEWAY_GATEWAY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "gateway/addresses.h"
#include "gateway/gateway.h"
#include "gateway/listeners.h"
#include "gateway/reload.h"
#include "gateway/secrets.h"
#include "gateway/stall.h"

struct control_socket;
struct dev;
struct supervise_link;

struct gateway {
  const struct config *config;
  const struct hooks *hooks;
  struct hub *hub;
  struct shared_store *shared;
  struct addresses addresses;
  struct worker *workers;
  size_t worker_count;
  struct listeners listeners;
  const struct supervise_link *supervisor; /* NULL: none */
  void (*pump)(struct gateway *gateway);   /* runs a worker without a thread; NULL: it has one */
  uint64_t started_ms;
  _Atomic uint64_t next_id;

  /* Where workers and main thread wait for each other. */
  uv_mutex_t lock;
  uv_cond_t changed;
  size_t loaded_count;
  size_t failed_count;
  size_t ready_count;
  size_t ended_count;
  size_t acknowledged_count;
  uint64_t next_due_ms; /* the earliest timer of those that have acknowledged */
  bool may_go_on;
  bool has_verdict; /* may_go_on is decided */

  struct secrets secrets;
  struct stall_watch stall;

  /* The main thread's loop. */
  uv_loop_t loop;
  uv_signal_t signals[3];
  uv_timer_t sweep_timer;
  uv_timer_t watch_timer;
  uv_async_t ended;
  uv_pipe_t input;
  struct buf input_line;
  struct reload reload;
  struct dev *dev;                /* NULL: not with --dev */
  struct control_socket *control; /* NULL: none */
  bool has_input;
  bool has_terminal; /* it was started from one */
  bool is_stopping;
  uint64_t stop_asked_ns;
  bool has_ended; /* the workers' threads are joined */
};

/* All but workers and loop. Config and listeners are the caller's. */
struct gateway *gateway_new(const struct config *config, const struct hooks *hooks,
                            const struct listeners *listeners);
/* Frees what the workers shared, once they have ended. Histories hold messages, which the last
 * counters count. */
void gateway_forget_shared(struct gateway *gateway);
void gateway_free(struct gateway *gateway);

void gateway_expect_acknowledgements(struct gateway *gateway);
void gateway_wait_for_acknowledgements(struct gateway *gateway);

#endif
