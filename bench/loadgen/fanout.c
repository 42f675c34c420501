/* ws-fanout and sse-fanout: publications that every subscriber gets, once and in order.
 *
 * In a closed loop a publisher's message n goes out when its message n - inflight has reached every
 * subscriber. With a rate it goes out when it is due, whatever happens, and its latency counts from
 * then, so that a stall shows. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/http.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/publication.h"
#include "loadgen/run.h"
#include "loadgen/stamp.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

/* The publication, or the whole POST of it, and where its stamp goes. */
static publication text;

static int subscriber_count;
static int publisher_count;
static struct conn **publishers;
static uint32_t *expected; /* sequence numbers, by subscriber and publisher */
static bool is_sse;

/* Puts a POST's head before the publication. */
static void build_post(void) {
  char *head;
  int len = asprintf(&head,
                     "POST %s HTTP/1.1\r\nHost: %s:%d\r\n%sContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     options.publish_path, options.host, options.port, options.header,
                     text.text.len);
  if (len < 0) base_fail("out of memory");
  bytes whole = {0};
  bytes_append(&whole, head, (size_t)len);
  bytes_append(&whole, text.text.data, text.text.len);
  text.text = whole;
  text.stamp_at += (size_t)len;
}

static void prepare_conns(void) {
  subscriber_count = options.conns;
  publisher_count = options.is_room ? options.conns : options.publishers;
  pool_prepare(options.is_room ? options.conns : options.conns + options.publishers);
  expected = base_zeroed((size_t)subscriber_count * (size_t)publisher_count, sizeof *expected);
  publishers = base_zeroed((size_t)publisher_count, sizeof *publishers);
  for (int i = 0; i < pool.count; i++) {
    struct conn *conn = &pool.conns[i];
    conn->is_subscriber = i < subscriber_count;
    conn->is_publisher = options.is_room || !conn->is_subscriber;
    if (!conn->is_publisher) continue;
    conn->publisher = (uint32_t)(options.is_room ? i : i - subscriber_count);
    publishers[conn->publisher] = conn;
  }
}

static void prepare_ws(void) {
  text = publication_build(options.publication, options.size);
  prepare_conns();
}

static void prepare_sse(void) {
  if (options.is_room) base_fail("--room is for WebSockets");
  is_sse = true;
  text = publication_build(options.publication, options.size);
  build_post();
  prepare_conns();
}

static greeting ws_greeting_of(const struct conn *conn) {
  (void)conn;
  return GREETING_WS;
}

static greeting sse_greeting_of(const struct conn *conn) {
  return conn->is_publisher ? GREETING_NONE : GREETING_SSE;
}

static void on_ws_open(struct conn *conn, uint64_t now) {
  (void)now;
  if (options.join != NULL) ws_send(conn, WS_TEXT, options.join, strlen(options.join));
}

/* Receiving ---------------------------------------------------------------------------------- */

static void on_delivery(const struct conn *conn, const char *data, uint64_t now) {
  stamp got;
  if (!stamp_decode(data, &got) || got.publisher >= (uint32_t)publisher_count) {
    tally.bad++;
    return;
  }
  uint32_t *next = &expected[(size_t)conn->id * (size_t)publisher_count + got.publisher];
  if (got.sequence < *next) {
    tally.reordered++;
    return;
  }
  tally.lost += got.sequence - *next;
  *next = got.sequence + 1;
  publishers[got.publisher]->delivered++;
  tally_message(now > got.due_ns ? now - got.due_ns : 0);
}

/* Returns how many bytes at the end may be the start of a stamp. */
static size_t take_stamps(const struct conn *conn, const char *data, size_t len, uint64_t now) {
  size_t rest;
  size_t at = stamp_find(data, len, 0, &rest);
  if (at == len && rest == 0) tally.other++;
  while (at < len) {
    on_delivery(conn, data + at, now);
    at = stamp_find(data, len, at + STAMP_BYTES, &rest);
  }
  return rest;
}

static void on_ws_piece(struct conn *conn, const char *data, size_t len, bool is_last,
                        uint64_t now) {
  bool is_whole = is_last && conn->frame.offset == 0;
  if (!conn->is_subscriber) {
    if (is_last) tally.other++;
  } else if (is_whole) {
    take_stamps(conn, data, len, now);
  } else {
    bytes_append(&conn->kept, data, len);
    if (!is_last) return;
    take_stamps(conn, conn->kept.data, conn->kept.len, now);
    conn->kept.len = 0;
  }
}

static void on_post_answer(struct conn *conn, const char *data, size_t len) {
  bytes_append(&conn->kept, data, len);
  if (http_response_size(conn->kept.data, conn->kept.len) == 0) return;
  if (memcmp(conn->kept.data, "HTTP/1.1 2", 10) != 0) tally.bad++;
  conn->kept.len = 0;
  conn->is_posting = false;
}

static void on_sse_bytes(struct conn *conn, const char *data, size_t len, uint64_t now) {
  bytes *kept = &conn->kept;
  if (conn->is_publisher) {
    on_post_answer(conn, data, len);
  } else if (kept->len == 0) {
    size_t rest = take_stamps(conn, data, len, now);
    if (rest > 0) bytes_append(kept, data + len - rest, rest);
  } else {
    bytes_append(kept, data, len);
    size_t rest = take_stamps(conn, kept->data, kept->len, now);
    memmove(kept->data, kept->data + kept->len - rest, rest);
    kept->len = rest;
  }
}

/* Publishing --------------------------------------------------------------------------------- */

static void publish(struct conn *conn, uint64_t due_ns) {
  publication_stamp(&text, (stamp){conn->publisher, conn->sequence++, due_ns});
  if (is_sse) {
    conn->is_posting = true;
    conn_send(conn, text.text.data, text.text.len);
  } else {
    ws_send(conn, options.is_binary ? WS_BINARY : WS_TEXT, text.text.data, text.text.len);
  }
  if (tally.is_counting) tally.published++;
}

static bool can_publish(const struct conn *conn) {
  return conn->state == CONN_OPEN && !conn->is_posting;
}

/* The closed loop: as many are under way as may be. */
static bool is_its_turn(const struct conn *conn) {
  uint32_t inflight = (uint32_t)options.inflight;
  if (conn->sequence < inflight) return true;
  return conn->delivered >= (uint64_t)(conn->sequence - inflight + 1) * (uint64_t)subscriber_count;
}

static void send_round(uint64_t now) {
  for (int i = 0; i < publisher_count; i++) {
    struct conn *conn = publishers[i];
    if (options.rate > 0) { /* spread over the period */
      conn->next_due_ns = now + base_ns(i / options.rate / publisher_count);
    } else {
      while (can_publish(conn) && is_its_turn(conn)) publish(conn, now);
    }
  }
}

static void publish_due(uint64_t now) {
  uint64_t next_ns = UINT64_MAX;
  for (int i = 0; i < publisher_count; i++) {
    struct conn *conn = publishers[i];
    while (can_publish(conn) && conn->next_due_ns <= now) {
      publish(conn, conn->next_due_ns);
      conn->next_due_ns += base_ns(1 / options.rate);
    }
    if (conn->state == CONN_OPEN && conn->next_due_ns < next_ns) next_ns = conn->next_due_ns;
  }
  if (next_ns != UINT64_MAX) loop_wake_at(next_ns);
}

static void step(uint64_t now) {
  if (options.rate > 0) {
    publish_due(now);
  } else {
    send_round(now);
  }
}

static uint64_t count_missing(void) {
  uint64_t missing = 0;
  for (int i = 0; i < publisher_count; i++) {
    const struct conn *conn = publishers[i];
    missing += (uint64_t)conn->sequence * (uint64_t)subscriber_count - conn->delivered;
  }
  return missing;
}

static bool is_quiet(void) {
  for (int i = 0; i < publisher_count; i++) {
    if (publishers[i]->is_posting) return false;
  }
  return count_missing() == 0;
}

const struct workload ws_fanout_workload = {
    .name = "ws-fanout",
    .unit = "deliveries",
    .prepare = prepare_ws,
    .greeting_of = ws_greeting_of,
    .on_open = on_ws_open,
    .on_bytes = ws_feed,
    .on_piece = on_ws_piece,
    .send_round = send_round,
    .step = step,
    .is_quiet = is_quiet,
    .count_missing = count_missing,
};

const struct workload sse_fanout_workload = {
    .name = "sse-fanout",
    .unit = "deliveries",
    .prepare = prepare_sse,
    .greeting_of = sse_greeting_of,
    .on_bytes = on_sse_bytes,
    .send_round = send_round,
    .step = step,
    .is_quiet = is_quiet,
    .count_missing = count_missing,
};
