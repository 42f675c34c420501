/* A publication on its way: counted, shared by all workers, immutable once published.
 *
 * It owns its bytes and the wire encodings made of them. It knows no wire format: an encoding is
 * bytes that the gateway's encoding.h made; it is made at most once and lives with the message. */
#ifndef PERIGEE_PUBSUB_MESSAGE_H
#define PERIGEE_PUBSUB_MESSAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct hub_topic;

/* Logs a gateway can have at once: memory and one durable. */
enum { MESSAGE_LOGS = 2 };

/* Wire encodings a message can carry; what each means is encoding.h's affair. */
enum { MESSAGE_ENCODINGS = 4 };

/* Bytes in front of the payload that an encoding may use for a header of its own. */
enum { MESSAGE_HEADROOM = 16 };

typedef enum {
  MESSAGE_BINARY = 1,    /* the data is bytes, else UTF-8 text */
  MESSAGE_TRANSIENT = 2, /* never kept, in order with the rest */
  MESSAGE_CLEAR = 4,     /* everything before it in its topic is dropped in the same step */
  MESSAGE_JSON = 16,     /* the data was a table: JSON text */
  MESSAGE_SIGNAL = 8,    /* for the subscribers' scripts, not for their wires; never kept */
} message_flags;

/* Bytes of one wire format. `event_offset` and `event_len` tell the part without transfer framing
 * (an SSE event inside its HTTP chunk, an envelope inside its frame). */
struct encoding {
  size_t len;
  size_t event_offset;
  size_t event_len;
  char data[];
};

struct message {
  atomic_uint references;
  unsigned flags;
  /* Set by the hub under its lock, before anyone else sees the message. */
  struct hub_topic *topic;      /* one reference; NULL when nobody can ever get it */
  uint64_t release;             /* place in the total order of all publications */
  uint64_t number;              /* in the log that keeps it; 0 when it is not kept */
  uint64_t heads[MESSAGE_LOGS]; /* head of every log at its release: its position */
  uint64_t published_ms;        /* clock_now_ms */
  /* Set by the publisher. */
  uint64_t except_id; /* connection that does not get it, or 0 */
  uint64_t origin_id; /* connection whose handler published it, or 0 */
  slice event;        /* SSE event name, may be empty */
  slice data;
  atomic_bool is_removed; /* taken out of its history by hub_remove: replays pass it over */
  _Atomic(struct encoding *) encodings[MESSAGE_ENCODINGS];
  char bytes[]; /* event, MESSAGE_HEADROOM unused bytes, data */
};

/* One reference, the caller's. The data is copied, or with data.data NULL left to be written by
 * the caller through message_data before publishing. */
struct message *message_new(slice event, slice data, unsigned flags);

/* Where the data stands, writable until it is published. MESSAGE_HEADROOM bytes in front of it
 * are free for an encoding's header. */
static inline char *message_data(struct message *message) {
  return message->bytes + message->event.len + MESSAGE_HEADROOM;
}

struct message *message_retain(struct message *message);
/* The last reference frees the message, its encodings and its reference to the topic. */
void message_release(struct message *message);

/* The encoding of this kind, or NULL when none was made yet. Borrowed from the message. */
static inline struct encoding *message_find_encoding(struct message *message, int kind) {
  return atomic_load_explicit(&message->encodings[kind], memory_order_acquire);
}

/* Gives the message an encoding that mem_alloc made. When another worker was faster, this one is
 * freed. Returns the one that counts. */
struct encoding *message_push_encoding(struct message *message, int kind,
                                       struct encoding *encoding);

/* Bytes of memory that it stands for in limits: data, event and the struct. */
size_t message_cost_bytes(const struct message *message);

/* Messages alive in the process. For the counters of tests and metrics. */
uint64_t message_count(void);
/* For gateways that take turns on one thread, each with a count of its own: sets it and returns
 * what it was. */
uint64_t message_swap_count(uint64_t count);

#endif
