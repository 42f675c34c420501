/* The client's side of event streams (WHATWG HTML section 9.2), as far as a load generator needs
 * it: chunks off, blocks apart, the fields of each found. One line of data an event. */
#ifndef LOADGEN_SSE_H
#define LOADGEN_SSE_H

#include <stddef.h>
#include <stdint.h>

struct conn;

/* What a block has; NULL: it does not. Valid during the call. */
typedef struct {
  const char *id;
  size_t id_len;
  const char *data;
  size_t data_len;
} sse_event;

/* Takes received bytes apart, which must be in chunks: each event goes to the workload's on_event.
 * Blocks of comments do not. Stops when the connection has ended meanwhile. */
void sse_feed(struct conn *conn, const char *data, size_t len, uint64_t now);

#endif
