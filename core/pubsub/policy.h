/* What a script says of topics by name pattern: how much is kept, for how long, for how many.
 *
 * A set of policies is immutable once the hub has it. Patterns are exact or end in one "*"; the
 * longest that matches wins, and an exact one beats any other. */
#ifndef PERIGEE_PUBSUB_POLICY_H
#define PERIGEE_PUBSUB_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define POLICY_NO_LIMIT UINT64_MAX

typedef struct {
  uint64_t history_count; /* publications kept; 0: live only */
  uint64_t history_bytes;
  uint64_t age_ms;    /* POLICY_NO_LIMIT: none */
  uint64_t linger_ms; /* POLICY_NO_LIMIT: for ever */
  uint64_t max_subscribers;
  bool refuse_when_full; /* else the oldest is dropped */
  uint64_t kept_since;   /* since this number nothing went by unkept: policies_begin */
} topic_policy;

/* A topic that no pattern matches. */
extern const topic_policy policy_default;

struct policies;
struct policies *policies_new(void);
void policies_free(struct policies *policies);

/* 0, or POLICY_DUPLICATE, or POLICY_BAD_PATTERN (empty, over 255 bytes, not UTF-8, a control
 * character, a "*" before the end). */
enum { POLICY_DUPLICATE = -1, POLICY_BAD_PATTERN = -2 };
int policies_add(struct policies *policies, slice pattern, const topic_policy *policy);

/* Before `policies` take the place of `older`: whether there are topics that are kept from then on
 * and were not before. What those released meanwhile had no numbers. */
bool policies_follow(struct policies *policies, const struct policies *older);
/* These topics are kept since `number`. */
void policies_begin(struct policies *policies, uint64_t number);

/* `policies` may be NULL. */
topic_policy policies_find(const struct policies *policies, slice topic);

#endif
