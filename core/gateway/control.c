#define _GNU_SOURCE /* vasprintf */
#include "gateway/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "codec/json_encode.h"
#include "gateway/gateway_internal.h"

enum { ADVANCE_MOST_SECONDS = 1000 * 1000 * 1000 }; /* thirty years */

/* --- answers --- */

static void write_to_stdout(void *context, slice line) {
  (void)context;
  fwrite(line.data, 1, line.len, stdout);
  fflush(stdout);
}

static control_sink current_sink = write_to_stdout;
static void *sink_context;

void control_set_sink(control_sink sink, void *context) {
  current_sink = sink != NULL ? sink : write_to_stdout;
  sink_context = context;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
  char *text;
  va_list arguments;
  va_start(arguments, format);
  int len = vasprintf(&text, format, arguments);
  va_end(arguments);
  REQUIRE(len >= 0);
  current_sink(sink_context, slice_of(text, (size_t)len));
  free(text);
}

/* --- time --- */

static void for_all(struct gateway *gateway, void (*post)(struct worker *worker)) {
  gateway_expect_acknowledgements(gateway);
  for (size_t i = 0; i < gateway->worker_count; i++) post(&gateway->workers[i]);
  gateway_wait_for_acknowledgements(gateway);
}

/* Lets all workers come to rest: twice, so that each has polled in between, and what one published
 * or a client sent has reached the others. */
static void settle(struct gateway *gateway) {
  for_all(gateway, worker_post_advance);
  for_all(gateway, worker_post_advance);
}

/* The workers acknowledge with their next timers: while peers are held, none of peers' times. */
static void hold_peers(struct gateway *gateway, bool is_held) {
  clock_hold_peers(is_held);
  for_all(gateway, worker_post_set_timers);
}

static void move_time(struct gateway *gateway, uint64_t left_ms) {
  while (left_ms > 0) {
    /* From timer to timer, so that those of all workers run in their order. */
    uint64_t now_ms = clock_now_ms();
    uint64_t step_ms = gateway->next_due_ms > now_ms ? gateway->next_due_ms - now_ms : 1;
    if (step_ms > left_ms) step_ms = left_ms;
    clock_advance(step_ms);
    left_ms -= step_ms;
    settle(gateway);
  }
}

static void advance(struct gateway *gateway, double seconds, bool with_peers) {
  uint64_t ms = (uint64_t)(seconds * 1000 + 0.5);
  bool is_holding = ms > 0 && !with_peers;
  settle(gateway);
  if (is_holding) hold_peers(gateway, true);
  move_time(gateway, ms);
  if (is_holding) hold_peers(gateway, false);
  hub_sweep(gateway->hub);
}

static void run_advance(struct gateway *gateway, slice argument) {
  char *text = mem_copy(slice_split(&argument, ' '));
  char *end;
  double seconds = strtod(text, &end);
  bool with_peers = slice_is_equal(argument, SLICE("peers"));
  bool is_time = end > text && *end == '\0' && seconds >= 0 && seconds <= ADVANCE_MOST_SECONDS;
  if (is_time && (with_peers || argument.len == 0)) {
    advance(gateway, seconds, with_peers);
    say("advanced %s\n", text);
  } else {
    say("unknown command\n");
  }
  mem_free(text);
}

static void set_log_state(struct gateway *gateway, slice state) {
  static const char *const names[] = {
      [HUB_LOG_WORKS] = "works", [HUB_LOG_FAILS] = "fails", [HUB_LOG_STALLS] = "stalls"};
  for (int i = 0; i < 3; i++) {
    if (!slice_is_equal(state, slice_of_string(names[i]))) continue;
    hub_set_log_state(gateway->hub, (hub_log_state)i);
    say("log %s\n", names[i]);
    return;
  }
  say("unknown command\n");
}

static void on_reloaded(void *context, bool is_live, slice text) {
  struct gateway *gateway = context;
  struct buf line;
  buf_init(&line, 0);
  buf_append_format(&line, "reloaded {\"generation\":%llu,\"live\":%s,\"text\":",
                    (unsigned long long)gateway->reload.generation, is_live ? "true" : "false");
  if (json_encode_string(&line, text) != JSON_ENCODED) buf_append(&line, SLICE("\"\""));
  say("%.*s}\n", (int)line.len, line.data);
  buf_deinit(&line);
}

static unsigned long long in_us(uint64_t ns) {
  return ns / 1000;
}

void control_print_counters(struct gateway *gateway) {
  uint64_t conns = 0, https = 0, requests = 0, blocks = 0, topics = 0, subscriptions = 0;
  struct histogram stalls = {0};
  hook_counts scripts = {0};
  for (size_t i = 0; i < gateway->worker_count; i++) {
    struct worker *worker = &gateway->workers[i];
    hook_counts counts = {0};
    if (!gateway->has_ended) worker->hooks->count(worker, &counts);
    conns += worker->conn_count;
    https += worker->http_count;
    requests += worker->exchange_count;
    blocks += worker->blocks.pool.alive;
    topics += worker->topics.topic_count;
    subscriptions += worker->topics.subscription_count;
    scripts.lua_refs += gateway->has_ended ? worker->final_counts.lua_refs : counts.lua_refs;
    scripts.tasks += gateway->has_ended ? worker->final_counts.tasks : counts.tasks;
    scripts.lua_bytes += counts.lua_bytes;
    scripts.generations += counts.generations;
    histogram_merge(&stalls, &worker->stalls);
  }
  hub_counts hub = {0};
  if (gateway->hub != NULL) hub = hub_count(gateway->hub);
  say("counters {\"connections\":%llu,\"http\":%llu,\"requests\":%llu,\"messages\":%llu,"
      "\"blocks\":%llu,\"topics\":%llu,\"subscriptions\":%llu,\"tasks\":%llu,\"lua_refs\":%llu,"
      "\"lua_bytes\":%llu,\"hub_topics\":%llu,\"history_messages\":%llu,\"history_bytes\":%llu,"
      "\"releases\":%llu,\"stalls\":%llu,\"stall_p50_us\":%llu,\"stall_p99_us\":%llu,"
      "\"stall_p999_us\":%llu,\"longest_stall_us\":%llu,\"generation\":%llu,"
      "\"generations\":%llu,\"failed_reloads\":%llu}\n",
      (unsigned long long)conns, (unsigned long long)https, (unsigned long long)requests,
      (unsigned long long)message_count(), (unsigned long long)blocks, (unsigned long long)topics,
      (unsigned long long)subscriptions, (unsigned long long)scripts.tasks,
      (unsigned long long)scripts.lua_refs, (unsigned long long)scripts.lua_bytes,
      (unsigned long long)hub.topics, (unsigned long long)hub.history_messages,
      (unsigned long long)hub.history_bytes, (unsigned long long)hub.releases,
      (unsigned long long)histogram_count(&stalls), in_us(histogram_quantile(&stalls, 500)),
      in_us(histogram_quantile(&stalls, 990)), in_us(histogram_quantile(&stalls, 999)),
      in_us(stalls.largest), (unsigned long long)gateway->reload.generation,
      (unsigned long long)scripts.generations, (unsigned long long)gateway->reload.failures);
}

/* --- exec --- */

struct exec_call {
  struct timer timer;
  struct worker *worker;
  uint64_t id;
  struct buf code;
  char *arguments;
};

static void exec_free(struct exec_call *call) {
  buf_deinit(&call->code);
  mem_free(call->arguments);
  mem_free(call);
}

static void on_exec_due(struct timer *timer) {
  struct exec_call *call = CONTAINER_OF(timer, struct exec_call, timer);
  struct worker *worker = call->worker;
  worker->hooks->exec(worker, call->id, buf_peek(&call->code), slice_of_string(call->arguments));
  exec_free(call);
}

/* What runs scripts are timers: here publications are being handed over. */
static void on_exec_posted(void *context) {
  struct exec_call *call = context;
  if (call->worker->stage != WORKER_SERVING) {
    exec_free(call);
    return;
  }
  timer_start(&call->worker->timers, &call->timer, clock_now_ms());
}

static uint64_t number_of(slice text) {
  uint64_t number = 0;
  for (size_t i = 0; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
    number = number * 10 + (uint64_t)(text.data[i] - '0');
  }
  return number;
}

static void exec(struct gateway *gateway, slice argument) {
  uint64_t worker = number_of(slice_split(&argument, ' '));
  uint64_t id = number_of(slice_split(&argument, ' '));
  slice code = slice_split(&argument, ' ');
  if (worker < 1 || worker > gateway->worker_count) {
    control_executed(id, SLICE("{\"ok\":false,\"error\":\"there is no such worker\"}"));
    return;
  }
  struct exec_call *call = mem_alloc_zero(sizeof *call);
  call->worker = &gateway->workers[worker - 1];
  call->id = id;
  call->arguments = mem_copy(argument);
  timer_init(&call->timer, on_exec_due);
  buf_init(&call->code, 0);
  long len = digest_base64_decode(code, buf_reserve(&call->code, code.len / 4 * 3 + 3));
  call->code.len = len > 0 ? (size_t)len : 0;
  if (!hub_post(gateway->hub, worker - 1, on_exec_posted, call)) exec_free(call);
}

void control_executed(uint64_t id, slice result) {
  say("executed %llu %.*s\n", (unsigned long long)id, (int)result.len, result.data);
}

void control_run(struct gateway *gateway, slice line) {
  slice rest = line;
  slice command = slice_split(&rest, ' ');
  if (slice_is_equal(command, SLICE("freeze"))) {
    clock_freeze();
    say("frozen\n");
  } else if (slice_is_equal(command, SLICE("advance"))) {
    run_advance(gateway, rest);
  } else if (slice_is_equal(command, SLICE("counters"))) {
    /* The workers are asked to be at the end of a turn: their numbers are then of one piece. */
    for_all(gateway, worker_post_advance);
    control_print_counters(gateway);
  } else if (slice_is_equal(command, SLICE("forget"))) {
    for_all(gateway, worker_post_forget);
    say("forgotten\n");
  } else if (slice_is_equal(command, SLICE("collect"))) {
    for_all(gateway, worker_post_collect);
    mem_trim();
    say("collected\n");
  } else if (slice_is_equal(command, SLICE("reload"))) {
    reload_ask(gateway, "asked for", on_reloaded, gateway);
  } else if (slice_is_equal(command, SLICE("log"))) {
    set_log_state(gateway, rest);
  } else if (slice_is_equal(command, SLICE("exec"))) {
    exec(gateway, rest);
  } else {
    say("unknown command\n");
  }
}
