/* churn: connections that are opened, upgraded, closed and opened again. */
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/run.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

/* Nothing is opened ahead: opening is the work. */
static void prepare(void) {
  pool_prepare(options.conns);
  pool.next = pool.count;
}

static void send_round(uint64_t now) {
  (void)now;
  for (int i = 0; i < pool.count; i++) {
    if (pool.conns[i].state == CONN_FREE) conn_open(&pool.conns[i]);
  }
}

static bool is_quiet(void) {
  return pool.opening == 0 && pool.open == 0;
}

static uint64_t count_missing(void) {
  return (uint64_t)(pool.opening + pool.open);
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
    .send_round = send_round,
    .is_quiet = is_quiet,
    .count_missing = count_missing,
};
