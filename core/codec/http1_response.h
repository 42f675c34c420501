/* HTTP/1.1 response heads (RFC 9112, RFC 9110): what a server says before the body.
 *
 * Pure encoding into a buffer. The caller knows the request, the body and the time; which of the
 * headers that delimit a body and a connection go with them is decided here and nowhere else. */
#ifndef PERIGEE_CODEC_HTTP1_RESPONSE_H
#define PERIGEE_CODEC_HTTP1_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* How a client learns where the body ends. */
typedef enum {
  HTTP1_FRAMING_LENGTH,  /* content_length bytes */
  HTTP1_FRAMING_CHUNKED, /* in chunks; for HTTP/1.0, which has none, as UNTIL_CLOSE */
  HTTP1_FRAMING_UNTIL_CLOSE
} http1_framing;

typedef struct {
  int status;      /* 100 to 999 */
  int http_minor;  /* of the request, 0 or 1; the status line says HTTP/1.1 for both */
  bool keep_alive; /* whether request and gateway would both go on */
  bool is_head;    /* answers HEAD: the headers are those of GET, no body follows */
  http1_framing framing;
  uint64_t content_length; /* for HTTP1_FRAMING_LENGTH */
  slice date;              /* the value of Date; empty: no Date. Never sent with 1xx */
} http1_response;

/* Begins a head: status line, Date, Content-Length or Transfer-Encoding, Connection. 1xx and 204
 * have no body and no length, 304 no length either; 1xx have no Connection, so that 101 brings its
 * own. HTTP/1.0 is told when the connection stays, HTTP/1.1 when it does not. False past the limit
 * of `out`, with nothing appended. */
bool http1_response_begin(struct buf *out, const http1_response *response);

/* Appends a header of the caller's, which http1_header_is_valid has judged. False past the limit,
 * with nothing appended. */
bool http1_response_header(struct buf *out, slice name, slice value);

/* Ends the head. False past the limit. */
bool http1_response_end(struct buf *out);

/* Whether bytes of body may follow the head at all. */
bool http1_response_has_body(const http1_response *response);
/* Whether the body, if it has one, is to be written in chunks. */
bool http1_response_is_chunked(const http1_response *response);
/* Whether another request may follow on the connection. */
bool http1_response_keeps_alive(const http1_response *response);

/* One chunk of a chunked body is: http1_chunk_begin with its size, the bytes, HTTP1_CHUNK_END. Not
 * for size 0: the last chunk is HTTP1_LAST_CHUNK. */
#define HTTP1_CHUNK_END SLICE("\r\n")
#define HTTP1_LAST_CHUNK SLICE("0\r\n\r\n")
bool http1_chunk_begin(struct buf *out, size_t chunk_bytes);

/* The interim answer to Expect: 100-continue, whole. */
#define HTTP1_CONTINUE SLICE("HTTP/1.1 100 Continue\r\n\r\n")

/* "Not Found" for 404; "Unknown" for a status that is not registered. */
const char *http1_status_text(int status);

/* The name is a token, the value has no CR, LF, NUL or other control character but tabs. */
bool http1_header_is_valid(slice name, slice value);

/* Date, Content-Length, Transfer-Encoding and Connection: set here, never by a script. */
bool http1_header_is_reserved(slice name);

#endif
