#include "loadgen/report.h"

#include <inttypes.h>
#include <stdio.h>

#include "loadgen/options.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

enum { FULL_PERCENT = 97 }; /* of a core: the load generator's own limit */

/* All figures, so that both forms of the report print the same. */
typedef struct {
  double rate;
  double published_rate;
  double mib_rate;
  double server_cpu_s;
  double per_cpu_s; /* messages per second of server CPU; 0 without --pid */
  double server_user_percent;
  double server_system_percent;
  double own_percent;
  uint64_t missing;
} figures;

static figures compute(const run_result *result) {
  double seconds = result->seconds;
  figures f = {
      .rate = (double)tally.messages / seconds,
      .published_rate = (double)tally.published / seconds,
      .mib_rate = (double)tally.bytes / seconds / (1024 * 1024),
      .server_cpu_s = result->after.cpu_s - result->before.cpu_s,
      .server_user_percent = (result->after.user_s - result->before.user_s) / seconds * 100,
      .server_system_percent = (result->after.system_s - result->before.system_s) / seconds * 100,
      .own_percent = result->own_cpu_s / seconds * 100,
  };
  if (f.server_cpu_s > 0) f.per_cpu_s = (double)tally.messages / f.server_cpu_s;
  if (workload->on_finish != NULL) workload->on_finish();
  if (workload->count_missing != NULL) f.missing = workload->count_missing();
  /* What a gap left out has not come either; it counts once. */
  f.missing -= tally.lost < f.missing ? tally.lost : f.missing;
  return f;
}

static void print_json(const run_result *result, const figures *f) {
  printf("{\"mode\":\"%s\",\"conns\":%d,\"size\":%d,\"inflight\":%d", workload->name, options.conns,
         options.size, options.inflight);
  printf(",\"seconds\":%.3f,\"messages\":%" PRIu64 ",\"rate\":%.0f,\"published\":%.1f",
         result->seconds, tally.messages, f->rate, f->published_rate);
  printf(",\"mib\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
         f->mib_rate, tally_latency_us(50), tally_latency_us(99), tally_latency_us(99.9),
         tally_longest_us());
  printf(",\"broadcasts\":%" PRIu64 ",\"broadcast_max_us\":%.1f", tally.broadcasts,
         (double)tally.broadcast_longest_ns / 1e3);
  printf(",\"pause_p50_us\":%.1f,\"pause_p999_us\":%.1f,\"pause_max_us\":%.1f,\"own_late_us\":%.1f",
         tally_pause_us(50), tally_pause_us(99.9), tally_longest_pause_us(),
         (double)tally.own_late_ns / 1e3);
  printf(",\"generation\":%" PRIu32 ",\"older\":%" PRIu64, tally.generation, tally.older);
  printf(",\"server_cpu_s\":%.6f,\"per_cpu_s\":%.1f,\"server_user\":%.1f,\"server_system\":%.1f",
         f->server_cpu_s, f->per_cpu_s, f->server_user_percent, f->server_system_percent);
  printf(",\"own_cpu\":%.1f,\"rss\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"missing\":%" PRIu64,
         f->own_percent, result->after.rss_bytes, tally.lost, f->missing);
  printf(",\"reordered\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"disconnects\":%" PRIu64
         ",\"failed\":%" PRIu64 "}\n",
         tally.reordered, tally.bad, tally.disconnects, tally.failed);
}

static void print_text(const run_result *result, const figures *f) {
  printf("%s: %d connections, %d bytes, %d in flight, %.2f s\n", workload->name, options.conns,
         options.size, options.inflight, result->seconds);
  printf("  %.0f %s/s, %.1f MiB/s received", f->rate, workload->unit, f->mib_rate);
  if (tally.published > 0) printf(", %.1f published/s", f->published_rate);
  printf("\n  latency us: p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n", tally_latency_us(50),
         tally_latency_us(99), tally_latency_us(99.9), tally_longest_us());
  if (tally.broadcasts > 0) {
    printf("  %" PRIu64 " deliveries of broadcasts, the last after %.1f us at most\n",
           tally.broadcasts, (double)tally.broadcast_longest_ns / 1e3);
  }
  if (tally_longest_pause_us() > 0) {
    printf("  longest pause of each us: p50 %.1f  p99.9 %.1f  max %.1f; own lateness max %.1f\n",
           tally_pause_us(50), tally_pause_us(99.9), tally_longest_pause_us(),
           (double)tally.own_late_ns / 1e3);
  }
  printf("  cpu: loadgen %.0f %%", f->own_percent);
  if (options.pid_count > 0) {
    printf(", server %.0f %% user + %.0f %% system, rss %.1f MiB\n  %.0f %s/s of server CPU",
           f->server_user_percent, f->server_system_percent,
           (double)result->after.rss_bytes / (1024 * 1024), f->per_cpu_s, workload->unit);
  }
  printf("\n  lost %" PRIu64 ", missing %" PRIu64 ", reordered %" PRIu64 ", bad %" PRIu64
         ", disconnects %" PRIu64 ", failed %" PRIu64 ", older %" PRIu64 ", other messages %" PRIu64
         "\n",
         tally.lost, f->missing, tally.reordered, tally.bad, tally.disconnects, tally.failed,
         tally.older, tally.other);
  if (f->own_percent > FULL_PERCENT) {
    printf("  NOTE: the load generator used its whole core; the server may be able to do more\n");
  }
}

bool report_print(const run_result *result) {
  figures f = compute(result);
  if (options.is_json) {
    print_json(result, &f);
  } else {
    print_text(result, &f);
  }
  return tally.lost == 0 && f.missing == 0 && tally.reordered == 0 && tally.bad == 0 &&
         tally.disconnects == 0 && tally.failed == 0 && tally.older == 0;
}
