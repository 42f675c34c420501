/* The head of an HTTP/1.1 request: request line and headers, judged as a whole (RFC 9112).
 *
 * One buffer holds the bytes as they came; everything else is offsets into it, since it grows as
 * they come. http1.h collects the bytes and decides when a request begins and
 * ends; what a single line may look like is http1_guard.h. Slices that are returned are valid
 * until the head is cleared or freed. */
#ifndef PERIGEE_CODEC_HTTP1_HEAD_H
#define PERIGEE_CODEC_HTTP1_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "codec/http1_guard.h"

/* The methods that a route can have. Any other, TRACE and CONNECT among them, is answered with
 * 501: nothing here could ever serve it, whatever the target. */
typedef enum {
  HTTP1_METHOD_GET,
  HTTP1_METHOD_HEAD,
  HTTP1_METHOD_POST,
  HTTP1_METHOD_PUT,
  HTTP1_METHOD_PATCH,
  HTTP1_METHOD_DELETE,
  HTTP1_METHOD_OPTIONS,
  HTTP1_METHOD_COUNT
} http1_method;

slice http1_method_name(http1_method method);

typedef struct {
  uint32_t at;
  uint32_t len;
} http1_span;

typedef struct {
  http1_span name;
  http1_span value;
} http1_field;

enum { HTTP1_KNOWN_HOST_BYTES = 63 };

/* The plain fields may be read; spans by the functions below. fields[0..field_count) are in the
 * order received. The body's framing (content_length, is_chunked) is settled by
 * http1_head_finish; before it the counts below it are still growing. */
struct http1_head {
  /* What stays from one request to the next. */
  struct buf bytes;
  http1_field *fields;
  uint32_t field_capacity;
  /* The last Host that was found valid, of this request or an earlier one: most are that again. */
  uint8_t known_host_len;
  char known_host[HTTP1_KNOWN_HOST_BYTES];

  /* From here on what one request says: http1_head_clear sets all of it to zero. */
  uint32_t field_count;
  http1_span target;
  http1_span path;
  http1_span query;
  http1_span host;
  uint64_t content_length; /* 0 also when chunked or without a body */
  http1_method method;
  uint8_t http_minor; /* 0 or 1; a higher one counts as 1 */
  bool keep_alive;    /* what the client wants */
  bool is_chunked;
  bool expects_continue; /* and has a body, so that 100 Continue is to be sent before it */
  bool is_upgrade;       /* Connection: upgrade, with an Upgrade header */

  /* What the lines have said so far. */
  uint8_t host_count;
  uint8_t length_count;
  bool target_has_host;
  bool target_has_escapes;
  bool has_transfer_encoding;
  bool claims_body; /* with a Content-Length, if it is 0, or a Transfer-Encoding */
  bool has_unknown_coding;
  bool chunked_is_last;
  bool chunked_is_repeated;
  bool connection_close;
  bool connection_keep_alive;
  bool connection_upgrade;
  bool has_upgrade;
  bool has_expectation;
};

void http1_head_init(struct http1_head *head, size_t max_bytes);
void http1_head_deinit(struct http1_head *head);
/* Forgets the request and keeps the memory. */
void http1_head_clear(struct http1_head *head);

/* As received, with the scheme and host of an absolute target (GET http://host/path). */
slice http1_head_target(const struct http1_head *head);
/* As received, undecoded, without the query; "/" for an absolute target without a path, "*" for
 * OPTIONS *. Bad escapes are not looked for. */
slice http1_head_path(const struct http1_head *head);
/* As received, undecoded, without the "?"; empty if there is none. */
slice http1_head_query(const struct http1_head *head);
/* Whether a "%" stands anywhere in the target; without one, path and query are what they decode to,
 * but for "+". */
bool http1_head_has_escapes(const struct http1_head *head);
/* As received, with the port: the Host header, or the host of an absolute target, which goes
 * before it (RFC 9112 section 3.2.2). Empty only for HTTP/1.0. */
slice http1_head_host(const struct http1_head *head);

/* Header `index`, in the order received; false past the last. Names are as the client wrote them.
 */
bool http1_head_field(const struct http1_head *head, size_t index, slice *name, slice *value);
/* The first value of a header, whatever the case of its name; false if absent. */
bool http1_head_find(const struct http1_head *head, slice name, slice *value);
size_t http1_head_count(const struct http1_head *head, slice name);
/* Appends all values of a header, joined with ", ". Returns how many there are; past the limit of
 * `out` nothing more is appended and the count is still right. */
size_t http1_head_join(const struct http1_head *head, slice name, struct buf *out);
/* Whether a header that is a list of tokens (Connection, Upgrade) has this one; case ignored. */
bool http1_head_has_token(const struct http1_head *head, slice name, slice token);

/* The rest is for http1.h: the steps by which a head is built. Lines are parts of head->bytes,
 * without their line ends. */
http1_fault http1_head_parse_request_line(struct http1_head *head, http1_span line,
                                          uint32_t max_target_bytes);
http1_fault http1_head_parse_field(struct http1_head *head, http1_span line, uint32_t max_headers);
/* After the last line: judges what they say together. */
http1_fault http1_head_finish(struct http1_head *head);

#endif
