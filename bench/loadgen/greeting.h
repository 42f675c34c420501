/* The handshakes by which a connection becomes a WebSocket or an event stream. */
#ifndef LOADGEN_GREETING_H
#define LOADGEN_GREETING_H

#include <stddef.h>
#include <stdint.h>

struct conn;

/* The TCP connection stands: asks for the upgrade or the stream, or opens it at once where the
 * workload wants neither. */
void greeting_start(struct conn *conn, uint64_t now);

/* Bytes of the answer; what follows its head goes to the workload. */
void greeting_feed(struct conn *conn, const char *data, size_t len, uint64_t now);

#endif
