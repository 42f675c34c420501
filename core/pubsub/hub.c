#include "pubsub/hub.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "pubsub/hub_internal.h"

/* Topics looked at in one go by hub_sweep: some 10 us, so that publishers do not notice. */
enum { SWEEP_TOPICS = 128 };

static const uint64_t one_bit = 1;

/* --- the hub and its lock --- */

struct hub *hub_new(const hub_options *options) {
  REQUIRE(options->worker_count >= 1 && options->worker_count <= HUB_WORKERS);
  struct hub *hub = mem_alloc_zero(sizeof *hub + options->worker_count * sizeof(struct inbox));
  pthread_mutex_init(&hub->lock, NULL);
  hub->options = *options;
  log_memory_init(&hub->log, options->max_marks);
  map_init(&hub->topics);
  list_init(&hub->by_sweep);
  list_init(&hub->by_publication);
  list_init(&hub->commits);
  for (size_t i = 0; i < options->worker_count; i++) {
    inbox_init(&hub->inboxes[i], options->max_inbox_entries, options->max_inbox_bytes);
  }
  return hub;
}

void hub_free(struct hub *hub) {
  if (hub == NULL) return;
  hub_lock(hub);
  REQUIRE(hub->subscribers == 0 && list_is_empty(&hub->commits));
  while (!list_is_empty(&hub->by_sweep)) {
    hub_forget(hub, LIST_OWNER(list_peek(&hub->by_sweep), struct hub_topic, by_sweep));
  }
  hub_unlock(hub);
  for (size_t i = 0; i < hub->options.worker_count; i++) inbox_deinit(&hub->inboxes[i]);
  log_memory_deinit(&hub->log);
  map_deinit(&hub->topics);
  policies_free(hub->policies);
  pthread_mutex_destroy(&hub->lock);
  mem_free(hub);
}

void hub_lock(struct hub *hub) {
  pthread_mutex_lock(&hub->lock);
}

void hub_unlock(struct hub *hub) {
  struct trash trash = hub->trash;
  struct hub_topic *forgotten = hub->forgotten;
  hub->trash = (struct trash){0};
  hub->forgotten = NULL;
  pthread_mutex_unlock(&hub->lock);
  trash_empty(&trash);
  while (forgotten != NULL) {
    struct hub_topic *next = forgotten->next_forgotten;
    hub_topic_release(forgotten);
    forgotten = next;
  }
}

const char *hub_epoch(const struct hub *hub) {
  return hub->log.epoch;
}

struct inbox *hub_inbox(struct hub *hub, size_t worker) {
  REQUIRE(worker < hub->options.worker_count);
  return &hub->inboxes[worker];
}

hub_position hub_position_now(struct hub *hub) {
  return (hub_position){.heads = {hub->log.head}};
}

uint64_t hub_release_now(struct hub *hub) {
  return hub->release;
}

/* --- topics --- */

bool hub_topic_name_is_valid(slice name) {
  if (name.len == 0 || name.len > HUB_TOPIC_NAME_BYTES) return false;
  for (size_t i = 0; i < name.len; i++) {
    unsigned char c = (unsigned char)name.data[i];
    if (c < 0x20 || c == 0x7f || c == '*') return false;
    /* U+0080 to U+009F, the other control characters, are C2 80 to C2 9F. */
    if (c == 0xc2 && i + 1 < name.len && (unsigned char)name.data[i + 1] < 0xa0) return false;
  }
  return utf8_is_valid(name);
}

slice hub_topic_name(const struct hub_topic *topic) {
  return topic->name;
}

struct topic *hub_topic_local(const struct hub_topic *topic, size_t worker) {
  return topic->slots[worker].local;
}

void hub_topic_set_local(struct hub_topic *topic, size_t worker, struct topic *local) {
  topic->slots[worker].local = local;
}

void hub_topic_retain(struct hub_topic *topic) {
  atomic_fetch_add_explicit(&topic->references, 1, memory_order_relaxed);
}

void hub_topic_release(struct hub_topic *topic) {
  if (atomic_fetch_sub_explicit(&topic->references, 1, memory_order_acq_rel) != 1) return;
  mem_free(topic);
}

static struct hub_topic *make_topic(struct hub *hub, slice name, uint64_t now_ms) {
  size_t slots_bytes = hub->options.worker_count * sizeof(struct hub_slot);
  struct hub_topic *topic = mem_alloc_zero(sizeof *topic + slots_bytes + name.len);
  atomic_init(&topic->references, 1);
  char *at = (char *)topic + sizeof *topic + slots_bytes;
  memcpy(at, name.data, name.len);
  topic->name = slice_of(at, name.len);
  topic->policy = policies_find(hub->policies, name);
  topic->policy_round = hub->policy_round;
  topic->mark = log_memory_take_mark(&hub->log, name);
  topic->idle_since_ms = now_ms;
  history_init(&topic->history);
  list_init(&topic->by_publication);
  list_insert(&hub->by_sweep, &topic->by_sweep);
  map_insert(&hub->topics, &topic->entry, topic->name);
  return topic;
}

void hub_forget(struct hub *hub, struct hub_topic *topic) {
  hub_keep_clear(hub, topic);
  history_deinit(&topic->history, &hub->trash);
  log_memory_push_mark(&hub->log, topic->name, topic->mark);
  map_remove(&hub->topics, &topic->entry);
  list_remove(&topic->by_sweep);
  topic->next_forgotten = hub->forgotten;
  hub->forgotten = topic;
}

/* Nobody listens, and nothing is kept or its linger is over. */
static bool forget_if_over(struct hub *hub, struct hub_topic *topic, uint64_t now_ms) {
  if (topic->subscribers > 0) return false;
  if (topic->history.count > 0 &&
      !hub_has_passed(topic->idle_since_ms, topic->policy.linger_ms, now_ms)) {
    return false;
  }
  hub_forget(hub, topic);
  return true;
}

/* The policy may have changed since the topic was last touched. */
static void follow_policies(struct hub *hub, struct hub_topic *topic) {
  if (__builtin_expect(topic->policy_round == hub->policy_round, 1)) return;
  topic->policy_round = hub->policy_round;
  topic->policy = policies_find(hub->policies, topic->name);
  hub_keep_trim(hub, topic);
}

/* The topic as it is now: its policy holds, what is past its age is dropped, and a topic that is
 * over is gone. */
static struct hub_topic *find_topic(struct hub *hub, slice name, uint64_t now_ms) {
  struct map_entry *entry = map_find(&hub->topics, name);
  if (entry == NULL) return NULL;
  struct hub_topic *topic = MAP_OWNER(entry, struct hub_topic, entry);
  follow_policies(hub, topic);
  /* Linger first: whichever of the two it is that empties it, the mark is the same. */
  if (forget_if_over(hub, topic, now_ms)) return NULL;
  hub_keep_expire(hub, topic, now_ms);
  return forget_if_over(hub, topic, now_ms) ? NULL : topic;
}

void hub_set_policies(struct hub *hub, struct policies *policies) {
  struct policies *old = hub->policies; /* changed here alone */
  /* No publication came before the first. */
  bool has_new = old != NULL && policies != NULL && policies_follow(policies, old);
  hub_lock(hub);
  /* A number of its own, so that no position from before it covers what was not kept. */
  if (has_new) policies_begin(policies, log_memory_next(&hub->log));
  hub->policies = policies;
  hub->policy_round++;
  hub_unlock(hub);
  policies_free(old);
}

/* --- workers --- */

void hub_attach(struct hub *hub, size_t worker, void (*wake)(void *context), void *context) {
  REQUIRE(wake != NULL);
  hub_lock(hub);
  struct inbox *inbox = hub_inbox(hub, worker);
  inbox->wake = wake;
  inbox->wake_context = context;
  hub_unlock(hub);
}

void hub_detach(struct hub *hub, size_t worker) {
  struct inbox_batch left = {0};
  struct list commits;
  list_init(&commits);
  hub_lock(hub);
  struct inbox *inbox = hub_inbox(hub, worker);
  inbox->wake = NULL;
  inbox->wake_context = NULL;
  inbox_take(inbox, &left);
  /* Tasks stay for a last topics_drain: their contexts are their posters' memory. */
  for (size_t i = 0; i < left.count; i++) {
    inbox_entry entry = left.entries[i];
    if (entry.message == NULL) inbox_push_task(inbox, entry.task, entry.context);
  }
  hub_take_commits(hub, worker, &commits);
  hub_unlock(hub);
  hub_fail_commits(&commits);
  for (size_t i = 0; i < left.count; i++) {
    if (left.entries[i].message != NULL) message_release(left.entries[i].message);
  }
  mem_free(left.entries);
}

bool hub_post(struct hub *hub, size_t worker, inbox_task task, void *context) {
  hub_lock(hub);
  struct inbox *inbox = hub_inbox(hub, worker);
  bool is_attached = inbox->wake != NULL;
  if (is_attached) {
    bool was_empty = inbox->count == 0;
    inbox_push_task(inbox, task, context);
    if (was_empty) inbox->wake(inbox->wake_context);
  }
  hub_unlock(hub);
  return is_attached;
}

/* --- publishing --- */

static void push_to_workers(struct hub *hub, size_t publisher, const struct hub_topic *topic,
                            struct message *message) {
  for (uint64_t left = topic->workers; left != 0; left &= left - 1) {
    size_t worker = (size_t)__builtin_ctzll(left);
    struct inbox *inbox = &hub->inboxes[worker];
    if (inbox->wake == NULL) continue;
    bool was_empty = inbox->count == 0;
    inbox_push_message(inbox, message);
    if (was_empty && worker != publisher) inbox->wake(inbox->wake_context);
  }
}

/* Empties a topic, which may not exist. A clear takes a number, so that a reader who missed it is
 * not complete; a live-only topic promises nothing and needs none. */
static hub_result clear_topic(struct hub *hub, slice name, struct hub_topic *topic,
                              const topic_policy *policy) {
  bool is_logged = policy->history_count > 0;
  hub_result result = is_logged ? hub_judge_log(hub) : HUB_OK;
  if (result != HUB_OK) return result;
  if (topic != NULL) hub_keep_clear(hub, topic);
  if (!is_logged) return HUB_OK;
  uint64_t number = log_memory_next(&hub->log);
  if (topic != NULL) {
    topic->mark = number;
  } else {
    log_memory_push_mark(&hub->log, name, number);
  }
  return HUB_OK;
}

/* Whether the publication can be kept: no effect if not. */
static hub_result judge(const struct hub *hub, const struct hub_topic *topic,
                        const topic_policy *policy, const struct message *message) {
  size_t cost = message_cost_bytes(message);
  if (policy->refuse_when_full &&
      (cost > hub->options.max_history_bytes ||
       !hub_keep_has_room(topic, policy, cost, (message->flags & MESSAGE_CLEAR) != 0))) {
    return HUB_FULL;
  }
  if (topic == NULL && hub->topics.count >= hub->options.max_topics) return HUB_LIMIT;
  return hub_judge_log(hub);
}

static void stamp(struct hub *hub, struct message *message, uint64_t number, uint64_t now_ms) {
  hub_position position = hub_position_now(hub);
  message->release = ++hub->release;
  message->number = number;
  memcpy(message->heads, position.heads, sizeof message->heads);
  message->published_ms = now_ms;
}

static hub_result publish(struct hub *hub, size_t worker, slice name, struct message *message,
                          uint64_t *receivers) {
  uint64_t now_ms = clock_now_ms();
  struct hub_topic *topic = find_topic(hub, name, now_ms);
  topic_policy policy = topic != NULL ? topic->policy : policies_find(hub->policies, name);
  bool is_clearing = (message->flags & MESSAGE_CLEAR) != 0;
  bool is_kept =
      policy.history_count > 0 && !(message->flags & (MESSAGE_TRANSIENT | MESSAGE_SIGNAL));
  if (is_kept) {
    hub_result result = judge(hub, topic, &policy, message);
    if (result != HUB_OK) return result;
    if (topic == NULL) topic = make_topic(hub, name, now_ms);
    /* No number of its own for the clear: the publication's tells of it. */
    if (is_clearing) hub_keep_clear(hub, topic);
  } else if (is_clearing) {
    hub_result result = clear_topic(hub, name, topic, &policy);
    if (result != HUB_OK) return result;
  }
  stamp(hub, message, is_kept ? log_memory_next(&hub->log) : 0, now_ms);
  *receivers = topic != NULL ? topic->subscribers : 0;
  if (topic == NULL) return HUB_OK;

  message->topic = topic;
  hub_topic_retain(topic);
  if (is_kept) {
    hub_keep_append(hub, topic, message);
  } else {
    topic->lost_release = message->release;
  }
  if (!topic->had_subscribers) topic->idle_since_ms = now_ms;
  push_to_workers(hub, worker, topic, message);
  forget_if_over(hub, topic, now_ms);
  return HUB_OK;
}

hub_result hub_publish_locked(struct hub *hub, size_t worker, slice name, struct message *message,
                              hub_receipt *receipt) {
  REQUIRE(message->release == 0);
  uint64_t receivers = 0;
  hub_result result = publish(hub, worker, name, message, &receivers);
  if (result != HUB_OK) return result;
  *receipt = (hub_receipt){.is_kept = message->number > 0, .receivers = receivers};
  memcpy(receipt->position.heads, message->heads, sizeof receipt->position.heads);
  return HUB_OK;
}

hub_result hub_publish(struct hub *hub, size_t worker, slice topic, struct message *message,
                       hub_receipt *receipt) {
  if (!hub_topic_name_is_valid(topic)) return HUB_BAD_TOPIC;
  hub_lock(hub);
  hub_result result = hub_publish_locked(hub, worker, topic, message, receipt);
  hub_unlock(hub);
  return result;
}

hub_result hub_clear_locked(struct hub *hub, slice name, hub_position *position) {
  uint64_t now_ms = clock_now_ms();
  struct hub_topic *found = find_topic(hub, name, now_ms);
  topic_policy policy = found != NULL ? found->policy : policies_find(hub->policies, name);
  hub_result result = clear_topic(hub, name, found, &policy);
  if (result != HUB_OK) return result;
  *position = hub_position_now(hub);
  if (found != NULL) forget_if_over(hub, found, now_ms);
  return HUB_OK;
}

hub_result hub_clear(struct hub *hub, slice topic, hub_position *position) {
  if (!hub_topic_name_is_valid(topic)) return HUB_BAD_TOPIC;
  hub_lock(hub);
  hub_result result = hub_clear_locked(hub, topic, position);
  hub_unlock(hub);
  return result;
}

hub_result hub_remove_locked(struct hub *hub, slice name, uint64_t number, bool *was_kept) {
  uint64_t now_ms = clock_now_ms();
  struct hub_topic *found = find_topic(hub, name, now_ms);
  *was_kept = false;
  if (found == NULL || found->policy.history_count == 0) return HUB_OK;
  hub_result result = hub_judge_log(hub);
  if (result != HUB_OK) return result;
  *was_kept = hub_keep_remove(hub, found, number);
  if (*was_kept) forget_if_over(hub, found, now_ms);
  return HUB_OK;
}

hub_result hub_remove(struct hub *hub, slice topic, uint64_t number, bool *was_kept) {
  if (!hub_topic_name_is_valid(topic)) return HUB_BAD_TOPIC;
  hub_lock(hub);
  hub_result result = hub_remove_locked(hub, topic, number, was_kept);
  hub_unlock(hub);
  return result;
}

/* --- looking --- */

uint64_t hub_subscribers(struct hub *hub, slice topic) {
  hub_lock(hub);
  struct hub_topic *found = find_topic(hub, topic, clock_now_ms());
  uint64_t subscribers = found != NULL ? found->subscribers : 0;
  hub_unlock(hub);
  return subscribers;
}

hub_result hub_history(struct hub *hub, slice topic, const hub_start *start, struct cut **cut,
                       hub_position *position, bool *is_complete) {
  if (!hub_topic_name_is_valid(topic)) return HUB_BAD_TOPIC;
  *cut = cut_new(1);
  hub_lock(hub);
  struct hub_topic *found = find_topic(hub, topic, clock_now_ms());
  if (found != NULL) {
    *is_complete = hub_cut(hub, found, start, *cut);
  } else {
    topic_policy policy = policies_find(hub->policies, topic);
    uint64_t mark = log_memory_find_mark(&hub->log, topic);
    *is_complete = !start->has_since || hub_keep_is_complete(hub, &policy, mark, start);
  }
  *position = hub_position_now(hub);
  hub_unlock(hub);
  return HUB_OK;
}

void hub_sweep(struct hub *hub) {
  hub_lock(hub);
  size_t left = hub->topics.count;
  uint64_t now_ms = clock_now_ms();
  while (left > 0) {
    for (size_t i = 0; i < SWEEP_TOPICS && left > 0 && !list_is_empty(&hub->by_sweep); i++) {
      struct hub_topic *topic = LIST_OWNER(list_peek(&hub->by_sweep), struct hub_topic, by_sweep);
      list_remove(&topic->by_sweep);
      list_insert(&hub->by_sweep, &topic->by_sweep);
      find_topic(hub, topic->name, now_ms);
      left--;
    }
    if (list_is_empty(&hub->by_sweep)) break;
    hub_unlock(hub);
    hub_lock(hub);
  }
  hub_unlock(hub);
}

hub_counts hub_count(struct hub *hub) {
  hub_lock(hub);
  hub_counts counts = {
      .topics = hub->topics.count,
      .subscribers = hub->subscribers,
      .history_messages = hub->history_messages,
      .history_bytes = hub->history_bytes,
      .releases = hub->release,
  };
  hub_unlock(hub);
  return counts;
}

/* --- for topic.c --- */

hub_result hub_can_join(struct hub *hub, slice name, size_t *new_topics) {
  struct hub_topic *topic = find_topic(hub, name, clock_now_ms());
  uint64_t max_subscribers = topic != NULL ? topic->policy.max_subscribers
                                           : policies_find(hub->policies, name).max_subscribers;
  if ((topic != NULL ? topic->subscribers : 0) >= max_subscribers) return HUB_FULL;
  if (topic != NULL) return HUB_OK;
  ++*new_topics;
  return hub->topics.count + *new_topics <= hub->options.max_topics ? HUB_OK : HUB_LIMIT;
}

hub_result hub_join(struct hub *hub, size_t worker, slice name, struct hub_topic **topic) {
  if (!hub_topic_name_is_valid(name)) return HUB_BAD_TOPIC;
  size_t new_topics = 0;
  hub_result result = hub_can_join(hub, name, &new_topics);
  if (result != HUB_OK) return result;
  uint64_t now_ms = clock_now_ms();
  struct hub_topic *joined = find_topic(hub, name, now_ms);
  if (joined == NULL) joined = make_topic(hub, name, now_ms);
  joined->had_subscribers = true;
  joined->subscribers++;
  joined->workers |= one_bit << worker;
  joined->slots[worker].subscribers++;
  hub->subscribers++;
  *topic = joined;
  return HUB_OK;
}

void hub_leave(struct hub *hub, size_t worker, struct hub_topic *topic) {
  REQUIRE(topic->slots[worker].subscribers > 0);
  follow_policies(hub, topic);
  hub->subscribers--;
  topic->subscribers--;
  if (--topic->slots[worker].subscribers == 0) topic->workers &= ~(one_bit << worker);
  if (topic->subscribers > 0) return;
  topic->idle_since_ms = clock_now_ms();
  forget_if_over(hub, topic, topic->idle_since_ms);
}
