/* One thread with its own event loop, script state, listening sockets and connections.
 *
 * Owns the turn: drain the inbox, run what is due, flush, sweep, until nothing is left or the
 * budget is spent (DESIGN section 10). Everything in it is used by its thread alone, but for
 * worker_wake. */
#ifndef PERIGEE_GATEWAY_WORKER_H
#define PERIGEE_GATEWAY_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/timer.h"
#include "codec/position.h"
#include "gateway/block.h"
#include "gateway/encoding.h"
#include "gateway/hooks.h"
#include "gateway/limits.h"
#include "gateway/request.h"
#include "gateway/routes.h"
#include "gateway/stall.h"
#include "net/stream.h"
#include "pubsub/topic.h"

struct acceptor;
struct conn;
struct gateway;
struct http_conn;

/* One read takes at most this much: a large message arrives in few pieces. */
enum { WORKER_READ_BYTES = 512 * 1024 };

/* Place for position text, with a NUL. */
enum { WORKER_POSITION_BYTES = 65 };

typedef enum {
  WORKER_SERVING,
  WORKER_STOP_ASKED, /* one more poll, so that whoever waits to be accepted is */
  WORKER_LEAVING,    /* listeners closed, connections are closing */
  WORKER_LEFT,
} worker_stage;

/* The outboxes that have something to write, in the order in which they got it. */
struct dirty_list {
  struct outbox **outboxes; /* [first .. end); NULL: taken off */
  uint32_t first;
  uint32_t end;
  uint32_t capacity;
};

struct worker {
  struct gateway *gateway;
  size_t index; /* from 0; people see index + 1 */
  const struct hooks *hooks;
  const struct limits *limits;

  /* --- the script layer's --- */
  struct routes *routes; /* of the generation that is live: set by hooks->swap */
  void *script;          /* set by hooks->load */

  struct timers timers;
  struct topics topics;
  struct block_writer blocks;
  struct request_pool requests;
  struct activity activity; /* read by the main thread */
  struct encoding_cache encodings;

  /* --- the worker's own --- */
  uv_loop_t loop;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle;
  uv_async_t async;
  uv_timer_t timer; /* bounds the poll; what is due is in `timers` */
  uint64_t timer_due_ms;
  struct stream_loop streams;
  struct buf scratch;         /* for what is copied on at once: heads of answers */
  struct acceptor *acceptors; /* set and freed by acceptor.h, as their count */
  size_t acceptor_count;
  struct list conns; /* of struct conn */
  struct list https; /* of struct http_conn */
  struct dirty_list dirty;
  struct conn *runnable; /* whose events wait for the turn */
  struct conn *runnable_last;
  struct list swept; /* connections to free when the turn ends */
  struct list swept_https;
  uint64_t conn_count;
  uint64_t http_count;
  uint64_t exchange_count;
  uint64_t guest_count;       /* of http, those beyond the limit of connections that are heard */
  uint64_t turn_ms;           /* clock_now_ms when the turn's round began */
  struct histogram stalls;    /* of times between two polls, in nanoseconds */
  uint64_t turn_checked_ns;   /* when the last turn ended */
  uint64_t event_count;       /* events of the loop: reads, accepts */
  uint64_t flushed_count;     /* event_count at the last flush */
  size_t pushed_bytes;        /* of messages to single connections, since then */
  uint64_t polled_count;      /* event_count before the last poll */
  unsigned acknowledge_count; /* of worker_post_advance, due when the turn has flushed */
  uint64_t date_checked_ns;   /* turn_checked_ns when `date` was last compared with the clock */
  uint64_t date_second;       /* what `date` shows */
  size_t date_len;
  char date[CLOCK_HTTP_BYTES];
  bool is_in_turn;
  bool has_idle;
  worker_stage stage;
  uint64_t stop_due_ns; /* when the drain time is over */
  pthread_t thread;
  struct buf load_error;
  uint64_t kept_count;      /* connections that the last reload has kept ... */
  uint64_t orphaned_count;  /* ... and those whose route it has taken */
  hook_counts final_counts; /* after unload: all zero, or something leaked */
};

/* Starts the worker's thread; it loads its script, waits for the others and serves `sockets`
 * (taken over), until worker_post_stop. */
void worker_start(struct worker *worker, struct gateway *gateway, size_t index,
                  const struct hooks *hooks, const int *sockets, size_t socket_count);

/* The steps of that, for who drives a worker on a thread of his own (embedded.h): open, load,
 * begin, then uv_run on its loop until the stage is WORKER_LEFT, finish, close. Where the script
 * does not load (worker->load_error) there is only close. */
void worker_open(struct worker *worker, struct gateway *gateway, size_t index,
                 const struct hooks *hooks, const int *sockets, size_t socket_count);
bool worker_load(struct worker *worker);
void worker_begin(struct worker *worker);
void worker_finish(struct worker *worker);
void worker_close(struct worker *worker);

/* From the main thread: begin to leave in good order, within this time. */
void worker_post_stop(struct worker *worker);
/* From the main thread: run what is due after the clock was moved, or a full collection; each
 * calls gateway_acknowledge when it is done. */
void worker_post_advance(struct worker *worker);
void worker_post_collect(struct worker *worker);
/* The same: connections set their timers anew, as the clock of peers is held or goes on. */
void worker_post_set_timers(struct worker *worker);
/* The same: the stalls so far are forgotten. */
void worker_post_forget(struct worker *worker);

/* Signals the worker's loop. Any thread. */
void worker_wake(struct worker *worker);

typedef struct {
  slice event;        /* SSE event name */
  uint64_t except_id; /* connection that does not get it, or 0 */
  uint64_t origin_id; /* connection whose handler publishes, or 0 */
  bool clear;
  bool transient;
  bool is_binary;
  bool is_json; /* the data was a table: an envelope carries it as a value, not as a string */
} publish_options;

/* Not UTF-8; beside the results of the hub. */
enum { PUBLISH_BAD_UTF8 = -10, PUBLISH_BAD_EVENT = -11 };

/* Publishes from this worker: checks UTF-8, makes the encodings, releases. Queueing only. Returns
 * hub_result, PUBLISH_BAD_UTF8 or PUBLISH_BAD_EVENT. */
int worker_publish(struct worker *worker, slice topic, slice data, const publish_options *options,
                   hub_receipt *receipt);
/* After HUB_LOG_STALLED: the same, when the log takes it. on_done is told in a drain, where no
 * script may run; the rest of the commit is this function's to fill in. */
void worker_publish_later(struct worker *worker, slice topic, slice data,
                          const publish_options *options, struct commit *commit);
/* Queues a signal to each subscriber's on_signal. The receipt's receivers count. */
int worker_signal(struct worker *worker, slice topic, slice data, bool is_binary,
                  uint64_t origin_id, hub_receipt *receipt);

/* Hands over the messages that wait in the inbox: before anything that depends on queue order. */
void worker_drain(struct worker *worker);

/* The text of a position; NUL-terminated; returns its length. */
size_t worker_format_position(const struct worker *worker, const hub_position *position,
                              char out[WORKER_POSITION_BYTES]);
/* The start of a replay from a position's text (data NULL: none). */
hub_start worker_parse_since(const struct worker *worker, slice since, hub_from from,
                             uint64_t from_count);

/* Puts an outbox on the list of those that are flushed when the turn ends, making room there. Never
 * inlined: the usual case of a delivery needs no frame. */
__attribute__((noinline)) void worker_push_dirty(struct worker *worker, struct outbox *outbox);
/* The same where it is not there yet. Inline: once a delivery. */
static inline void worker_mark_dirty(struct worker *worker, struct outbox *outbox) {
  struct dirty_list *dirty = &worker->dirty;
  if (outbox->dirty_place > 0) return;
  if (__builtin_expect(dirty->end == dirty->capacity, 0)) {
    worker_push_dirty(worker, outbox);
    return;
  }
  dirty->outboxes[dirty->end++] = outbox;
  outbox->dirty_place = dirty->end;
}
/* Takes it off again: its stream is gone. */
void worker_forget_dirty(struct worker *worker, struct outbox *outbox);
/* Events wait for this connection's script: the turn tells them. Retains it until then. */
void worker_make_runnable(struct worker *worker, struct conn *conn);

/* To be called by whoever handled an event of the loop (a read, an accept), at its end: after 256
 * events or a millisecond it drains and flushes in the middle of the poll. */
void worker_after_event(struct worker *worker);

/* The Date header's value: made once a second, and the clock is asked once a turn. */
slice worker_date(struct worker *worker);

#endif
