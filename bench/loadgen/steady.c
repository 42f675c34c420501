/* steady: many connections in rooms of ten that say little each, and now and then something for
 * thousands of them; some of them may be dead, and event streams may listen to the rooms.
 *
 * WebSocket i is in room i / 10, event stream k in room k modulo the number of rooms. What a
 * WebSocket says is answered to itself, then published to its room, itself included: so it gets its
 * own words twice. Messages go out at options.rate for all connections together, whatever happens.
 * Their latency counts from when they were sent.
 *
 * With options.generation each message tells which code spoke. What one connection's words have
 * come to, in answers or at one listener, may only be told by ever newer code: it was one worker's,
 * in order. What was sent when a generation was said to be live is for that one or a newer one. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/loop.h"
#include "loadgen/options.h"
#include "loadgen/publication.h"
#include "loadgen/sse.h"
#include "loadgen/stamp.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"
#include "loadgen/ws.h"

enum {
  ROOM = 10,
  BROADCASTER = 0xffff, /* a broadcast's publisher */
  STRIDE = 7919,        /* a prime: who speaks next is far away */
  TEXT_BYTES = 256,
};

static publication message;
static publication broadcast;
/* Of one who speaks, at one who listens. */
typedef struct {
  uint32_t next;       /* the number that is expected */
  uint32_t generation; /* of the code that spoke last */
} progress;

/* A generation that is live from a moment on. */
typedef struct {
  uint64_t since_ns;
  uint32_t generation;
} live_mark;

static live_mark *live_marks;
static size_t live_count;

static progress *heard;    /* by connection and the speaker's place in its room */
static progress *answered; /* by connection */
static progress *heard_broadcasts;
static uint64_t *event_ids; /* by connection: the number in the last one's id */
static uint32_t sent_broadcasts;
static uint64_t due_deliveries;
static uint64_t deliveries;
static uint64_t next_message_ns;
static uint64_t next_broadcast_ns;
static int speaker;

static int room_count(void) {
  return (options.conns + ROOM - 1) / ROOM;
}

static bool is_stream(const struct conn *conn) {
  return conn->id >= (uint32_t)options.conns;
}

/* The id of the first in the connection's room. */
static uint32_t first_of_room(const struct conn *conn) {
  if (!is_stream(conn)) return conn->id / ROOM * ROOM;
  return (conn->id - (uint32_t)options.conns) % (uint32_t)room_count() * ROOM;
}

static void prepare(void) {
  message = publication_build(options.publication, options.size);
  broadcast = publication_build(options.broadcast, options.size);
  if (options.rate <= 0) base_fail("steady needs --rate");
  if (options.answer == NULL) base_fail("steady needs --answer");
  if (options.conns >= BROADCASTER) base_fail("steady has less than %d connections", BROADCASTER);
  if (options.streams > 0 && options.stream_path == NULL) base_fail("there is no --stream-path");
  size_t count = (size_t)options.conns + (size_t)options.streams;
  pool_prepare((int)count);
  heard = base_zeroed(count * ROOM, sizeof *heard);
  answered = base_zeroed(count, sizeof *answered);
  heard_broadcasts = base_zeroed(count, sizeof *heard_broadcasts);
  event_ids = base_zeroed(count, sizeof *event_ids);
  for (int i = 0; i < options.dead; i++) {
    pool.conns[(long)i * options.conns / options.dead].is_dead = true;
  }
}

static greeting greeting_of(const struct conn *conn) {
  return is_stream(conn) ? GREETING_SSE : GREETING_WS;
}

/* The template with `id` for {id}, valid until the next call. */
static const char *fill_in(const char *template, uint32_t id) {
  static char text[TEXT_BYTES];
  const char *at = strstr(template, "{id}");
  int head = at != NULL ? (int)(at - template) : (int)strlen(template);
  int len = snprintf(text, sizeof text, "%.*s", head, template);
  if (at != NULL) {
    len = snprintf(text, sizeof text, "%.*s%u%s", head, template, id, at + strlen("{id}"));
  }
  if (len >= TEXT_BYTES) base_fail("too long: %s", template);
  return text;
}

/* A stream asks for the room by its first member. */
static const char *path_of(const struct conn *conn) {
  return is_stream(conn) ? fill_in(options.stream_path, first_of_room(conn)) : options.path;
}

static void join(struct conn *conn, const char *template) {
  const char *text = fill_in(template, conn->id);
  ws_send(conn, WS_TEXT, text, strlen(text));
}

static void on_open(struct conn *conn, uint64_t now) {
  (void)now;
  if (is_stream(conn)) return;
  const char *template =
      conn->is_dead && options.dead_join != NULL ? options.dead_join : options.join;
  if (template != NULL) join(conn, template);
  if (conn->is_dead) conn_ignore(conn);
}

/* Receiving ---------------------------------------------------------------------------------- */

/* Counts one that has come. */
static void judge(progress *of, uint32_t got) {
  deliveries++;
  if (got < of->next) {
    tally.reordered++;
    return;
  }
  tally.lost += got - of->next;
  of->next = got + 1;
}

static void on_live(uint32_t generation, uint64_t now) {
  live_marks = base_resize(live_marks, (live_count + 1) * sizeof *live_marks);
  live_marks[live_count++] = (live_mark){now, generation};
}

/* The generation that was live already at that moment. */
static uint32_t live_at(uint64_t moment_ns) {
  size_t i = live_count;
  while (i > 0 && live_marks[i - 1].since_ns >= moment_ns) i--;
  return i > 0 ? live_marks[i - 1].generation : 0;
}

/* Which code spoke, on what was sent at that moment. */
static void judge_generation(progress *of, uint64_t sent_ns, const char *data, size_t len) {
  if (options.generation == NULL) return;
  size_t mark_len = strlen(options.generation);
  const char *at = memmem(data, len, options.generation, mark_len);
  if (at == NULL) {
    tally.bad++;
    return;
  }
  uint32_t generation = 0;
  for (at += mark_len; at < data + len && *at >= '0' && *at <= '9'; at++) {
    generation = generation * 10 + (uint32_t)(*at - '0');
  }
  if (generation < of->generation || generation < live_at(sent_ns)) tally.older++;
  of->generation = generation;
  if (generation > tally.generation) tally.generation = generation;
}

/* Whose words these are, as this connection should know them; NULL: it should not. */
static progress *find_progress(const struct conn *conn, const stamp *got, bool is_answer) {
  if (got->publisher == BROADCASTER) return &heard_broadcasts[conn->id];
  if (is_answer) return got->publisher == conn->id ? &answered[conn->id] : NULL;
  if (got->publisher / ROOM * ROOM != first_of_room(conn)) return NULL;
  /* Answered first, then published. */
  if (got->publisher == conn->id && got->sequence >= answered[conn->id].next) return NULL;
  return &heard[conn->id * ROOM + got->publisher % ROOM];
}

static void take(struct conn *conn, const char *data, size_t len, uint64_t now) {
  size_t rest;
  size_t at = stamp_find(data, len, 0, &rest);
  stamp got;
  if (at == len) {
    tally.other++;
    return;
  }
  bool is_stamp = stamp_decode(data + at, &got);
  bool is_answer = memmem(data, len, options.answer, strlen(options.answer)) != NULL;
  progress *of = is_stamp ? find_progress(conn, &got, is_answer) : NULL;
  if (of == NULL) {
    tally.bad++;
    return;
  }
  judge(of, got.sequence);
  judge_generation(of, got.due_ns, data, len);
  uint64_t latency_ns = now > got.due_ns ? now - got.due_ns : 0;
  if (got.publisher == BROADCASTER) {
    tally_broadcast(latency_ns);
  } else {
    tally_message(latency_ns);
    if (tally.is_counting && latency_ns > conn->longest_ns) conn->longest_ns = latency_ns;
  }
}

/* An id is the log's name and a number to the base 36 that only grows: "izc974.1k". */
static void judge_id(const struct conn *conn, const sse_event *event) {
  const char *dot = event->id != NULL ? memchr(event->id, '.', event->id_len) : NULL;
  char *end;
  if (dot == NULL) {
    tally.bad++;
    return;
  }
  uint64_t number = strtoull(dot + 1, &end, 36);
  if (end != event->id + event->id_len) tally.bad++;
  if (event->data != NULL && number <= event_ids[conn->id]) tally.reordered++;
  event_ids[conn->id] = number;
}

static void on_event(struct conn *conn, const sse_event *event, uint64_t now) {
  judge_id(conn, event);
  if (event->data != NULL) take(conn, event->data, event->data_len, now);
}

static void on_bytes(struct conn *conn, const char *data, size_t len, uint64_t now) {
  if (is_stream(conn)) {
    sse_feed(conn, data, len, now);
  } else {
    ws_feed(conn, data, len, now);
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
  return conn->state == CONN_OPEN && !conn->is_dead && !is_stream(conn);
}

static int count_living(int from, int to) {
  int living = 0;
  for (int i = from; i < to && i < options.conns; i++) living += can_speak(&pool.conns[i]);
  return living;
}

static int count_streams(int room) {
  int living = 0;
  for (int k = room; k < options.streams; k += room_count()) {
    living += pool.conns[options.conns + k].state == CONN_OPEN;
  }
  return living;
}

static struct conn *next_speaker(void) {
  for (int i = 0; i < options.conns; i++) {
    speaker = (speaker + STRIDE) % options.conns;
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
  due_deliveries += (uint64_t)count_streams(first / ROOM);
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
  uint64_t late_ns = now > next_message_ns ? now - next_message_ns : 0;
  if (tally.is_counting && late_ns > tally.own_late_ns) tally.own_late_ns = late_ns;
  for (; next_message_ns <= now; next_message_ns += base_ns(1 / options.rate)) say(base_now_ns());
  if (options.audience > 0 && next_broadcast_ns <= now) {
    say_to_all(base_now_ns());
    next_broadcast_ns += base_ns(options.every);
  }
  loop_wake_at(next_message_ns);
}

static uint64_t count_missing(void) {
  return due_deliveries > deliveries ? due_deliveries - deliveries : 0;
}

static bool is_quiet(void) {
  return deliveries >= due_deliveries;
}

static void on_finish(void) {
  uint64_t usual_ns = (uint64_t)(tally_latency_us(50) * 1000);
  for (int i = 0; i < pool.count; i++) {
    uint64_t longest_ns = pool.conns[i].longest_ns;
    tally_pause(longest_ns > usual_ns ? longest_ns - usual_ns : 0);
  }
}

const struct workload steady_workload = {
    .name = "steady",
    .unit = "deliveries",
    .prepare = prepare,
    .greeting_of = greeting_of,
    .on_open = on_open,
    .path_of = path_of,
    .on_bytes = on_bytes,
    .on_piece = on_piece,
    .on_event = on_event,
    .on_live = on_live,
    .send_round = send_round,
    .step = step,
    .is_quiet = is_quiet,
    .count_missing = count_missing,
    .on_finish = on_finish,
};
