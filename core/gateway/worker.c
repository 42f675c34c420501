#include "gateway/worker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/acceptor.h"
#include "gateway/conn.h"
#include "gateway/conn_events.h"
#include "gateway/gateway.h"
#include "gateway/http_conn.h"
#include "gateway/reload.h"
#include "pubsub/log_memory.h"

enum {
  TURN_BUDGET_NS = 1000 * 1000,
  EVENTS_A_FLUSH = 256,      /* after so many reads what they caused is flushed ... */
  BYTES_A_FLUSH = 64 * 1024, /* ... or after so much, while it is in the processor's cache ... */
  EVENTS_A_CHECK = 16,       /* ... or after TURN_BUDGET_NS, looked at every so many */
  FLUSHES_A_CHECK = 64, /* a write costs a microsecond or two; the clock is not asked after each */
  KEPT_DIRTY = 1024,    /* places that the list of dirty outboxes keeps when it is empty */
};

/* --- positions and publishing --- */

size_t worker_format_position(const struct worker *worker, const hub_position *position,
                              char out[WORKER_POSITION_BYTES]) {
  position_part part = {.number = position->heads[0]};
  memcpy(part.epoch, hub_epoch(worker->topics.hub), sizeof part.epoch);
  size_t len = position_encode(&part, 1, out);
  out[len] = '\0';
  return len;
}

hub_start worker_parse_since(const struct worker *worker, slice since, hub_from from,
                             uint64_t from_count) {
  hub_start start = {.has_since = since.data != NULL, .from = from, .from_count = from_count};
  if (start.has_since) {
    start.is_since_known = position_find(since, hub_epoch(worker->topics.hub), &start.since_number);
  }
  return start;
}

static bool is_event_name(slice event) {
  for (size_t i = 0; i < event.len; i++) {
    if (event.data[i] == '\r' || event.data[i] == '\n' || event.data[i] == '\0') return false;
  }
  return utf8_is_valid(event);
}

static struct message *make_publication(slice data, const publish_options *options) {
  unsigned flags = (options->is_binary ? MESSAGE_BINARY : 0u) |
                   (options->transient ? MESSAGE_TRANSIENT : 0u) |
                   (options->clear ? MESSAGE_CLEAR : 0u) | (options->is_json ? MESSAGE_JSON : 0u);
  struct message *message = message_new(options->event, data, flags);
  message->except_id = options->except_id;
  message->origin_id = options->origin_id;
  encoding_prepare(message);
  return message;
}

int worker_publish(struct worker *worker, slice topic, slice data, const publish_options *options,
                   hub_receipt *receipt) {
  if (!options->is_binary && !utf8_is_valid(data)) return PUBLISH_BAD_UTF8;
  if (!is_event_name(options->event)) return PUBLISH_BAD_EVENT;
  struct message *message = make_publication(data, options);
  int result = (int)hub_publish(worker->topics.hub, worker->index, topic, message, receipt);
  message_release(message);
  return result;
}

void worker_publish_later(struct worker *worker, slice topic, slice data,
                          const publish_options *options, struct commit *commit) {
  commit->message = make_publication(data, options);
  commit->topic = mem_copy(topic);
  commit->worker = worker->index;
  hub_commit(worker->topics.hub, commit);
}

int worker_signal(struct worker *worker, slice topic, slice data, bool is_binary,
                  uint64_t origin_id, hub_receipt *receipt) {
  if (!is_binary && !utf8_is_valid(data)) return PUBLISH_BAD_UTF8;
  unsigned flags = MESSAGE_SIGNAL | (is_binary ? MESSAGE_BINARY : 0u);
  struct message *message = message_new(SLICE(""), data, flags);
  message->origin_id = origin_id;
  int result = (int)hub_publish(worker->topics.hub, worker->index, topic, message, receipt);
  message_release(message);
  return result;
}

slice worker_date(struct worker *worker) {
  slice date = slice_of(worker->date, worker->date_len);
  if (worker->date_checked_ns == worker->turn_checked_ns && date.len > 0) return date;
  worker->date_checked_ns = worker->turn_checked_ns;
  uint64_t now_ms = clock_wall_ms();
  if (now_ms / 1000 != worker->date_second) {
    worker->date_second = now_ms / 1000;
    worker->date_len = clock_format_http(now_ms, worker->date);
  }
  return slice_of(worker->date, worker->date_len);
}

/* --- the lists of a turn --- */

static bool has_dirty(const struct worker *worker) {
  return worker->dirty.first < worker->dirty.end;
}

static void make_room(struct dirty_list *dirty) {
  if (dirty->first > dirty->capacity / 2) {
    /* Under load it may never be empty: what was flushed makes room. */
    dirty->end -= dirty->first;
    memmove(dirty->outboxes, dirty->outboxes + dirty->first, dirty->end * sizeof(struct outbox *));
    dirty->first = 0;
    for (uint32_t i = 0; i < dirty->end; i++) {
      if (dirty->outboxes[i] != NULL) dirty->outboxes[i]->dirty_place = i + 1;
    }
    return;
  }
  dirty->capacity = dirty->capacity > 0 ? dirty->capacity * 2 : 64;
  dirty->outboxes = mem_realloc(dirty->outboxes, dirty->capacity * sizeof(struct outbox *));
}

void worker_push_dirty(struct worker *worker, struct outbox *outbox) {
  make_room(&worker->dirty);
  worker_mark_dirty(worker, outbox);
}

void worker_forget_dirty(struct worker *worker, struct outbox *outbox) {
  if (outbox->dirty_place == 0) return;
  worker->dirty.outboxes[outbox->dirty_place - 1] = NULL;
  outbox->dirty_place = 0;
}

/* All are flushed: the list begins anew, and gives back what a large fan-out made of it. */
static void empty_dirty(struct dirty_list *dirty) {
  dirty->first = dirty->end = 0;
  if (dirty->capacity <= KEPT_DIRTY) return;
  mem_free(dirty->outboxes);
  *dirty = (struct dirty_list){0};
}

void worker_make_runnable(struct worker *worker, struct conn *conn) {
  if (conn->is_runnable) return;
  conn->is_runnable = true;
  conn->next_runnable = NULL;
  conn_retain(conn);
  if (worker->runnable_last != NULL) {
    worker->runnable_last->next_runnable = conn;
  } else {
    worker->runnable = conn;
  }
  worker->runnable_last = conn;
}

static void run_runnable(struct worker *worker) {
  /* Those that are made runnable meanwhile wait for the next round. */
  struct conn *conn = worker->runnable;
  worker->runnable = NULL;
  worker->runnable_last = NULL;
  while (conn != NULL) {
    struct conn *next = conn->next_runnable;
    conn->is_runnable = false;
    if (conn->is_ending) conn_end(conn);
    conn_events_pump(conn);
    conn_read_on(conn);
    conn_release(conn);
    conn = next;
  }
}

/* Flushes some; stops behind one that took long. What has more goes to the end of the list. */
static void flush_some(struct worker *worker) {
  struct dirty_list *dirty = &worker->dirty;
  uint32_t left = dirty->end - dirty->first;
  for (uint32_t i = left < FLUSHES_A_CHECK ? left : FLUSHES_A_CHECK; i > 0; i--) {
    struct outbox *outbox = dirty->outboxes[dirty->first++];
    if (i > 1) __builtin_prefetch(dirty->outboxes[dirty->first], 1);
    if (outbox == NULL) continue;
    outbox->dirty_place = 0;
    outbox_result result = outbox_flush(outbox);
    if (__builtin_expect(result != OUTBOX_WRITTEN, 0)) {
      if (result == OUTBOX_HAS_MORE) worker_mark_dirty(worker, outbox);
      return;
    }
  }
}

static void flush(struct worker *worker, uint64_t deadline_ns) {
  while (has_dirty(worker)) {
    flush_some(worker);
    if (clock_real_ns() >= deadline_ns) break;
  }
  if (!has_dirty(worker)) empty_dirty(&worker->dirty);
}

static void sweep(struct worker *worker) {
  struct list *link;
  http_conn_sweep(worker);
  while ((link = list_peek(&worker->swept)) != NULL) {
    conn_free(LIST_OWNER(link, struct conn, all));
  }
}

void worker_drain(struct worker *worker) {
  topics_catch_up(&worker->topics);
}

/* --- the turn --- */

/* Drains, runs, flushes and sweeps until nothing is left or the budget is spent. Returns whether
 * something is left. */
static bool run_turn(struct worker *worker) {
  if (worker->is_in_turn) return false;
  worker->is_in_turn = true;
  uint64_t now_ns = clock_real_ns();
  uint64_t deadline_ns = now_ns + TURN_BUDGET_NS;
  bool has_left;
  do {
    worker->turn_ms = clock_now_ms();
    timers_run(&worker->timers, worker->turn_ms);
    has_left = topics_drain(&worker->topics, deadline_ns);
    run_runnable(worker);
    flush(worker, deadline_ns);
    sweep(worker);
    has_left = has_left || has_dirty(worker) || worker->runnable != NULL ||
               topics_has_waiting(&worker->topics) ||
               timers_next_due_ms(&worker->timers) <= clock_now_ms();
    now_ns = clock_real_ns();
  } while (has_left && now_ns < deadline_ns);
  if (!has_dirty(worker)) {
    block_writer_recycle(&worker->blocks);
    worker->encodings = (struct encoding_cache){0};
  }
  worker->turn_checked_ns = now_ns;
  worker->flushed_count = worker->event_count;
  worker->pushed_bytes = 0;
  worker->is_in_turn = false;
  return has_left;
}

/* Whether events have taken a turn's time. Not inlined: most events need no frame for the clock. */
__attribute__((noinline)) static bool is_turn_due(const struct worker *worker) {
  uint64_t polled_ns = worker->streams.polled_ns;
  uint64_t since_ns = worker->turn_checked_ns > polled_ns ? worker->turn_checked_ns : polled_ns;
  return clock_real_ns() - since_ns >= TURN_BUDGET_NS;
}

void worker_after_event(struct worker *worker) {
  unsigned count = (unsigned)(++worker->event_count - worker->flushed_count);
  if (count < EVENTS_A_FLUSH && worker->pushed_bytes < BYTES_A_FLUSH) {
    if (count % EVENTS_A_CHECK != 0 || !is_turn_due(worker)) return;
  }
  run_turn(worker);
  struct stream_loop *streams = &worker->streams;
  streams->is_poll_due = worker->turn_checked_ns - streams->polled_ns >= TURN_BUDGET_NS;
}

static void on_idle(uv_idle_t *idle) {
  (void)idle; /* While it is active the poll does not block. */
}

static void set_idle(struct worker *worker, bool is_active) {
  if (worker->has_idle == is_active) return;
  worker->has_idle = is_active;
  if (is_active) {
    uv_idle_start(&worker->idle, on_idle);
  } else {
    uv_idle_stop(&worker->idle);
  }
}

static void on_timer(uv_timer_t *timer) {
  struct worker *worker = timer->data;
  worker->timer_due_ms = UINT64_MAX;
}

/* Bounds the poll by the next timer, and by the end of the drain time. */
static void bound_poll(struct worker *worker) {
  uint64_t now_ms = clock_now_ms();
  uint64_t due_ms = timers_next_due_ms(&worker->timers);
  if (worker->stage >= WORKER_LEAVING) {
    uint64_t left_ns = worker->stop_due_ns - clock_real_ns();
    if ((int64_t)left_ns < 0) left_ns = 0;
    uint64_t stop_ms = now_ms + left_ns / 1000000 + 1;
    if (stop_ms < due_ms) due_ms = stop_ms;
  }
  if (due_ms == worker->timer_due_ms) return;
  worker->timer_due_ms = due_ms;
  if (due_ms == UINT64_MAX) {
    uv_timer_stop(&worker->timer);
  } else {
    uv_update_time(&worker->loop);
    uv_timer_start(&worker->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
  }
}

static void leave(struct worker *worker);

static void on_prepare(uv_prepare_t *prepare) {
  struct worker *worker = prepare->data;
  bool was_idle = worker->event_count == worker->polled_count;
  stall_beat(&worker->activity); /* also of a worker that was woken to show that it lives */
  stream_loop_sweep(&worker->streams);
  bool has_left = run_turn(worker);
  if (worker->stage != WORKER_SERVING) leave(worker);
  bool has_garbage = worker->hooks->step(worker, was_idle && !has_left);
  set_idle(worker, has_left || has_garbage || has_dirty(worker) ||
                       worker->stage == WORKER_STOP_ASKED ||
                       stream_loop_has_closed(&worker->streams));
  bound_poll(worker);
  worker->polled_count = worker->event_count;
  histogram_add(&worker->stalls, clock_real_ns() - worker->streams.polled_ns);
  worker->streams.polled_ns = 0;
  for (; !has_left && worker->acknowledge_count > 0; worker->acknowledge_count--) {
    gateway_acknowledge(worker->gateway, timers_next_due_ms(&worker->timers));
  }
}

static void on_check(uv_check_t *check) {
  struct worker *worker = check->data;
  stream_loop_event(&worker->streams); /* the poll may have told none */
}

/* --- life --- */

static void on_async(uv_async_t *async) {
  struct worker *worker = async->data;
  stream_loop_event(&worker->streams); /* the turn before the next poll finds what waits */
}

void worker_wake(struct worker *worker) {
  uv_async_send(&worker->async);
}

static void wake(void *context) {
  worker_wake(context);
}

static void open_loop(struct worker *worker) {
  REQUIRE(uv_loop_init(&worker->loop) == 0);
  stream_loop_open(&worker->streams, &worker->loop, WORKER_READ_BYTES);
  worker->streams.has_children = gateway_config(worker->gateway)->is_unsafe;
  uv_prepare_init(&worker->loop, &worker->prepare);
  uv_check_init(&worker->loop, &worker->check);
  uv_idle_init(&worker->loop, &worker->idle);
  uv_timer_init(&worker->loop, &worker->timer);
  uv_async_init(&worker->loop, &worker->async, on_async);
  worker->prepare.data = worker;
  worker->check.data = worker;
  worker->timer.data = worker;
  worker->async.data = worker;
  worker->timer_due_ms = UINT64_MAX;
  uv_prepare_start(&worker->prepare, on_prepare);
  uv_check_start(&worker->check, on_check);
}

static void close_conns(struct worker *worker, bool at_once) {
  struct list *next;
  for (struct list *link = worker->conns.next; link != &worker->conns; link = next) {
    struct conn *conn = LIST_OWNER(link, struct conn, all);
    next = link->next;
    if (!at_once) {
      conn_begin_close(conn, 1001, SLICE("going away"));
    } else if (conn->stream != NULL) {
      stream_close(conn->stream, true);
    }
  }
  http_conn_stop_all(worker, at_once);
}

/* One step of leaving, once a turn. */
static void leave(struct worker *worker) {
  if (worker->stage == WORKER_STOP_ASKED) {
    worker->stage = WORKER_LEAVING;
    acceptors_close(worker);
    worker->hooks->stop(worker);
    worker_drain(worker);
    close_conns(worker, false);
    run_turn(worker);
    return;
  }
  if (worker->stage != WORKER_LEAVING) return;
  if (worker->conn_count == 0 && worker->http_count == 0) {
    worker->stage = WORKER_LEFT;
    uv_stop(&worker->loop);
  } else if (clock_real_ns() >= worker->stop_due_ns) {
    close_conns(worker, true);
  }
}

static void close_loop(struct worker *worker) {
  uv_close((uv_handle_t *)&worker->prepare, NULL);
  uv_close((uv_handle_t *)&worker->check, NULL);
  uv_close((uv_handle_t *)&worker->idle, NULL);
  uv_close((uv_handle_t *)&worker->timer, NULL);
  uv_close((uv_handle_t *)&worker->async, NULL);
  acceptors_close(worker);
  stream_loop_close(&worker->streams);
  uv_run(&worker->loop, UV_RUN_DEFAULT);
  REQUIRE(uv_loop_close(&worker->loop) == 0);
  acceptors_free(worker);
}

bool worker_load(struct worker *worker) {
  struct sources *sources = reload_first_sources(worker->gateway);
  return worker->hooks->load(worker, 1, sources, &worker->load_error);
}

void worker_begin(struct worker *worker) {
  hub_attach(worker->topics.hub, worker->index, wake, worker);
  worker->hooks->swap(worker);
}

void worker_finish(struct worker *worker) {
  worker->hooks->stopped(worker);
  hub_detach(worker->topics.hub, worker->index);
  topics_drain(&worker->topics, 0);
}

void worker_close(struct worker *worker) {
  sweep(worker);
  worker->hooks->unload(worker);
  worker->hooks->count(worker, &worker->final_counts);
  close_loop(worker);
  topics_deinit(&worker->topics);
  timers_deinit(&worker->timers);
  block_writer_deinit(&worker->blocks);
  request_pool_deinit(&worker->requests);
  buf_deinit(&worker->scratch);
  mem_free(worker->dirty.outboxes);
}

static void serve(struct worker *worker) {
  worker_begin(worker);
  gateway_worker_ready(worker->gateway);
  acceptors_start(worker);
  stream_loop_event(&worker->streams);
  uv_run(&worker->loop, UV_RUN_DEFAULT);
  worker_finish(worker);
}

static void *run(void *argument) {
  struct worker *worker = argument;
  char label[32];
  snprintf(label, sizeof label, "worker %zu", worker->index + 1);
  log_set_thread_label(label);
  if (gateway_worker_loaded(worker->gateway, worker_load(worker))) serve(worker);
  worker_close(worker);
  gateway_worker_ended(worker->gateway);
  return NULL;
}

void worker_open(struct worker *worker, struct gateway *gateway, size_t index,
                 const struct hooks *hooks, const int *sockets, size_t socket_count) {
  *worker = (struct worker){.gateway = gateway, .index = index, .hooks = hooks};
  worker->limits = &gateway_config(gateway)->limits;
  timers_init(&worker->timers);
  topics_init(&worker->topics, gateway_hub(gateway), index);
  block_writer_init(&worker->blocks);
  const struct limits *limits = worker->limits;
  request_pool_init(&worker->requests,
                    &(http1_limits){(uint32_t)limits->header_bytes, (uint32_t)limits->url_bytes,
                                    (uint32_t)limits->headers, limits->body_bytes});
  list_init(&worker->conns);
  list_init(&worker->https);
  list_init(&worker->swept);
  list_init(&worker->swept_https);
  buf_init(&worker->load_error, 64 * 1024);
  buf_init(&worker->scratch, 0);
  open_loop(worker);
  acceptors_open(worker, sockets, socket_count);
}

void worker_start(struct worker *worker, struct gateway *gateway, size_t index,
                  const struct hooks *hooks, const int *sockets, size_t socket_count) {
  worker_open(worker, gateway, index, hooks, sockets, socket_count);
  /* Signals are the main thread's. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  REQUIRE(pthread_create(&worker->thread, NULL, run, worker) == 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_stop_asked(void *context) {
  struct worker *worker = context;
  if (worker->stage != WORKER_SERVING) return;
  worker->stage = WORKER_STOP_ASKED;
  worker->stop_due_ns =
      clock_real_ns() + gateway_config(worker->gateway)->drain_timeout_ms * 1000000;
}

void worker_post_stop(struct worker *worker) {
  hub_post(worker->topics.hub, worker->index, on_stop_asked, worker);
}

/* The turn that runs this looks at the timers again; acknowledged when it has flushed. */
static void on_advanced(void *context) {
  struct worker *worker = context;
  worker->acknowledge_count++;
}

void worker_post_advance(struct worker *worker) {
  hub_post(worker->topics.hub, worker->index, on_advanced, worker);
}

static void on_collect(void *context) {
  struct worker *worker = context;
  worker->hooks->collect(worker);
  gateway_acknowledge(worker->gateway, timers_next_due_ms(&worker->timers));
}

void worker_post_collect(struct worker *worker) {
  hub_post(worker->topics.hub, worker->index, on_collect, worker);
}

static void on_set_timers(void *context) {
  struct worker *worker = context;
  for (struct list *link = worker->conns.next; link != &worker->conns; link = link->next) {
    struct conn *conn = LIST_OWNER(link, struct conn, all);
    if (conn->stream != NULL) conn->ops->set_timer(conn);
  }
  gateway_acknowledge(worker->gateway, timers_next_due_ms(&worker->timers));
}

void worker_post_set_timers(struct worker *worker) {
  hub_post(worker->topics.hub, worker->index, on_set_timers, worker);
}

static void on_forget(void *context) {
  struct worker *worker = context;
  worker->stalls = (struct histogram){0};
  worker->streams.polled_ns = clock_real_ns(); /* nor is what came before it in this poll */
  gateway_acknowledge(worker->gateway, timers_next_due_ms(&worker->timers));
}

void worker_post_forget(struct worker *worker) {
  hub_post(worker->topics.hub, worker->index, on_forget, worker);
}
