#include "loadgen/idle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/server.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

enum { TURN_MS = 50 };

static greeting greeting_of(const struct conn *conn) {
  (void)conn;
  return options.is_sse ? GREETING_SSE : GREETING_WS;
}

static void on_open(struct conn *conn, uint64_t now) {
  (void)now;
  if (options.join != NULL && !options.is_sse) {
    ws_send(conn, WS_TEXT, options.join, strlen(options.join));
  }
}

static void on_bytes(struct conn *conn, const char *data, size_t len, uint64_t now) {
  if (!options.is_sse) ws_feed(conn, data, len, now);
}

const struct workload idle_workload = {
    .name = "idle",
    .unit = "connections",
    .greeting_of = greeting_of,
    .on_open = on_open,
    .on_bytes = on_bytes,
};

/* What a process reports, twice: how many are open, how many failed or were lost. */
typedef struct {
  int32_t open;
  int32_t gone;
} holding;

/* A process that opens and holds its share until `until` is closed. */
typedef struct {
  int results; /* written by it: a holding when all are open, one at the end */
  int until;   /* read by it */
} holder_pipes;

static void send_result(const holder_pipes *pipes, int32_t gone) {
  holding result = {pool.open, gone};
  if (write(pipes->results, &result, sizeof result) != sizeof result) _exit(2);
}

static _Noreturn void hold(const holder_pipes *pipes, int index, int count, int of) {
  char byte;
  pool_init();
  loop_init();
  pool_prepare(count);
  /* Numbered across the processes, so that source addresses are shared out evenly. */
  for (int i = 0; i < count; i++) pool.conns[i].id = (uint32_t)(i * of + index);
  while (pool.open + pool.dead < count) {
    pool_open_some();
    loop_turn(TURN_MS);
  }
  send_result(pipes, pool.dead);
  fcntl(pipes->until, F_SETFL, O_NONBLOCK);
  while (read(pipes->until, &byte, 1) != 0) loop_turn(TURN_MS); /* answers pings */
  send_result(pipes, (int32_t)tally.disconnects);
  _exit(0);
}

typedef struct {
  int results;
  int until;
  int processes;
} holders;

static holders start_holders(int count, int processes) {
  int results[2];
  int until[2];
  if (pipe(results) != 0 || pipe(until) != 0) base_fail("pipe: %s", strerror(errno));
  for (int i = 0; i < processes; i++) {
    pid_t pid = fork();
    if (pid < 0) base_fail("fork: %s", strerror(errno));
    if (pid > 0) continue;
    close(until[1]);
    holder_pipes pipes = {results[1], until[0]};
    hold(&pipes, i, count / processes + (i < count % processes), processes);
  }
  close(results[1]);
  close(until[0]);
  return (holders){results[0], until[1], processes};
}

static holding await(const holders *all) {
  holding sum = {0};
  holding result;
  for (int i = 0; i < all->processes; i++) {
    if (read(all->results, &result, sizeof result) != sizeof result) {
      base_fail("a process that held connections ended");
    }
    sum.open += result.open;
    sum.gone += result.gone;
  }
  return sum;
}

static void pause_for(double seconds) {
  usleep((useconds_t)(seconds * 1e6));
}

typedef struct {
  holding opened;
  holding kept;
  double open_s;
  server_usage before;
  server_usage after;
  server_usage end;
  uint64_t available_before;
  uint64_t available_after;
} idle_result;

static double per_conn(const idle_result *r, uint64_t before, uint64_t after) {
  return r->opened.open > 0 ? ((double)after - (double)before) / r->opened.open : 0;
}

static void print(const idle_result *r) {
  double rss = per_conn(r, r->before.rss_bytes, r->after.rss_bytes);
  double rss_end = per_conn(r, r->before.rss_bytes, r->end.rss_bytes);
  double machine = per_conn(r, r->available_after, r->available_before);
  double cpu = options.seconds > 0 ? (r->end.cpu_s - r->after.cpu_s) / options.seconds * 100 : 0;
  if (options.is_json) {
    printf("{\"mode\":\"idle\",\"opened\":%d,\"failed\":%d,\"open_s\":%.3f", r->opened.open,
           r->opened.gone, r->open_s);
    printf(",\"rss_before\":%" PRIu64 ",\"rss\":%" PRIu64 ",\"rss_end\":%" PRIu64,
           r->before.rss_bytes, r->after.rss_bytes, r->end.rss_bytes);
    printf(",\"bytes_per_conn\":%.0f,\"bytes_per_conn_end\":%.0f,\"machine_bytes_per_conn\":%.0f",
           rss, rss_end, machine);
    printf(",\"idle_cpu\":%.2f,\"kept\":%d,\"disconnects\":%d}\n", cpu, r->kept.open, r->kept.gone);
    return;
  }
  printf("idle: %d opened in %.2f s (%d failed), %d still open after %.1f s\n", r->opened.open,
         r->open_s, r->opened.gone, r->kept.open, options.seconds);
  printf("  server rss %.1f -> %.1f -> %.1f MiB: %.0f bytes a connection (%.0f at the end)\n",
         (double)r->before.rss_bytes / (1 << 20), (double)r->after.rss_bytes / (1 << 20),
         (double)r->end.rss_bytes / (1 << 20), rss, rss_end);
  printf("  whole machine, both ends, kernel included: %.0f bytes a connection\n", machine);
  printf("  server cpu while idle: %.2f %%\n", cpu);
}

bool idle_run(void) {
  idle_result r = {0};
  holders warm = {0};
  if (options.warm_conns > 0) {
    warm = start_holders(options.warm_conns, 1);
    await(&warm);
    pause_for(options.settle_seconds);
  }
  r.before = server_measure();
  r.available_before = server_machine_available();
  uint64_t start_ns = base_now_ns();
  holders counted = start_holders(options.conns, options.processes);
  r.opened = await(&counted);
  r.open_s = (double)(base_now_ns() - start_ns) / 1e9;
  pause_for(options.settle_seconds);
  r.after = server_measure();
  r.available_after = server_machine_available();
  pause_for(options.seconds);
  r.end = server_measure();
  /* The counted holders have inherited the write end that the warm ones wait on. */
  close(counted.until);
  r.kept = await(&counted);
  if (options.warm_conns > 0) {
    close(warm.until);
    await(&warm);
  }
  while (wait(NULL) > 0) continue;
  print(&r);
  return r.opened.gone == 0 && r.kept.gone == 0 && r.kept.open == options.conns;
}
