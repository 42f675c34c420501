#include "base/histogram.h"

enum { STEP_BITS = 4, STEPS = 1 << STEP_BITS };

/* Below STEPS each value has a bucket of its own; above, the highest bit and the four behind it. */
static unsigned bucket_of(uint64_t value) {
  if (value < STEPS) return (unsigned)value;
  unsigned shift = 63u - STEP_BITS - (unsigned)__builtin_clzll(value);
  return shift * STEPS + (unsigned)(value >> shift);
}

static uint64_t bucket_end(unsigned bucket) {
  if (bucket < STEPS) return bucket;
  unsigned shift = bucket / STEPS - 1;
  uint64_t first = (uint64_t)(STEPS + bucket % STEPS) << shift;
  return first + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value) {
  histogram->buckets[bucket_of(value)]++;
  if (value > histogram->largest) histogram->largest = value;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other) {
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) histogram->buckets[i] += other->buckets[i];
  if (other->largest > histogram->largest) histogram->largest = other->largest;
}

uint64_t histogram_count(const struct histogram *histogram) {
  uint64_t count = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) count += histogram->buckets[i];
  return count;
}

/* Count times per mille over a thousand, rounded up, without overflow. */
static uint64_t rank_of(uint64_t count, unsigned per_mille) {
  return count / 1000 * per_mille + (count % 1000 * per_mille + 999) / 1000;
}

uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille) {
  uint64_t wanted = rank_of(histogram_count(histogram), per_mille);
  uint64_t seen = 0;
  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram->buckets[i];
    if (histogram->buckets[i] == 0 || seen < wanted) continue;
    uint64_t end = bucket_end(i);
    return end < histogram->largest ? end : histogram->largest;
  }
  return 0;
}
