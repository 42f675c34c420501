#include "base/mem.h"
#include "pubsub/hub_internal.h"

/* On the commit's worker, or of one that has gone. */
static void finish(struct commit *commit) {
  if (commit->message != NULL) message_release(commit->message);
  mem_free(commit->topic);
  commit->on_done(commit);
}

static void on_committed(void *context) {
  finish(context);
}

static void run(struct hub *hub, struct commit *commit) {
  slice topic = slice_of_string(commit->topic);
  /* Before it publishes: a publisher's own worker is not woken by that, and it may be asleep. */
  struct inbox *inbox = hub_inbox(hub, commit->worker);
  bool was_empty = inbox->count == 0;
  if (commit->message != NULL) {
    commit->result =
        hub_publish_locked(hub, commit->worker, topic, commit->message, &commit->receipt);
  } else if (commit->number > 0) {
    commit->result = hub_remove_locked(hub, topic, commit->number, &commit->was_kept);
  } else {
    commit->result = hub_clear_locked(hub, topic, &commit->receipt.position);
  }
  inbox_push_task(inbox, on_committed, commit);
  if (was_empty) inbox->wake(inbox->wake_context);
}

void hub_commit(struct hub *hub, struct commit *commit) {
  hub_lock(hub);
  REQUIRE(hub_inbox(hub, commit->worker)->wake != NULL);
  if (hub->log_state == HUB_LOG_STALLS) {
    list_insert(&hub->commits, &commit->link);
  } else {
    run(hub, commit);
  }
  hub_unlock(hub);
}

void hub_set_log_state(struct hub *hub, hub_log_state state) {
  hub_lock(hub);
  hub->log_state = state;
  while (state != HUB_LOG_STALLS && !list_is_empty(&hub->commits)) {
    struct commit *commit = LIST_OWNER(list_peek(&hub->commits), struct commit, link);
    list_remove(&commit->link);
    run(hub, commit);
  }
  hub_unlock(hub);
}

void hub_take_commits(struct hub *hub, size_t worker, struct list *taken) {
  struct list *next;
  for (struct list *link = hub->commits.next; link != &hub->commits; link = next) {
    next = link->next;
    if (LIST_OWNER(link, struct commit, link)->worker != worker) continue;
    list_remove(link);
    list_insert(taken, link);
  }
}

void hub_fail_commits(struct list *taken) {
  struct list *link;
  while ((link = list_peek(taken)) != NULL) {
    struct commit *commit = LIST_OWNER(link, struct commit, link);
    list_remove(link);
    commit->result = HUB_LOG_FAILED;
    finish(commit);
  }
}
