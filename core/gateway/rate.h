/* A token bucket: how many messages a connection may send in a time. */
#ifndef PERIGEE_GATEWAY_RATE_H
#define PERIGEE_GATEWAY_RATE_H

#include <stdint.h>

#include "base/clock.h"
#include "gateway/routes.h"

typedef struct {
  double tokens;
  uint64_t filled_ms;
} rate_bucket;

typedef enum { RATE_PASS, RATE_DROP, RATE_CLOSE } rate_verdict;

static inline void rate_init(rate_bucket *bucket, const route_options *options) {
  *bucket = (rate_bucket){options->rate_messages, clock_now_ms()};
}

static inline void rate_fill(rate_bucket *bucket, const route_options *options) {
  uint64_t now_ms = clock_now_ms();
  double passed_ms = (double)(now_ms - bucket->filled_ms);
  bucket->filled_ms = now_ms;
  bucket->tokens += passed_ms * options->rate_messages / (double)options->rate_per_ms;
  if (bucket->tokens > options->rate_messages) bucket->tokens = options->rate_messages;
}

/* One message more. The clock is read only where there is a rate. */
static inline rate_verdict rate_take(rate_bucket *bucket, const route_options *options) {
  if (options->rate_per_ms == 0) return RATE_PASS;
  rate_fill(bucket, options);
  if (bucket->tokens >= 1) {
    bucket->tokens -= 1;
    return RATE_PASS;
  }
  return options->excess == EXCESS_CLOSE ? RATE_CLOSE : RATE_DROP;
}

/* Milliseconds until the next message passes where the excess waits; 0 elsewhere. */
static inline uint64_t rate_wait_ms(rate_bucket *bucket, const route_options *options) {
  if (options->rate_per_ms == 0 || options->excess != EXCESS_WAIT) return 0;
  rate_fill(bucket, options);
  if (bucket->tokens >= 1) return 0;
  double missing = 1 - bucket->tokens;
  return (uint64_t)(missing * (double)options->rate_per_ms / options->rate_messages) + 1;
}

#endif
