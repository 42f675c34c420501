/* What the files of an HTTP/1.1 connection share: http_conn.c reads and times, http_exchange.c asks
 * and answers, http_answer.c writes. Nobody else includes it. */
#ifndef PERIGEE_GATEWAY_HTTP_CONN_INTERNAL_H
#define PERIGEE_GATEWAY_HTTP_CONN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/timer.h"
#include "gateway/exchange.h"
#include "gateway/outbox.h"
#include "net/stream.h"

struct address;
struct conn;

/* In the order of a request's life; the first three read. */
typedef enum {
  HTTP_WAITING, /* between two requests */
  HTTP_READING_HEAD,
  HTTP_READING_BODY,
  HTTP_ANSWERING, /* the handler runs or is suspended */
  HTTP_FINISHING, /* the last answer is queued */
  HTTP_LINGERING, /* it is written and our end is shut down: what still comes is thrown away */
  HTTP_CLOSING,
  HTTP_RETIRED, /* the stream is closed or has another owner */
} http_state;

struct http_conn {
  struct exchange exchange; /* `request`: from its first byte until it is answered */
  struct worker *worker;
  struct stream *stream;
  struct address *address;
  struct outbox outbox;
  struct buf pending;    /* input that waits behind a handler */
  struct list all;       /* in worker->https, later in worker->swept_https */
  struct timer timer;    /* fires at deadline_ms or earlier: then it looks again */
  uint64_t deadline_ms;  /* UINT64_MAX: none */
  struct conn *upgraded; /* what it became, until the bytes behind the handshake are fed to it */
  size_t lingered_bytes;
  http_state state;
  uint8_t http_minor; /* of the request under way */
  bool is_welcome;    /* counted among the connections; else it is heard only to be refused */
  bool is_guest;      /* not welcome, and counted in worker->guest_count */
  bool is_head;       /* it is a HEAD request */
  bool is_admitted;   /* authenticate let it in, or was not asked */
  bool has_exchange;  /* the request has a route: the script may know of it */
  bool is_asking;     /* authenticate is suspended */
  bool is_feeding;    /* decode is on the stack */
  bool is_paused;     /* too much is pending: reading is stopped */
  bool is_last;       /* no request after this one */
  bool has_ended;     /* the peer sends no more */
  bool has_answered;  /* at least one request */
};

extern const struct exchange_ops http_exchange_ops;

/* http_conn.c */
void http_conn_close(struct http_conn *http);
void http_conn_retire(struct http_conn *http);
/* Answers a request that cannot be served, and ends the connection. */
void http_conn_fail(struct http_conn *http, int status, const char *reason);
/* The last answer is queued: flush, linger, close. */
void http_conn_finish(struct http_conn *http);
/* Admitted after a wait: the time that a request's body may take begins now. */
void http_conn_start_body_timer(struct http_conn *http);
/* The request under way is over. */
void http_conn_drop_request(struct http_conn *http);
/* Goes on with what is pending; no effect while http_conn_feed is on the stack. */
void http_conn_go_on(struct http_conn *http);
void http_conn_feed(struct http_conn *http, char *data, size_t len);

/* http_exchange.c */
/* The head is there: finds the route, judges, asks authenticate. */
void http_exchange_begin(struct http_conn *http);
/* The request is whole: asks its handler. */
void http_exchange_run(struct http_conn *http);
/* The peer is gone. */
void http_exchange_cancel(struct http_conn *http);
void http_upgrade_feed(struct conn *conn, char *data, size_t len);

#endif
