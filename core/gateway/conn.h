/* A connection as the script sees it: a WebSocket, an SSE stream or a long-poll.
 *
 * Here: its events for the script, one at a time and in order; its subscriptions; its outbox; its
 * end. What its bytes look like is its ops' affair (ws_conn, sse_conn, poll_conn). Lives on one
 * worker for life, from admission to the stream's close callback or its last reference. */
#ifndef PERIGEE_GATEWAY_CONN_H
#define PERIGEE_GATEWAY_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "base/timer.h"
#include "codec/position.h"
#include "gateway/conn_result.h"
#include "gateway/encoding.h"
#include "gateway/outbox.h"
#include "gateway/relay.h"
#include "gateway/request.h"
#include "gateway/routes.h"
#include "gateway/worker.h"
#include "net/stream.h"
#include "pubsub/topic.h"

struct conn;
struct conn_events;
struct conn_hold;

/* What a message to one connection is made of. */
typedef enum { DATA_TEXT, DATA_BINARY, DATA_JSON } data_kind;

/* What a transport does for a connection. */
struct conn_ops {
  const char *transport; /* "websocket", "sse", "poll" */
  /* Queues one message of this connection alone. */
  conn_result (*send)(struct conn *conn, slice data, data_kind kind, slice event,
                      uint64_t retry_ms);
  /* Begins the end: queues what the transport says at the end. */
  void (*close)(struct conn *conn, int code, slice reason);
  /* The timer fired. */
  void (*on_timer)(struct conn *conn, uint64_t now_ms);
  /* Sets it to the earliest of what is pending: the clock of peers is held, or goes on. Only while
   * there is a stream. */
  void (*set_timer)(struct conn *conn);
  /* Everything queued is written. */
  void (*on_flushed)(struct conn *conn);
  /* Bytes waited behind a handler that is done now. */
  void (*on_ready)(struct conn *conn);
  /* Queues a watermark: everything up to this position has been handed over. NULL where the
   * transport has none. */
  void (*send_position)(struct conn *conn, const hub_position *position);
  /* on_open has returned. NULL: no matter. */
  void (*on_opened)(struct conn *conn);
  /* The turn ends and something has been gathered (conn_gather). */
  void (*on_gathered)(struct conn *conn);
  /* What is gathered is all that it may be: everything up to this position. NULL where a connection
   * that has too much waiting closes with 1013. */
  void (*on_full)(struct conn *conn, const hub_position *position);
  /* The route was replaced by another one, which may have other options than `before`. */
  void (*on_route)(struct conn *conn, const route_options *before);
  /* The stream is closed: frees what the transport holds beside the struct. */
  void (*deinit)(struct conn *conn);
  encoding_kind encoding;        /* of publications */
  encoding_kind replay_encoding; /* of a replay into a connection that is live already */
};

typedef enum {
  CONN_OPENING, /* on_open has not returned: live publications are held */
  CONN_OPEN,
  CONN_CLOSING, /* an end has begun: script calls answer "closed" */
  CONN_GONE,    /* no more events can come; on_close is told or waits its turn */
} conn_state;

/* What a delivery touches comes first. What a connection has only now and then stands elsewhere
 * while it does: `waiting`, `hold`. */
struct conn {
  struct subscriber subscriber; /* its id is the connection's */
  struct worker *worker;
  const struct route *route;
  struct outbox outbox;
  uint32_t references;
  uint16_t close_code; /* what on_close will be told; 0 until known */
  uint8_t state;       /* conn_state */
  bool is_unframed;    /* an SSE stream to HTTP/1.0, a long-poll: no chunks, no frames */
  bool is_busy;        /* a handler runs or is suspended */
  bool is_told_open;   /* on_open was told: on_close is owed */
  bool is_told_close;
  bool is_finished;   /* the script has forgotten it */
  bool is_above_soft; /* the outbox passed its soft limit: on_drain is owed */
  bool has_live;      /* it has subscriptions: later replays carry no ids */
  bool is_unread;     /* reading is paused: behind a suspended handler, or until a rate allows */
  bool has_begun;     /* its first position is queued */
  bool is_swept;
  bool is_ending;     /* conn_end is due in the turn */
  bool is_relaying;   /* what it sends may go to topics, without on_message: relay_message knows */
  bool is_runnable;   /* in worker->runnable: events wait for the turn */
  bool has_shut_down; /* our side of the stream has ended */
  bool is_orphan;     /* its route is gone: it holds a reference to the routes that had it */
  const struct conn_ops *ops;
  struct stream *stream;       /* NULL once closed */
  struct request *request;     /* NULL once it is of no use any more */
  void *script;                /* the script's value of this connection; NULL until touched */
  struct address *address;     /* counted in the gateway while the stream lives */
  void *task;                  /* the script's suspended handler, or NULL */
  struct list all;             /* in worker->conns; once freed in worker->swept */
  struct conn_events *waiting; /* for the script; NULL: nothing */
  struct conn_hold *hold;      /* live publications held while opening; NULL: none */
  struct conn *next_runnable;
  char *close_reason; /* NULL: empty */
  struct timer timer;
  uint64_t last_heard_ms; /* by the clock of peers */
  uint64_t next_tick_ms;  /* UINT64_MAX: never */
  /* While a WebSocket is open its next ping, by the clock of peers; while a connection closes the
   * end of our patience. UINT64_MAX: none. */
  uint64_t due_ms;
};

/* References: one for the stream, one for the events until conn_finish, one while it is runnable,
 * and those of callers that go on after a script has run. */
struct conn *conn_retain(struct conn *conn);
void conn_release(struct conn *conn);
/* For the worker's sweep: the last reference is gone. */
void conn_free(struct conn *conn);

static inline bool conn_is_open(const struct conn *conn) {
  return conn->state <= CONN_OPEN;
}

/* --- for the script layer --- */

/* What comes before each message to one client: judges it, and hands over what waits for the
 * worker. */
conn_result conn_begin_send(struct conn *conn, slice data, data_kind kind);
/* Queues a message to this client alone; first hands over what waits for the worker. `event` and
 * `retry_ms` (0: none) are for SSE. */
static inline conn_result conn_send(struct conn *conn, slice data, data_kind kind, slice event,
                                    uint64_t retry_ms) {
  conn_result result = conn_begin_send(conn, data, kind);
  return result == CONN_OK ? conn->ops->send(conn, data, kind, event, retry_ms) : result;
}

typedef struct {
  slice since; /* data NULL: none */
  hub_from from;
  uint64_t from_count;
  bool is_envelope;
  slice reset; /* data NULL: none; queued before the replay when `since` failed */
  data_kind reset_kind;
  relaying relaying; /* WebSocket only */
} conn_subscribe_options;

/* Subscribes at one cut and queues the replay. `results` has one entry per topic. */
conn_result conn_subscribe(struct conn *conn, const slice *topics, size_t count,
                           const conn_subscribe_options *options, subscribe_result *results,
                           hub_position *position);
bool conn_unsubscribe(struct conn *conn, slice topic);
bool conn_is_subscribed(struct conn *conn, slice topic);

/* Begins a close in good order. Later calls change nothing. `code` 0: without a code. */
void conn_close(struct conn *conn, int code, slice reason);
/* Bytes queued and not yet written. */
size_t conn_buffered(const struct conn *conn);

/* Goes on reading where that was paused, when it may: the handler in front is done, or the
 * connection is closing and what comes is discarded. In the turn. */
void conn_read_on(struct conn *conn);

/* The script tells that the handler which suspended (HOOK_SUSPENDED) has ended. */
void conn_resume(struct conn *conn);

/* --- for conn_events.c --- */

/* on_open has returned: what was held is queued, live publications follow directly. */
void conn_opened(struct conn *conn);
/* The last event was told: the script forgets the connection. */
void conn_finish(struct conn *conn);
/* Queues a signal; it is told in the turn. */
void conn_queue_signal(struct conn *conn, struct message *message, slice topic);

/* --- for transports --- */

/* What an exchange hands over when it becomes a connection. */
typedef struct {
  struct stream *stream;
  struct address *address;
  struct request *request;
  struct outbox *outbox; /* what earlier answers have left unwritten: emptied */
  slice head;            /* the answer's head, sent first */
} conn_origin;

/* A connection with one reference, entered in the worker's list; what the origin names is its own
 * from now on, but for the head, which is copied by the transport. `size` covers a transport's
 * struct that begins with struct conn. */
struct conn *conn_new(size_t size, const struct conn_ops *ops, struct worker *worker,
                      const conn_origin *origin);
/* Tells on_open. */
void conn_open(struct conn *conn);
/* In its place, for a connection that may not enter: closes it; nothing is told. */
void conn_refuse(struct conn *conn, int code, slice reason);
/* Room for `len` bytes that end a message to this connection alone; to be filled and committed
 * before anything else is queued. Its stream is open; no limit is looked at. */
static inline char *conn_reserve(struct conn *conn, size_t len) {
  struct block *block = block_reserve(&conn->worker->blocks, BLOCK_PRIVATE, len);
  return block->data + block->used;
}
static inline void conn_commit(struct conn *conn, size_t len) {
  struct worker *worker = conn->worker;
  outbox_push_private(&conn->outbox, worker->blocks.lanes[BLOCK_PRIVATE], len);
  worker->pushed_bytes += len;
  worker_mark_dirty(worker, &conn->outbox);
}
/* The same for bytes that stand somewhere else; none are queued once the stream is closed. */
void conn_push_bytes(struct conn *conn, slice bytes);
/* What conn_make_room does where the limit would be passed. Never inlined: seldom. */
__attribute__((noinline)) bool conn_write_room(struct conn *conn, size_t len,
                                               const block_mark *next);
/* Whether `len` more bytes fit below max_outbox (what can be written now is written to find out).
 * If not, the connection has begun to close with 1013. */
static inline bool conn_make_room(struct conn *conn, size_t len, const block_mark *next) {
  size_t bytes = outbox_bytes(&conn->outbox) + len;
  return bytes <= conn->route->options.max_outbox_bytes || conn_write_room(conn, len, next);
}
/* Whether one more message may wait. */
bool conn_has_room(const struct conn *conn);
/* Whether another message of the client has a place, now or behind the handler that is suspended:
 * if not, stop reading until ops->on_ready. */
static inline bool conn_can_take_message(const struct conn *conn) {
  return !conn->is_busy || conn_has_room(conn);
}
/* From here on what is queued stays in the outbox, for outbox_peek_message, until conn_write. */
void conn_gather(struct conn *conn);
/* What is queued from here on is written. Nothing is in the outbox. */
void conn_write(struct conn *conn);
/* Everything up to it has been handed over, or is queued. */
hub_position conn_position(const struct conn *conn);
/* conn_close without handing over what waits: for a transport's own reasons. */
void conn_begin_close(struct conn *conn, int code, slice reason);
/* Marks the connection for the flush at the end of the turn. */
void conn_mark_dirty(struct conn *conn);
/* Notes the code and reason that on_close will get; the first call counts. */
void conn_note_close(struct conn *conn, int code, slice reason);
/* No more events can come: suspensions end, on_close is told once. */
void conn_end(struct conn *conn);
/* The same, in the turn: where a handler of this connection may be running. */
void conn_end_soon(struct conn *conn);
/* The stream is closed: what it held is gone too. Calls conn_end if nobody has. */
void conn_detach_stream(struct conn *conn);
/* Sets the timer; UINT64_MAX stops it. One that is due then anyhow keeps its place among those of
 * that moment. */
void conn_set_timer(struct conn *conn, uint64_t due_ms);
/* Ticks that are due; returns when the next is (UINT64_MAX: never). */
uint64_t conn_run_ticks(struct conn *conn, uint64_t now_ms);

#endif
