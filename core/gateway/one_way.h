/* What event streams and long-polls have in common: after its request the client says nothing more,
 * and the stream ends with what is written to it.
 *
 * Functions for a transport's ops and stream events. A connection's last_heard_ms says when it last
 * wrote, or began to wait. */
#ifndef PERIGEE_GATEWAY_ONE_WAY_H
#define PERIGEE_GATEWAY_ONE_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;

/* For the next idle moment, the next tick, the end of our patience. */
void one_way_set_timer(struct conn *conn);
/* The timer fired: ticks that are due, or the end. Whether the route's ping_every is over since
 * last_heard_ms, which begins anew. To be followed by one_way_set_timer. */
bool one_way_run_timer(struct conn *conn, uint64_t now_ms);

/* Everything is written: ends our side, once the connection is closing. */
void one_way_on_flushed(struct conn *conn);
void one_way_on_ready(struct conn *conn);

/* Of the stream. Its end is 1005 for on_close when it is an orderly one, else 1006, where no other
 * code was noted. */
void one_way_on_read(void *owner, char *data, size_t len);
void one_way_on_end(void *owner, int error);
void one_way_on_writable(void *owner, int error);
void one_way_on_closed(void *owner);

#endif
