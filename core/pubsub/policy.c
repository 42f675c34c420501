#include "pubsub/policy.h"

#include "base/map.h"
#include "base/mem.h"
#include "pubsub/hub.h"

const topic_policy policy_default = {
    .history_count = 0,
    .history_bytes = 16 * 1024 * 1024,
    .age_ms = POLICY_NO_LIMIT,
    .linger_ms = POLICY_NO_LIMIT,
    .max_subscribers = POLICY_NO_LIMIT,
    .refuse_when_full = false,
};

struct pattern {
  struct map_entry entry; /* by the pattern as it was written */
  topic_policy policy;
  slice prefix; /* without the "*" */
  char *text;
  bool is_new; /* some of its topics were not kept before: policies_follow */
};

struct policies {
  struct map patterns;
  struct pattern **prefixes; /* those with a "*", the longest first */
  size_t prefix_count;
};

struct policies *policies_new(void) {
  struct policies *policies = mem_alloc_zero(sizeof *policies);
  map_init(&policies->patterns);
  return policies;
}

void policies_free(struct policies *policies) {
  if (policies == NULL) return;
  struct map_entry *entry = map_next(&policies->patterns, NULL);
  while (entry != NULL) {
    struct pattern *pattern = MAP_OWNER(entry, struct pattern, entry);
    entry = map_next(&policies->patterns, entry);
    mem_free(pattern->text);
    mem_free(pattern);
  }
  map_deinit(&policies->patterns);
  mem_free(policies->prefixes);
  mem_free(policies);
}

static bool has_star(slice pattern) {
  return pattern.len > 0 && pattern.data[pattern.len - 1] == '*';
}

static bool is_valid(slice pattern) {
  if (pattern.len == 0 || pattern.len > HUB_TOPIC_NAME_BYTES) return false;
  if (!has_star(pattern)) return hub_topic_name_is_valid(pattern);
  pattern.len--;
  return pattern.len == 0 || hub_topic_name_is_valid(pattern);
}

static void insert_prefix(struct policies *policies, struct pattern *pattern) {
  policies->prefixes =
      mem_realloc(policies->prefixes, (policies->prefix_count + 1) * sizeof(struct pattern *));
  size_t at = policies->prefix_count++;
  for (; at > 0 && policies->prefixes[at - 1]->prefix.len < pattern->prefix.len; at--) {
    policies->prefixes[at] = policies->prefixes[at - 1];
  }
  policies->prefixes[at] = pattern;
}

int policies_add(struct policies *policies, slice pattern, const topic_policy *policy) {
  if (!is_valid(pattern)) return POLICY_BAD_PATTERN;
  if (map_find(&policies->patterns, pattern) != NULL) return POLICY_DUPLICATE;
  struct pattern *added = mem_alloc_zero(sizeof *added);
  added->policy = *policy;
  added->text = mem_copy(pattern);
  map_insert(&policies->patterns, &added->entry, slice_of(added->text, pattern.len));
  if (has_star(pattern)) {
    added->prefix = slice_of(added->text, pattern.len - 1);
    insert_prefix(policies, added);
  }
  return 0;
}

static struct pattern *find_pattern(const struct policies *policies, slice text) {
  struct map_entry *entry = map_find(&policies->patterns, text);
  return entry != NULL ? MAP_OWNER(entry, struct pattern, entry) : NULL;
}

/* Of the patterns with a "*". */
static topic_policy find_longest(const struct policies *policies, slice topic) {
  for (size_t i = 0; i < policies->prefix_count; i++) {
    const struct pattern *pattern = policies->prefixes[i];
    if (slice_has_prefix(topic, pattern->prefix)) return pattern->policy;
  }
  return policy_default;
}

topic_policy policies_find(const struct policies *policies, slice topic) {
  if (policies == NULL) return policy_default;
  /* A topic's name has no "*", so this finds exact patterns only. */
  const struct pattern *exact = find_pattern(policies, topic);
  return exact != NULL ? exact->policy : find_longest(policies, topic);
}

/* --- one set after another --- */

/* Topics of the pattern had this policy. */
static void follow_policy(struct pattern *pattern, const topic_policy *older) {
  topic_policy *policy = &pattern->policy;
  if (older->history_count == 0) pattern->is_new = true;
  if (older->kept_since > policy->kept_since) policy->kept_since = older->kept_since;
}

/* Those of a pattern with a "*" may have had several: the one that it would be a case of, and each
 * that was a case of it, unless that has its own pattern still. */
static void follow_prefix(struct pattern *pattern, const struct policies *policies,
                          const struct policies *older) {
  topic_policy widest = find_longest(older, pattern->prefix);
  follow_policy(pattern, &widest);
  struct map_entry *entry = NULL;
  while ((entry = map_next(&older->patterns, entry)) != NULL) {
    const struct pattern *other = MAP_OWNER(entry, struct pattern, entry);
    slice text = slice_of_string(other->text);
    if (slice_has_prefix(text, pattern->prefix) && find_pattern(policies, text) == NULL) {
      follow_policy(pattern, &other->policy);
    }
  }
}

bool policies_follow(struct policies *policies, const struct policies *older) {
  bool has_new = false;
  struct map_entry *entry = NULL;
  while ((entry = map_next(&policies->patterns, entry)) != NULL) {
    struct pattern *pattern = MAP_OWNER(entry, struct pattern, entry);
    slice text = slice_of_string(pattern->text);
    if (pattern->policy.history_count == 0) continue;
    if (has_star(text)) {
      follow_prefix(pattern, policies, older);
    } else {
      topic_policy before = policies_find(older, text);
      follow_policy(pattern, &before);
    }
    has_new = has_new || pattern->is_new;
  }
  return has_new;
}

void policies_begin(struct policies *policies, uint64_t number) {
  struct map_entry *entry = NULL;
  while ((entry = map_next(&policies->patterns, entry)) != NULL) {
    struct pattern *pattern = MAP_OWNER(entry, struct pattern, entry);
    if (pattern->is_new) pattern->policy.kept_since = number;
  }
}
