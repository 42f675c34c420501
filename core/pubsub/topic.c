#include "pubsub/topic.h"

#include "base/clock.h"
#include "base/mem.h"

/* A batch that grew beyond this in a burst gives its memory back. */
enum { KEPT_BATCH_ENTRIES = 4096 };

/* How far a fan-out looks ahead: a delivery takes some 20 ns, memory that is far away 100. */
enum { PLACES_AHEAD = 6 };

/* A fan-out to more looks at the clock after so many. */
enum { PLACES_A_CHECK = 1024 };

void topics_init(struct topics *topics, struct hub *hub, size_t worker) {
  *topics = (struct topics){.hub = hub, .inbox = hub_inbox(hub, worker), .worker = worker};
  map_init(&topics->by_name);
}

static bool batch_is_empty(const struct topics *topics) {
  return topics->batch.next == topics->batch.count;
}

void topics_deinit(struct topics *topics) {
  REQUIRE(topics->subscription_count == 0 && topics->topic_count == 0);
  struct inbox_batch *batch = &topics->batch;
  for (; batch->next < batch->count; batch->next++) {
    inbox_entry entry = batch->entries[batch->next];
    if (entry.message != NULL) {
      message_release(entry.message);
    } else if (entry.task == NULL) {
      hub_topic_release(entry.context);
    }
  }
  mem_free(batch->entries);
  map_deinit(&topics->by_name);
  *topics = (struct topics){0};
}

/* --- taking --- */

/* Under the lock, after an overrun: all topics are joined again at one cut. Everything up to the
 * last publication that was pushed is in the batch, so the cut begins there. */
static struct cut *rejoin(struct topics *topics, size_t taken_from) {
  struct inbox_batch *batch = &topics->batch;
  uint64_t release = topics->last_release;
  for (size_t i = batch->count; i-- > taken_from;) {
    if (batch->entries[i].message == NULL) continue;
    release = batch->entries[i].message->release;
    break;
  }
  struct cut *cut = cut_new(topics->topic_count);
  for (struct map_entry *entry = map_next(&topics->by_name, NULL); entry != NULL;
       entry = map_next(&topics->by_name, entry)) {
    struct topic *topic = MAP_OWNER(entry, struct topic, entry);
    if (hub_cut_after_release(topics->hub, topic->hub_topic, release, cut)) continue;
    hub_topic_retain(topic->hub_topic);
    inbox_batch_push(batch, (inbox_entry){.context = topic->hub_topic});
  }
  return cut;
}

/* Under the lock: takes the inbox over. Returns what an overrun left to be taken from the
 * histories, or NULL; it is for finish_take. */
static struct cut *begin_take(struct topics *topics) {
  bool was_overrun = topics->inbox->is_overrun;
  size_t taken_from = batch_is_empty(topics) ? 0 : topics->batch.count;
  inbox_take(topics->inbox, &topics->batch);
  struct cut *cut = was_overrun ? rejoin(topics, taken_from) : NULL;
  topics->last_release = hub_release_now(topics->hub);
  topics->taken_position = hub_position_now(topics->hub);
  return cut;
}

/* After the lock. */
static void finish_take(struct topics *topics, struct cut *cut) {
  if (cut == NULL) return;
  struct message *message;
  while ((message = cut_next(cut)) != NULL) {
    inbox_batch_push(&topics->batch, (inbox_entry){.message = message_retain(message)});
  }
  cut_free(cut);
}

static void take(struct topics *topics) {
  hub_lock(topics->hub);
  struct cut *cut = begin_take(topics);
  hub_unlock(topics->hub);
  finish_take(topics, cut);
}

/* --- handing over --- */

static void deliver_to(const topic_place *place, const topic_place *end, struct message *message) {
  uint64_t except_id = message->except_id;
  for (; place < end; place++) {
    /* Subscribers are strewn over the heap: each is asked for while others are dealt with. */
    if (place + PLACES_AHEAD < end) __builtin_prefetch(place[PLACES_AHEAD].subscriber, 1);
    struct subscriber *subscriber = place->subscriber;
    if (subscriber->id == except_id) continue;
    subscriber->ops->deliver(subscriber, place->tag, message);
  }
}

/* To those who have not had it yet, until the deadline. Whether all have. */
static bool fan_out(struct topics *topics, struct message *message, uint64_t deadline_ns) {
  const struct topic *topic = hub_topic_local(message->topic, topics->worker);
  if (topic == NULL) return true;
  size_t at = topics->fan_at;
  while (deadline_ns > 0 && topic->count - at > PLACES_A_CHECK) {
    deliver_to(topic->places + at, topic->places + at + PLACES_A_CHECK, message);
    at += PLACES_A_CHECK;
    topics->fan_at = at;
    if (clock_real_ns() >= deadline_ns) return false;
  }
  deliver_to(topic->places + at, topic->places + topic->count, message);
  topics->fan_at = 0;
  return true;
}

static void tell_lost(struct topics *topics, const struct hub_topic *hub_topic) {
  struct topic *topic = hub_topic_local(hub_topic, topics->worker);
  if (topic == NULL) return;
  for (size_t i = 0; i < topic->count; i++) {
    struct subscriber *subscriber = topic->places[i].subscriber;
    subscriber->ops->lost(subscriber, topic->places[i].tag);
  }
}

/* Whether all of it is handed over; else it is to be called again, before anything else of the
 * batch is. */
static bool hand_over(struct topics *topics, inbox_entry entry, uint64_t deadline_ns) {
  bool is_done = true;
  topics->is_fanning_out = true;
  if (entry.message == NULL) {
    tell_lost(topics, entry.context);
    hub_topic_release(entry.context);
  } else if (fan_out(topics, entry.message, deadline_ns)) {
    for (int i = 0; i < MESSAGE_LOGS; i++) topics->position.heads[i] = entry.message->heads[i];
    message_release(entry.message);
  } else {
    is_done = false;
  }
  topics->is_fanning_out = false;
  return is_done;
}

static void finish_batch(struct topics *topics) {
  struct inbox_batch *batch = &topics->batch;
  if (!batch_is_empty(topics)) return;
  topics->position = topics->taken_position;
  batch->next = batch->count = batch->tasks_end = 0;
  if (batch->capacity > KEPT_BATCH_ENTRIES) {
    mem_free(batch->entries);
    *batch = (struct inbox_batch){0};
  }
}

/* Hands over every message of the batch and moves the tasks together, in their order. */
static void hand_over_messages(struct topics *topics) {
  struct inbox_batch *batch = &topics->batch;
  size_t kept = batch->tasks_end > batch->next ? batch->tasks_end : batch->next;
  for (size_t i = kept; i < batch->count; i++) {
    inbox_entry entry = batch->entries[i];
    if (entry.task != NULL) {
      batch->entries[kept++] = entry;
    } else {
      hand_over(topics, entry, 0);
    }
  }
  batch->count = batch->tasks_end = kept;
  topics->position = topics->taken_position;
  finish_batch(topics);
}

/* What has stopped in the middle stands first in the batch. */
void topics_end_fan_out(struct topics *topics) {
  if (topics->fan_at == 0 || topics->is_fanning_out) return;
  hand_over(topics, topics->batch.entries[topics->batch.next], 0);
  topics->batch.next++;
  finish_batch(topics);
}

void topics_catch_up(struct topics *topics) {
  if (topics->is_fanning_out) return;
  if (inbox_is_filled(topics->inbox)) take(topics);
  if (!batch_is_empty(topics)) hand_over_messages(topics);
}

void topics_refresh(struct topics *topics) {
  if (topics->is_fanning_out) return;
  take(topics);
  hand_over_messages(topics);
}

bool topics_has_waiting(struct topics *topics) {
  return !batch_is_empty(topics) || inbox_is_filled(topics->inbox);
}

bool topics_drain(struct topics *topics, uint64_t deadline_ns) {
  if (topics->is_draining || topics->is_fanning_out) {
    topics_catch_up(topics);
    return topics_has_waiting(topics);
  }
  topics->is_draining = true;
  if (inbox_is_filled(topics->inbox)) take(topics);
  struct inbox_batch *batch = &topics->batch;
  /* A task may hand over what is behind it, and take more: only the cursor is trusted. */
  while (!batch_is_empty(topics)) {
    inbox_entry entry = batch->entries[batch->next];
    if (entry.task != NULL) {
      batch->next++;
      entry.task(entry.context);
    } else if (hand_over(topics, entry, deadline_ns)) {
      batch->next++;
    }
    if (deadline_ns > 0 && clock_real_ns() >= deadline_ns) break;
  }
  finish_batch(topics);
  topics->is_draining = false;
  return topics_has_waiting(topics);
}

/* --- subscribing and leaving --- */

static struct topic *find_topic(const struct topics *topics, slice name) {
  struct map_entry *entry = map_find(&topics->by_name, name);
  return entry != NULL ? MAP_OWNER(entry, struct topic, entry) : NULL;
}

static struct subscription *find_subscription(const struct subscriber *subscriber,
                                              const struct topic *topic) {
  struct subscription *subscription = subscriber->subscriptions;
  while (subscription != NULL && subscription->topic != topic) subscription = subscription->next;
  return subscription;
}

struct subscription *topics_find(struct topics *topics, struct subscriber *subscriber, slice name) {
  struct topic *topic = find_topic(topics, name);
  if (topic == NULL) return NULL;
  /* Both indexes know; the shorter one is asked. */
  if (topic->count < subscriber->subscription_count) {
    size_t i = 0;
    while (i < topic->count && topic->places[i].subscriber != subscriber) i++;
    if (i == topic->count) return NULL;
  }
  return find_subscription(subscriber, topic);
}

/* The worker's topic of a hub topic that was joined, made for its first subscription. */
static struct topic *local_topic(struct topics *topics, struct hub_topic *hub_topic) {
  struct topic *topic = hub_topic_local(hub_topic, topics->worker);
  if (topic != NULL) return topic;
  topic = mem_alloc_zero(sizeof *topic);
  hub_topic_retain(hub_topic);
  topic->hub_topic = hub_topic;
  hub_topic_set_local(hub_topic, topics->worker, topic);
  map_insert(&topics->by_name, &topic->entry, hub_topic_name(hub_topic));
  topics->topic_count++;
  return topic;
}

static void enter(struct topics *topics, struct hub_topic *hub_topic, struct subscriber *subscriber,
                  uint32_t tag) {
  struct topic *topic = local_topic(topics, hub_topic);
  struct subscription *subscription = mem_alloc(sizeof *subscription);
  *subscription = (struct subscription){
      .topic = topic, .next = subscriber->subscriptions, .place = topic->count};
  if (topic->count == topic->capacity) {
    topic->capacity = topic->capacity > 0 ? topic->capacity * 2 : 4;
    topic->places = mem_realloc(topic->places, topic->capacity * sizeof *topic->places);
  }
  topic->places[topic->count++] = (topic_place){subscriber, tag};
  subscriber->subscriptions = subscription;
  subscriber->subscription_count++;
  topics->subscription_count++;
}

/* What one call of topics_subscribe does with each of its names. */
struct joining {
  struct map_entry entry;
  struct hub_topic *topic; /* NULL: nothing to join */
  size_t same_as;          /* index of the name's first place in the list */
};

static void find_new(struct topics *topics, struct subscriber *subscriber, const slice *names,
                     size_t count, struct joining *joining, subscribe_result *results) {
  struct map seen;
  map_init(&seen);
  for (size_t i = 0; i < count; i++) {
    joining[i] = (struct joining){.same_as = i};
    struct map_entry *first = map_find(&seen, names[i]);
    if (first != NULL) {
      joining[i].same_as = (size_t)(MAP_OWNER(first, struct joining, entry) - joining);
    } else {
      map_insert(&seen, &joining[i].entry, names[i]);
    }
    bool was_subscribed = topics_find(topics, subscriber, names[i]) != NULL;
    results[i] = (subscribe_result){was_subscribed, true};
  }
  map_deinit(&seen);
}

static bool is_new(const struct joining *joining, const subscribe_result *results, size_t i) {
  return joining[i].same_as == i && !results[i].was_subscribed;
}

/* Under the lock: joins all topics that are new to the subscriber, or none, and cuts them. */
static hub_result join_all(struct topics *topics, const slice *names, size_t count,
                           const hub_start *start, struct joining *joining,
                           subscribe_result *results, struct cut *replay) {
  size_t new_topics = 0;
  for (size_t i = 0; i < count; i++) {
    if (!is_new(joining, results, i)) continue;
    hub_result result = hub_can_join(topics->hub, names[i], &new_topics);
    if (result != HUB_OK) return result;
  }
  for (size_t i = 0; i < count; i++) {
    if (!is_new(joining, results, i)) continue;
    REQUIRE(hub_join(topics->hub, topics->worker, names[i], &joining[i].topic) == HUB_OK);
    results[i].is_complete = hub_cut(topics->hub, joining[i].topic, start, replay);
  }
  return HUB_OK;
}

hub_result topics_subscribe(struct topics *topics, struct subscriber *subscriber,
                            const slice *names, size_t count, const hub_start *start, uint32_t tag,
                            subscribe_result *results, struct cut **replay,
                            hub_position *position) {
  REQUIRE(!topics->is_fanning_out);
  for (size_t i = 0; i < count; i++) {
    if (!hub_topic_name_is_valid(names[i])) return HUB_BAD_TOPIC;
  }
  struct joining *joining = mem_alloc(count * sizeof *joining);
  find_new(topics, subscriber, names, count, joining, results);
  struct cut *cut = cut_new(count);

  hub_lock(topics->hub);
  struct cut *overrun = begin_take(topics);
  hub_result result = join_all(topics, names, count, start, joining, results, cut);
  *position = hub_position_now(topics->hub);
  hub_unlock(topics->hub);

  /* What was released before the cut goes to those subscribed before it. To the new subscription it
   * comes in the replay or not at all, so that is entered only afterwards. */
  finish_take(topics, overrun);
  hand_over_messages(topics);
  for (size_t i = 0; result == HUB_OK && i < count; i++) {
    if (joining[i].topic != NULL) enter(topics, joining[i].topic, subscriber, tag);
    results[i] = results[joining[i].same_as];
  }
  mem_free(joining);
  if (result != HUB_OK || cut_is_empty(cut)) {
    cut_free(cut);
    cut = NULL;
  }
  *replay = cut;
  return result;
}

/* Out of both indexes; the hub was told. */
static void end(struct topics *topics, struct subscriber *subscriber,
                struct subscription *subscription) {
  struct topic *topic = subscription->topic;
  topic_place last = topic->places[topic->count - 1];
  find_subscription(last.subscriber, topic)->place = subscription->place;
  topic->places[subscription->place] = last;
  topic->count--;

  struct subscription **at = &subscriber->subscriptions;
  while (*at != subscription) at = &(*at)->next;
  *at = subscription->next;
  subscriber->subscription_count--;
  topics->subscription_count--;
  mem_free(subscription);
  if (topic->count > 0) return;

  map_remove(&topics->by_name, &topic->entry);
  topics->topic_count--;
  hub_topic_set_local(topic->hub_topic, topics->worker, NULL);
  hub_topic_release(topic->hub_topic);
  mem_free(topic->places);
  mem_free(topic);
}

bool topics_unsubscribe(struct topics *topics, struct subscriber *subscriber, slice name) {
  REQUIRE(!topics->is_fanning_out);
  topics_catch_up(topics);
  struct subscription *subscription = topics_find(topics, subscriber, name);
  if (subscription == NULL) return false;
  hub_lock(topics->hub);
  hub_leave(topics->hub, topics->worker, subscription->topic->hub_topic);
  hub_unlock(topics->hub);
  end(topics, subscriber, subscription);
  return true;
}

void topics_unsubscribe_all(struct topics *topics, struct subscriber *subscriber) {
  REQUIRE(!topics->is_fanning_out);
  if (subscriber->subscriptions == NULL) return;
  topics_end_fan_out(topics);
  hub_lock(topics->hub);
  for (struct subscription *subscription = subscriber->subscriptions; subscription != NULL;
       subscription = subscription->next) {
    hub_leave(topics->hub, topics->worker, subscription->topic->hub_topic);
  }
  hub_unlock(topics->hub);
  while (subscriber->subscriptions != NULL) end(topics, subscriber, subscriber->subscriptions);
}
