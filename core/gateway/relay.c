#include "gateway/relay.h"

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/worker.h"

static void publish(struct conn *conn, slice topic, slice data, bool is_binary, relaying how) {
  uint64_t id = conn->subscriber.id;
  publish_options options = {
      .event = {"", 0},
      .origin_id = id,
      .except_id = how == RELAY_TO_OTHERS ? id : 0,
      .is_binary = is_binary,
  };
  hub_receipt receipt;
  if (worker_publish(conn->worker, topic, data, &options, &receipt) != HUB_OK) {
    log_debug("connection %llu: what it sent was refused by its topic", (unsigned long long)id);
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
