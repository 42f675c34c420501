/* What a gateway listens on: each address with one socket a worker, and in test mode one address
 * more for each worker, its own.
 *
 * Bound before the first thread; with --supervise by the parent, for every child that it starts.
 * How a socket is bound is net/listener.h's affair, who accepts from it acceptor.h's. */
#ifndef PERIGEE_GATEWAY_LISTENERS_H
#define PERIGEE_GATEWAY_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/config.h"
#include "net/listener.h"

struct listeners {
  listener_address *addresses; /* the ordinary ones, then in test mode one per worker */
  size_t count;
  size_t test_count;
};

/* What one worker takes at most. */
enum { LISTENERS_A_WORKER = CONFIG_LISTENS + 2 };

/* Binds what the config says, and listens: who connects early waits in the queue. False when an
 * address cannot be had, which is said on standard error. To be closed in any case. */
bool listeners_bind(struct listeners *listeners, const struct config *config);
/* Closes what no worker has taken. */
void listeners_close(struct listeners *listeners);

static inline size_t listeners_ordinary_count(const struct listeners *listeners) {
  return listeners->count - listeners->test_count;
}

/* The sockets of one worker, its own from now on: its share of each address, and in test mode its
 * own. Returns how many. */
size_t listeners_take(struct listeners *listeners, size_t worker, int sockets[LISTENERS_A_WORKER]);

/* "listening on http://127.0.0.1:3000", one line each, on standard output. */
void listeners_announce(const struct listeners *listeners);

#endif
