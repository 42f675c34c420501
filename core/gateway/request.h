/* An HTTP request: while it is read, as scripts see it (`authenticate`, HTTP handlers), and what is
 * left of it for a connection's life (`conn.request`).
 *
 * Read-only for scripts. Owned by its exchange, later by its connection. Everything borrowed from
 * it is valid while it lives, headers only until request_trim. What a request needs only while it
 * is under way is large, and goes from one to the next through the worker's pool, memory and all:
 * an idle HTTP connection has none of it, and a request that comes allocates nothing. */
#ifndef PERIGEE_GATEWAY_REQUEST_H
#define PERIGEE_GATEWAY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"
#include "codec/http1.h"
#include "gateway/routes.h"

struct request;

/* A worker's requests that are not in use. */
struct request_pool {
  http1_limits limits; /* of every request */
  struct arrived *free;
  unsigned free_count;
};

void request_pool_init(struct request_pool *pool, const http1_limits *limits);
void request_pool_deinit(struct request_pool *pool);

/* A request of which no byte was read. */
struct request *request_new(struct request_pool *pool);
void request_free(struct request *request);

/* Reads the request; not after request_trim. */
struct http1_decoder *request_decoder(struct request *request);
/* Its head is complete and `match` was found for it; `remote_address` must live as long as the
 * request, and the route until another is given. Only from here on is it shown to scripts. */
void request_set_route(struct request *request, const route_match *match, slice remote_address);

/* The route's successor with the same pattern takes its place. */
void request_follow(struct request *request, const struct route *route);
/* Another route does: the parameters are those of `match`, which was found for the same path. */
void request_reroute(struct request *request, const route_match *match);

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
