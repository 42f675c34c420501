/* A byte stream to a peer: plain TCP or a Unix socket here; TLS and HTTP/2 streams later.
 *
 * Whoever carries it (a connection, an HTTP connection) is its owner and is told through events;
 * the owner may change (an upgrade). A stream writes what it can at once and never queues more
 * than one rest. It has no limits and no clock: those are its owner's. */
#ifndef PERIGEE_NET_STREAM_H
#define PERIGEE_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

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

/* What the streams of one loop share; uv_loop_t.data points to it. */
struct stream_loop {
  char *read_buffer;
  size_t read_bytes;
};

/* Accepts the connection that waits on `listener` (a uv_tcp_t or uv_pipe_t in its connection
 * callback). NULL and a UV_E code in `*error` when that fails. Not reading yet. */
struct stream *stream_accept(uv_stream_t *listener, const struct stream_events *events, void *owner,
                             int *error);

/* The remote address without port, "unix" for a Unix socket; returns its length. */
enum { STREAM_ADDRESS_BYTES = 64 };
size_t stream_remote_address(struct stream *stream, char out[STREAM_ADDRESS_BYTES]);

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
/* Closes; with `is_reset` the peer gets a reset where the transport has one. Then on_closed. No
 * other event follows. */
static inline void stream_close(struct stream *stream, bool is_reset) {
  stream->ops->close(stream, is_reset);
}

static inline void stream_set_owner(struct stream *stream, const struct stream_events *events,
                                    void *owner) {
  stream->events = events;
  stream->owner = owner;
}

#endif
