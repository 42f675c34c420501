/* One request and its answer.
 *
 * The transport (http_conn; an HTTP/2 stream later) makes it and is told the answer through `ops`.
 * An exchange is answered exactly once: with a response, or by admission as a connection. It is
 * forgotten when answered or when its peer is gone; then hooks->forget_exchange is called and the
 * pointer is dead. */
#ifndef PERIGEE_GATEWAY_EXCHANGE_H
#define PERIGEE_GATEWAY_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "gateway/request.h"

struct worker;
struct exchange;

typedef struct {
  slice name;
  slice value;
} response_header;

/* What is sent; all of it is copied or encoded before exchange_respond returns. */
typedef struct {
  int status; /* 200 to 599 */
  slice body;
  const response_header *headers; /* valid names and values (http1_header_is_valid) */
  size_t header_count;            /* Date, Content-Length, Connection and so on are added here */
} response;

struct exchange_ops {
  void (*respond)(struct exchange *exchange, const response *answer);
  void (*respond_file)(struct exchange *exchange, const response *head, slice directory,
                       slice path);
  void (*admit)(struct exchange *exchange);
  void (*refuse)(struct exchange *exchange, int code, slice reason);
};

struct exchange {
  const struct exchange_ops *ops;
  struct worker *worker;
  struct request *request;
  const struct route *route;
  void *script; /* the script's task while a handler is suspended */
  void *box;    /* the script's: the request as its handler sees it, while that runs */
  bool is_answered;
  bool is_gone; /* the peer went; answers are dropped */
};

/* Answers with a response. */
void exchange_respond(struct exchange *exchange, const response *answer);
/* Answers with a file below `directory`; ETag, Last-Modified, Range and type as for static files,
 * 404 where there is none. `head` gives status and further headers; its body is not used. */
void exchange_respond_file(struct exchange *exchange, const response *head, slice directory,
                           slice path);
/* Answers with a status and a line of text. */
void exchange_respond_text(struct exchange *exchange, int status, slice text);

/* Whether it asks an SSE route for a long-poll: with Accept: application/json. */
bool exchange_is_poll(const struct exchange *exchange);

/* Refuses for want of room: 503, but for an event stream one that ends at once and asks to
 * be tried again after a while, since a browser's EventSource gives up for good on any status but
 * 200. */
void exchange_respond_busy(struct exchange *exchange);

/* After `authenticate`: the peer may enter: an HTTP route's handler runs next (hooks->request); a
 * WebSocket, event stream or long-poll becomes a connection. */
void exchange_admit(struct exchange *exchange);
/* It may not: `code` is an HTTP status (204, 400 to 599) or a close code (1008, 1013, 3000 to
 * 4999; off WebSocket 403 is answered). */
void exchange_refuse(struct exchange *exchange, int code, slice reason);

#endif
