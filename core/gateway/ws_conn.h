/* A WebSocket connection (RFC 6455): bytes to messages for the script, the closing handshake, pings
 * and idleness. What all connections share is conn.h. */
#ifndef PERIGEE_GATEWAY_WS_CONN_H
#define PERIGEE_GATEWAY_WS_CONN_H

#include <stddef.h>

#include "base/slice.h"
#include "gateway/conn.h"

struct worker;

/* Takes over a stream whose opening handshake the origin's head answers; tells on_open. With
 * `refuse_code` not 0 it closes with that at once and nothing is told. The bytes that came behind
 * the handshake follow by ws_conn_feed. */
struct conn *ws_conn_open(struct worker *worker, const conn_origin *origin, int refuse_code,
                          slice refuse_reason);

/* Bytes from the peer; unmasked in place. */
void ws_conn_feed(struct conn *conn, char *data, size_t len);

#endif
