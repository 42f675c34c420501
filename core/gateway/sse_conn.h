/* A stream of server-sent events to one reader (WHATWG HTML section 9.2): its head, events in HTTP
 * chunks, the watermark when it is idle, its end. What all connections share is conn.h. */
#ifndef PERIGEE_GATEWAY_SSE_CONN_H
#define PERIGEE_GATEWAY_SSE_CONN_H

#include <stdbool.h>

#include "base/slice.h"
#include "gateway/request.h"
#include "net/stream.h"

struct address;
struct conn;
struct worker;

/* Takes over a stream and a request; `head` is the response's head, sent first. `is_unframed`: the
 * reader speaks HTTP/1.0, which has no chunks. Tells on_open. */
struct conn *sse_conn_open(struct worker *worker, struct stream *stream, struct address *address,
                           struct request *request, slice head, bool is_unframed);

#endif
