/* ws-echo: messages that come back as they were. */
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/pipeline.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

/* Above it the first and the last byte of each piece are compared, which is enough to see a message
 * cut or mixed up and leaves the core to the work. */
enum { COMPARED_BYTES = 4096 };

static char *payload;

static void prepare(void) {
  size_t len = (size_t)options.size;
  char *frame = base_resize(NULL, len + WS_MAX_HEADER);
  payload = base_resize(NULL, len);
  for (size_t i = 0; i < len; i++) payload[i] = (char)('a' + (i * 7 + i / 26) % 26);
  uint8_t opcode = options.is_binary ? WS_BINARY : WS_TEXT;
  pipeline_prepare(frame, ws_encode(frame, opcode, payload, len));
}

static greeting greeting_of(const struct conn *conn) {
  (void)conn;
  return GREETING_WS;
}

static void on_open(struct conn *conn, uint64_t now) {
  (void)now;
  if (options.join != NULL) ws_send(conn, WS_TEXT, options.join, strlen(options.join));
}

static bool is_as_sent(const struct conn *conn, const char *data, size_t len) {
  if (conn->frame.len != (uint64_t)options.size) return false;
  const char *sent = payload + conn->frame.offset;
  if (options.size <= COMPARED_BYTES) return memcmp(data, sent, len) == 0;
  return len == 0 || (data[0] == sent[0] && data[len - 1] == sent[len - 1]);
}

static void on_piece(struct conn *conn, const char *data, size_t len, bool is_last, uint64_t now) {
  if (!is_as_sent(conn, data, len)) tally.bad++;
  if (is_last) pipeline_answered(conn, now);
}

static void on_bytes(struct conn *conn, const char *data, size_t len, uint64_t now) {
  uint32_t before = conn->answered;
  ws_feed(conn, data, len, now);
  if (conn->state == CONN_OPEN) pipeline_go_on(conn, conn->answered - before, now);
}

const struct workload echo_workload = {
    .name = "ws-echo",
    .unit = "messages",
    .prepare = prepare,
    .greeting_of = greeting_of,
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_piece = on_piece,
    .send_round = pipeline_send_round,
    .is_quiet = pipeline_is_quiet,
    .count_missing = pipeline_count_missing,
};
