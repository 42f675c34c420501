/* A stream whose peer is in this process: no socket, no descriptor, no other thread.
 *
 * Two runs of bytes between two ends. The gateway's end is a stream (stream.h) and behaves as a
 * socket does: what the peer does not read fills a bounded buffer, then nothing is taken. Nobody
 * polls it by itself: its owner, who pumps the loop, calls memory_stream_poll and
 * memory_stream_sweep. The peer's end is a few functions that never wait. */
#ifndef PERIGEE_NET_MEMORY_STREAM_H
#define PERIGEE_NET_MEMORY_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/slice.h"
#include "net/stream.h"

struct memory_stream;

/* The streams that one owner polls. */
struct memory_streams {
  struct list open;
  struct memory_stream *closed; /* on_closed is not told yet */
};

void memory_streams_init(struct memory_streams *streams);

/* Tells what there is to tell: bytes, the peer's end, room for a rest. Each stream is told of one
 * read at most, as by a poll. Returns whether anybody was told. Not within an event. */
bool memory_streams_poll(struct memory_streams *streams);
/* Whether memory_streams_sweep or memory_streams_poll would tell something. */
bool memory_streams_have_events(const struct memory_streams *streams);
/* stream_loop_sweep's counterpart. */
void memory_streams_sweep(struct memory_streams *streams);

/* Opens both ends; each is freed when both are closed and on_closed was told. Not reading yet; the
 * owner follows with stream_set_owner. `peer_bytes` is what may wait for the peer to be read: a
 * socket's send and receive buffer. */
struct memory_stream *memory_stream_open(struct memory_streams *streams, size_t peer_bytes);
struct stream *memory_stream_end(struct memory_stream *memory);

/* --- the peer's end --- */

/* Bytes taken, 0 when there is no room for now, or UV_EPIPE when the stream is closed. */
int memory_stream_peer_write(struct memory_stream *memory, slice bytes);
size_t memory_stream_peer_room(const struct memory_stream *memory);
/* What has arrived and was not taken: borrowed until anything else is called. */
slice memory_stream_peer_peek(const struct memory_stream *memory);
void memory_stream_peer_drop(struct memory_stream *memory, size_t count);
/* Behind what has arrived: 0 while more may come, UV_EOF, or UV_ECONNRESET. */
int memory_stream_peer_ending(const struct memory_stream *memory);
/* The peer sends no more, and goes on reading. */
void memory_stream_peer_shutdown(struct memory_stream *memory);
/* The peer is gone. As with a socket, to leave bytes unread is a reset. */
void memory_stream_peer_close(struct memory_stream *memory, bool is_reset);

#endif
