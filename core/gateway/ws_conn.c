#include "gateway/ws_conn.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/ws_frame.h"
#include "codec/ws_message.h"
#include "gateway/conn.h"
#include "gateway/conn_events.h"
#include "gateway/rate.h"
#include "gateway/worker.h"

/* What a connection holds of its input; there only while it does. */
struct ws_input {
  struct ws_decoder decoder; /* of a message or frame that is not whole; else idle */
  struct buf unread;         /* bytes that wait behind a suspended handler */
};

/* Where the route has a rate. */
struct ws_rate {
  rate_bucket bucket;
  uint64_t due_ms; /* `excess = "wait"`: when the next message may be read; UINT64_MAX: now */
};

struct ws_conn {
  struct conn conn;       /* first: conn_new allocates the whole */
  struct ws_input *input; /* NULL: none */
  struct ws_rate *rate;   /* NULL: none */
  bool has_sent_close;
  bool has_got_close;
  bool is_over;   /* what still comes is discarded */
  bool has_ended; /* the peer sends no more */
};

static struct ws_conn *ws_of(struct conn *conn) {
  return CONTAINER_OF(conn, struct ws_conn, conn);
}

/* None once the stream is closed. Inline: once an echo. */
static inline __attribute__((always_inline)) void push_frame(struct conn *conn, ws_opcode opcode,
                                                             slice payload) {
  if (conn->stream == NULL) return;
  size_t header = ws_frame_header_size(payload.len);
  char *place = conn_reserve(conn, header + payload.len);
  ws_frame_encode(place, opcode, true, payload.len);
  if (payload.len > 0) memcpy(place + header, payload.data, payload.len);
  conn_commit(conn, header + payload.len);
}

/* The same within max_outbox. */
static conn_result send_frame(struct conn *conn, ws_opcode opcode, slice payload) {
  size_t len = ws_frame_header_size(payload.len) + payload.len;
  if (!conn_make_room(conn, len, NULL)) return CONN_TOO_LARGE;
  push_frame(conn, opcode, payload);
  return CONN_OK;
}

static void push_close(struct ws_conn *ws, int code, slice reason) {
  if (ws->has_sent_close) return;
  ws->has_sent_close = true;
  ws->conn.outbox.is_awaited = true; /* from here on */
  char frame[WS_FRAME_CLOSE_MAX];
  size_t len = ws_frame_encode_close(frame, (uint16_t)code, reason);
  conn_push_bytes(&ws->conn, slice_of(frame, len));
}

static void on_ready(struct conn *conn);

/* --- time --- */

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static void set_timer(struct conn *conn) {
  if (!conn_is_open(conn)) {
    conn_set_timer(conn, conn->due_ms);
    return;
  }
  const struct ws_rate *rate = ws_of(conn)->rate;
  uint64_t peers_due_ms = conn->due_ms;
  if (conn->route->options.idle_timeout_ms > 0 && !conn->is_unread) {
    uint64_t idle_ms = conn->last_heard_ms + conn->route->options.idle_timeout_ms;
    peers_due_ms = earlier(peers_due_ms, idle_ms);
  }
  uint64_t due_ms = earlier(clock_peers_due_ms(peers_due_ms), conn->next_tick_ms);
  if (rate != NULL) due_ms = earlier(due_ms, rate->due_ms);
  conn_set_timer(conn, due_ms);
}

/* The closing handshake took too long, or its linger is over. */
static void on_close_due(struct ws_conn *ws) {
  struct conn *conn = &ws->conn;
  conn->due_ms = UINT64_MAX;
  conn_end(conn);
  if (conn->stream != NULL) stream_close(conn->stream, false);
}

static void on_timer(struct conn *conn, uint64_t now_ms) {
  struct ws_conn *ws = ws_of(conn);
  const route_options *options = &conn->route->options;
  if (conn_is_open(conn)) {
    conn_run_ticks(conn, now_ms);
  } else if (now_ms >= conn->due_ms) {
    on_close_due(ws);
    return;
  }
  if (conn_is_open(conn)) { /* a tick may have closed it */
    uint64_t peers_ms = clock_peers_ms();
    uint64_t quiet_ms = peers_ms - conn->last_heard_ms;
    if (options->idle_timeout_ms > 0 && !conn->is_unread && quiet_ms >= options->idle_timeout_ms) {
      conn_begin_close(conn, WS_CLOSE_NORMAL, SLICE("idle for too long"));
    } else if (peers_ms >= conn->due_ms) {
      conn->due_ms = peers_ms + options->ping_every_ms;
      if (!conn->is_unread) push_frame(conn, WS_OPCODE_PING, SLICE(""));
    }
    if (ws->rate != NULL && now_ms >= ws->rate->due_ms) {
      ws->rate->due_ms = UINT64_MAX;
      conn->is_unread = false;
      on_ready(conn);
    }
  }
  set_timer(conn);
}

/* --- the end --- */

/* Both close frames are through, or no more will come: the stream closes when all is written. A
 * peer that may still be sending has a moment to read why. */
static void finish(struct ws_conn *ws) {
  struct conn *conn = &ws->conn;
  if (conn->has_shut_down || conn->stream == NULL) return;
  if (!outbox_is_empty(&conn->outbox)) return; /* on_flushed comes back here */
  conn->has_shut_down = true;
  /* After its close frame the peer sends no more (RFC 6455 section 5.5.1), so nothing can arrive
   * that would make the kernel answer with a reset and take our frame back; section 7.1.1 wants the
   * server to close first. */
  if (ws->has_ended || ws->has_got_close) {
    stream_close(conn->stream, false);
    return;
  }
  stream_shutdown(conn->stream);
  conn->due_ms = clock_now_ms() + conn->worker->limits->linger_timeout * 1000;
  set_timer(conn);
}

static void on_flushed(struct conn *conn) {
  struct ws_conn *ws = ws_of(conn);
  if (ws->has_sent_close && (ws->has_got_close || ws->is_over)) finish(ws);
}

static void close_conn(struct conn *conn, int code, slice reason) {
  struct ws_conn *ws = ws_of(conn);
  push_close(ws, code != 0 ? code : WS_CLOSE_NO_CODE, reason);
  /* The peer's close frame has to be read, whatever waits in front of it. */
  if (conn->is_unread) worker_make_runnable(conn->worker, conn);
  conn->due_ms = clock_now_ms() + conn->worker->limits->close_timeout * 1000;
  set_timer(conn);
}

/* The peer broke a rule: it is told why, and nothing more is heard. */
static void fail(struct ws_conn *ws, uint16_t code, const char *why) {
  struct conn *conn = &ws->conn;
  log_debug("connection %llu: %s", (unsigned long long)conn->subscriber.id, why);
  ws->is_over = true;
  conn_begin_close(conn, code, slice_of_string(why));
  conn_end(conn);
  if (ws->has_sent_close) finish(ws);
}

static void on_peer_close(struct ws_conn *ws, uint16_t code, slice reason) {
  struct conn *conn = &ws->conn;
  ws->has_got_close = true;
  conn_note_close(conn, code, reason);
  if (conn_is_open(conn)) {
    conn->state = CONN_CLOSING;
    push_close(ws, code, reason);
    conn->due_ms = clock_now_ms() + conn->worker->limits->close_timeout * 1000;
    set_timer(conn);
  }
  conn_end(conn);
  finish(ws);
}

/* --- reading --- */

static void on_data(struct ws_conn *ws, slice data, bool is_binary) {
  struct conn *conn = &ws->conn;
  if (!conn_is_open(conn)) return; /* frames after our close frame are discarded */
  switch (ws->rate != NULL ? rate_take(&ws->rate->bucket, &conn->route->options) : RATE_PASS) {
    case RATE_PASS:
      break;
    case RATE_DROP:
      return;
    case RATE_CLOSE:
      conn_begin_close(conn, WS_CLOSE_POLICY, SLICE("too many messages"));
      return;
  }
  conn_events_push_message(conn, data, is_binary);
}

static void on_event(struct ws_conn *ws, const ws_event *event) {
  switch (event->kind) {
    case WS_EVENT_TEXT:
    case WS_EVENT_BINARY:
      on_data(ws, event->data, event->kind == WS_EVENT_BINARY);
      break;
    case WS_EVENT_PING:
      if (!ws->has_sent_close) send_frame(&ws->conn, WS_OPCODE_PONG, event->data);
      break;
    case WS_EVENT_CLOSE:
      on_peer_close(ws, event->code, event->data);
      break;
    case WS_EVENT_ERROR:
      fail(ws, event->code, event->error);
      break;
    case WS_EVENT_PONG:
    case WS_EVENT_NONE:
      break;
  }
}

static struct ws_input *input_of(struct ws_conn *ws) {
  if (ws->input == NULL) {
    const struct conn *conn = &ws->conn;
    ws->input = mem_alloc(sizeof *ws->input);
    ws_decoder_init(&ws->input->decoder, conn->route->options.max_message_bytes,
                    (uint32_t)conn->worker->limits->fragments);
    buf_init(&ws->input->unread, 0);
  }
  return ws->input;
}

static void free_input(struct ws_conn *ws) {
  if (ws->input == NULL) return;
  ws_decoder_deinit(&ws->input->decoder);
  buf_deinit(&ws->input->unread);
  mem_free(ws->input);
  ws->input = NULL;
}

/* Keeps what has not been decoded until the handler in front of it is done. */
static void keep_unread(struct ws_conn *ws, slice rest) {
  buf_append(&input_of(ws)->unread, rest);
  ws->conn.is_unread = true;
  if (ws->conn.stream != NULL) stream_set_reading(ws->conn.stream, false);
}

/* With `excess = "wait"` the peer's next message is not read before it may be sent. */
static bool has_to_wait(struct ws_conn *ws) {
  if (ws->rate == NULL) return false;
  uint64_t wait_ms = rate_wait_ms(&ws->rate->bucket, &ws->conn.route->options);
  if (wait_ms == 0) return false;
  ws->rate->due_ms = clock_now_ms() + wait_ms;
  set_timer(&ws->conn);
  return true;
}

/* Most messages lie whole in what was read, and need no decoder. */
static size_t next_event(struct ws_conn *ws, char *data, size_t len, ws_event *event) {
  if (ws->input == NULL) {
    uint64_t max_bytes = ws->conn.route->options.max_message_bytes;
    size_t taken = ws_message_take_whole(data, len, max_bytes, event);
    if (taken > 0) return taken;
  }
  return ws_decoder_next(&input_of(ws)->decoder, data, len, event);
}

static void decode(struct ws_conn *ws, char *data, size_t len) {
  struct conn *conn = &ws->conn;
  while (!ws->is_over && !ws->has_got_close) {
    if (conn_is_open(conn) && (!conn_can_take_message(conn) || has_to_wait(ws))) {
      keep_unread(ws, slice_of(data, len));
      return;
    }
    ws_event event;
    size_t taken = next_event(ws, data, len, &event);
    if (event.kind == WS_EVENT_NONE) return;
    on_event(ws, &event);
    data += taken;
    len -= taken;
    if (len == 0 && (ws->input == NULL || !ws_decoder_is_holding(&ws->input->decoder))) return;
  }
}

/* Between two messages there is nothing to keep, nor where nothing more will be heard. */
static void trim_input(struct ws_conn *ws) {
  bool is_over = ws->is_over || ws->has_got_close;
  if (ws->conn.is_unread || !(is_over || ws_decoder_is_idle(&ws->input->decoder))) return;
  free_input(ws);
}

void ws_conn_feed(struct conn *conn, char *data, size_t len) {
  struct ws_conn *ws = ws_of(conn);
  conn_retain(conn);
  decode(ws, data, len);
  if (ws->input != NULL) trim_input(ws);
  conn_release(conn);
}

static void on_read(void *owner, char *data, size_t len) {
  struct ws_conn *ws = owner;
  struct worker *worker = ws->conn.worker;
  ws->conn.last_heard_ms = clock_peers_ms_at(worker->streams.polled_ns);
  ws_conn_feed(&ws->conn, data, len);
  worker_after_event(worker);
}

static void on_ready(struct conn *conn) {
  struct ws_conn *ws = ws_of(conn);
  conn->last_heard_ms = clock_peers_ms(); /* the idle clock stood still */
  if (ws->input != NULL) {
    struct buf unread = ws->input->unread;
    buf_init(&ws->input->unread, 0);
    ws_conn_feed(conn, unread.data, unread.len);
    buf_deinit(&unread);
  }
  if (!conn->is_unread && conn->stream != NULL) stream_set_reading(conn->stream, true);
  set_timer(conn);
}

static void on_end(void *owner, int error) {
  struct ws_conn *ws = owner;
  struct conn *conn = &ws->conn;
  struct worker *worker = conn->worker;
  conn_retain(conn);
  ws->has_ended = true;
  if (conn->state < CONN_CLOSING) conn->state = CONN_CLOSING;
  conn_end(conn);
  /* An orderly end may still take what is queued, our close frame above all. */
  ws->is_over = true;
  if (conn->stream != NULL) {
    if (error < 0 || conn->has_shut_down || !ws->has_sent_close) {
      stream_close(conn->stream, false);
    } else {
      finish(ws);
    }
  }
  conn_release(conn);
  worker_after_event(worker);
}

static void on_writable(void *owner, int error) {
  struct ws_conn *ws = owner;
  struct worker *worker = ws->conn.worker;
  if (outbox_on_writable(&ws->conn.outbox, error) == OUTBOX_HAS_MORE) conn_mark_dirty(&ws->conn);
  worker_after_event(worker);
}

static void on_closed(void *owner) {
  struct ws_conn *ws = owner;
  conn_detach_stream(&ws->conn);
}

static const struct stream_events stream_events = {on_read, on_end, on_writable, on_closed};

/* --- what a connection does --- */

static conn_result send_message(struct conn *conn, slice data, data_kind kind, slice event,
                                uint64_t retry_ms) {
  (void)event; /* names and retry times are an event stream's */
  (void)retry_ms;
  return send_frame(conn, kind == DATA_BINARY ? WS_OPCODE_BINARY : WS_OPCODE_TEXT, data);
}

static void set_rate(struct ws_conn *ws) {
  const route_options *options = &ws->conn.route->options;
  mem_free(ws->rate);
  ws->rate = NULL;
  if (options->rate_per_ms == 0) return;
  ws->rate = mem_alloc(sizeof *ws->rate);
  rate_init(&ws->rate->bucket, options);
  ws->rate->due_ms = UINT64_MAX;
}

static void on_route(struct conn *conn, const route_options *before) {
  struct ws_conn *ws = ws_of(conn);
  const route_options *options = &conn->route->options;
  if (conn->stream == NULL || !conn_is_open(conn)) return;
  if (options->rate_messages != before->rate_messages ||
      options->rate_per_ms != before->rate_per_ms) {
    bool is_waiting = ws->rate != NULL && ws->rate->due_ms != UINT64_MAX;
    set_rate(ws);
    /* Whoever waits for the old rate goes on in the turn. */
    if (is_waiting) worker_make_runnable(conn->worker, conn);
  }
  if (options->ping_every_ms != before->ping_every_ms) {
    conn->due_ms =
        options->ping_every_ms > 0 ? clock_peers_ms() + options->ping_every_ms : UINT64_MAX;
  }
  set_timer(conn);
}

static void deinit(struct conn *conn) {
  struct ws_conn *ws = ws_of(conn);
  free_input(ws);
  mem_free(ws->rate);
  ws->rate = NULL;
  ws->is_over = true;
}

static const struct conn_ops ops = {
    .transport = "websocket",
    .send = send_message,
    .close = close_conn,
    .on_timer = on_timer,
    .set_timer = set_timer,
    .on_flushed = on_flushed,
    .on_ready = on_ready,
    .on_route = on_route,
    .deinit = deinit,
    .encoding = ENCODING_WS,
    .replay_encoding = ENCODING_WS,
};

struct conn *ws_conn_open(struct worker *worker, const conn_origin *origin, int refuse_code,
                          slice refuse_reason) {
  struct conn *conn = conn_new(sizeof(struct ws_conn), &ops, worker, origin);
  const struct route *route = conn->route;
  struct ws_conn *ws = ws_of(conn);
  set_rate(ws);
  if (route->options.ping_every_ms > 0) {
    conn->due_ms = conn->last_heard_ms + route->options.ping_every_ms;
  }
  conn->outbox.is_awaited = false;
  stream_set_owner(conn->stream, &stream_events, ws);
  conn_push_bytes(conn, origin->head);
  stream_set_reading(conn->stream, true);
  if (refuse_code != 0) {
    conn_refuse(conn, refuse_code, refuse_reason);
  } else {
    conn_open(conn);
  }
  set_timer(conn);
  return conn;
}
