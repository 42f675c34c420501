/* The process-wide registry of topics: orders, numbers, keeps and hands out publications.
 *
 * One lock. Under it: pointer work only; no I/O, no encoding, no freeing of messages, no
 * allocation of payloads. Any thread. A worker's own view (who subscribes on it) is topic.h; the
 * hub knows only which workers want a topic and how many subscribers each has. */
#ifndef PERIGEE_PUBSUB_HUB_H
#define PERIGEE_PUBSUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "pubsub/history.h"
#include "pubsub/inbox.h"
#include "pubsub/message.h"
#include "pubsub/policy.h"

enum { HUB_WORKERS = 64, HUB_TOPIC_NAME_BYTES = 255 };

struct hub;
struct hub_topic; /* counted; one per name while it has subscribers, history or holders */
struct topic;     /* a worker's topic: topic.h */

typedef struct {
  size_t worker_count; /* 1 to HUB_WORKERS */
  size_t max_topics;
  size_t max_history_bytes; /* of all topics together */
  size_t max_inbox_entries;
  size_t max_inbox_bytes;
  size_t max_marks;
} hub_options;

typedef enum {
  HUB_OK = 0,
  HUB_BAD_TOPIC = -1,   /* not a topic name: "topic" */
  HUB_FULL = -2,        /* history refuses, or max_subscribers reached: "full" */
  HUB_LIMIT = -3,       /* too many topics in all: "limit" */
  HUB_LOG_FAILED = -4,  /* the log cannot keep it: "log" */
  HUB_LOG_STALLED = -5, /* the log takes nothing for now: hub_commit waits until it does */
} hub_result;

/* The heads of all logs: a position, before codec/position.h makes text of it. Entry 0 is the
 * memory log's. */
typedef struct {
  uint64_t heads[MESSAGE_LOGS];
} hub_position;

struct hub *hub_new(const hub_options *options);
/* All workers detached, all subscriptions gone. */
void hub_free(struct hub *hub);

/* The memory log's epoch, constant for the hub's life; LOG_EPOCH_CHARS characters, no NUL. */
const char *hub_epoch(const struct hub *hub);

/* 1 to 255 bytes of UTF-8 without control characters and without "*". */
bool hub_topic_name_is_valid(slice name);
slice hub_topic_name(const struct hub_topic *topic);

/* Takes ownership of `policies`; they hold at once, for living topics too. What no longer fits goes
 * when a topic is next touched, hub_sweep at the latest: the lock is held for a moment, however
 * many topics there are. NULL: none. One thread's. */
void hub_set_policies(struct hub *hub, struct policies *policies);

/* A worker comes: from now on tasks and wanted publications are pushed into its inbox. `wake` is
 * called under the lock by other threads and must only signal. */
void hub_attach(struct hub *hub, size_t worker, void (*wake)(void *context), void *context);
/* It goes: nothing is pushed any more. Publications left in the inbox are released; tasks stay for
 * a last topics_drain, so that their contexts find somebody who frees them; its commits fail. */
void hub_detach(struct hub *hub, size_t worker);
/* Queues a task in the worker's inbox, in order with publications. False when not attached. */
bool hub_post(struct hub *hub, size_t worker, inbox_task task, void *context);

typedef struct {
  hub_position position;
  bool is_kept;
  uint64_t receivers; /* subscribers on all workers; `except` not taken off */
} hub_receipt;

/* Releases a message, which was not published before, to all who subscribe. `worker` is the
 * publisher's (its inbox is not woken; it drains itself), HUB_WORKERS for other threads. The caller
 * keeps its reference. Fails without effect. MESSAGE_SIGNAL goes to subscribers only and is never
 * kept; MESSAGE_CLEAR empties first, in the same step (and with `full = "refuse"` makes the room it
 * then takes). */
hub_result hub_publish(struct hub *hub, size_t worker, slice topic, struct message *message,
                       hub_receipt *receipt);

/* Empties a topic's history and takes a number, so that older positions are incomplete. A live-only
 * topic has nothing to empty and takes none. */
hub_result hub_clear(struct hub *hub, slice topic, hub_position *position);
/* Removes the publication with this number of the memory log. `*was_kept`: whether it was there. */
hub_result hub_remove(struct hub *hub, slice topic, uint64_t number, bool *was_kept);

/* What waits for its log: nobody is told of it before the log has taken it. */
struct commit {
  struct list link;
  struct message *message; /* to be published; NULL: what is kept is cleared ... */
  uint64_t number;         /* ... this publication of it; 0: all */
  char *topic;             /* mem_copy */
  size_t worker;
  void (*on_done)(struct commit *commit);
  hub_result result;
  hub_receipt receipt;
  bool was_kept; /* the publication that was to be removed was there */
};
/* Does that when the log takes it, behind what waits already, then tells on_done as a task of its
 * worker; when that detaches earlier nothing is done, and hub_detach tells it, with HUB_LOG_FAILED.
 * Takes over `message` and `topic`; the commit itself is the hub's until on_done. */
void hub_commit(struct hub *hub, struct commit *commit);

/* For tests: the memory log takes everything at once, until it is told to fail or to stall. What
 * waits goes on, or fails, when it stalls no more. Any thread. */
typedef enum { HUB_LOG_WORKS, HUB_LOG_FAILS, HUB_LOG_STALLS } hub_log_state;
void hub_set_log_state(struct hub *hub, hub_log_state state);
/* Subscribers on all workers; 0 for a topic that does not exist. */
uint64_t hub_subscribers(struct hub *hub, slice topic);

/* From where a replay begins. */
typedef enum { HUB_FROM_NOW, HUB_FROM_START, HUB_FROM_NEWEST } hub_from;
typedef struct {
  bool has_since;        /* a position was given at all */
  bool is_since_known;   /* it has a part of the memory log's epoch */
  uint64_t since_number; /* that part's number */
  hub_from from;         /* when there is no usable since */
  uint64_t from_count;   /* HUB_FROM_NEWEST: how many */
} hub_start;

/* History of one topic: a cut (the caller frees it; may be empty, never NULL on success), the
 * position of the cut, and whether nothing after `since` was lost. With an unusable since the
 * start's `from` holds. */
hub_result hub_history(struct hub *hub, slice topic, const hub_start *start, struct cut **cut,
                       hub_position *position, bool *is_complete);

/* Drops what is past its age, forgets topics past their linger; a period is over when exactly that
 * much time has passed. The main thread calls it about
 * once a second; every other call judges the topic it touches exactly by the clock, so this only
 * gives memory back. */
void hub_sweep(struct hub *hub);

typedef struct {
  uint64_t topics;
  uint64_t subscribers;
  uint64_t history_messages;
  uint64_t history_bytes;
  uint64_t releases;
} hub_counts;
hub_counts hub_count(struct hub *hub);

/* --- for topic.c: a worker's side --- */

/* Locks; every call below up to hub_unlock holds. What a locked step drops is released by
 * hub_unlock after the lock. */
void hub_lock(struct hub *hub);
void hub_unlock(struct hub *hub);
struct inbox *hub_inbox(struct hub *hub, size_t worker);
hub_position hub_position_now(struct hub *hub);
uint64_t hub_release_now(struct hub *hub);

/* Whether hub_join would succeed. Adds 1 to `*new_topics` when it would make the topic; what the
 * caller counted there before is taken into account, so that several can be asked for at once. */
hub_result hub_can_join(struct hub *hub, slice name, size_t *new_topics);
/* Finds or makes the topic and counts one more subscriber of this worker. HUB_OK or an error. */
hub_result hub_join(struct hub *hub, size_t worker, slice name, struct hub_topic **topic);
/* One subscriber of this worker less; the last one out lets a topic without history go. */
void hub_leave(struct hub *hub, size_t worker, struct hub_topic *topic);
/* Adds what `start` asks for to the cut; returns whether nothing after `since` was lost. */
bool hub_cut(struct hub *hub, struct hub_topic *topic, const hub_start *start, struct cut *cut);
/* After an overrun: adds everything released after `release`. False when some of it is lost (a
 * publication that is not kept, too): then nothing is added. */
bool hub_cut_after_release(struct hub *hub, struct hub_topic *topic, uint64_t release,
                           struct cut *cut);

/* The worker's own topic of this hub topic; only that worker reads and writes its place. */
struct topic *hub_topic_local(const struct hub_topic *topic, size_t worker);
void hub_topic_set_local(struct hub_topic *topic, size_t worker, struct topic *local);

void hub_topic_retain(struct hub_topic *topic);
void hub_topic_release(struct hub_topic *topic); /* not under the lock */

#endif
