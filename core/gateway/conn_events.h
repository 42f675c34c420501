/* A connection's events for its script: told one at a time, in order.
 *
 * While a handler is suspended they wait here, copied; the transport stops reading when there are
 * too many. Only conn.c and the transports' reading use it. */
#ifndef PERIGEE_GATEWAY_CONN_EVENTS_H
#define PERIGEE_GATEWAY_CONN_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct conn;
struct conn_event;

/* The events that wait; there only while some do. */
struct conn_events {
  struct conn_event *first;
  struct conn_event *last;
  uint32_t count;
  uint32_t bytes;
};

typedef enum { EVENT_OPEN, EVENT_MESSAGE, EVENT_SIGNAL, EVENT_DRAIN, EVENT_TICK } conn_event_kind;

/* Tells the event, which is no message, now, or queues it behind the handler that is under way.
 * `topic` is a signal's. */
void conn_events_push(struct conn *conn, conn_event_kind kind, slice data, bool is_binary,
                      slice topic);
/* The same for a message of the client; the data is copied when it has to wait. */
void conn_events_push_message(struct conn *conn, slice data, bool is_binary);
/* Queues it in any case, for the next conn_events_pump: where no script may run. */
void conn_events_queue(struct conn *conn, conn_event_kind kind, slice data, bool is_binary,
                       slice topic);
/* Tells what waits until a handler suspends; in the end, when the connection is gone, on_close. */
void conn_events_pump(struct conn *conn);
/* The relaying subscriptions are about to go: what waits for them is published now. */
void conn_events_relay(struct conn *conn);
void conn_events_clear(struct conn *conn);

#endif
