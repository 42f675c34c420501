#include "net/memory_stream.h"

#include <limits.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"

/* What a peer may send ahead of being read: as much as two sockets of one machine keep (tcp_wmem).
 */
enum { INCOMING_BYTES = 4 * 1024 * 1024 };

struct memory_stream {
  struct stream stream;
  struct memory_streams *streams;
  struct list all;            /* in streams->open, until it is swept */
  struct memory_stream *next; /* in streams->closed */
  struct buf incoming;        /* from the peer */
  struct buf outgoing;        /* to the peer */
  char *rest;                 /* NULL: none */
  size_t rest_len;
  size_t rest_at;      /* written */
  bool is_reading;     /* its owner wants to be told what arrives */
  bool has_ended;      /* the owner was told that the peer sends no more */
  bool is_shutting;    /* our side ends when the rest is written */
  bool is_shut;        /* and has */
  bool is_closed;      /* by its owner */
  bool is_reset;       /* the same, and the peer gets a reset */
  bool is_peer_shut;   /* the peer sends no more ... */
  bool is_peer_closed; /* ... and does not read either */
  bool is_peer_reset;  /* the same, by a reset */
};

static struct memory_stream *memory_of(struct stream *stream) {
  return CONTAINER_OF(stream, struct memory_stream, stream);
}

static size_t room_in(const struct buf *buf) {
  return buf->max_bytes - buf->len;
}

/* --- what a stream does --- */

static size_t take_some(struct memory_stream *memory, const char *data, size_t len) {
  size_t room = room_in(&memory->outgoing);
  if (len > room) len = room;
  buf_append(&memory->outgoing, slice_of(data, len));
  return len;
}

/* 0, or why nothing can be written any more. */
static int write_error(const struct memory_stream *memory) {
  if (memory->is_peer_reset) return UV_ECONNRESET;
  return memory->is_peer_closed || memory->is_shut ? UV_EPIPE : 0;
}

static int on_write_slices(struct stream *stream, const uv_buf_t *slices, unsigned count) {
  struct memory_stream *memory = memory_of(stream);
  if (memory->is_closed || memory->rest != NULL) return 0;
  int error = write_error(memory);
  if (error < 0) return error;
  size_t total = 0;
  for (unsigned i = 0; i < count; i++) {
    size_t taken = take_some(memory, slices[i].base, slices[i].len);
    total += taken;
    if (taken < slices[i].len) break;
  }
  REQUIRE(total <= INT_MAX);
  return (int)total;
}

static int on_write(struct stream *stream, const char *data, size_t len) {
  uv_buf_t bytes = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
  return on_write_slices(stream, &bytes, 1);
}

static void on_push_rest(struct stream *stream, char *data, size_t len) {
  struct memory_stream *memory = memory_of(stream);
  if (memory->is_closed) {
    mem_free(data);
    return;
  }
  REQUIRE(memory->rest == NULL);
  memory->rest = data;
  memory->rest_len = len;
  memory->rest_at = 0;
}

static void drop_rest(struct memory_stream *memory) {
  mem_free(memory->rest);
  memory->rest = NULL;
}

static void on_set_reading(struct stream *stream, bool is_reading) {
  memory_of(stream)->is_reading = is_reading;
}

static void on_shutdown(struct stream *stream) {
  struct memory_stream *memory = memory_of(stream);
  memory->is_shutting = true;
  if (memory->rest == NULL) memory->is_shut = true;
}

/* As with a socket, to leave bytes unread is a reset: the peer must not believe that they were
 * taken. */
static void on_close(struct stream *stream, bool is_reset) {
  struct memory_stream *memory = memory_of(stream);
  if (memory->is_closed) return;
  drop_rest(memory);
  memory->is_closed = true;
  memory->is_reset = is_reset || memory->incoming.len > 0;
  memory->next = memory->streams->closed;
  memory->streams->closed = memory;
}

static const struct stream_ops ops = {
    .write = on_write,
    .write_slices = on_write_slices,
    .push_rest = on_push_rest,
    .set_reading = on_set_reading,
    .shutdown = on_shutdown,
    .close = on_close,
};

/* --- polling --- */

static bool can_push(const struct memory_stream *memory) {
  if (memory->is_closed || memory->rest == NULL) return false;
  return write_error(memory) < 0 || room_in(&memory->outgoing) > 0;
}

static bool can_read(const struct memory_stream *memory) {
  if (memory->is_closed || !memory->is_reading || memory->has_ended) return false;
  return memory->incoming.len > 0 || memory->is_peer_shut;
}

static void write_rest(struct memory_stream *memory) {
  int error = write_error(memory);
  if (error == 0) {
    const char *data = memory->rest + memory->rest_at;
    memory->rest_at += take_some(memory, data, memory->rest_len - memory->rest_at);
    if (memory->rest_at < memory->rest_len) return;
  }
  drop_rest(memory);
  if (memory->is_shutting) memory->is_shut = true;
  memory->stream.events->on_writable(memory->stream.owner, error);
}

static void read_some(struct memory_stream *memory) {
  size_t len = memory->incoming.len;
  if (len > 0) {
    /* Handed over whole: the peer writes nothing meanwhile, as no event calls it. */
    struct buf bytes = memory->incoming;
    buf_init(&memory->incoming, INCOMING_BYTES);
    memory->stream.events->on_read(memory->stream.owner, bytes.data, len);
    buf_deinit(&bytes);
  } else {
    memory->has_ended = true;
    int error = memory->is_peer_reset ? UV_ECONNRESET : 0;
    memory->stream.events->on_end(memory->stream.owner, error);
  }
}

static bool tell(struct memory_stream *memory) {
  bool has_told = can_push(memory);
  if (has_told) write_rest(memory);
  if (!can_read(memory)) return has_told;
  read_some(memory);
  return true;
}

void memory_streams_init(struct memory_streams *streams) {
  *streams = (struct memory_streams){0};
  list_init(&streams->open);
}

/* Events open no stream, and what they close stays on the list until it is swept. */
bool memory_streams_poll(struct memory_streams *streams) {
  bool has_told = false;
  for (struct list *link = streams->open.next; link != &streams->open; link = link->next) {
    if (tell(LIST_OWNER(link, struct memory_stream, all))) has_told = true;
  }
  return has_told;
}

bool memory_streams_have_events(const struct memory_streams *streams) {
  if (streams->closed != NULL) return true;
  for (struct list *link = streams->open.next; link != &streams->open; link = link->next) {
    const struct memory_stream *memory = LIST_OWNER(link, struct memory_stream, all);
    if (can_push(memory) || can_read(memory)) return true;
  }
  return false;
}

/* Once both ends are closed, and the owner knows. */
static void memory_stream_free(struct memory_stream *memory) {
  buf_deinit(&memory->incoming);
  buf_deinit(&memory->outgoing);
  mem_free(memory);
}

void memory_streams_sweep(struct memory_streams *streams) {
  while (streams->closed != NULL) {
    struct memory_stream *memory = streams->closed;
    streams->closed = memory->next;
    list_remove(&memory->all);
    memory->stream.events->on_closed(memory->stream.owner);
    memory->streams = NULL;
    if (memory->is_peer_closed) memory_stream_free(memory);
  }
}

/* --- life --- */

struct memory_stream *memory_stream_open(struct memory_streams *streams, size_t peer_bytes) {
  struct memory_stream *memory = mem_alloc(sizeof *memory);
  *memory = (struct memory_stream){.stream = {.ops = &ops}, .streams = streams};
  buf_init(&memory->incoming, INCOMING_BYTES);
  buf_init(&memory->outgoing, peer_bytes > 0 ? peer_bytes : 1);
  list_insert(&streams->open, &memory->all);
  return memory;
}

struct stream *memory_stream_end(struct memory_stream *memory) {
  return &memory->stream;
}

/* --- the peer's end --- */

int memory_stream_peer_write(struct memory_stream *memory, slice bytes) {
  if (memory->is_closed || memory->is_peer_shut) return UV_EPIPE;
  size_t room = room_in(&memory->incoming);
  size_t len = bytes.len < room ? bytes.len : room;
  buf_append(&memory->incoming, slice_of(bytes.data, len));
  return (int)len;
}

size_t memory_stream_peer_room(const struct memory_stream *memory) {
  return room_in(&memory->incoming);
}

slice memory_stream_peer_peek(const struct memory_stream *memory) {
  return buf_peek(&memory->outgoing);
}

void memory_stream_peer_drop(struct memory_stream *memory, size_t count) {
  buf_drop(&memory->outgoing, count);
}

int memory_stream_peer_ending(const struct memory_stream *memory) {
  if (memory->is_reset) return UV_ECONNRESET;
  return memory->is_shut || memory->is_closed ? UV_EOF : 0;
}

void memory_stream_peer_shutdown(struct memory_stream *memory) {
  memory->is_peer_shut = true;
}

void memory_stream_peer_close(struct memory_stream *memory, bool is_reset) {
  memory->is_peer_reset = is_reset || memory->outgoing.len > 0;
  memory->is_peer_shut = memory->is_peer_closed = true;
  if (memory->streams == NULL) memory_stream_free(memory);
}
