/* The listening sockets of one worker: takes new connections in batches and gives each to
 * http_conn.h.
 *
 * Binding them is net/listener.h's affair, which worker gets which the gateway's. What cannot be
 * accepted, since the process has no descriptor left, is tried again after a moment. */
#ifndef PERIGEE_GATEWAY_ACCEPTOR_H
#define PERIGEE_GATEWAY_ACCEPTOR_H

#include <stddef.h>

struct worker;

/* One for each of the sockets, which it takes over. Accepts nothing yet. */
void acceptors_open(struct worker *worker, const int *sockets, size_t count);
/* From now on it accepts. */
void acceptors_start(struct worker *worker);
/* Closes the sockets. No effect when that is done. */
void acceptors_close(struct worker *worker);
/* They were closed, and libuv's loop has run since. */
void acceptors_free(struct worker *worker);

#endif
