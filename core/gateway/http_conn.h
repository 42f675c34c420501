/* An HTTP/1.1 connection: requests in, answers out, one at a time, until it is closed or becomes a
 * WebSocket or an SSE stream.
 *
 * It reads requests (codec/http1), judges limits and time, finds the route and asks the script
 * through an exchange. What an answer's file is belongs to static_file.h. */
#ifndef PERIGEE_GATEWAY_HTTP_CONN_H
#define PERIGEE_GATEWAY_HTTP_CONN_H

#include <stdbool.h>

#include "base/slice.h"

struct stream;
struct worker;
struct http_conn;

/* Takes over a stream that was accepted. Past a limit of connections it is answered with 503. */
void http_conn_open(struct worker *worker, struct stream *stream, slice address);

/* The gateway stops: idle connections close, the others after their answer. With `at_once` all are
 * cut. */
void http_conn_stop_all(struct worker *worker, bool at_once);

/* Frees those that are done; at the end of a turn. */
void http_conn_sweep(struct worker *worker);

#endif
