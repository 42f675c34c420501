/* What hub.c and hub_keep.c share: the structs behind hub.h, and what is kept.
 *
 * Everything here is used under the hub's lock, except where a member says otherwise. */
#ifndef PERIGEE_PUBSUB_HUB_INTERNAL_H
#define PERIGEE_PUBSUB_HUB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "pubsub/hub.h"
#include "pubsub/log_memory.h"

/* A worker's place in a topic. */
struct hub_slot {
  struct topic *local; /* that worker's alone, no lock */
  uint64_t subscribers;
};

/* In the registry (one reference) while it has subscribers or history. A topic that is forgotten
 * leaves its mark to the log and lives on, unregistered, for the messages that name it. */
struct hub_topic {
  atomic_uint references;
  slice name; /* behind the slots; constant */
  struct map_entry entry;
  struct list by_sweep;       /* in hub->by_sweep while registered */
  struct list by_publication; /* in hub->by_publication while it has history */
  struct hub_topic *next_forgotten;
  topic_policy policy;
  uint64_t policy_round; /* the hub's when the policy was looked up */
  struct history history;
  uint64_t mark;         /* highest number lost from it */
  uint64_t lost_release; /* latest release that an overrun worker cannot get back */
  uint64_t workers;      /* bit n: worker n has subscribers */
  uint64_t subscribers;  /* on all workers */
  bool had_subscribers;
  uint64_t idle_since_ms; /* last one left; while it never had one, last publication */
  struct hub_slot slots[];
};

struct hub {
  pthread_mutex_t lock;
  hub_options options;
  struct policies *policies;
  uint64_t policy_round; /* counts the changes of the policies */
  struct log_memory log;
  hub_log_state log_state;
  struct list commits; /* the longest waiting first; none unless the log stalls */
  uint64_t release;    /* of the newest publication */
  struct map topics;
  struct list by_sweep;       /* all topics, the one looked at longest ago first */
  struct list by_publication; /* topics with history, the least recently published first */
  struct trash trash;         /* what hub_unlock releases */
  struct hub_topic *forgotten;
  uint64_t subscribers;
  uint64_t history_messages;
  uint64_t history_bytes;
  struct inbox inboxes[];
};

/* --- hub.c --- */

/* Takes a topic without subscribers out of the registry; its history is lost. It stays valid until
 * hub_unlock. */
void hub_forget(struct hub *hub, struct hub_topic *topic);

/* hub_publish, hub_clear and hub_remove, of a topic's name that is valid. */
hub_result hub_publish_locked(struct hub *hub, size_t worker, slice name, struct message *message,
                              hub_receipt *receipt);
hub_result hub_clear_locked(struct hub *hub, slice name, hub_position *position);
hub_result hub_remove_locked(struct hub *hub, slice name, uint64_t number, bool *was_kept);

/* --- hub_commit.c --- */

static inline hub_result hub_judge_log(const struct hub *hub) {
  if (__builtin_expect(hub->log_state == HUB_LOG_WORKS, 1)) return HUB_OK;
  return hub->log_state == HUB_LOG_FAILS ? HUB_LOG_FAILED : HUB_LOG_STALLED;
}
/* Moves this worker's commits to `taken`, for hub_fail_commits. */
void hub_take_commits(struct hub *hub, size_t worker, struct list *taken);
/* Not under the lock. */
void hub_fail_commits(struct list *taken);

/* --- hub_keep.c --- */

static inline bool hub_has_passed(uint64_t since_ms, uint64_t period_ms, uint64_t now_ms) {
  return now_ms >= since_ms && now_ms - since_ms >= period_ms;
}

/* Whether a publication of this cost may be kept where the policy refuses. `topic` may be NULL: it
 * does not exist yet. */
bool hub_keep_has_room(const struct hub_topic *topic, const topic_policy *policy, size_t cost,
                       bool is_clearing);
/* Appends a numbered message, trims the topic to its policy and all topics to the hub's limit. */
void hub_keep_append(struct hub *hub, struct hub_topic *topic, struct message *message);
/* Drops all that is kept. */
void hub_keep_clear(struct hub *hub, struct hub_topic *topic);
/* Drops the oldest until the topic's policy holds. */
void hub_keep_trim(struct hub *hub, struct hub_topic *topic);
/* Drops what is past its age. */
void hub_keep_expire(struct hub *hub, struct hub_topic *topic, uint64_t now_ms);
bool hub_keep_remove(struct hub *hub, struct hub_topic *topic, uint64_t number);
/* Whether `start` has a since from which a topic with this policy and mark is complete. */
bool hub_keep_is_complete(const struct hub *hub, const topic_policy *policy, uint64_t mark,
                          const hub_start *start);

#endif
