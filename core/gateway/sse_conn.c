#include "gateway/sse_conn.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "codec/http1_response.h"
#include "codec/sse.h"
#include "codec/ws_frame.h"
#include "gateway/conn.h"
#include "gateway/one_way.h"
#include "gateway/worker.h"

/* An event stream needs nothing beside the connection itself. */

/* Queues one event of this connection alone; false for one that cannot be encoded. */
static bool push_event(struct conn *conn, const sse_event *event) {
  size_t event_len = sse_encoded_size(event);
  if (event_len == 0 || conn->stream == NULL) return false;
  sse_extent extent = sse_chunk_extent(event_len);
  size_t len = conn->is_unframed ? event_len : extent.chunk_len;
  char *place = conn_reserve(conn, len);
  if (conn->is_unframed) {
    sse_encode(event, place);
  } else {
    sse_encode_chunk(event, event_len, place);
  }
  conn_commit(conn, len);
  return true;
}

/* Nothing was written for a while: a comment that proxies and the kernel see, and the position up
 * to which the reader has everything. */
static void send_idle(struct conn *conn) {
  topics_refresh(&conn->worker->topics);
  if (!conn_is_open(conn)) return;
  char position[WORKER_POSITION_BYTES];
  sse_event event = {.comment = SLICE("")};
  /* While on_open has not returned, what is held back is not handed over yet. */
  if (conn->has_begun && conn->state == CONN_OPEN) {
    size_t len = worker_format_position(conn->worker, &conn->worker->topics.position, position);
    event.id = slice_of(position, len);
  }
  push_event(conn, &event);
}

static void on_timer(struct conn *conn, uint64_t now_ms) {
  if (one_way_run_timer(conn, now_ms)) send_idle(conn);
  one_way_set_timer(conn);
}

static void on_flushed(struct conn *conn) {
  /* The timer is set lazily: it finds out how long ago this was. */
  conn->last_heard_ms = clock_peers_ms();
  one_way_on_flushed(conn);
}

/* The stream ends with its last chunk; whatever code the script gave is for its own on_close. */
static void close_conn(struct conn *conn, int code, slice reason) {
  (void)code;
  (void)reason;
  if (!conn->is_unframed) {
    conn_push_bytes(conn, HTTP1_LAST_CHUNK);
  } else {
    conn_mark_dirty(conn);
  }
  conn->due_ms = clock_now_ms() + conn->worker->limits->close_timeout * 1000;
  one_way_set_timer(conn);
  conn_end_soon(conn); /* no event can come any more */
}

static conn_result send_message(struct conn *conn, slice data, data_kind kind, slice event_name,
                                uint64_t retry_ms) {
  /* An event stream carries text; conn_send has checked what is sent as such. */
  if (kind == DATA_BINARY && !utf8_is_valid(data)) return CONN_BAD_UTF8;
  sse_event event = {.data = data.len > 0 ? data : SLICE(""), .retry_ms = (uint32_t)retry_ms};
  if (event_name.len > 0) event.event = event_name;
  size_t len = sse_encoded_size(&event);
  if (len == 0) return CONN_BAD_EVENT;
  if (!conn_make_room(conn, sse_chunk_extent(len).chunk_len, NULL)) return CONN_TOO_LARGE;
  push_event(conn, &event);
  return CONN_OK;
}

static void send_position(struct conn *conn, const hub_position *position) {
  char text[WORKER_POSITION_BYTES];
  size_t len = worker_format_position(conn->worker, position, text);
  sse_event event = {.id = slice_of(text, len)};
  push_event(conn, &event);
}

static const struct stream_events stream_events = {one_way_on_read, one_way_on_end,
                                                   one_way_on_writable, one_way_on_closed};

static void on_route(struct conn *conn, const route_options *before) {
  (void)before;
  if (conn->stream != NULL && conn_is_open(conn)) one_way_set_timer(conn);
}

static void deinit(struct conn *conn) {
  (void)conn;
}

static const struct conn_ops ops = {
    .transport = "sse",
    .send = send_message,
    .close = close_conn,
    .on_timer = on_timer,
    .set_timer = one_way_set_timer,
    .on_flushed = on_flushed,
    .on_ready = one_way_on_ready,
    .send_position = send_position,
    .on_route = on_route,
    .deinit = deinit,
    .encoding = ENCODING_SSE,
    .replay_encoding = ENCODING_SSE_BARE,
};

struct conn *sse_conn_open(struct worker *worker, const conn_origin *origin, bool is_unframed) {
  struct conn *conn = conn_new(sizeof(struct conn), &ops, worker, origin);
  const struct route *route = conn->route;
  conn->is_unframed = is_unframed;
  stream_set_owner(conn->stream, &stream_events, conn);
  conn_push_bytes(conn, origin->head);
  if (route->options.retry_ms > 0) {
    sse_event retry = {.retry_ms = (uint32_t)route->options.retry_ms};
    push_event(conn, &retry);
  }
  stream_set_reading(conn->stream, true);
  conn_open(conn);
  one_way_set_timer(conn);
  return conn;
}
