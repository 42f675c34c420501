#include "loadgen/run.h"

#include <stdint.h>
#include <sys/resource.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/gate.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

enum {
  OPEN_LIMIT_S = 120,
  ROUND_LIMIT_S = 60, /* under a tool that counts instructions a round takes seconds */
  DRAIN_LIMIT_S = 5,
  TURN_MS = 10, /* the longest wait for events, hence the phases' precision */
};

static bool wants_more;

bool run_wants_more(void) {
  return wants_more;
}

static double own_cpu_s(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static bool is_quiet(void) {
  return workload->is_quiet == NULL || workload->is_quiet();
}

static void open_all(void) {
  bool is_churn = workload == &churn_workload; /* whose connections come and go */
  uint64_t limit_ns = base_now_ns() + base_ns(OPEN_LIMIT_S);
  for (;;) {
    pool_open_some();
    if (pool.next == pool.count && (is_churn || pool.open + pool.dead == pool.count)) return;
    loop_turn(TURN_MS);
    if (base_now_ns() > limit_ns) {
      base_fail("%d of %d connections are open after %d s", pool.open, pool.count, OPEN_LIMIT_S);
    }
  }
}

static void turn_for(double seconds, void (*step)(uint64_t now)) {
  uint64_t end_ns = base_now_ns() + base_ns(seconds);
  for (uint64_t now; (now = base_now_ns()) < end_ns;) {
    if (step != NULL) step(now);
    loop_turn(TURN_MS);
  }
}

static void turn_until_quiet(double limit_s) {
  uint64_t end_ns = base_now_ns() + base_ns(limit_s);
  while (!is_quiet() && base_now_ns() < end_ns) loop_turn(TURN_MS);
}

/* Ends in quiet, so that all that it caused is in what is counted and nothing else is: where one
 * publication takes a tenth of the time, what is under way at either end would be an error of a
 * tenth. */
static void work_for(double seconds) {
  wants_more = true;
  if (workload->send_round != NULL) workload->send_round(base_now_ns());
  turn_for(seconds, workload->step);
  if (workload->is_quiet == NULL) return;
  wants_more = false;
  turn_until_quiet(DRAIN_LIMIT_S);
}

static void play_rounds(int count) {
  wants_more = false;
  for (int i = 0; i < count; i++) {
    server_hold();
    workload->send_round(base_now_ns());
    server_release();
    turn_until_quiet(ROUND_LIMIT_S);
    if (!is_quiet()) return; /* the report will say what is missing */
  }
}

static void work(int rounds, double seconds) {
  if (options.rounds > 0) {
    play_rounds(rounds);
  } else {
    work_for(seconds);
  }
}

run_result run_all(void) {
  run_result result = {0};
  if (options.rounds > 0 && workload->send_round == NULL) {
    base_fail("%s does not go by rounds", workload->name);
  }
  workload->prepare();
  open_all();
  turn_for(options.settle_seconds, NULL);
  work(options.warmup_rounds, options.warmup_seconds);

  gate_pass("ready");
  uint64_t start_ns = base_now_ns();
  double own_before_s = own_cpu_s();
  result.before = server_measure();
  tally.is_counting = true;
  work(options.rounds, options.seconds);
  tally.is_counting = false;
  result.after = server_measure();
  result.own_cpu_s = own_cpu_s() - own_before_s;
  result.seconds = (double)(base_now_ns() - start_ns) / 1e9;
  gate_pass("done");
  wants_more = false;
  return result;
}
