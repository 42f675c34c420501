/* Percent-encoding and queries (RFC 3986; WHATWG URL, application/x-www-form-urlencoded).
 *
 * Pure: bytes to bytes. */
#ifndef PERIGEE_BASE_URL_H
#define PERIGEE_BASE_URL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

/* Appends `text` decoded. With `plus_is_space` a + is a space (queries and forms, not paths).
 * False for a bad escape or a NUL (%00 or raw), with nothing appended. */
bool url_decode(slice text, bool plus_is_space, struct buf *out);

/* Whether url_decode would succeed. */
bool url_is_decodable(slice text);

/* Takes the next name=value pair off a query or form; raw, not decoded. A pair without "=" has an
 * empty value; empty pairs (&&) are skipped. False at the end. */
bool url_next_pair(slice *rest, slice *name, slice *value);

/* Appends `text` percent-encoded; unreserved characters (RFC 3986 section 2.3) stay as they are. */
bool url_encode(slice text, struct buf *out);

#endif
