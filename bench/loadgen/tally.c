#include "loadgen/tally.h"

/* A log-linear histogram: 128 buckets to each power of two. */
enum { BUCKETS_A_POWER = 128, BUCKET_BITS = 7 };

typedef struct {
  uint64_t count;
  uint64_t longest_ns;
  uint64_t buckets[64 * BUCKETS_A_POWER];
} histogram;

struct tally tally;

static histogram latencies;
static histogram pauses;

static unsigned bucket_of(uint64_t ns) {
  if (ns < BUCKETS_A_POWER) return (unsigned)ns;
  unsigned exponent = 63u - (unsigned)__builtin_clzll(ns);
  unsigned within = (unsigned)(ns >> (exponent - BUCKET_BITS)) & (BUCKETS_A_POWER - 1);
  return (exponent - BUCKET_BITS + 1) * BUCKETS_A_POWER + within;
}

static uint64_t bucket_start(unsigned bucket) {
  if (bucket < BUCKETS_A_POWER) return bucket;
  unsigned shift = bucket / BUCKETS_A_POWER - 1;
  return (uint64_t)(BUCKETS_A_POWER + bucket % BUCKETS_A_POWER) << shift;
}

static void add(histogram *to, uint64_t ns) {
  to->count++;
  to->buckets[bucket_of(ns)]++;
  if (ns > to->longest_ns) to->longest_ns = ns;
}

static double find_us(const histogram *in, double percent) {
  uint64_t wanted = (uint64_t)((double)in->count * percent / 100);
  uint64_t seen = 0;
  for (unsigned i = 0; i < sizeof in->buckets / sizeof in->buckets[0]; i++) {
    seen += in->buckets[i];
    if (seen > wanted) return (double)bucket_start(i) / 1e3;
  }
  return (double)in->longest_ns / 1e3;
}

void tally_message(uint64_t latency_ns) {
  if (!tally.is_counting) return;
  tally.messages++;
  add(&latencies, latency_ns);
}

void tally_broadcast(uint64_t latency_ns) {
  if (!tally.is_counting) return;
  tally.broadcasts++;
  if (latency_ns > tally.broadcast_longest_ns) tally.broadcast_longest_ns = latency_ns;
}

double tally_latency_us(double percent) {
  return find_us(&latencies, percent);
}

double tally_longest_us(void) {
  return (double)latencies.longest_ns / 1e3;
}

void tally_pause(uint64_t pause_ns) {
  add(&pauses, pause_ns);
}

double tally_pause_us(double percent) {
  return find_us(&pauses, percent);
}

double tally_longest_pause_us(void) {
  return (double)pauses.longest_ns / 1e3;
}
