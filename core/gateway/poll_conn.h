/* A long-poll: a connection that lives for one GET. What comes for it is gathered until the turn
 * ends, and is the answer: {"events":[…],"position":"…"}. Asking again with that position misses
 * nothing and doubles nothing.
 *
 * When nothing comes within the route's ping_every the answer has no events. What all connections
 * share is conn.h, what event streams share one_way.h. */
#ifndef PERIGEE_GATEWAY_POLL_CONN_H
#define PERIGEE_GATEWAY_POLL_CONN_H

#include "gateway/conn.h"

struct worker;

/* Takes over a stream; the origin's head is header lines that the answer is to have. Tells on_open;
 * but a reader that has left earlier answers untaken is answered with 503. */
struct conn *poll_conn_open(struct worker *worker, const conn_origin *origin);

#endif
