/* How often a quantity had which size: for durations, of which the rare long ones matter.
 *
 * Counts in buckets that grow with the value, sixteen to each power of two, so that adding is one
 * increment, memory is fixed, and what is told is at most a sixteenth too large. What is counted,
 * and in which unit, is the owner's. One thread. */
#ifndef PERIGEE_BASE_HISTOGRAM_H
#define PERIGEE_BASE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 61 * 16 };

/* All zero is empty. */
struct histogram {
  uint64_t largest; /* exact */
  uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* Adds all that `other` has counted. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

uint64_t histogram_count(const struct histogram *histogram);
/* A value that `per_mille` of a thousand (0 to 1000) do not pass: never less than the exact one, at
 * most a sixteenth more, and never more than the largest. 0 when nothing was counted. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille);

#endif
