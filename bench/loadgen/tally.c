#include "loadgen/tally.h"

/* A log-linear histogram: 128 buckets to each power of two. */
enum { BUCKETS_A_POWER = 128, BUCKET_BITS = 7 };

struct tally tally;

static uint64_t longest_ns;
static uint64_t buckets[64 * BUCKETS_A_POWER];

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

void tally_message(uint64_t latency_ns) {
  if (!tally.is_counting) return;
  tally.messages++;
  buckets[bucket_of(latency_ns)]++;
  if (latency_ns > longest_ns) longest_ns = latency_ns;
}

void tally_broadcast(uint64_t latency_ns) {
  if (!tally.is_counting) return;
  tally.broadcasts++;
  if (latency_ns > tally.broadcast_longest_ns) tally.broadcast_longest_ns = latency_ns;
}

double tally_latency_us(double percent) {
  uint64_t wanted = (uint64_t)((double)tally.messages * percent / 100);
  uint64_t seen = 0;
  for (unsigned i = 0; i < sizeof buckets / sizeof buckets[0]; i++) {
    seen += buckets[i];
    if (seen > wanted) return (double)bucket_start(i) / 1e3;
  }
  return tally_longest_us();
}

double tally_longest_us(void) {
  return (double)longest_ns / 1e3;
}
