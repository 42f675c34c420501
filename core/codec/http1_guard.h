/* What HTTP/1.1 bytes must look like before they are believed (RFC 9112, RFC 9110 section 5).
 *
 * Pure checks over complete lines and values, stricter than any version of llhttp: line ends are
 * CRLF and nothing else, names are tokens, lengths are digits. Two parsers that read a request
 * differently are how requests are smuggled, so whatever could be read in two ways is refused.
 * What the lines mean together belongs to http1_head.h, the course of a request to http1.h. */
#ifndef PERIGEE_CODEC_HTTP1_GUARD_H
#define PERIGEE_CODEC_HTTP1_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Why a request is refused: the status to answer with and a short static text for the log and the
 * body. Status 0: nothing is wrong. */
typedef struct {
  int status;
  const char *reason;
} http1_fault;

typedef enum { HTTP1_LINE_PARTIAL, HTTP1_LINE_COMPLETE, HTTP1_LINE_INVALID } http1_line_result;

/* Looks for the end of a line from byte *at on. Complete: *at is behind the CRLF. Partial: *at is
 * where to go on when `bytes` has grown. Invalid, as soon as it is seen: a CR without LF, an LF
 * without CR, or any other control character but a tab; *fault then says which. */
http1_line_result http1_guard_scan_line(slice bytes, size_t *at, http1_fault *fault);

/* RFC 9110 section 5.6.2; never empty. */
bool http1_guard_is_token(slice text);

/* No control characters but tabs: what a field value may hold besides being anything. */
bool http1_guard_is_field_value(slice text);

/* Splits a header or trailer line, without its line end, at the colon. The value comes without the
 * white space around it. */
http1_fault http1_guard_split_field(slice line, slice *name, slice *value);

/* Content-Length: digits only, no sign, no list, within 64 bits. */
bool http1_guard_parse_length(slice text, uint64_t *out);

/* A chunk-size line without its line end. *digits is the part that is the size; what follows is an
 * extension, which nobody here understands and which is ignored. */
bool http1_guard_parse_chunk_size(slice line, slice *digits, uint64_t *out);

/* A host with an optional port, as in Host (RFC 9110 section 7.2): a name, an IPv4 address or an
 * IPv6 address in brackets; no user, no path, not empty. */
bool http1_guard_is_host(slice text);

#endif
