#include "gateway/gateway.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/control.h"
#include "gateway/control_socket.h"
#include "gateway/gateway_internal.h"
#include "gateway/supervise.h"
#include "pubsub/log_memory.h"

enum {
  SWEEP_EVERY_MS = 1000,
  DRAIN_GRACE_MS = 2000,              /* for closing what is left when the drain time is over */
  MARKS_MAX = 100000,                 /* trim marks of forgotten topics: some 10 MiB */
  SPARE_DESCRIPTORS = 64,             /* for files, listeners and libraries, beside connections */
  INPUT_LINE_BYTES = 4 * 1024 * 1024, /* a test's command: code and arguments of exec */
};

/* --- what is shared --- */

const struct config *gateway_config(const struct gateway *gateway) {
  return gateway->config;
}

char *gateway_script_directory(const struct gateway *gateway) {
  const char *path = gateway->config->script;
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return mem_copy(SLICE("."));
  return mem_copy(slice_of(path, slash == path ? 1 : (size_t)(slash - path)));
}

struct hub *gateway_hub(struct gateway *gateway) {
  return gateway->hub;
}

struct shared_store *gateway_shared(struct gateway *gateway) {
  return gateway->shared;
}

uint64_t gateway_started_ms(const struct gateway *gateway) {
  return gateway->started_ms;
}

uint64_t gateway_next_id(struct gateway *gateway) {
  return atomic_fetch_add_explicit(&gateway->next_id, 1, memory_order_relaxed);
}

size_t gateway_format_conn_id(const struct gateway *gateway, uint64_t id,
                              char out[GATEWAY_CONN_ID_BYTES]) {
  char digits[13];
  size_t count = 0;
  do {
    digits[count++] = "0123456789abcdefghijklmnopqrstuvwxyz"[id % 36];
    id /= 36;
  } while (id > 0);
  memcpy(out, hub_epoch(gateway->hub), LOG_EPOCH_CHARS);
  size_t len = LOG_EPOCH_CHARS;
  while (count > 0) out[len++] = digits[--count];
  out[len] = '\0';
  return len;
}

struct address *gateway_enter(struct gateway *gateway, slice address, bool *is_welcome) {
  return addresses_enter(&gateway->addresses, address, is_welcome);
}

void gateway_leave(struct gateway *gateway, struct address *address, bool was_welcome) {
  if (address != NULL) addresses_leave(&gateway->addresses, address, was_welcome);
}

slice gateway_address_text(const struct address *address) {
  return address_text(address);
}

slice gateway_secret(struct gateway *gateway, slice name, bool *is_made) {
  return secrets_find(&gateway->secrets, name, is_made);
}

/* --- waiting for each other --- */

/* The thread of a worker that is stuck cannot be ended, nor be waited for. */
static void end_stuck(void) {
  log_error("a worker is still stuck, the gateway ends without it");
  _exit(1);
}

static void wait_until(struct gateway *gateway, const size_t *count, size_t wanted) {
  while (*count < wanted) uv_cond_wait(&gateway->changed, &gateway->lock);
}

bool gateway_worker_loaded(struct gateway *gateway, bool is_loaded) {
  uv_mutex_lock(&gateway->lock);
  gateway->loaded_count++;
  if (!is_loaded) gateway->failed_count++;
  uv_cond_broadcast(&gateway->changed);
  while (!gateway->has_verdict) uv_cond_wait(&gateway->changed, &gateway->lock);
  bool may_go_on = gateway->may_go_on;
  uv_mutex_unlock(&gateway->lock);
  return may_go_on;
}

void gateway_worker_ready(struct gateway *gateway) {
  uv_mutex_lock(&gateway->lock);
  gateway->ready_count++;
  uv_cond_broadcast(&gateway->changed);
  wait_until(gateway, &gateway->ready_count, gateway->worker_count);
  uv_mutex_unlock(&gateway->lock);
}

void gateway_worker_ended(struct gateway *gateway) {
  uv_mutex_lock(&gateway->lock);
  gateway->ended_count++;
  uv_cond_broadcast(&gateway->changed);
  uv_mutex_unlock(&gateway->lock);
  uv_async_send(&gateway->ended);
}

void gateway_acknowledge(struct gateway *gateway, uint64_t next_due_ms) {
  uv_mutex_lock(&gateway->lock);
  gateway->acknowledged_count++;
  if (next_due_ms < gateway->next_due_ms) gateway->next_due_ms = next_due_ms;
  uv_cond_broadcast(&gateway->changed);
  uv_mutex_unlock(&gateway->lock);
}

void gateway_expect_acknowledgements(struct gateway *gateway) {
  uv_mutex_lock(&gateway->lock);
  gateway->acknowledged_count = 0;
  gateway->next_due_ms = UINT64_MAX;
  uv_mutex_unlock(&gateway->lock);
}

/* While a command waits for the workers the loop stands still, and with it on_watch: a worker that
 * is stuck is named all the same, and the end of who tests is the end of a gateway that is. */
static void watch_waiting(struct gateway *gateway) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  if (stall_look(gateway) || poll(&input, 1, 0) < 0 || (input.revents & POLLHUP) == 0) return;
  end_stuck();
}

void gateway_wait_for_acknowledgements(struct gateway *gateway) {
  if (gateway->pump != NULL) {
    gateway->pump(gateway);
    return;
  }
  uint64_t interval_ns = stall_interval_ms(gateway->config) * 1000000;
  uv_mutex_lock(&gateway->lock);
  while (gateway->acknowledged_count < gateway->worker_count) {
    if (uv_cond_timedwait(&gateway->changed, &gateway->lock, interval_ns) == 0) continue;
    uv_mutex_unlock(&gateway->lock);
    watch_waiting(gateway);
    uv_mutex_lock(&gateway->lock);
  }
  uv_mutex_unlock(&gateway->lock);
}

/* --- start --- */

static void start_workers(struct gateway *gateway) {
  gateway->workers = mem_alloc_zero(gateway->worker_count * sizeof *gateway->workers);
  int sockets[LISTENERS_A_WORKER];
  for (size_t i = 0; i < gateway->worker_count; i++) {
    size_t count = listeners_take(&gateway->listeners, i, sockets);
    worker_start(&gateway->workers[i], gateway, i, gateway->hooks, sockets, count);
  }
}

/* Waits for all scripts; says what is wrong with the first that failed. */
static bool judge_loads(struct gateway *gateway) {
  uv_mutex_lock(&gateway->lock);
  wait_until(gateway, &gateway->loaded_count, gateway->worker_count);
  bool is_good = gateway->failed_count == 0;
  uv_mutex_unlock(&gateway->lock);
  for (size_t i = 0; !is_good && i < gateway->worker_count; i++) {
    slice error = buf_peek(&gateway->workers[i].load_error);
    if (error.len == 0) continue;
    fprintf(stderr, "perigee: %.*s\n", (int)error.len, error.data);
    break;
  }
  if (is_good) {
    hub_set_policies(gateway->hub, gateway->hooks->take_policies(&gateway->workers[0]));
    gateway->started_ms = clock_now_ms();
  }
  uv_mutex_lock(&gateway->lock);
  gateway->may_go_on = is_good && !gateway->config->is_check;
  gateway->has_verdict = true;
  uv_cond_broadcast(&gateway->changed);
  if (gateway->may_go_on) wait_until(gateway, &gateway->ready_count, gateway->worker_count);
  uv_mutex_unlock(&gateway->lock);
  return is_good;
}

/* --- the main thread's loop --- */

static void stop(struct gateway *gateway) {
  if (gateway->is_stopping) return;
  gateway->is_stopping = true;
  gateway->stop_asked_ns = clock_real_ns();
  log_info("stopping");
  stall_stop(gateway);
  reload_stop(gateway);
  for (size_t i = 0; i < gateway->worker_count; i++) worker_post_stop(&gateway->workers[i]);
}

static void on_signal(uv_signal_t *signal, int number) {
  struct gateway *gateway = signal->data;
  /* Asked twice: whoever asks does not want to wait. A supervisor knows that by itself. */
  if (gateway->is_stopping && gateway->supervisor == NULL) _exit(128 + number);
  stop(gateway);
}

static void on_watch(uv_timer_t *timer) {
  struct gateway *gateway = timer->data;
  if (stall_look(gateway)) {
    if (gateway->supervisor != NULL && !supervise_beat(gateway->supervisor)) stop(gateway);
    return;
  }
  uint64_t drain_ns = gateway->config->drain_timeout_ms * 1000000;
  if (gateway->is_stopping && clock_real_ns() - gateway->stop_asked_ns >= drain_ns) {
    end_stuck();
  }
}

/* The workers end in good order within the drain time, and cut what is left then. One that is held
 * up by a handler cannot. */
static void judge_drain(const struct gateway *gateway) {
  if (!gateway->is_stopping) return;
  uint64_t allowed_ns = (gateway->config->drain_timeout_ms + DRAIN_GRACE_MS) * 1000000;
  if (clock_real_ns() - gateway->stop_asked_ns < allowed_ns) return;
  log_error("a handler holds up a worker, the gateway ends without it");
  _exit(1);
}

static void on_sweep(uv_timer_t *timer) {
  struct gateway *gateway = timer->data;
  judge_drain(gateway);
  hub_sweep(gateway->hub);
  shared_sweep(gateway->shared);
  reload_tend(gateway);
  mem_tend();
}

static void on_ended(uv_async_t *async) {
  struct gateway *gateway = async->data;
  uv_mutex_lock(&gateway->lock);
  bool have_all = gateway->ended_count == gateway->worker_count;
  uv_mutex_unlock(&gateway->lock);
  if (have_all) uv_stop(&gateway->loop);
}

static void on_input_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
  struct gateway *gateway = handle->data;
  (void)suggested;
  *out = uv_buf_init(buf_reserve(&gateway->input_line, 4096), 4096);
}

static void on_input(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer) {
  struct gateway *gateway = stream->data;
  struct buf *line = &gateway->input_line;
  (void)buffer;
  if (len < 0) {
    /* Whoever tests is gone, maybe without a word: nobody else would end this gateway. */
    uv_read_stop(stream);
    stop(gateway);
    return;
  }
  line->len += (size_t)len;
  const char *end;
  while (line->len > 0 && (end = memchr(line->data, '\n', line->len)) != NULL) {
    size_t line_len = (size_t)(end - line->data);
    if (!gateway->is_stopping) control_run(gateway, slice_of(line->data, line_len));
    buf_drop(line, line_len + 1);
  }
}

/* A terminal that is closed sends it too: whoever served from there expects the end. */
static void on_hangup(uv_signal_t *signal, int number) {
  struct gateway *gateway = signal->data;
  (void)number;
  if (gateway->has_terminal && tcgetpgrp(STDERR_FILENO) < 0) {
    stop(gateway);
  } else if (!gateway->is_stopping) {
    reload_ask(gateway, "SIGHUP", NULL, NULL);
  }
}

static void listen_to(struct gateway *gateway, uv_signal_t *signal, uv_signal_cb on_signalled,
                      int number) {
  uv_signal_init(&gateway->loop, signal);
  signal->data = gateway;
  uv_signal_start(signal, on_signalled, number);
}

static void open_loop(struct gateway *gateway) {
  REQUIRE(uv_loop_init(&gateway->loop) == 0);
  listen_to(gateway, &gateway->signals[0], on_signal, SIGINT);
  listen_to(gateway, &gateway->signals[1], on_signal, SIGTERM);
  listen_to(gateway, &gateway->signals[2], on_hangup, SIGHUP);
  gateway->has_terminal = isatty(STDERR_FILENO) != 0;
  reload_init(gateway);
  uv_timer_init(&gateway->loop, &gateway->sweep_timer);
  gateway->sweep_timer.data = gateway;
  uv_timer_start(&gateway->sweep_timer, on_sweep, SWEEP_EVERY_MS, SWEEP_EVERY_MS);
  uv_timer_init(&gateway->loop, &gateway->watch_timer);
  gateway->watch_timer.data = gateway;
  uv_async_init(&gateway->loop, &gateway->ended, on_ended);
  gateway->ended.data = gateway;
  buf_init(&gateway->input_line, INPUT_LINE_BYTES);
}

static void read_commands(struct gateway *gateway) {
  /* A file or /dev/null has nothing to say, and epoll would not take it. */
  if (uv_guess_handle(STDIN_FILENO) != UV_NAMED_PIPE) return;
  /* Its end ends the gateway, which a script's child process must not hold up. */
  fcntl(STDIN_FILENO, F_SETFD, FD_CLOEXEC);
  uv_pipe_init(&gateway->loop, &gateway->input, 0);
  gateway->input.data = gateway;
  gateway->has_input = true;
  if (uv_pipe_open(&gateway->input, STDIN_FILENO) == 0) {
    uv_read_start((uv_stream_t *)&gateway->input, on_input_alloc, on_input);
  }
}

static void close_handle(uv_handle_t *handle, void *context) {
  (void)context;
  if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void close_loop(struct gateway *gateway) {
  reload_close(gateway);
  control_socket_close(gateway->control);
  uv_walk(&gateway->loop, close_handle, NULL);
  uv_run(&gateway->loop, UV_RUN_DEFAULT);
  REQUIRE(uv_loop_close(&gateway->loop) == 0);
  reload_deinit(gateway);
  control_socket_free(gateway->control);
  buf_deinit(&gateway->input_line);
}

/* --- life --- */

/* Descriptors beside those of connections. */
static uint64_t spare_descriptors(const struct config *config) {
  return SPARE_DESCRIPTORS + 16 * config->workers;
}

/* As many descriptors as the system allows; connections stay below it. */
static void raise_descriptors(struct config *config) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  uint64_t spare = spare_descriptors(config);
  if (limit.rlim_cur != RLIM_INFINITY && config->limits.connections + spare > limit.rlim_cur) {
    config->limits.connections = limit.rlim_cur > 2 * spare ? limit.rlim_cur - spare : spare;
  }
}

/* Has the kernel make the table for so many, while there is one thread: with several it waits for
 * all processors (synchronize_rcu) each time it doubles the table, tens of milliseconds in whoever
 * accepts. */
static void reserve_descriptors(const struct config *config) {
  int last = (int)(config->limits.connections + spare_descriptors(config) - 1);
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, last);
  if (copy >= 0) close(copy);
  if (fd >= 0) close(fd);
}

struct gateway *gateway_new(const struct config *config, const struct hooks *hooks,
                            const struct listeners *listeners) {
  struct gateway *gateway = mem_alloc_zero(sizeof *gateway);
  const struct limits *limits = &config->limits;
  gateway->config = config;
  gateway->hooks = hooks;
  gateway->worker_count = config->workers;
  gateway->listeners = *listeners;
  hub_options options = {.worker_count = config->workers,
                         .max_topics = limits->topics,
                         .max_history_bytes = limits->history_bytes,
                         .max_inbox_entries = limits->inbox_entries,
                         .max_inbox_bytes = limits->inbox_bytes,
                         .max_marks = MARKS_MAX};
  gateway->hub = hub_new(&options);
  gateway->shared = shared_store_new(limits->shared_bytes);
  addresses_init(&gateway->addresses, limits->connections, limits->connections_per_address);
  atomic_init(&gateway->next_id, 1);
  REQUIRE(uv_mutex_init(&gateway->lock) == 0);
  REQUIRE(uv_cond_init(&gateway->changed) == 0);
  secrets_init(&gateway->secrets);
  stall_init(gateway);
  return gateway;
}

void gateway_forget_shared(struct gateway *gateway) {
  hub_free(gateway->hub);
  gateway->hub = NULL;
  shared_store_free(gateway->shared);
  gateway->shared = NULL;
}

void gateway_free(struct gateway *gateway) {
  stall_deinit(gateway);
  for (size_t i = 0; gateway->workers != NULL && i < gateway->worker_count; i++) {
    buf_deinit(&gateway->workers[i].load_error);
  }
  mem_free(gateway->workers);
  secrets_deinit(&gateway->secrets);
  addresses_deinit(&gateway->addresses);
  uv_cond_destroy(&gateway->changed);
  uv_mutex_destroy(&gateway->lock);
  mem_free(gateway);
}

/* It serves. A supervisor passes that on, once for all its children. */
static void announce(const struct gateway *gateway) {
  if (gateway->supervisor != NULL) {
    supervise_beat(gateway->supervisor);
  } else {
    listeners_announce(&gateway->listeners);
  }
}

static void watch(struct gateway *gateway) {
  uint64_t interval_ms = stall_interval_ms(gateway->config);
  stall_begin(gateway);
  uv_timer_start(&gateway->watch_timer, on_watch, interval_ms, interval_ms);
}

/* Where there is to be one. */
static bool open_control(struct gateway *gateway) {
  const char *path = gateway->config->control;
  char error[512];
  if (path == NULL || gateway->config->is_check) return true;
  gateway->control = control_socket_open(gateway, path, error, sizeof error);
  if (gateway->control == NULL) fprintf(stderr, "perigee: %s\n", error);
  return gateway->control != NULL;
}

/* From the first thread to the last. */
static int serve(struct gateway *gateway) {
  if (gateway->config->is_test && gateway->config->is_frozen) clock_freeze();
  open_loop(gateway);
  if (!open_control(gateway)) {
    close_loop(gateway);
    return 1;
  }
  start_workers(gateway);
  bool is_good = judge_loads(gateway);
  if (is_good && !gateway->config->is_check) {
    announce(gateway);
    watch(gateway);
    reload_begin(gateway);
    if (gateway->config->is_test) read_commands(gateway);
    uv_run(&gateway->loop, UV_RUN_DEFAULT);
  }
  for (size_t i = 0; i < gateway->worker_count; i++) {
    pthread_join(gateway->workers[i].thread, NULL);
  }
  gateway->has_ended = true;
  close_loop(gateway);
  return is_good ? 0 : 1;
}

/* What there is before a gateway, and with --supervise stays when it has gone. */
typedef struct {
  struct config config;
  const struct hooks *hooks;
  struct listeners listeners;
} gateway_parts;

static int run(void *context, const struct supervise_link *supervisor) {
  gateway_parts *parts = context;
  const struct config *config = &parts->config;
  reserve_descriptors(config);
  struct gateway *gateway = gateway_new(config, parts->hooks, &parts->listeners);
  gateway->supervisor = supervisor;
  int code = serve(gateway);
  gateway_forget_shared(gateway);
  if (config->is_test) control_print_counters(gateway);
  gateway_free(gateway);
  return code;
}

/* A child leaves the files of Unix sockets to its parent, who lives longer. */
static int run_supervised(void *context, const struct supervise_link *supervisor) {
  gateway_parts *parts = context;
  for (size_t i = 0; i < parts->listeners.count; i++) parts->listeners.addresses[i].path[0] = '\0';
  log_set_thread_label("");
  return run(parts, supervisor);
}

static void on_ready(void *context) {
  const gateway_parts *parts = context;
  listeners_announce(&parts->listeners);
}

static void stop_listening(void *context) {
  gateway_parts *parts = context;
  listeners_close(&parts->listeners);
}

static int supervise(gateway_parts *parts) {
  supervise_options options = {.run = run_supervised,
                               .on_ready = on_ready,
                               .stop_listening = stop_listening,
                               .context = parts,
                               .silence_ms = 2 * parts->config.stall_timeout_ms};
  log_set_thread_label("supervisor");
  return supervise_run(&options);
}

int gateway_run(const struct config *given, const struct hooks *hooks) {
  gateway_parts parts = {.config = *given, .hooks = hooks};
  if (given->is_check) return run(&parts, NULL);
  raise_descriptors(&parts.config);
  int code = 1;
  if (listeners_bind(&parts.listeners, &parts.config)) {
    code = parts.config.is_supervised ? supervise(&parts) : run(&parts, NULL);
  }
  listeners_close(&parts.listeners);
  return code;
}
