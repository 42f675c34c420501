#include "codec/http1_range.h"

#include <inttypes.h>
#include <stdio.h>

/* Takes digits off the front; false when there are none. */
static bool take_number(slice *rest, uint64_t *number) {
  size_t count = 0;
  uint64_t value = 0;
  for (; count < rest->len && rest->data[count] >= '0' && rest->data[count] <= '9'; count++) {
    unsigned digit = (unsigned)(rest->data[count] - '0');
    value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
  }
  *rest = slice_skip(*rest, count);
  *number = value;
  return count > 0;
}

static http1_range_result decode_suffix(slice rest, uint64_t total, uint64_t *offset,
                                        uint64_t *len) {
  uint64_t count;
  if (!take_number(&rest, &count) || rest.len > 0) return HTTP1_RANGE_WHOLE;
  if (count == 0) return HTTP1_RANGE_UNSATISFIABLE;
  /* Satisfiable by section 14.1.2, and yet there is no Content-Range for a part of nothing. */
  if (total == 0) return HTTP1_RANGE_WHOLE;
  *len = count < total ? count : total;
  *offset = total - *len;
  return HTTP1_RANGE_PART;
}

http1_range_result http1_range_decode(slice value, uint64_t total, uint64_t *offset,
                                      uint64_t *len) {
  slice rest = value;
  slice unit = slice_split(&rest, '=');
  if (rest.data == NULL || !slice_is_equal_nocase(unit, SLICE("bytes"))) return HTTP1_RANGE_WHOLE;
  rest = slice_trim(rest);
  if (slice_has_prefix(rest, SLICE("-"))) {
    return decode_suffix(slice_skip(rest, 1), total, offset, len);
  }
  uint64_t first, last = UINT64_MAX;
  if (!take_number(&rest, &first) || !slice_has_prefix(rest, SLICE("-"))) return HTTP1_RANGE_WHOLE;
  rest = slice_skip(rest, 1);
  if (rest.len > 0 && (!take_number(&rest, &last) || rest.len > 0)) return HTTP1_RANGE_WHOLE;
  if (last < first) return HTTP1_RANGE_WHOLE;
  if (first >= total) return HTTP1_RANGE_UNSATISFIABLE;
  *offset = first;
  *len = (last < total ? last + 1 : total) - first;
  return HTTP1_RANGE_PART;
}

size_t http1_range_encode(uint64_t offset, uint64_t len, uint64_t total,
                          char out[HTTP1_CONTENT_RANGE_BYTES]) {
  int written;
  if (len == 0) {
    written = snprintf(out, HTTP1_CONTENT_RANGE_BYTES, "bytes */%" PRIu64, total);
  } else {
    written = snprintf(out, HTTP1_CONTENT_RANGE_BYTES, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                       offset, offset + len - 1, total);
  }
  return (size_t)written;
}
