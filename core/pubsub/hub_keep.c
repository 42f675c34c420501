/* What topics keep: bounds by count, bytes and age, the hub's bound over all, and cuts. */
#include "base/clock.h"
#include "pubsub/hub_internal.h"

/* Every change of a history stands between these two, so that the hub's sums and its list of
 * topics with history follow. */
static void begin_change(struct hub *hub, struct hub_topic *topic) {
  hub->history_messages -= topic->history.count;
  hub->history_bytes -= topic->history.total_bytes;
}

static void end_change(struct hub *hub, struct hub_topic *topic) {
  hub->history_messages += topic->history.count;
  hub->history_bytes += topic->history.total_bytes;
  if (topic->history.count == 0) list_remove(&topic->by_publication);
}

static void note_lost(struct hub_topic *topic, const struct message *message) {
  if (message->number > topic->mark) topic->mark = message->number;
  if (message->release > topic->lost_release) topic->lost_release = message->release;
}

static void drop_oldest(struct hub *hub, struct hub_topic *topic) {
  begin_change(hub, topic);
  note_lost(topic, history_peek(&topic->history));
  history_drop_oldest(&topic->history, &hub->trash);
  end_change(hub, topic);
}

void hub_keep_clear(struct hub *hub, struct hub_topic *topic) {
  const struct message *newest = history_peek_newest(&topic->history);
  if (newest == NULL) return;
  begin_change(hub, topic);
  note_lost(topic, newest);
  history_clear(&topic->history, &hub->trash);
  end_change(hub, topic);
}

void hub_keep_trim(struct hub *hub, struct hub_topic *topic) {
  while (topic->history.count > topic->policy.history_count ||
         topic->history.total_bytes > topic->policy.history_bytes) {
    drop_oldest(hub, topic);
  }
}

void hub_keep_expire(struct hub *hub, struct hub_topic *topic, uint64_t now_ms) {
  const struct message *oldest;
  while ((oldest = history_peek(&topic->history)) != NULL &&
         hub_has_passed(oldest->published_ms, topic->policy.age_ms, now_ms)) {
    drop_oldest(hub, topic);
  }
}

bool hub_keep_remove(struct hub *hub, struct hub_topic *topic, uint64_t number) {
  begin_change(hub, topic);
  bool was_kept = history_remove(&topic->history, number, &hub->trash);
  end_change(hub, topic);
  return was_kept;
}

bool hub_keep_has_room(const struct hub_topic *topic, const topic_policy *policy, size_t cost,
                       bool is_clearing) {
  size_t count = topic == NULL || is_clearing ? 0 : topic->history.count;
  size_t bytes = topic == NULL || is_clearing ? 0 : topic->history.total_bytes;
  return count < policy->history_count && cost <= policy->history_bytes &&
         bytes <= policy->history_bytes - cost;
}

/* The topic that was published to longest ago gives first: who speaks keeps its history. */
static void evict(struct hub *hub, const struct hub_topic *publishing) {
  while (hub->history_bytes > hub->options.max_history_bytes) {
    struct hub_topic *topic =
        LIST_OWNER(list_peek(&hub->by_publication), struct hub_topic, by_publication);
    drop_oldest(hub, topic);
    if (topic->history.count == 0 && topic->subscribers == 0 && topic != publishing) {
      hub_forget(hub, topic);
    }
  }
}

void hub_keep_append(struct hub *hub, struct hub_topic *topic, struct message *message) {
  size_t cost = message_cost_bytes(message);
  if (cost > topic->policy.history_bytes || cost > hub->options.max_history_bytes) {
    /* It would push out everything and then itself. It is lost at once, and so is what came
     * before it, since a history has no gaps; other topics keep theirs. */
    hub_keep_clear(hub, topic);
    note_lost(topic, message);
    return;
  }
  begin_change(hub, topic);
  history_append(&topic->history, message);
  list_remove(&topic->by_publication);
  list_insert(&hub->by_publication, &topic->by_publication);
  end_change(hub, topic);
  hub_keep_trim(hub, topic);
  evict(hub, topic);
}

bool hub_keep_is_complete(const struct hub *hub, const topic_policy *policy, uint64_t mark,
                          const hub_start *start) {
  return start->has_since && start->is_since_known && policy->history_count > 0 &&
         start->since_number <= hub->log.head && start->since_number >= hub->log.floor &&
         start->since_number >= mark && start->since_number >= policy->kept_since;
}

bool hub_cut(struct hub *hub, struct hub_topic *topic, const hub_start *start, struct cut *cut) {
  hub_keep_expire(hub, topic, clock_now_ms());
  if (hub_keep_is_complete(hub, &topic->policy, topic->mark, start)) {
    cut_add_after_number(cut, &topic->history, start->since_number);
    return true;
  }
  switch (start->from) {
    case HUB_FROM_NOW:
      break;
    case HUB_FROM_START:
      cut_add(cut, &topic->history, 0, SIZE_MAX);
      break;
    case HUB_FROM_NEWEST:
      cut_add(cut, &topic->history, 0, start->from_count);
      break;
  }
  return !start->has_since;
}

bool hub_cut_after_release(struct hub *hub, struct hub_topic *topic, uint64_t release,
                           struct cut *cut) {
  hub_keep_expire(hub, topic, clock_now_ms());
  if (topic->lost_release > release) return false;
  cut_add(cut, &topic->history, release, SIZE_MAX);
  return true;
}
