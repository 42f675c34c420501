/* Byte ranges (RFC 9110 section 14): which part of a representation a Range header asks for.
 *
 * Pure. One range only: several at once would need multipart bodies, and a server may always answer
 * with the whole instead (section 14.2). Whether Range is to be looked at at all, that is the
 * method and If-Range, belongs to http1_condition.h and its callers. */
#ifndef PERIGEE_CODEC_HTTP1_RANGE_H
#define PERIGEE_CODEC_HTTP1_RANGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

typedef enum {
  HTTP1_RANGE_WHOLE,         /* malformed, of another unit, or several: as if it were not there */
  HTTP1_RANGE_PART,          /* 206 with `offset` and `len` */
  HTTP1_RANGE_UNSATISFIABLE, /* 416: nothing of it is within the representation */
} http1_range_result;

/* Reads the value of Range for a representation of `total` bytes. `*offset` and `*len` are written
 * for HTTP1_RANGE_PART alone; then len > 0 and offset + len <= total. A number too large for 64
 * bits counts as the largest. */
http1_range_result http1_range_decode(slice value, uint64_t total, uint64_t *offset, uint64_t *len);

/* Room for "bytes 0-3/10" with three numbers of 20 digits, and the NUL. */
enum { HTTP1_CONTENT_RANGE_BYTES = 72 };

/* The value of Content-Range; for `len` 0 that of a 416, without a range. Returns its length. */
size_t http1_range_encode(uint64_t offset, uint64_t len, uint64_t total,
                          char out[HTTP1_CONTENT_RANGE_BYTES]);

#endif
