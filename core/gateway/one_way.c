#include "gateway/one_way.h"

#include "base/clock.h"
#include "codec/ws_frame.h"
#include "gateway/conn.h"
#include "gateway/worker.h"

void one_way_set_timer(struct conn *conn) {
  uint64_t due_ms = conn->due_ms;
  if (conn_is_open(conn)) {
    uint64_t every_ms = conn->route->options.ping_every_ms;
    uint64_t idle_ms = every_ms > 0 ? conn->last_heard_ms + every_ms : UINT64_MAX;
    idle_ms = clock_peers_due_ms(idle_ms);
    if (idle_ms < due_ms) due_ms = idle_ms;
    if (conn->next_tick_ms < due_ms) due_ms = conn->next_tick_ms;
  }
  conn_set_timer(conn, due_ms);
}

bool one_way_run_timer(struct conn *conn, uint64_t now_ms) {
  if (now_ms >= conn->due_ms) {
    conn->due_ms = UINT64_MAX;
    if (conn->stream != NULL) stream_close(conn->stream, false);
    return false;
  }
  if (!conn_is_open(conn)) return false;
  conn_run_ticks(conn, now_ms);
  uint64_t every_ms = conn->route->options.ping_every_ms;
  uint64_t peers_ms = clock_peers_ms();
  if (every_ms == 0 || peers_ms < conn->last_heard_ms + every_ms) return false;
  conn->last_heard_ms = peers_ms;
  return true;
}

void one_way_on_flushed(struct conn *conn) {
  if (conn_is_open(conn) || conn->has_shut_down || conn->stream == NULL) return;
  if (!outbox_is_empty(&conn->outbox)) return;
  conn->has_shut_down = true;
  stream_shutdown(conn->stream);
  conn->due_ms = clock_now_ms() + conn->worker->limits->linger_timeout * 1000;
  one_way_set_timer(conn);
}

void one_way_on_ready(struct conn *conn) {
  (void)conn; /* nothing is ever read */
}

void one_way_on_read(void *owner, char *data, size_t len) {
  (void)owner; /* A reader has nothing to say on this connection any more. */
  (void)data;
  (void)len;
}

void one_way_on_end(void *owner, int error) {
  struct conn *conn = owner;
  struct worker *worker = conn->worker;
  conn_retain(conn);
  conn_note_close(conn, error < 0 ? WS_CLOSE_ABNORMAL : WS_CLOSE_NO_CODE, SLICE(""));
  if (conn->state < CONN_CLOSING) conn->state = CONN_CLOSING;
  conn_end(conn);
  if (conn->stream != NULL) stream_close(conn->stream, false);
  conn_release(conn);
  worker_after_event(worker);
}

void one_way_on_writable(void *owner, int error) {
  struct conn *conn = owner;
  struct worker *worker = conn->worker;
  if (outbox_on_writable(&conn->outbox, error) == OUTBOX_HAS_MORE) conn_mark_dirty(conn);
  worker_after_event(worker);
}

void one_way_on_closed(void *owner) {
  conn_detach_stream(owner);
}
