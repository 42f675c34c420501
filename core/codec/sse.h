/* Server-sent events (WHATWG HTML section 9.2): an event to the bytes of the stream.
 *
 * The size is known before a byte is written, so that an event, its HTTP/1.1 chunk included, can
 * be formatted once into a block of exactly that size and shared by all who get it. Pure: no I/O,
 * and no allocation but the growth of a caller's buf. That text is UTF-8 is the caller's duty;
 * response headers and keeping a stream alive belong to sse_conn. */
#ifndef PERIGEE_CODEC_SSE_H
#define PERIGEE_CODEC_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* One block of a stream. What is zero is left out, so a zeroed struct plus what is wanted is an
 * event. A slice is left out when its `data` is NULL; one that is empty but not NULL is written:
 * `data` of no bytes is an event with empty data, an empty `id` makes the reader forget its last
 * one. A block without `data` sets the reader's id or retry time and fires no event. */
typedef struct {
  slice comment; /* may have several lines */
  slice event;   /* the event's name: no CR, LF or NUL */
  slice id;      /* no CR, LF or NUL */
  slice data;    /* any number of lines, ended by CR, LF or CRLF; the reader gets LF for each */
  uint32_t retry_ms;
} sse_event;

/* Bytes of the encoding with its blank line, at least 2, or 0 for an event that cannot be encoded:
 * nothing in it, or a name or id with CR, LF or NUL. */
size_t sse_encoded_size(const sse_event *event);

/* Writes sse_encoded_size(event) bytes to `out` and returns where they end. The size must not have
 * been 0. */
char *sse_encode(const sse_event *event, char *out);

/* Appends the event to a buf. False when it cannot be encoded or passes the buf's limit, with
 * nothing changed. */
bool sse_append(struct buf *out, const sse_event *event);

/* A chunk (RFC 9112 section 7.1) and the event in it: HTTP/1.0 and HTTP/2 send the event alone. */
typedef struct {
  size_t event_offset; /* bytes of the chunk before the event */
  size_t event_len;
  size_t chunk_len;
} sse_extent;

/* Where things stand in the chunk that holds an event of `event_len` bytes. */
sse_extent sse_chunk_extent(size_t event_len);

/* Writes the chunk, sse_chunk_extent(event_len).chunk_len bytes, where `event_len` is the event's
 * sse_encoded_size, not 0. Returns the same extent. */
sse_extent sse_encode_chunk(const sse_event *event, size_t event_len, char *out);

#endif
