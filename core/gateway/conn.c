#include "gateway/conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "codec/ws_frame.h"
#include "gateway/conn_events.h"
#include "gateway/gateway.h"
#include "gateway/relay.h"
#include "gateway/replay.h"
#include "gateway/worker.h"

/* What a wire format may add to a message's data: a frame's header, `data:` before each line. */
enum { ENCODING_OVERHEAD_BYTES = 64 * 1024 };

/* Live publications that came while on_open had not returned. */
struct conn_hold {
  size_t count;
  size_t capacity;
  size_t bytes;
  struct {
    struct message *message;
    uint32_t tag;
  } held[];
};

/* --- life --- */

/* on_drain is owed to a reader that left more than the soft limit unread, once it has taken enough
 * of it. A flush can happen in the middle of a fan-out, which runs no script: it is told in the
 * turn. */
static void judge_soft_limit(struct conn *conn) {
  bool is_above = outbox_bytes(&conn->outbox) > conn->worker->limits->outbox_soft_bytes;
  if (is_above == conn->is_above_soft) return;
  conn->is_above_soft = is_above;
  if (is_above || !conn_is_open(conn)) return;
  conn_events_queue(conn, EVENT_DRAIN, SLICE(""), false, SLICE(""));
  if (conn->waiting != NULL) worker_make_runnable(conn->worker, conn);
}

static void on_outbox_flushed(struct outbox *outbox) {
  struct conn *conn = CONTAINER_OF(outbox, struct conn, outbox);
  judge_soft_limit(conn);
  conn->ops->on_flushed(conn);
}

static void on_outbox_blocked(struct outbox *outbox) {
  judge_soft_limit(CONTAINER_OF(outbox, struct conn, outbox));
}

static void on_outbox_broken(struct outbox *outbox, int error) {
  struct conn *conn = CONTAINER_OF(outbox, struct conn, outbox);
  (void)error;
  conn_note_close(conn, WS_CLOSE_ABNORMAL, SLICE(""));
  if (conn->state < CONN_CLOSING) conn->state = CONN_CLOSING;
  stream_close(conn->stream, true);
}

static void on_outbox_gathered(struct outbox *outbox) {
  struct conn *conn = CONTAINER_OF(outbox, struct conn, outbox);
  conn->ops->on_gathered(conn);
}

static const struct outbox_events outbox_events = {on_outbox_flushed, on_outbox_blocked,
                                                   on_outbox_broken, NULL};
static const struct outbox_events gathering_events = {.on_gathered = on_outbox_gathered};

void conn_gather(struct conn *conn) {
  outbox_init(&conn->outbox, &gathering_events, NULL);
}

void conn_write(struct conn *conn) {
  conn->outbox.events = &outbox_events;
  conn->outbox.stream = conn->stream;
}

static void on_timer(struct timer *timer) {
  struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
  conn->ops->on_timer(conn, clock_now_ms());
}

static void deliver(struct subscriber *subscriber, uint32_t tag, struct message *message);
static void lost(struct subscriber *subscriber, uint32_t tag);
static const struct subscriber_ops subscriber_ops = {.deliver = deliver, .lost = lost};

struct conn *conn_new(size_t size, const struct conn_ops *ops, struct worker *worker,
                      const conn_origin *origin) {
  const struct route *route = request_route(origin->request);
  struct conn *conn = mem_alloc_zero(size);
  conn->subscriber.ops = &subscriber_ops;
  conn->subscriber.id = gateway_next_id(worker->gateway);
  conn->ops = ops;
  conn->worker = worker;
  conn->stream = origin->stream;
  conn->address = origin->address;
  conn->route = route;
  conn->request = origin->request;
  conn->references = 1;
  conn->last_heard_ms = clock_peers_ms();
  conn->next_tick_ms = UINT64_MAX;
  conn->due_ms = UINT64_MAX;
  if ((route->handlers & HANDLER_TICK) != 0 && route->options.tick_every_ms > 0) {
    conn->next_tick_ms = clock_now_ms() + route->options.tick_every_ms;
  }
  outbox_init(&conn->outbox, &outbox_events, conn->stream);
  outbox_take(&conn->outbox, origin->outbox);
  timer_init(&conn->timer, on_timer);
  list_insert(&worker->conns, &conn->all);
  worker->conn_count++;
  return conn;
}

struct conn *conn_retain(struct conn *conn) {
  conn->references++;
  return conn;
}

/* The last reference lets it go, but not while it might be on the stack: the sweep at the end of
 * the turn frees it. */
void conn_release(struct conn *conn) {
  REQUIRE(conn->references > 0);
  if (--conn->references > 0 || conn->is_swept) return;
  conn->is_swept = true;
  list_remove(&conn->all);
  list_insert(&conn->worker->swept, &conn->all);
}

void conn_free(struct conn *conn) {
  REQUIRE(conn->references == 0 && conn->stream == NULL);
  gateway_leave(conn->worker->gateway, conn->address, true); /* the request's address until now */
  conn->worker->conn_count--;
  list_remove(&conn->all);
  if (conn->is_orphan) routes_release(conn->route->routes);
  mem_free(conn->close_reason);
  mem_free(conn);
}

static void drop_hold(struct conn *conn) {
  if (conn->hold == NULL) return;
  for (size_t i = 0; i < conn->hold->count; i++) message_release(conn->hold->held[i].message);
  mem_free(conn->hold);
  conn->hold = NULL;
}

void conn_finish(struct conn *conn) {
  conn->is_finished = true;
  conn_events_clear(conn);
  conn->worker->hooks->forget(conn);
  if (conn->request != NULL) request_free(conn->request);
  conn->request = NULL;
  conn_release(conn); /* the reference of its events */
}

void conn_note_close(struct conn *conn, int code, slice reason) {
  if (conn->close_code != 0) return;
  conn->close_code = (uint16_t)code;
  if (reason.len > 0) conn->close_reason = mem_copy(reason);
}

void conn_end(struct conn *conn) {
  if (conn->state == CONN_GONE) return;
  conn_retain(conn);
  conn->state = CONN_GONE;
  conn_note_close(conn, WS_CLOSE_ABNORMAL, SLICE(""));
  /* What a peer said before an orderly close is still told; one that broke off is not waiting for
   * an answer. */
  if (conn->close_code == WS_CLOSE_ABNORMAL) conn_events_clear(conn);
  conn_events_relay(conn);
  topics_unsubscribe_all(&conn->worker->topics, &conn->subscriber);
  drop_hold(conn);
  if (conn->task != NULL) conn->worker->hooks->cancel(conn);
  conn_events_pump(conn);
  conn_release(conn);
}

void conn_end_soon(struct conn *conn) {
  conn->is_ending = true;
  worker_make_runnable(conn->worker, conn);
}

void conn_detach_stream(struct conn *conn) {
  conn->stream = NULL;
  worker_forget_dirty(conn->worker, &conn->outbox);
  outbox_deinit(&conn->outbox);
  timer_stop(&conn->worker->timers, &conn->timer);
  conn->ops->deinit(conn);
  conn_end(conn);
  conn_release(conn); /* the reference of its stream */
}

void conn_close(struct conn *conn, int code, slice reason) {
  if (!conn_is_open(conn)) return;
  worker_drain(conn->worker);
  conn_begin_close(conn, code, reason);
}

void conn_begin_close(struct conn *conn, int code, slice reason) {
  topics_end_fan_out(&conn->worker->topics); /* once it closes it takes no more */
  if (!conn_is_open(conn)) return;
  conn->state = CONN_CLOSING;
  conn_note_close(conn, code, reason);
  conn->ops->close(conn, code, reason);
}

/* --- events --- */

void conn_open(struct conn *conn) {
  conn_retain(conn); /* for its events: until conn_finish */
  conn->is_told_open = true;
  conn_events_push(conn, EVENT_OPEN, SLICE(""), false, SLICE(""));
  /* A handshake that was under way when the gateway began to stop. */
  if (conn->worker->stage >= WORKER_LEAVING) conn_begin_close(conn, 1001, SLICE("going away"));
}

void conn_refuse(struct conn *conn, int code, slice reason) {
  conn_retain(conn);
  conn_begin_close(conn, code, reason);
}

bool conn_has_room(const struct conn *conn) {
  const struct limits *limits = conn->worker->limits;
  const struct conn_events *waiting = conn->waiting;
  return waiting == NULL ||
         (waiting->count < limits->suspended_events && waiting->bytes < limits->suspended_bytes);
}

void conn_resume(struct conn *conn) {
  conn_retain(conn);
  conn->is_busy = false;
  if (conn->state == CONN_OPENING) conn_opened(conn);
  conn_events_pump(conn);
  conn_read_on(conn);
  conn_release(conn);
}

void conn_read_on(struct conn *conn) {
  if (!conn->is_unread || conn->stream == NULL) return;
  if (conn_is_open(conn) && !conn_can_take_message(conn)) return;
  conn->is_unread = false;
  conn->ops->on_ready(conn);
}

uint64_t conn_run_ticks(struct conn *conn, uint64_t now_ms) {
  if (now_ms < conn->next_tick_ms) return conn->next_tick_ms;
  uint64_t every_ms = conn->route->options.tick_every_ms;
  conn->next_tick_ms += every_ms;
  /* Ticks that were missed are not made up for. */
  if (conn->next_tick_ms <= now_ms) conn->next_tick_ms = now_ms + every_ms;
  if (conn_is_open(conn) && !conn->is_busy) {
    conn_events_push(conn, EVENT_TICK, SLICE(""), false, SLICE(""));
  }
  return conn->next_tick_ms;
}

void conn_set_timer(struct conn *conn, uint64_t due_ms) {
  if (due_ms == UINT64_MAX) {
    timer_stop(&conn->worker->timers, &conn->timer);
  } else if (!timer_is_started(&conn->timer) || conn->timer.due_ms != due_ms) {
    timer_start(&conn->worker->timers, &conn->timer, due_ms);
  }
}

/* --- what goes out --- */

void conn_mark_dirty(struct conn *conn) {
  worker_mark_dirty(conn->worker, &conn->outbox);
}

void conn_push_bytes(struct conn *conn, slice bytes) {
  if (conn->stream == NULL || bytes.len == 0) return;
  memcpy(conn_reserve(conn, bytes.len), bytes.data, bytes.len);
  conn_commit(conn, bytes.len);
}

/* What is held back is not handed over. */
static void limit_to_hold(const struct conn *conn, hub_position *position) {
  if (conn->hold == NULL) return;
  block_mark first = encoding_mark(conn->hold->held[0].message);
  position_limit(position, &first);
}

hub_position conn_position(const struct conn *conn) {
  topics_end_fan_out(&conn->worker->topics);
  hub_position position = conn->worker->topics.position;
  limit_to_hold(conn, &position);
  return position;
}

static void close_slow(struct conn *conn, const block_mark *next) {
  hub_position position = conn_position(conn);
  if (next != NULL) position_limit(&position, next);
  if (conn->ops->on_full != NULL) {
    conn->ops->on_full(conn, &position);
    return;
  }
  outbox_cut(&conn->outbox, &position);
  char text[WORKER_POSITION_BYTES];
  size_t len = worker_format_position(conn->worker, &position, text);
  log_debug("connection %llu reads too slowly", (unsigned long long)conn->subscriber.id);
  conn_begin_close(conn, WS_CLOSE_TRY_AGAIN_LATER, slice_of(text, len));
}

bool conn_write_room(struct conn *conn, size_t len, const block_mark *next) {
  uint64_t max_bytes = conn->route->options.max_outbox_bytes;
  /* The limit is for what the client does not take, not for what one turn says; and a message that
   * is allowed as such passes when nothing else waits. */
  if (conn->outbox.stream != NULL && outbox_flush(&conn->outbox) == OUTBOX_HAS_MORE) {
    conn_mark_dirty(conn);
  }
  if (!conn_is_open(conn)) return false;
  size_t waiting = outbox_bytes(&conn->outbox);
  if (waiting + len <= max_bytes) return true;
  uint64_t max_message_bytes = conn->worker->limits->message_bytes + ENCODING_OVERHEAD_BYTES;
  if (waiting == 0 && len <= max_message_bytes) return true;
  close_slow(conn, next);
  return false;
}

conn_result conn_begin_send(struct conn *conn, slice data, data_kind kind) {
  if (!conn_is_open(conn)) return CONN_CLOSED;
  if (kind != DATA_BINARY && !utf8_is_valid(data)) return CONN_BAD_UTF8;
  worker_drain(conn->worker);
  return conn_is_open(conn) ? CONN_OK : CONN_CLOSED;
}

size_t conn_buffered(const struct conn *conn) {
  return outbox_bytes(&conn->outbox);
}

static void push_publication(struct conn *conn, struct message *message, encoding_kind kind) {
  struct worker *worker = conn->worker;
  size_t len = encoding_size(worker, message, kind);
  if (outbox_bytes(&conn->outbox) + len > conn->route->options.max_outbox_bytes) {
    block_mark mark = encoding_mark(message);
    if (!conn_make_room(conn, len, &mark)) return;
  }
  encoding_push(worker, message, kind, conn->is_unframed, &conn->outbox);
  conn_mark_dirty(conn);
}

static void release_hold(struct conn *conn) {
  struct conn_hold *hold = conn->hold;
  if (hold == NULL) return;
  conn->hold = NULL;
  for (size_t i = 0; i < hold->count; i++) {
    if (conn_is_open(conn)) {
      push_publication(conn, hold->held[i].message, (encoding_kind)hold->held[i].tag);
    }
    message_release(hold->held[i].message);
  }
  mem_free(hold);
}

/* Until on_open has returned live publications wait, so that a greeting comes first; but what its
 * own handler publishes keeps its place among what the handler sends, and takes what was released
 * before it along. */
static void hold_publication(struct conn *conn, struct message *message, uint32_t tag) {
  struct conn_hold *hold = conn->hold;
  if (hold == NULL || hold->count == hold->capacity) {
    size_t capacity = hold != NULL ? hold->capacity * 2 : 4;
    bool is_new = hold == NULL;
    hold = mem_realloc(hold, sizeof *hold + capacity * sizeof hold->held[0]);
    if (is_new) *hold = (struct conn_hold){0};
    hold->capacity = capacity;
    conn->hold = hold;
  }
  hold->held[hold->count].message = message_retain(message);
  hold->held[hold->count++].tag = tag;
  hold->bytes += message->data.len;
  if (message->origin_id == conn->subscriber.id) {
    release_hold(conn);
  } else if (hold->bytes > conn->route->options.max_outbox_bytes) {
    block_mark mark = encoding_mark(hold->held[0].message);
    close_slow(conn, &mark);
  }
}

/* Not inlined: the usual case needs no frame. */
__attribute__((noinline)) static void deliver_uncopied(struct conn *conn, uint32_t kind,
                                                       struct message *message) {
  if (conn->state != CONN_OPEN) {
    if (conn->state != CONN_OPENING) return;
    if ((message->flags & MESSAGE_SIGNAL) == 0) {
      hold_publication(conn, message, kind);
      return;
    }
  }
  if ((message->flags & MESSAGE_SIGNAL) != 0) {
    conn_queue_signal(conn, message, hub_topic_name(message->topic));
    return;
  }
  /* An event stream carries text: bytes that are none stay away from it. */
  if ((message->flags & MESSAGE_BINARY) != 0 && conn->ops->encoding == ENCODING_SSE &&
      !utf8_is_valid(message->data)) {
    return;
  }
  push_publication(conn, message, (encoding_kind)kind);
}

/* The usual case of a fan-out: another reader on this worker has had this message in this turn, so
 * its bytes stand in a block; nothing else waits here, or what comes before them there. */
static void deliver(struct subscriber *subscriber, uint32_t tag, struct message *message) {
  struct conn *conn = CONTAINER_OF(subscriber, struct conn, subscriber);
  uint32_t kind = tag & RELAY_TAG_ENCODING;
  const struct encoding_copy *copy = &conn->worker->encodings.lanes[kind];
  bool is_usual = copy->release == message->release && conn->state == CONN_OPEN &&
                  !conn->is_unframed &&
                  conn->outbox.len + copy->len <= conn->route->options.max_outbox_bytes &&
                  outbox_push_slice(&conn->outbox, copy->block, copy->at, copy->len);
  if (__builtin_expect(is_usual, 1)) {
    worker_mark_dirty(conn->worker, &conn->outbox);
  } else {
    deliver_uncopied(conn, kind, message);
  }
}

static void lost(struct subscriber *subscriber, uint32_t tag) {
  struct conn *conn = CONTAINER_OF(subscriber, struct conn, subscriber);
  (void)tag;
  if (conn_is_open(conn)) close_slow(conn, NULL);
}

/* A fan-out runs no script: the signal is told in the turn. */
void conn_queue_signal(struct conn *conn, struct message *message, slice topic) {
  if (!conn_can_take_message(conn)) {
    log_debug("connection %llu: a signal is dropped, too many wait",
              (unsigned long long)conn->subscriber.id);
    return;
  }
  conn_events_queue(conn, EVENT_SIGNAL, message->data, (message->flags & MESSAGE_BINARY) != 0,
                    topic);
  if (conn->waiting != NULL) worker_make_runnable(conn->worker, conn);
}

/* Keeps of the request what the script may ask for, nothing where none of its handlers ever runs.
 */
static void trim_request(struct conn *conn) {
  struct request *request = conn->request;
  if (request == NULL) return;
  bool is_seen = (conn->route->handlers & ~(unsigned)HANDLER_AUTHENTICATE) != 0 ||
                 request_session(request) != 0;
  if (is_seen) {
    request_trim(request);
  } else {
    request_free(request);
    conn->request = NULL;
  }
}

void conn_opened(struct conn *conn) {
  if (conn->state == CONN_OPENING) {
    conn->state = CONN_OPEN;
    release_hold(conn);
  }
  trim_request(conn);
  if (conn->ops->on_opened != NULL) conn->ops->on_opened(conn);
  if (conn_is_open(conn) && conn->ops->send_position != NULL && !conn->has_begun) {
    topics_refresh(&conn->worker->topics);
    conn->has_begun = true;
    conn->ops->send_position(conn, &conn->worker->topics.position);
  }
}

/* --- topics --- */

static conn_result result_of(hub_result result) {
  switch (result) {
    case HUB_BAD_TOPIC:
      return CONN_BAD_TOPIC;
    case HUB_FULL:
      return CONN_FULL;
    case HUB_LIMIT:
      return CONN_LIMIT;
    case HUB_LOG_FAILED: /* to subscribe only reads */
    case HUB_LOG_STALLED:
    case HUB_OK:
      break;
  }
  return CONN_OK;
}

/* What is gathered may be cut: one replay behind another would then have to be read again from
 * before what the first has given. */
static void push_replay(struct conn *conn, struct source *replay) {
  bool is_gathering = conn->outbox.stream == NULL;
  struct source *last = is_gathering ? outbox_peek_last_source(&conn->outbox) : NULL;
  if (last != NULL) {
    replay_merge(last, replay);
  } else {
    outbox_push_source(&conn->outbox, replay);
  }
  conn_mark_dirty(conn);
}

/* The watermarks around a replay. Before the first event a reader gets the position that it can
 * honestly claim: what the replay brings is not yet handed over. */
static void queue_replay(struct conn *conn, struct cut *cut, const hub_position *position,
                         const conn_subscribe_options *options, bool is_complete) {
  encoding_kind kind = conn->has_live ? conn->ops->replay_encoding : conn->ops->encoding;
  if (options->is_envelope) kind = ENCODING_ENVELOPE;
  struct source *replay = NULL;
  if (cut != NULL) replay = replay_new(conn->worker, cut, kind, conn->is_unframed);
  bool has_positions = conn->ops->send_position != NULL;
  if (has_positions && !conn->has_begun) {
    hub_position before = *position;
    block_mark first;
    if (replay != NULL && replay->ops->peek_mark(replay, &first)) position_limit(&before, &first);
    conn->ops->send_position(conn, &before);
  }
  conn->has_begun = true;
  if (!is_complete && options->reset.data != NULL) {
    conn->ops->send(conn, options->reset, options->reset_kind, SLICE(""), 0);
  }
  if (replay == NULL) return;
  if (!conn_is_open(conn)) { /* the reset did not fit */
    replay->ops->free(replay);
    return;
  }
  push_replay(conn, replay);
  if (!has_positions) return;
  hub_position after = *position;
  limit_to_hold(conn, &after);
  conn->ops->send_position(conn, &after);
}

conn_result conn_subscribe(struct conn *conn, const slice *topics, size_t count,
                           const conn_subscribe_options *options, subscribe_result *results,
                           hub_position *position) {
  if (!conn_is_open(conn)) return CONN_CLOSED;
  if (conn->subscriber.subscription_count + count > conn->route->options.max_topics) {
    size_t fresh = 0;
    for (size_t i = 0; i < count; i++) fresh += !conn_is_subscribed(conn, topics[i]);
    if (conn->subscriber.subscription_count + fresh > conn->route->options.max_topics) {
      return CONN_LIMIT;
    }
  }
  struct worker *worker = conn->worker;
  hub_start start = worker_parse_since(worker, options->since, options->from, options->from_count);
  encoding_kind kind = options->is_envelope ? ENCODING_ENVELOPE : conn->ops->encoding;
  struct cut *replay = NULL;
  hub_result result =
      topics_subscribe(&worker->topics, &conn->subscriber, topics, count, &start,
                       relay_tag((uint32_t)kind, options->relaying), results, &replay, position);
  if (result != HUB_OK) return result_of(result);
  if (options->relaying != RELAY_NONE) conn->is_relaying = true;
  bool is_complete = true, is_fresh = false;
  for (size_t i = 0; i < count; i++) {
    is_complete = is_complete && results[i].is_complete;
    is_fresh = is_fresh || !results[i].was_subscribed;
  }
  if (!conn_is_open(conn)) {
    if (replay != NULL) cut_free(replay);
    return CONN_CLOSED;
  }
  if (is_fresh) {
    queue_replay(conn, replay, position, options, is_complete);
    conn->has_live = true;
  }
  return conn_is_open(conn) ? CONN_OK : CONN_CLOSED;
}

bool conn_unsubscribe(struct conn *conn, slice topic) {
  bool was_subscribed = topics_unsubscribe(&conn->worker->topics, &conn->subscriber, topic);
  /* What came for it while on_open runs comes before whatever the handler does next. */
  if (was_subscribed) release_hold(conn);
  return was_subscribed;
}

bool conn_is_subscribed(struct conn *conn, slice topic) {
  return topics_find(&conn->worker->topics, &conn->subscriber, topic) != NULL;
}
