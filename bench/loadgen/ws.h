/* The client's side of WebSocket (RFC 6455), as far as a load generator needs it: masked frames
 * out, unmasked frames in, control frames answered. No compression.
 *
 * The handshake's key and the masking key are always the same, so that nothing is computed for
 * them; the key is RFC 6455's own example, whose answer is known. */
#ifndef LOADGEN_WS_H
#define LOADGEN_WS_H

#include <stddef.h>
#include <stdint.h>

struct conn;

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum { WS_MAX_HEADER = 14 };

#define WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* Writes a whole masked frame to `out`, which holds len + WS_MAX_HEADER. Returns its size. */
size_t ws_encode(char *out, uint8_t opcode, const char *data, size_t len);

void ws_send(struct conn *conn, uint8_t opcode, const char *data, size_t len);

/* Takes received bytes apart: data goes to the workload's on_piece as it arrives, control frames
 * are answered here. Stops when the connection has ended meanwhile. */
void ws_feed(struct conn *conn, const char *data, size_t len, uint64_t now);

#endif
