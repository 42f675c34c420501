#include "gateway/embedded.h"

#include <stdint.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway_internal.h"
#include "gateway/http_conn.h"

/* Of the gateway's time, as the main thread's timer does it. */
enum { SWEEP_EVERY_MS = 1000 };
#define WORKER_LABEL "worker 1"
/* Far more than what a spec asks for takes, also under sanitizers. */
#define REST_WITHIN_NS (UINT64_C(5) * 1000 * 1000 * 1000)

struct embedded {
  struct config config;
  embedded_options options;
  /* What is the process's while this gateway runs, and kept here meanwhile. */
  clock_state clock;
  uint64_t messages;
  struct gateway *gateway;
  struct memory_streams streams;
  uint64_t sweep_due_ms;
  bool is_restless; /* a pump has given up; it is not tried again during the same command */
};

static struct embedded *current; /* the one that runs */

static struct worker *worker_of(const struct embedded *embedded) {
  return &embedded->gateway->workers[0];
}

/* --- taking turns --- */

static void exchange(struct embedded *embedded) {
  embedded->clock = clock_swap(embedded->clock);
  embedded->messages = message_swap_count(embedded->messages);
}

static void enter(struct embedded *embedded) {
  REQUIRE(current == NULL);
  current = embedded;
  exchange(embedded);
  log_set_level(embedded->config.log_level);
  log_set_sink(embedded->options.log, embedded->options.context);
  control_set_sink(embedded->options.answers, embedded->options.context);
}

static void leave(struct embedded *embedded) {
  exchange(embedded);
  log_set_sink(NULL, NULL);
  control_set_sink(NULL, NULL);
  current = NULL;
}

/* --- the loops --- */

static void sweep(struct embedded *embedded) {
  uint64_t now_ms = clock_now_ms();
  if (now_ms < embedded->sweep_due_ms) return;
  embedded->sweep_due_ms = now_ms + SWEEP_EVERY_MS;
  hub_sweep(embedded->gateway->hub);
  shared_sweep(embedded->gateway->shared);
}

/* One poll and one turn of the worker, and what the main thread would do. */
static void step(struct embedded *embedded) {
  struct gateway *gateway = embedded->gateway;
  log_set_thread_label(WORKER_LABEL);
  memory_streams_poll(&embedded->streams);
  memory_streams_sweep(&embedded->streams);
  uv_run(&worker_of(embedded)->loop, UV_RUN_NOWAIT);
  log_set_thread_label("");
  uv_run(&gateway->loop, UV_RUN_NOWAIT);
  sweep(embedded);
}

static bool is_at_rest(struct embedded *embedded) {
  struct worker *worker = worker_of(embedded);
  reload_stage stage = embedded->gateway->reload.stage;
  return !memory_streams_have_events(&embedded->streams) && !worker->has_idle &&
         worker->acknowledge_count == 0 && !topics_has_waiting(&worker->topics) &&
         timers_next_due_ms(&worker->timers) > clock_now_ms() && stage != RELOAD_LOADING &&
         stage != RELOAD_SWAPPING;
}

static void pump(struct embedded *embedded) {
  uint64_t began_ns = clock_real_ns();
  while (!embedded->is_restless) {
    step(embedded);
    if (is_at_rest(embedded)) return;
    embedded->is_restless = clock_real_ns() - began_ns > REST_WITHIN_NS;
  }
}

static void on_pump(struct gateway *gateway) {
  (void)gateway;
  pump(current);
}

bool embedded_pump(struct embedded *embedded) {
  enter(embedded);
  embedded->is_restless = false;
  pump(embedded);
  leave(embedded);
  return !embedded->is_restless;
}

bool embedded_command(struct embedded *embedded, slice line) {
  enter(embedded);
  embedded->is_restless = false;
  control_run(embedded->gateway, line);
  pump(embedded);
  leave(embedded);
  return !embedded->is_restless;
}

struct memory_stream *embedded_connect(struct embedded *embedded, size_t peer_bytes) {
  struct memory_stream *memory = memory_stream_open(&embedded->streams, peer_bytes);
  enter(embedded);
  http_conn_open(worker_of(embedded), memory_stream_end(memory), SLICE("127.0.0.1"));
  leave(embedded);
  return memory;
}

/* --- life --- */

static void close_handle(uv_handle_t *handle, void *context) {
  (void)context;
  if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void close_loop(struct gateway *gateway) {
  reload_close(gateway);
  uv_walk(&gateway->loop, close_handle, NULL);
  uv_run(&gateway->loop, UV_RUN_DEFAULT);
  REQUIRE(uv_loop_close(&gateway->loop) == 0);
  reload_deinit(gateway);
}

static void embedded_free(struct embedded *embedded) {
  struct gateway *gateway = embedded->gateway;
  worker_close(worker_of(embedded));
  gateway->has_ended = true;
  close_loop(gateway);
  gateway_forget_shared(gateway);
  control_print_counters(gateway);
  gateway_free(gateway);
  leave(embedded);
  mem_free(embedded);
}

/* What a gateway of one thread cannot be asked for; NULL: nothing. */
static const char *judge(const struct config *config) {
  if (config->workers > 1) return "it has one worker and no more";
  if (config->listen_count > 0) return "it listens nowhere";
  if (config->control != NULL) return "it has no control socket";
  return config->is_supervised ? "it cannot be supervised" : NULL;
}

static struct embedded *embedded_new(const embedded_options *options) {
  struct embedded *embedded = mem_alloc_zero(sizeof *embedded);
  embedded->options = *options;
  embedded->config = *options->config;
  embedded->config.is_unwatched = true;
  memory_streams_init(&embedded->streams);
  return embedded;
}

static void open_gateway(struct embedded *embedded) {
  const struct hooks *hooks = embedded->options.hooks;
  struct gateway *gateway = gateway_new(&embedded->config, hooks, &(struct listeners){NULL, 0, 0});
  embedded->gateway = gateway;
  gateway->pump = on_pump;
  REQUIRE(uv_loop_init(&gateway->loop) == 0);
  reload_init(gateway);
  gateway->workers = mem_alloc_zero(sizeof *gateway->workers);
  worker_open(worker_of(embedded), gateway, 0, hooks, NULL, 0);
}

struct embedded *embedded_start(const embedded_options *options, struct buf *error) {
  const char *problem = judge(options->config);
  if (problem != NULL) {
    buf_append(error, slice_of_string(problem));
    return NULL;
  }
  struct embedded *embedded = embedded_new(options);
  enter(embedded);
  clock_freeze();
  open_gateway(embedded);
  struct gateway *gateway = embedded->gateway;
  struct worker *worker = worker_of(embedded);
  log_set_thread_label(WORKER_LABEL);
  bool is_loaded = worker_load(worker);
  if (is_loaded) {
    hub_set_policies(gateway->hub, options->hooks->take_policies(worker));
    gateway->started_ms = clock_now_ms();
    worker_begin(worker);
    stream_loop_event(&worker->streams);
  }
  log_set_thread_label("");
  if (!is_loaded) {
    buf_append(error, buf_peek(&worker->load_error));
    embedded_free(embedded);
    return NULL;
  }
  reload_begin(gateway);
  pump(embedded);
  leave(embedded);
  return embedded;
}

void embedded_stop(struct embedded *embedded) {
  struct worker *worker = worker_of(embedded);
  enter(embedded);
  log_info("stopping");
  reload_stop(embedded->gateway);
  worker_post_stop(worker);
  /* At the end of the drain time the worker cuts what is left. */
  while (worker->stage != WORKER_LEFT) step(embedded);
  memory_streams_sweep(&embedded->streams);
  log_set_thread_label(WORKER_LABEL);
  worker_finish(worker);
  log_set_thread_label("");
  embedded_free(embedded);
}
