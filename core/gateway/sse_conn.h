/* A stream of server-sent events to one reader (WHATWG HTML section 9.2): its head, events in HTTP
 * chunks, the watermark when it is idle, its end. What all connections share is conn.h. */
#ifndef PERIGEE_GATEWAY_SSE_CONN_H
#define PERIGEE_GATEWAY_SSE_CONN_H

#include <stdbool.h>

#include "base/slice.h"
#include "gateway/conn.h"

struct worker;

/* Takes over a stream; the origin's head is the response's. `is_unframed`: the
 * reader speaks HTTP/1.0, which has no chunks. Tells on_open. */
struct conn *sse_conn_open(struct worker *worker, const conn_origin *origin, bool is_unframed);

#endif
