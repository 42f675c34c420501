/* ws-steady: many connections in rooms of ten that say little each, and now and then something for
 * thousands of them; some of them may be dead.
 *
 * Connection i is in room i / 10. What it says is answered to itself, then published to its room,
 * itself included: so it gets its own words twice. Messages go out at options.rate for all
 * connections together, whatever happens. Their latency counts from when they were sent. */
#include <stdio.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/publication.h"
#include "loadgen/stamp.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

enum {
  ROOM = 10,
  BROADCASTER = 0xffff, /* a broadcast's publisher */
  STRIDE = 7919,        /* a prime: who speaks next is far away */
  JOIN_BYTES = 256,
};

static publication message;
static publication broadcast;
static uint32_t *heard; /* by connection and place in its room: how many messages it has got */
static uint32_t *heard_broadcasts;
static uint32_t sent_broadcasts;
static uint64_t due_deliveries;
static uint64_t deliveries;
static uint64_t next_message_ns;
static uint64_t next_broadcast_ns;
static int speaker;

static void prepare(void) {
  message = publication_build(options.publication, options.size);
  broadcast = publication_build(options.broadcast, options.size);
  if (options.rate <= 0) base_fail("ws-steady needs --rate");
  if (options.conns >= BROADCASTER) base_fail("ws-steady has less than %d connections", BROADCASTER);
  pool_prepare(options.conns);
  heard = base_zeroed((size_t)options.conns * ROOM, sizeof *heard);
  heard_broadcasts = base_zeroed((size_t)options.conns, sizeof *heard_broadcasts);
  for (int i = 0; i < options.dead; i++) {
    pool.conns[(long)i * options.conns / options.dead].is_dead = true;
  }
}

static greeting greeting_of(const struct conn *conn) {
  (void)conn;
  return GREETING_WS;
}

static void join(struct conn *conn, const char *template) {
  char text[JOIN_BYTES];
  const char *at = strstr(template, "{id}");
  int head = at != NULL ? (int)(at - template) : (int)strlen(template);
  int len = snprintf(text, sizeof text, "%.*s", head, template);
  if (at != NULL) {
    len = snprintf(text, sizeof text, "%.*s%u%s", head, template, conn->id, at + strlen("{id}"));
  }
  if (len >= JOIN_BYTES) base_fail("--join is too long");
  ws_send(conn, WS_TEXT, text, (size_t)len);
}

static void on_open(struct conn *conn, uint64_t now) {
  (void)now;
  const char *template =
      conn->is_dead && options.dead_join != NULL ? options.dead_join : options.join;
  if (template != NULL) join(conn, template);
  if (conn->is_dead) conn_ignore(conn);
}

/* Receiving ---------------------------------------------------------------------------------- */

/* Counts one that has come where `*next` was expected. */
static void judge(uint32_t *next, uint32_t expected, uint32_t got, uint32_t times) {
  deliveries++;
  if (got < expected) {
    tally.reordered++;
    return;
  }
  tally.lost += (got - expected) * times;
  *next += 1 + (got - expected) * times;
}

static void on_delivery(const struct conn *conn, const char *data, uint64_t now) {
  stamp got;
  if (!stamp_decode(data, &got)) {
    tally.bad++;
    return;
  }
  uint64_t latency_ns = now > got.due_ns ? now - got.due_ns : 0;
  if (got.publisher == BROADCASTER) {
    uint32_t *next = &heard_broadcasts[conn->id];
    judge(next, *next, got.sequence, 1);
    tally_broadcast(latency_ns);
  } else if (got.publisher / ROOM == conn->id / ROOM) {
    uint32_t *next = &heard[conn->id * ROOM + got.publisher % ROOM];
    uint32_t times = got.publisher == conn->id ? 2 : 1;
    judge(next, *next / times, got.sequence, times);
    tally_message(latency_ns);
  } else {
    tally.bad++;
  }
}

static void take(const struct conn *conn, const char *data, size_t len, uint64_t now) {
  size_t rest;
  size_t at = stamp_find(data, len, 0, &rest);
  if (at < len) {
    on_delivery(conn, data + at, now);
  } else {
    tally.other++;
  }
}

static void on_piece(struct conn *conn, const char *data, size_t len, bool is_last, uint64_t now) {
  if (is_last && conn->frame.offset == 0) {
    take(conn, data, len, now);
    return;
  }
  bytes_append(&conn->kept, data, len);
  if (!is_last) return;
  take(conn, conn->kept.data, conn->kept.len, now);
  conn->kept.len = 0;
}

/* Sending ------------------------------------------------------------------------------------ */

static bool can_speak(const struct conn *conn) {
  return conn->state == CONN_OPEN && !conn->is_dead;
}

static int count_living(int from, int to) {
  int living = 0;
  for (int i = from; i < to && i < pool.count; i++) living += can_speak(&pool.conns[i]);
  return living;
}

static struct conn *next_speaker(void) {
  for (int i = 0; i < pool.count; i++) {
    speaker = (speaker + STRIDE) % pool.count;
    if (can_speak(&pool.conns[speaker])) return &pool.conns[speaker];
  }
  base_fail("there is nobody left to speak");
}

static void say(uint64_t now) {
  struct conn *conn = next_speaker();
  int first = (int)conn->id / ROOM * ROOM;
  publication_stamp(&message, (stamp){conn->id, conn->sequence++, now});
  ws_send(conn, WS_TEXT, message.text.data, message.text.len);
  due_deliveries += (uint64_t)count_living(first, first + ROOM) + 1;
  if (tally.is_counting) tally.published++;
}

static void say_to_all(uint64_t now) {
  struct conn *conn = next_speaker();
  publication_stamp(&broadcast, (stamp){BROADCASTER, sent_broadcasts++, now});
  ws_send(conn, WS_TEXT, broadcast.text.data, broadcast.text.len);
  due_deliveries += (uint64_t)count_living(0, options.audience);
}

static void send_round(uint64_t now) {
  next_message_ns = now;
  next_broadcast_ns = now + base_ns(options.every / 2);
}

static void step(uint64_t now) {
  for (; next_message_ns <= now; next_message_ns += base_ns(1 / options.rate)) say(base_now_ns());
  if (options.audience > 0 && next_broadcast_ns <= now) {
    say_to_all(base_now_ns());
    next_broadcast_ns += base_ns(options.every);
  }
  loop_wake_at(next_message_ns);
}

static uint64_t count_missing(void) {
  return due_deliveries - deliveries;
}

static bool is_quiet(void) {
  return deliveries == due_deliveries;
}

const struct workload steady_workload = {
    .name = "ws-steady",
    .unit = "deliveries",
    .prepare = prepare,
    .greeting_of = greeting_of,
    .on_open = on_open,
    .on_bytes = ws_feed,
    .on_piece = on_piece,
    .send_round = send_round,
    .step = step,
    .is_quiet = is_quiet,
    .count_missing = count_missing,
};
