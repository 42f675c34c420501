/* churn: connections that are opened, upgraded, closed and opened again. */
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/run.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

static void prepare(void) {
  pool_prepare(options.conns);
}

static greeting greeting_of(const struct conn *conn) {
  (void)conn;
  return GREETING_WS;
}

static void start_over(struct conn *conn) {
  conn_close(conn);
  conn->state = CONN_FREE;
  pool.open--;
  if (run_wants_more()) conn_open(conn);
}

static void on_open(struct conn *conn, uint64_t now) {
  tally_message(now - conn->opened_at_ns);
  if (options.is_abrupt) {
    start_over(conn);
  } else {
    conn->state = CONN_CLOSING;
    ws_send(conn, WS_CLOSE, "\x03\xe8", 2); /* 1000 */
  }
}

static bool on_end(struct conn *conn) {
  if (conn->state != CONN_CLOSING) return false;
  start_over(conn);
  return true;
}

const struct workload churn_workload = {
    .name = "churn",
    .unit = "connections",
    .prepare = prepare,
    .greeting_of = greeting_of,
    .on_open = on_open,
    .on_bytes = ws_feed,
    .on_end = on_end,
};
