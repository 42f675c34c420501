/* A client's messages to topics, without the script: conn:subscribe(topic, { relay = … }).
 *
 * Whether a subscription relays is in its tag, so there is no list to keep. Limits and rates come
 * before (ws_conn.h); waiting behind a suspended handler is conn_events.h's. */
#ifndef PERIGEE_GATEWAY_RELAY_H
#define PERIGEE_GATEWAY_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct conn;

typedef enum { RELAY_NONE, RELAY_TO_ALL, RELAY_TO_OTHERS } relaying;

/* A subscription's tag: an encoding_kind, and how it relays. */
enum { RELAY_TAG_ENCODING = 0xFF, RELAY_TAG_SHIFT = 8 };

static inline uint32_t relay_tag(uint32_t encoding, relaying how) {
  return encoding | (uint32_t)how << RELAY_TAG_SHIFT;
}

/* Publishes a message of the client to the topics of its relaying subscriptions. False: there is
 * none (any more), so it is on_message's. What a topic refuses is dropped. */
bool relay_message(struct conn *conn, slice data, bool is_binary);

#endif
