/* The opening handshake of a WebSocket, as a server sees it (RFC 6455 section 4.2).
 *
 * Pure checks on values of the request. Parsing HTTP is http1.h; whether the Origin is welcome, who
 * may enter and which extensions are used is the caller's. */
#ifndef PERIGEE_CODEC_WS_HANDSHAKE_H
#define PERIGEE_CODEC_WS_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum { WS_HANDSHAKE_ACCEPT_BYTES = 28 };

/* What the headers of one request say about a handshake; zero before the first. `key` and
 * `version` are the first ones seen, borrowed from the request. */
typedef struct {
  bool has_upgrade;    /* Upgrade lists websocket */
  bool has_connection; /* Connection lists upgrade */
  uint16_t key_count;
  uint16_t version_count;
  slice key;
  slice version;
} ws_handshake;

typedef struct {
  int status;         /* 101, or the HTTP status to refuse with: 400, 405 or 426 */
  const char *reason; /* a literal for the body of the refusal; NULL with 101 */
} ws_handshake_result;

/* Notes one header of the request; those that do not concern the handshake are passed over. A
 * header that occurs several times is noted as often. */
void ws_handshake_add(ws_handshake *handshake, slice name, slice value);

/* Judges a request to a URL that speaks WebSocket, once all headers were added. With 405 belongs
 * `Allow: GET`; with 426 `Upgrade: websocket` and `Sec-WebSocket-Version: 13` (section 4.4). */
ws_handshake_result ws_handshake_judge(const ws_handshake *handshake, slice method, int http_major,
                                       int http_minor);

/* The value of Sec-WebSocket-Accept for this key, without a NUL. */
void ws_handshake_accept(slice key, char out[WS_HANDSHAKE_ACCEPT_BYTES]);

/* Whether the key is the base64 of 16 bytes. */
bool ws_handshake_key_is_valid(slice key);

/* Whether a comma-separated list contains the token; letters compare without case. */
bool ws_handshake_has_token(slice header_value, slice token);

/* The first of the subprotocols offered (a value of Sec-WebSocket-Protocol, in the client's order
 * of preference) that is among ours; compared with case. Returns the slice of ours, or one with
 * data NULL: then the answer has no such header. */
slice ws_handshake_choose_protocol(slice offered, const slice *ours, size_t count);

#endif
