#include "gateway/relay.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/worker.h"

static void note_refusal(uint64_t conn_id) {
  log_debug("connection %llu: what it sent was refused by its topic", (unsigned long long)conn_id);
}

/* Relayed, while its log stalled. */
struct relayed {
  struct commit commit;
  uint64_t conn_id;
};

static void on_relayed(struct commit *commit) {
  struct relayed *relayed = CONTAINER_OF(commit, struct relayed, commit);
  if (commit->result != HUB_OK) note_refusal(relayed->conn_id);
  mem_free(relayed);
}

static void publish(struct conn *conn, slice topic, slice data, bool is_binary, relaying how) {
  uint64_t id = conn->subscriber.id;
  publish_options options = {
      .event = {"", 0},
      .origin_id = id,
      .except_id = how == RELAY_TO_OTHERS ? id : 0,
      .is_binary = is_binary,
  };
  hub_receipt receipt;
  int result = worker_publish(conn->worker, topic, data, &options, &receipt);
  if (result == HUB_LOG_STALLED) {
    struct relayed *relayed = mem_alloc(sizeof *relayed);
    *relayed = (struct relayed){.commit = {.on_done = on_relayed}, .conn_id = id};
    worker_publish_later(conn->worker, topic, data, &options, &relayed->commit);
  } else if (result != HUB_OK) {
    note_refusal(id);
  }
}

bool relay_message(struct conn *conn, slice data, bool is_binary) {
  conn->is_relaying = false;
  struct subscription *subscription = conn->subscriber.subscriptions;
  for (; subscription != NULL; subscription = subscription->next) {
    relaying how = (relaying)(subscription_tag(subscription) >> RELAY_TAG_SHIFT);
    if (how == RELAY_NONE) continue;
    conn->is_relaying = true;
    publish(conn, subscription_topic(subscription), data, is_binary, how);
  }
  return conn->is_relaying;
}
