/* Streams of equal requests that are answered in order: what WebSocket echo and plain HTTP have in
 * common. A new request goes out for each answer, or, by rounds, when all are answered. */
#ifndef LOADGEN_PIPELINE_H
#define LOADGEN_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;

/* What every connection sends over and over; copied. Then makes the connections. */
void pipeline_prepare(const char *request, size_t len);

/* options.inflight requests on every connection. */
void pipeline_send_round(uint64_t now);

/* One request of this connection is answered. */
void pipeline_answered(struct conn *conn, uint64_t now);

/* Sends a request for each of `count` that were answered, unless nothing more is wanted. */
void pipeline_go_on(struct conn *conn, unsigned count, uint64_t now);

/* Sends on when the socket can be written again. */
void pipeline_flush(struct conn *conn);

/* Whether every request is answered. */
bool pipeline_is_quiet(void);
uint64_t pipeline_count_missing(void);

#endif
