/* loadgen: a load generator for realtime servers, which checks what it gets.
 *
 * It knows no server in particular: paths, join message and publication are options. One thread, no
 * library. README.md beside it has the modes and what they measure.
 *
 * Exit codes: 0: the server told the truth; 1: something was lost, reordered, damaged or
 * disconnected; 2: nothing was measured. */
#include <signal.h>
#include <stdlib.h>

#include "loadgen/conn.h"
#include "loadgen/gate.h"
#include "loadgen/idle.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/report.h"
#include "loadgen/run.h"
#include "loadgen/workload.h"

int main(int count, char **arguments) {
  options_parse(count, arguments);
  signal(SIGPIPE, SIG_IGN);
  workload = workload_find(options.mode);
  if (workload == &idle_workload) return idle_run() ? 0 : 1;
  pool_init();
  loop_init();
  gate_init();
  run_result result = run_all();
  return report_print(&result) ? 0 : 1;
}
