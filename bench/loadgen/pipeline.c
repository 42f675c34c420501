#include "loadgen/pipeline.h"

#include <string.h>
#include <sys/socket.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/run.h"
#include "loadgen/tally.h"

/* The request, repeated: as many as are in flight and one more, so that a send that begins inside
 * of the first never wraps. */
static char *block;
static size_t block_len;
static size_t request_len;

static uint64_t unanswered;

void pipeline_prepare(const char *request, size_t len) {
  size_t count = (size_t)options.inflight + 1;
  request_len = len;
  block_len = len * count;
  block = base_resize(NULL, block_len);
  for (size_t i = 0; i < count; i++) memcpy(block + i * len, request, len);
  pool_prepare(options.conns);
  for (int i = 0; i < pool.count; i++) {
    pool.conns[i].sent_at_ns = base_zeroed((size_t)options.inflight, sizeof(uint64_t));
  }
}

void pipeline_flush(struct conn *conn) {
  while (conn->owed > 0) {
    size_t len = block_len - conn->request_offset;
    if (len > conn->owed) len = (size_t)conn->owed;
    ssize_t sent = send(conn->fd, block + conn->request_offset, len, MSG_NOSIGNAL);
    if (sent <= 0) break;
    conn->owed -= (uint64_t)sent;
    conn->request_offset = (conn->request_offset + (size_t)sent) % request_len;
    if ((size_t)sent < len) break;
  }
  conn_want_write(conn, conn->owed > 0);
}

static void send_requests(struct conn *conn, unsigned count, uint64_t now) {
  conn->owed += count * request_len;
  unanswered += count;
  while (count-- > 0) conn->sent_at_ns[conn->requested++ % (uint32_t)options.inflight] = now;
  pipeline_flush(conn);
}

void pipeline_send_round(uint64_t now) {
  (void)now;
  for (int i = 0; i < pool.count; i++) {
    struct conn *conn = &pool.conns[i];
    if (conn->state == CONN_OPEN) send_requests(conn, (unsigned)options.inflight, base_now_ns());
  }
}

void pipeline_answered(struct conn *conn, uint64_t now) {
  if (conn->answered == conn->requested) {
    tally.bad++; /* an answer to nothing */
    return;
  }
  uint64_t sent_at_ns = conn->sent_at_ns[conn->answered++ % (uint32_t)options.inflight];
  unanswered--;
  tally_message(now > sent_at_ns ? now - sent_at_ns : 0);
}

void pipeline_go_on(struct conn *conn, unsigned count, uint64_t now) {
  if (count > 0 && run_wants_more()) send_requests(conn, count, now);
}

bool pipeline_is_quiet(void) {
  return unanswered == 0;
}

uint64_t pipeline_count_missing(void) {
  return unanswered;
}
