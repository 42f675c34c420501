#include "gateway/poll_conn.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "codec/http1_response.h"
#include "codec/json_encode.h"
#include "codec/json_event.h"
#include "codec/sse.h"
#include "codec/ws_frame.h"
#include "gateway/one_way.h"
#include "gateway/worker.h"

struct poll_conn {
  struct conn conn;
  char *headers;    /* NULL: none beside ours */
  bool is_opened;   /* on_open has returned */
  bool is_answered; /* what is queued from here on is written */
  bool has_ended;   /* the peer has ended its side behind the answer */
};

static struct poll_conn *poll_of(struct conn *conn) {
  return CONTAINER_OF(conn, struct poll_conn, conn);
}

/* --- the answer --- */

/* A slow reader may take its time, as with any answer, while it takes some of it. */
static void wait_for_reader(struct conn *conn) {
  conn->due_ms = clock_now_ms() + conn->worker->limits->user_timeout * 1000;
  one_way_set_timer(conn);
}

static void answer(struct conn *conn, int status, slice type, slice body) {
  struct poll_conn *poll = poll_of(conn);
  struct buf *out = &conn->worker->scratch;
  http1_response head = {.status = status,
                         .http_minor = 1,
                         .framing = HTTP1_FRAMING_LENGTH,
                         .content_length = body.len,
                         .date = worker_date(conn->worker)};
  buf_clear(out);
  http1_response_begin(out, &head);
  http1_response_header(out, SLICE("Content-Type"), type);
  http1_response_header(out, SLICE("Cache-Control"), SLICE("no-store"));
  if (poll->headers != NULL) buf_append(out, slice_of_string(poll->headers));
  http1_response_end(out);
  poll->is_answered = true;
  conn_write(conn);
  conn_push_bytes(conn, buf_peek(out));
  conn_push_bytes(conn, body);
}

/* Whole events, no more than the outbox may hold; but the first in any case, or a reader would
 * never get past it. */
static void append_events(struct buf *body, struct conn *conn) {
  size_t max_bytes = body->len + conn->route->options.max_outbox_bytes;
  slice event;
  bool is_first = true;
  while ((event = outbox_peek_message(&conn->outbox)).data != NULL) {
    if (!is_first && body->len + event.len >= max_bytes) return;
    if (!is_first) buf_append_char(body, ',');
    buf_append(body, event);
    outbox_drop_message(&conn->outbox, event);
    is_first = false;
  }
}

static void append_position(struct buf *body, struct conn *conn, const hub_position *position) {
  char text[WORKER_POSITION_BYTES];
  json_encode_string(body, slice_of(text, worker_format_position(conn->worker, position, text)));
}

/* With what is there; `position` says up to where that is everything. */
static void answer_events(struct conn *conn, hub_position position) {
  struct buf body;
  buf_init(&body, 0);
  buf_append(&body, SLICE("{\"events\":["));
  append_events(&body, conn);
  outbox_cut(&conn->outbox, &position); /* the next answer begins there */
  buf_append(&body, SLICE("],\"position\":"));
  append_position(&body, conn, &position);
  buf_append_char(&body, '}');
  answer(conn, 200, SLICE("application/json"), buf_peek(&body));
  buf_deinit(&body);
}

/* Without events and without a position: the reader still has its own, and may ask again. */
static void answer_failure(struct conn *conn, int status, slice text) {
  answer(conn, status, SLICE("text/plain; charset=utf-8"), text);
}

/* --- the connection --- */

static void drop_gathered(struct conn *conn) {
  hub_position ignored = conn_position(conn);
  outbox_cut(&conn->outbox, &ignored);
}

static void close_conn(struct conn *conn, int code, slice reason) {
  (void)reason;
  bool is_answered = poll_of(conn)->is_answered;
  if (!is_answered && code == WS_CLOSE_INTERNAL_ERROR) {
    drop_gathered(conn); /* a handler failed */
    answer_failure(conn, 500, SLICE("Internal Server Error"));
  } else if (!is_answered) {
    answer_events(conn, conn_position(conn));
  }
  wait_for_reader(conn);
  conn_end_soon(conn); /* no event can come any more */
}

/* What comes while on_open runs waits for its end: until then it may subscribe to more, of which
 * the answer's position would claim that it was handed over. */
static void on_gathered(struct conn *conn) {
  if (conn->state == CONN_OPEN) conn_begin_close(conn, WS_CLOSE_NORMAL, SLICE(""));
}

static void on_opened(struct conn *conn) {
  poll_of(conn)->is_opened = true;
  if (conn_is_open(conn) && !outbox_is_empty(&conn->outbox)) conn_mark_dirty(conn);
}

static void on_full(struct conn *conn, const hub_position *position) {
  if (poll_of(conn)->is_opened) {
    answer_events(conn, *position);
  } else {
    drop_gathered(conn);
    answer_failure(conn, 503, SLICE("Service Unavailable"));
  }
  conn_begin_close(conn, WS_CLOSE_NORMAL, SLICE(""));
}

static void on_timer(struct conn *conn, uint64_t now_ms) {
  /* While on_open has not returned it waits for another while. */
  if (one_way_run_timer(conn, now_ms) && conn->state == CONN_OPEN) {
    topics_refresh(&conn->worker->topics);
    conn_begin_close(conn, WS_CLOSE_NORMAL, SLICE(""));
  }
  one_way_set_timer(conn);
}

static conn_result send_message(struct conn *conn, slice data, data_kind kind, slice event_name,
                                uint64_t retry_ms) {
  (void)retry_ms; /* how soon to ask again is the reader's affair */
  /* The same names and texts as an event stream has. */
  if (kind == DATA_BINARY && !utf8_is_valid(data)) return CONN_BAD_UTF8;
  sse_event as_sse = {.data = SLICE("")};
  if (event_name.len > 0) as_sse.event = event_name;
  if (sse_encoded_size(&as_sse) == 0) return CONN_BAD_EVENT;
  json_event event = {.event = event_name, .data = data, .is_json = kind == DATA_JSON};
  struct buf json;
  buf_init(&json, 0);
  json_event_encode(&json, &event);
  bool has_room = conn_make_room(conn, json.len, NULL);
  if (has_room) conn_push_bytes(conn, buf_peek(&json));
  buf_deinit(&json);
  return has_room ? CONN_OK : CONN_TOO_LARGE;
}

static void on_flushed(struct conn *conn) {
  if (poll_of(conn)->has_ended) {
    if (conn->stream != NULL) stream_close(conn->stream, false);
  } else {
    one_way_on_flushed(conn);
  }
}

static void on_end(void *owner, int error) {
  struct conn *conn = owner;
  if (error >= 0 && poll_of(conn)->is_answered && !outbox_is_empty(&conn->outbox)) {
    poll_of(conn)->has_ended = true;
    worker_after_event(conn->worker);
    return;
  }
  /* Whoever goes without an answer has broken off. */
  conn_note_close(conn, WS_CLOSE_ABNORMAL, SLICE(""));
  one_way_on_end(conn, error);
}

static void on_writable(void *owner, int error) {
  struct conn *conn = owner;
  if (error >= 0) wait_for_reader(conn);
  one_way_on_writable(conn, error);
}

static const struct stream_events stream_events = {one_way_on_read, on_end, on_writable,
                                                   one_way_on_closed};

static void on_route(struct conn *conn, const route_options *before) {
  (void)before;
  if (conn->stream != NULL && conn_is_open(conn)) one_way_set_timer(conn);
}

static void deinit(struct conn *conn) {
  mem_free(poll_of(conn)->headers);
}

static const struct conn_ops ops = {
    .transport = "poll",
    .send = send_message,
    .close = close_conn,
    .on_timer = on_timer,
    .set_timer = one_way_set_timer,
    .on_flushed = on_flushed,
    .on_ready = one_way_on_ready,
    .on_opened = on_opened,
    .on_gathered = on_gathered,
    .on_full = on_full,
    .on_route = on_route,
    .deinit = deinit,
    .encoding = ENCODING_ENVELOPE, /* without its frame: is_unframed */
    .replay_encoding = ENCODING_ENVELOPE,
};

struct conn *poll_conn_open(struct worker *worker, const conn_origin *origin) {
  struct conn *conn = conn_new(sizeof(struct poll_conn), &ops, worker, origin);
  struct poll_conn *poll = poll_of(conn);
  if (origin->head.len > 0) poll->headers = mem_copy(origin->head);
  conn->is_unframed = true;
  topics_refresh(&worker->topics); /* so that its position is a present one */
  stream_set_owner(conn->stream, &stream_events, conn);
  stream_set_reading(conn->stream, true);
  /* Answers to earlier requests go out first: what is gathered has the outbox for itself. */
  if (outbox_flush(&conn->outbox) == OUTBOX_HAS_MORE) conn_mark_dirty(conn);
  if (!outbox_is_empty(&conn->outbox) || !conn_is_open(conn)) {
    /* Its reader leaves those untaken, or is gone. */
    if (conn_is_open(conn)) answer_failure(conn, 503, SLICE("Service Unavailable"));
    conn_refuse(conn, WS_CLOSE_TRY_AGAIN_LATER, SLICE(""));
    return conn;
  }
  conn_gather(conn);
  conn_open(conn);
  one_way_set_timer(conn);
  return conn;
}
