#include "gateway/http_conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/url.h"
#include "codec/http1.h"
#include "codec/http1_response.h"
#include "gateway/gateway.h"
#include "gateway/http_answer.h"
#include "gateway/http_conn_internal.h"
#include "gateway/worker.h"

/* Connections beyond the limit whose request is read, so that an event stream can be refused in a
 * way that its browser understands; others are refused unheard. They take spare descriptors. */
enum { MAX_GUESTS = 8 };

/* What a linger reads and throws away at most: enough for a form that was refused. */
enum { LINGER_BYTES = 1024 * 1024 };

/* --- time --- */

/* Each request has three deadlines; moving a timer for each would cost more than looking again when
 * it fires too early, which it does once in a while. Most requests come whole and are answered at
 * once: a deadline is set only where something has to be waited for. */
static void set_deadline(struct http_conn *http, uint64_t now_ms, uint64_t seconds) {
  http->deadline_ms = now_ms + seconds * 1000;
  if (!timer_is_started(&http->timer) || http->timer.due_ms > http->deadline_ms) {
    timer_start(&http->worker->timers, &http->timer, http->deadline_ms);
  }
}

static void set_timer(struct http_conn *http, uint64_t seconds) {
  set_deadline(http, clock_now_ms(), seconds);
}

static void stop_timer(struct http_conn *http) {
  http->deadline_ms = UINT64_MAX;
}

void http_conn_start_body_timer(struct http_conn *http) {
  set_timer(http, http->worker->limits->body_timeout);
}

/* All input is read and a part of a request is missing: the time for it began with its first byte,
 * unless it runs already. */
static void wait_for_rest(struct http_conn *http) {
  const struct limits *limits = http->worker->limits;
  if (http->deadline_ms != UINT64_MAX) return;
  if (http->state == HTTP_READING_HEAD) set_timer(http, limits->header_timeout);
  if (http->state == HTTP_READING_BODY && !http->is_asking) set_timer(http, limits->body_timeout);
}

/* Between two requests: the time for the next one runs once the answer is out; before that, the
 * time in which the peer has to take some of it. */
static void wait_for_request(struct http_conn *http) {
  const struct limits *limits = http->worker->limits;
  set_timer(http,
            outbox_is_empty(&http->outbox) ? limits->keep_alive_timeout : limits->user_timeout);
}

static void on_timer(struct timer *timer) {
  struct http_conn *http = CONTAINER_OF(timer, struct http_conn, timer);
  if (clock_now_ms() < http->deadline_ms) {
    if (http->deadline_ms != UINT64_MAX) {
      timer_start(&http->worker->timers, timer, http->deadline_ms);
    }
    return;
  }
  if (http->state == HTTP_READING_HEAD || http->state == HTTP_READING_BODY) {
    http_conn_fail(
        http, 408,
        http->state == HTTP_READING_HEAD ? "the headers took too long" : "the body took too long");
    return;
  }
  http_conn_close(http);
}

/* --- life --- */

static const struct stream_events stream_events;
static const struct outbox_events outbox_events;

static struct http_conn *http_conn_new(struct worker *worker) {
  struct http_conn *http = mem_alloc_zero(sizeof *http);
  http->worker = worker;
  http->exchange.ops = &http_exchange_ops;
  http->exchange.worker = worker;
  buf_init(&http->pending, 0);
  timer_init(&http->timer, on_timer);
  list_insert(&worker->https, &http->all);
  worker->http_count++;
  return http;
}

void http_conn_drop_request(struct http_conn *http) {
  if (http->exchange.request != NULL) request_free(http->exchange.request);
  http->exchange.request = NULL;
}

/* Nothing of the stream is left to it: freed when the turn ends. */
void http_conn_retire(struct http_conn *http) {
  http->state = HTTP_RETIRED;
  http_conn_drop_request(http);
  http->stream = NULL;
  worker_forget_dirty(http->worker, &http->outbox);
  outbox_deinit(&http->outbox);
  timer_stop(&http->worker->timers, &http->timer);
  list_remove(&http->all);
  list_insert(&http->worker->swept_https, &http->all);
  http->worker->http_count--;
}

void http_conn_sweep(struct worker *worker) {
  struct list *link;
  while ((link = list_peek(&worker->swept_https)) != NULL) {
    struct http_conn *http = LIST_OWNER(link, struct http_conn, all);
    REQUIRE(!http->has_exchange);
    list_remove(link);
    buf_deinit(&http->pending);
    mem_free(http);
  }
}

void http_conn_close(struct http_conn *http) {
  if (http->state == HTTP_CLOSING || http->state == HTTP_RETIRED) return;
  http->state = HTTP_CLOSING;
  stop_timer(http);
  stream_close(http->stream, false);
}

static void on_closed(void *owner) {
  struct http_conn *http = owner;
  http->state = HTTP_CLOSING;
  if (http->has_exchange) http_exchange_cancel(http);
  if (http->is_guest) http->worker->guest_count--;
  gateway_leave(http->worker->gateway, http->address, http->is_welcome);
  http_conn_retire(http);
}

void http_conn_open(struct worker *worker, struct stream *stream, slice address) {
  struct http_conn *http = http_conn_new(worker);
  http->stream = stream;
  stream_set_owner(stream, &stream_events, http);
  outbox_init(&http->outbox, &outbox_events, stream);
  http->address = gateway_enter(worker->gateway, address, &http->is_welcome);
  http->http_minor = 1;
  http->state = HTTP_READING_HEAD;
  set_timer(http, worker->limits->header_timeout);
  if (!http->is_welcome && worker->guest_count < MAX_GUESTS) {
    http->is_guest = true;
    worker->guest_count++;
  }
  if (http->is_welcome || http->is_guest) {
    stream_set_reading(http->stream, true); /* may read at once: `http` may be gone after this */
  } else {
    http_conn_fail(http, 503, "too many connections");
  }
}

void http_conn_stop_all(struct worker *worker, bool at_once) {
  struct list *next;
  for (struct list *link = worker->https.next; link != &worker->https; link = next) {
    struct http_conn *http = LIST_OWNER(link, struct http_conn, all);
    next = link->next;
    http->is_last = true;
    bool is_idle = !http->has_exchange && http->state != HTTP_LINGERING;
    if (at_once || (is_idle && outbox_is_empty(&http->outbox))) {
      http_conn_close(http);
    } else if (http->state == HTTP_WAITING && http->pending.len == 0) {
      http_conn_finish(http);
    }
  }
}

/* --- the end of an answer --- */

static void linger(struct http_conn *http) {
  http->state = HTTP_LINGERING;
  stream_shutdown(http->stream);
  stream_set_reading(http->stream, true);
  set_timer(http, http->worker->limits->linger_timeout);
}

static void on_flushed(struct outbox *outbox) {
  struct http_conn *http = CONTAINER_OF(outbox, struct http_conn, outbox);
  if (http->state != HTTP_FINISHING) {
    if (http->pending.len > 0 || http->has_ended) http_conn_go_on(http);
    if (http->state == HTTP_WAITING) {
      set_deadline(http, http->worker->turn_ms, http->worker->limits->keep_alive_timeout);
    }
    return;
  }
  if (http->has_ended) {
    http_conn_close(http);
  } else {
    linger(http);
  }
}

/* The peer does not take its answer. */
static void on_blocked(struct outbox *outbox) {
  struct http_conn *http = CONTAINER_OF(outbox, struct http_conn, outbox);
  if (http->state == HTTP_WAITING) wait_for_request(http);
}

static void on_broken(struct outbox *outbox, int error) {
  struct http_conn *http = CONTAINER_OF(outbox, struct http_conn, outbox);
  (void)error;
  http_conn_close(http);
}

static const struct outbox_events outbox_events = {
    .on_flushed = on_flushed, .on_blocked = on_blocked, .on_broken = on_broken};

void http_conn_finish(struct http_conn *http) {
  http->state = HTTP_FINISHING;
  set_timer(http, http->worker->limits->user_timeout);
  worker_mark_dirty(http->worker, &http->outbox);
}

void http_conn_fail(struct http_conn *http, int status, const char *reason) {
  log_debug("%d for %.*s: %s", status, (int)gateway_address_text(http->address).len,
            gateway_address_text(http->address).data, reason);
  if (http->has_exchange) http_exchange_cancel(http);
  http->is_last = true;
  http_answer_plain(http, status, reason);
  http_conn_finish(http);
}

/* --- reading --- */

/* Keeps what a client sends ahead while a handler is under way. */
static void keep_pending(struct http_conn *http, slice rest) {
  buf_append(&http->pending, rest);
  if (http->pending.len > http->worker->limits->header_bytes && http->stream != NULL) {
    http->is_paused = true;
    stream_set_reading(http->stream, false);
  }
}

static void begin_request(struct http_conn *http) {
  if (http->exchange.request == NULL) {
    http->exchange.request = request_new(&http->worker->requests);
  }
  http->is_head = false;
  if (http->state == HTTP_READING_HEAD) return; /* the first: its time runs since the accept */
  http->state = HTTP_READING_HEAD;
  stop_timer(http);
}

static void on_head(struct http_conn *http) {
  const struct http1_head *head = request_head(http->exchange.request);
  http->state = HTTP_READING_BODY;
  http->http_minor = head->http_minor;
  http->is_head = head->method == HTTP1_METHOD_HEAD;
  stop_timer(http);
  http_exchange_begin(http);
}

static void on_body(struct http_conn *http, slice piece) {
  buf_append(request_body_buf(http->exchange.request), piece);
}

static void on_request(struct http_conn *http) {
  stop_timer(http);
  http->state = HTTP_ANSWERING;
  http_exchange_run(http);
}

/* Whether more input may be decoded now: not while somebody is asked, not when the stream has
 * gone elsewhere, and not for a client that pipelines requests and reads no answers. */
static bool can_decode(const struct http_conn *http) {
  return http->state <= HTTP_READING_BODY && !http->is_asking &&
         outbox_bytes(&http->outbox) <= http->worker->limits->outbox_soft_bytes &&
         !outbox_has_source(&http->outbox);
}

/* No byte of a request is there, only empty lines ahead of it. */
static bool is_between_requests(const struct http_conn *http, const struct http1_decoder *decoder) {
  return http->state == HTTP_READING_HEAD && http->has_answered && http1_decoder_is_idle(decoder);
}

/* Decodes as far as it goes; returns what is left. */
static slice decode(struct http_conn *http, slice in) {
  while (can_decode(http)) {
    if (http->exchange.request == NULL || http->state == HTTP_WAITING) {
      if (in.len == 0) break;
      begin_request(http);
    }
    struct http1_decoder *decoder = request_decoder(http->exchange.request);
    size_t consumed;
    slice piece;
    http1_result result = http1_decode(decoder, in, &consumed, &piece);
    in = slice_skip(in, consumed);
    switch (result) {
      case HTTP1_HEAD:
        on_head(http);
        break;
      case HTTP1_BODY:
        on_body(http, piece);
        break;
      case HTTP1_DONE:
        on_request(http);
        break;
      case HTTP1_ERROR:
        http_conn_fail(http, decoder->fault.status, decoder->fault.reason);
        break;
      case HTTP1_PARTIAL:
        if (is_between_requests(http, decoder)) {
          http->state = HTTP_WAITING;
          wait_for_request(http);
        }
        wait_for_rest(http);
        return in;
    }
  }
  wait_for_rest(http);
  return in;
}

void http_conn_feed(struct http_conn *http, char *data, size_t len) {
  slice rest = decode(http, slice_of(data, len));
  if (http->upgraded != NULL) {
    struct conn *conn = http->upgraded;
    http->upgraded = NULL;
    http_upgrade_feed(conn, data + (len - rest.len), rest.len);
  } else if (rest.len > 0 && http->state <= HTTP_ANSWERING) {
    keep_pending(http, rest);
  }
}

void http_conn_go_on(struct http_conn *http) {
  if (http->is_feeding || (!can_decode(http) && http->upgraded == NULL)) return;
  http->is_feeding = true;
  struct buf pending = http->pending;
  buf_init(&http->pending, 0);
  http_conn_feed(http, pending.data, pending.len);
  buf_deinit(&pending);
  http->is_feeding = false;
  if (http->state == HTTP_RETIRED) return;
  if (http->is_paused && http->pending.len == 0 && http->stream != NULL) {
    http->is_paused = false;
    stream_set_reading(http->stream, true);
  }
  if (http->has_ended && http->state <= HTTP_READING_BODY && !http->is_asking &&
      http->pending.len == 0) {
    http_conn_finish(http);
  }
}

static void on_read(void *owner, char *data, size_t len) {
  struct http_conn *http = owner;
  struct worker *worker = http->worker;
  if (http->state == HTTP_LINGERING) {
    http->lingered_bytes += len;
    if (http->lingered_bytes > LINGER_BYTES) http_conn_close(http);
  } else if (http->pending.len > 0 ? http->state <= HTTP_ANSWERING
                                   : http->state == HTTP_ANSWERING || http->is_asking) {
    keep_pending(http, slice_of(data, len));
  } else if (http->state <= HTTP_READING_BODY) {
    http->is_feeding = true;
    http_conn_feed(http, data, len);
    http->is_feeding = false;
  }
  worker_after_event(worker);
}

/* The peer sends no more. What it asked for is still answered; a broken stream takes nothing. */
static void on_end(void *owner, int error) {
  struct http_conn *http = owner;
  struct worker *worker = http->worker;
  http->has_ended = true;
  if (error < 0 || http->state == HTTP_LINGERING) {
    http_conn_close(http);
  } else if (http->pending.len == 0 && http->state != HTTP_ANSWERING && !http->is_asking) {
    /* Between two requests, or in the middle of one that will never be whole. */
    if (outbox_is_empty(&http->outbox)) {
      http_conn_close(http);
    } else {
      http_conn_finish(http);
    }
  }
  worker_after_event(worker);
}

static void on_writable(void *owner, int error) {
  struct http_conn *http = owner;
  struct worker *worker = http->worker;
  if (outbox_on_writable(&http->outbox, error) == OUTBOX_HAS_MORE) {
    worker_mark_dirty(worker, &http->outbox);
  }
  /* It takes what is written, however slowly. */
  if (http->state == HTTP_WAITING) wait_for_request(http);
  if (http->state == HTTP_FINISHING) set_timer(http, worker->limits->user_timeout);
  worker_after_event(worker);
}

static const struct stream_events stream_events = {on_read, on_end, on_writable, on_closed};
