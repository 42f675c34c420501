/* A worker's topics: who subscribes on this worker, and the handing over of its inbox.
 *
 * One `struct topics` per worker, used by its thread alone. Topics know no transport: they hand a
 * message to a `struct subscriber` through its table. A fan-out never runs script code, so nobody
 * subscribes or leaves while one walks.
 *
 * Publications are handed over by every function that says so; tasks are run by topics_drain
 * alone, one after the other, never one inside another. So a task, or a handler, may subscribe,
 * send and leave: publications that wait are then handed over ahead of the tasks between them, and
 * no script runs inside of what a script called. */
#ifndef PERIGEE_PUBSUB_TOPIC_H
#define PERIGEE_PUBSUB_TOPIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"
#include "pubsub/hub.h"
#include "pubsub/inbox.h"
#include "pubsub/message.h"

struct subscriber;
struct subscription;

/* How to hand something to somebody. Called while inboxes are handed over: these queue, they
 * neither write nor run a script nor subscribe or unsubscribe. */
struct subscriber_ops {
  /* One publication or signal of a subscription with this tag. The message is borrowed. Not called
   * for its except_id. */
  void (*deliver)(struct subscriber *subscriber, uint32_t tag, struct message *message);
  /* Publications of a subscription with this tag were lost (the worker's inbox was overrun and the
   * topic keeps too little). */
  void (*lost)(struct subscriber *subscriber, uint32_t tag);
};

/* Embedded in a connection. */
struct subscriber {
  const struct subscriber_ops *ops;
  uint64_t id; /* the connection's, unique in the process, never 0 */
  struct subscription *subscriptions;
  uint32_t subscription_count;
};

/* Who listens to what. Two indexes hold the same facts: topic->places and
 * subscriber->subscriptions. Both change in topic.c and nowhere else, so either can be walked
 * while the other is trusted. */
struct subscription {
  struct topic *topic;
  struct subscription *next; /* of the same subscriber */
  size_t place;              /* in topic->places */
};

/* A topic's side of a subscription: all that a fan-out reads, one behind the other. */
typedef struct {
  struct subscriber *subscriber;
  uint32_t tag; /* the subscriber's own: which encoding it wants, say */
} topic_place;

/* A worker's topic exists while it has subscriptions here. */
struct topic {
  struct map_entry entry;      /* in topics->by_name */
  struct hub_topic *hub_topic; /* one reference */
  topic_place *places;
  size_t count;
  size_t capacity;
};

struct topics {
  struct hub *hub;
  struct inbox *inbox;
  size_t worker;
  struct map by_name;       /* every struct topic of this worker */
  struct inbox_batch batch; /* taken from the inbox, not yet handed over */
  uint64_t last_release;    /* everything up to it was taken */
  hub_position taken_position;
  hub_position position; /* everything up to it was handed over: what a watermark may say */
  size_t fan_at; /* places that have had the batch's first entry, a publication; 0: none has */
  uint64_t topic_count;
  uint64_t subscription_count;
  bool is_draining;    /* a task may be running */
  bool is_fanning_out; /* a subscriber is being called */
};

void topics_init(struct topics *topics, struct hub *hub, size_t worker);
/* No subscription left. */
void topics_deinit(struct topics *topics);

/* Hands over what waits in the inbox: messages to subscribers, tasks are run. With a deadline
 * (clock_real_ns) it stops when that has passed, also in the middle of a large fan-out, which goes
 * on there; 0: never. Returns whether something is left. For the turn's end, not for handlers:
 * inside a task it does what topics_catch_up does. */
bool topics_drain(struct topics *topics, uint64_t deadline_ns);
/* Hands over the messages that wait and leaves the tasks: only queues, runs no script. What `send`,
 * `close` and the like do first ("drain before you touch"); an atomic look when nothing waits. */
void topics_catch_up(struct topics *topics);
/* Whether topics_drain would find something: one atomic load. */
bool topics_has_waiting(struct topics *topics);
/* Hands over the rest of a fan-out that has stopped in the middle: before somebody whose turn may
 * not have come takes no more, or a watermark is asked for. No effect inside of one. */
void topics_end_fan_out(struct topics *topics);
/* Like topics_catch_up, but takes the inbox even when it is empty, which brings `position` up to
 * the present. */
void topics_refresh(struct topics *topics);

typedef struct {
  bool was_subscribed; /* before: nothing changed, no replay */
  bool is_complete;    /* nothing after `since` was lost */
} subscribe_result;

/* Subscribes to `count` topics at one cut (one lock), all or none. First every message waiting is
 * handed to those subscribed before. `results` has one entry per name. `*replay` is a cut to be
 * replayed, NULL when there is nothing to replay. `*position` is the position of the cut. `tag`
 * goes into new subscriptions. The same name twice counts once. */
hub_result topics_subscribe(struct topics *topics, struct subscriber *subscriber,
                            const slice *names, size_t count, const hub_start *start, uint32_t tag,
                            subscribe_result *results, struct cut **replay, hub_position *position);

/* The subscription, or NULL. Borrowed. */
struct subscription *topics_find(struct topics *topics, struct subscriber *subscriber, slice name);
/* Hands over the messages that wait, then ends it. Whether there was one. */
bool topics_unsubscribe(struct topics *topics, struct subscriber *subscriber, slice name);
/* Ends all of them; hands nothing over but the rest of a fan-out that has stopped in the middle. */
void topics_unsubscribe_all(struct topics *topics, struct subscriber *subscriber);

static inline slice subscription_topic(const struct subscription *subscription) {
  return hub_topic_name(subscription->topic->hub_topic);
}

static inline uint32_t subscription_tag(const struct subscription *subscription) {
  return subscription->topic->places[subscription->place].tag;
}

#endif
