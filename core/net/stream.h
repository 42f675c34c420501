/* A byte stream to a peer: plain TCP or a Unix socket here; TLS and HTTP/2 streams later.
 *
 * Whoever carries it (a connection, an HTTP connection) is its owner and is told through events;
 * the owner may change (an upgrade). A stream writes what it can at once and never queues more
 * than one rest. It has no limits and no clock: those are its owner's.
 *
 * Streams are not libuv's: a uv_tcp_t alone takes 248 bytes, five times what one is here, and each
 * read and each close costs more. They are watched by a poller of their own (poller.h), which
 * libuv's loop watches as it does anything else. */
#ifndef PERIGEE_NET_STREAM_H
#define PERIGEE_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/clock.h"

struct stream;

struct stream_events {
  /* Bytes arrived. They stand in the worker's shared buffer: mutable, valid until return. */
  void (*on_read)(void *owner, char *data, size_t len);
  /* The peer will send no more: `error` 0 for its orderly end, else a UV_E code (then nothing can
   * be written either). Told at most once. */
  void (*on_end)(void *owner, int error);
  /* What stream_push_rest took is written; `error` as above. */
  void (*on_writable)(void *owner, int error);
  /* After stream_close: the stream is freed when this returns. */
  void (*on_closed)(void *owner);
};

struct stream_ops {
  int (*write)(struct stream *stream, const char *data, size_t len);
  int (*write_slices)(struct stream *stream, const uv_buf_t *slices, unsigned count);
  void (*push_rest)(struct stream *stream, char *data, size_t len);
  void (*set_reading)(struct stream *stream, bool is_reading);
  void (*shutdown)(struct stream *stream);
  void (*close)(struct stream *stream, bool is_reset);
};

struct stream {
  const struct stream_ops *ops;
  const struct stream_events *events;
  void *owner;
};

/* What the poller has told and nobody has looked at yet; private to stream.c. */
struct stream_ready;

/* What the streams of one loop share. */
struct stream_loop {
  uv_poll_t poll; /* of `poller` */
  int poller;
  struct stream_ready *ready;
  char *read_buffer;
  size_t read_bytes;
  struct stream *closed; /* on_closed is not told yet */
  /* The process may fork: a child that has not yet called exec holds what is closed here, and the
   * poller would go on telling of it. To be set by whoever opens the loop. */
  bool has_children;
  /* When the poll returned whose events are told; 0 until the first of them, as the loop tells
   * events from within its poll. */
  uint64_t polled_ns;
  /* The events of this poll have taken their time: who goes through many stops, and finds the rest
   * after the next. Set by whoever they are told; begins anew with each who goes through them. */
  bool is_poll_due;
};

/* An event begins; to be called first by whoever is told one, so that its time is counted. */
static inline void stream_loop_event(struct stream_loop *loop) {
  if (loop->polled_ns == 0) loop->polled_ns = clock_real_ns();
}

/* One read takes at most `read_bytes`. */
void stream_loop_open(struct stream_loop *loop, uv_loop_t *uv_loop, size_t read_bytes);
/* Every stream has been told on_closed. The struct must live until libuv's loop has run again. */
void stream_loop_close(struct stream_loop *loop);
/* Tells on_closed of the streams that were closed since, and frees them. For whoever runs before
 * the poll: nothing of a stream may be on the stack. */
void stream_loop_sweep(struct stream_loop *loop);
static inline bool stream_loop_has_closed(const struct stream_loop *loop) {
  return loop->closed != NULL;
}

/* Accepts a connection that waits on a listening socket that does not block, and writes its remote
 * address without port, "unix" for a Unix socket. Not reading yet; the owner follows with
 * stream_set_owner. With `has_input` its first bytes are expected to be there (listener_defer):
 * the first stream_set_reading reads, and tells, at once. NULL, with a UV_E code in `*error`, when
 * that fails: UV_EAGAIN when none waits. */
enum { STREAM_ADDRESS_BYTES = 64 };
struct stream *stream_accept(struct stream_loop *loop, int listener, bool has_input,
                             char address[STREAM_ADDRESS_BYTES], int *error);

/* Writes at once what the kernel takes. Bytes taken; 0 when it takes none (and while a rest is
 * under way); a negative UV_E code when the stream is broken. */
static inline int stream_write(struct stream *stream, const char *data, size_t len) {
  return stream->ops->write(stream, data, len);
}
static inline int stream_write_slices(struct stream *stream, const uv_buf_t *slices,
                                      unsigned count) {
  return stream->ops->write_slices(stream, slices, count);
}
/* Takes over `data` (mem_alloc), writes it when the kernel can, then tells on_writable. Only one
 * at a time. */
static inline void stream_push_rest(struct stream *stream, char *data, size_t len) {
  stream->ops->push_rest(stream, data, len);
}
static inline void stream_set_reading(struct stream *stream, bool is_reading) {
  stream->ops->set_reading(stream, is_reading);
}
/* Ends our side after what is under way; the peer may still send. */
static inline void stream_shutdown(struct stream *stream) {
  stream->ops->shutdown(stream);
}
/* Closes; with `is_reset` the peer gets a reset where the transport has one. Before the next poll
 * on_closed is told; no other event follows. */
static inline void stream_close(struct stream *stream, bool is_reset) {
  stream->ops->close(stream, is_reset);
}

static inline void stream_set_owner(struct stream *stream, const struct stream_events *events,
                                    void *owner) {
  stream->events = events;
  stream->owner = owner;
}

#endif
