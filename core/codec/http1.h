/* HTTP/1.1 requests off a server's connection (RFC 9112), by pull: bytes in, events out.
 *
 * Owns no socket and no clock. A head is collected, judged by our own rules (http1_head.h,
 * http1_guard.h), then read a second time by llhttp; a body is cut into pieces along with llhttp. A
 * request on which the two do not agree is refused, so that no version of llhttp decides alone.
 * Answers are http1_response.h. */
#ifndef PERIGEE_CODEC_HTTP1_H
#define PERIGEE_CODEC_HTTP1_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "codec/http1_guard.h"
#include "codec/http1_head.h"

/* All are judged as bytes arrive, before what is too much has been kept. */
typedef struct {
  uint32_t max_head_bytes;   /* request line and headers with their line ends; the trailers of a
                                body once more, its chunk extensions once more; more: 431 */
  uint32_t max_target_bytes; /* more: 414 */
  uint32_t max_headers;      /* more: 431 */
  uint64_t max_body_bytes;   /* more: 413; http1_set_max_body changes it for one request */
} http1_limits;

typedef enum {
  HTTP1_PARTIAL = 0, /* all of the input was taken; more is needed */
  HTTP1_HEAD,        /* decoder->head is complete; nothing of the body was taken yet */
  HTTP1_BODY,        /* *piece is the next part of the body; it stands in the input */
  HTTP1_DONE,        /* the request is complete */
  HTTP1_ERROR        /* decoder->fault: answer with it and close; nothing more will be taken */
} http1_result;

typedef enum {
  HTTP1_STATE_HEAD,
  HTTP1_STATE_JUDGED,
  HTTP1_STATE_DATA,
  HTTP1_STATE_CHUNK_SIZE,
  HTTP1_STATE_CHUNK_END,
  HTTP1_STATE_TRAILERS,
  HTTP1_STATE_COMPLETE,
  HTTP1_STATE_NEXT,
  HTTP1_STATE_CLOSED,
  HTTP1_STATE_FAILED
} http1_state;

/* `head` and `fault` may be read, the rest is http1.c's. Must not move while a request is under
 * way: llhttp points back to it. */
struct http1_decoder {
  struct http1_head head;
  http1_fault fault; /* after HTTP1_ERROR: 400, 413, 414, 417, 431, 501 or 505 */

  http1_limits limits;
  http1_state state;
  bool has_request_line;
  bool is_chunked;
  bool keep_alive;
  uint8_t empty_line_count;
  size_t line_at; /* where the line under way begins in head.bytes */
  size_t scanned; /* up to where the line under way was searched for its end */

  uint64_t max_body_bytes;
  uint64_t body_bytes;    /* announced so far: all of it, or the chunks up to here */
  uint64_t remaining;     /* of the body, or of the chunk */
  struct buf line;        /* a chunk-size or trailer line */
  size_t extension_bytes; /* of all chunks */
  size_t trailer_bytes;
  uint32_t trailer_count;

  llhttp_t parser;
  slice piece;             /* what llhttp took for body in the last call */
  uint64_t parser_length;  /* what llhttp took for the length of the body or chunk */
  bool parser_is_complete; /* llhttp has seen the end of the request */
};

void http1_decoder_init(struct http1_decoder *decoder, const http1_limits *limits);
void http1_decoder_deinit(struct http1_decoder *decoder);
/* Begins anew, as after init, for another connection's bytes; the memory is kept. */
void http1_decoder_reset(struct http1_decoder *decoder);

/* Goes on until there is something to say. *consumed says how much of `in` was taken, at most up to
 * the end of the event, so that what a client sends ahead stays with the caller, who calls again
 * with the rest until HTTP1_PARTIAL, also when the rest is empty.
 *
 * Each request gives HTTP1_HEAD, any number of HTTP1_BODY, HTTP1_DONE. The head stays as it is
 * until the first call with bytes after HTTP1_DONE. After a request without keep_alive whatever
 * follows is taken and ignored (RFC 9112 section 9.6).
 *
 * A request to upgrade is a plain request unless the caller says otherwise by not calling again
 * after HTTP1_HEAD: the bytes behind the head are then the new protocol's. */
http1_result http1_decode(struct http1_decoder *decoder, slice in, size_t *consumed, slice *piece);

/* Between HTTP1_HEAD and the next call: the limit for this request's body. */
void http1_set_max_body(struct http1_decoder *decoder, uint64_t max_body_bytes);

/* Whether no byte of a request is under way: before its first byte and after HTTP1_DONE. Empty
 * lines ahead of a request are nothing yet. */
bool http1_decoder_is_idle(const struct http1_decoder *decoder);

#endif
