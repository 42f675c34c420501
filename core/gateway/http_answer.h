/* Writing an answer on an HTTP/1.1 connection: head, body, file, and what belongs to every answer
 * (Date, CORS). Queues only; what follows an answer is http_exchange.c's. */
#ifndef PERIGEE_GATEWAY_HTTP_ANSWER_H
#define PERIGEE_GATEWAY_HTTP_ANSWER_H

#include <stdbool.h>

#include "gateway/exchange.h"
#include "gateway/http_conn_internal.h"
#include "gateway/static_file.h"

/* A line of text. The connection's `is_last` says whether another request may follow; so for all
 * of these. `extra` may be NULL. */
void http_answer_plain(struct http_conn *http, int status, const char *reason);
void http_answer_text(struct http_conn *http, int status, slice text, const response_header *extra,
                      size_t extra_count);
void http_answer_response(struct http_conn *http, const response *answer);
/* A file; `head` gives further headers. Takes over the answer's source. */
void http_answer_file(struct http_conn *http, const static_file_answer *file, const response *head);
/* 204 with Allow, and what a preflight of CORS asks for. */
void http_answer_options(struct http_conn *http, unsigned allowed);
/* 405 with Allow. */
void http_answer_not_allowed(struct http_conn *http, unsigned allowed);

/* Queues bytes as they are: 100 Continue. */
void http_answer_push(struct http_conn *http, slice bytes);

/* Appends the CORS headers that the request's origin is due. */
void http_answer_append_cors(struct buf *out, const struct request *request);
/* "GET, HEAD, POST" for a set of route_method; GET brings HEAD, and OPTIONS is always there. */
void http_answer_append_allow(struct buf *out, unsigned allowed);

#endif
