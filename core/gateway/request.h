/* An HTTP request as scripts see it: in `authenticate`, in HTTP handlers, as `conn.request`.
 *
 * Read-only for scripts. Owned by its exchange, later by its connection. Everything borrowed from
 * it is valid while it lives, headers only until request_trim. */
#ifndef PERIGEE_GATEWAY_REQUEST_H
#define PERIGEE_GATEWAY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"
#include "codec/http1_head.h"
#include "gateway/routes.h"

struct request;

/* Takes the head over (it is empty afterwards). `match` was found for it; `remote_address` must
 * live as long as the request. */
struct request *request_new(struct http1_head *head, const route_match *match,
                            slice remote_address);
void request_free(struct request *request);

/* Where the transport collects the body. */
struct buf *request_body_buf(struct request *request);
/* The head, for transports; NULL after request_trim. */
const struct http1_head *request_head(const struct request *request);
/* The first value of a header; data NULL: absent. Borrowed. */
slice request_find_header(const struct request *request, slice name);

slice request_method(const struct request *request); /* upper case */
slice request_path(const struct request *request);   /* as received, no query */
slice request_query(const struct request *request);  /* as received, without "?" */
slice request_host(const struct request *request);   /* lower case, with port */
slice request_body(const struct request *request);
slice request_remote_address(const struct request *request); /* no port; "unix" */
/* The position asked for by Last-Event-ID, ?last-event-id= or ?since=; data NULL: none. */
slice request_since(const struct request *request);
const struct route *request_route(const struct request *request);

/* Parameter `index`, decoded; false past the last. */
bool request_param(const struct request *request, size_t index, slice *name, slice *value);

/* Appends all values of a header, joined with ", ". How many there are. */
size_t request_header(const struct request *request, slice name, struct buf *out);
/* Walks the headers: *cursor begins at 0. False at the end. */
bool request_next_header(const struct request *request, size_t *cursor, slice *name, slice *value);

/* Whether headers are still there: false after request_trim. */
bool request_has_headers(const struct request *request);
/* Keeps what a connection needs for life and the headers that the route's keep_headers names;
 * gives back the rest. After on_open has returned. */
void request_trim(struct request *request);

/* The script's session value: a place for its reference (0: none). The script drops it when told
 * that the exchange or connection is forgotten. */
int request_session(const struct request *request);
void request_set_session(struct request *request, int session);

#endif
