/* Connections: opened, written to and closed, without knowing what is said on them.
 *
 * One thread, one epoll descriptor. A connection's struct lives as long as the program; its
 * descriptor may come and go (churn). */
#ifndef LOADGEN_CONN_H
#define LOADGEN_CONN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  CONN_FREE,
  CONN_CONNECTING,
  CONN_GREETING, /* the handshake is under way */
  CONN_OPEN,
  CONN_CLOSING, /* we sent a close frame */
  CONN_DEAD,
} conn_state;

/* Bytes that grow as needed; zero is empty. */
typedef struct {
  char *data;
  size_t len;
  size_t capacity;
} bytes;

/* The WebSocket frame that is being received. */
typedef struct {
  uint8_t header[10];
  uint8_t header_len;
  uint8_t opcode;
  bool is_inside; /* its header is whole */
  uint64_t len;
  uint64_t offset; /* payload bytes seen */
} frame_state;

/* The chunk of an event stream that is being received. */
typedef struct {
  size_t left;   /* bytes of it that are still to come */
  char line[16]; /* with its size, as far as it has come */
  uint8_t line_len;
} chunk_state;

struct conn {
  int fd;
  uint32_t id; /* its place in the pool */
  conn_state state;
  bool is_subscriber;
  bool is_publisher;
  bool is_dead;     /* never reads once it is open, and its buffer is small */
  bool wants_write; /* as epoll was told */
  uint64_t opened_at_ns;

  frame_state frame;
  chunk_state chunk;
  bytes kept;    /* received, and not whole yet: a response's head, a message cut in two */
  bytes pending; /* to send: what the socket would not take */

  /* Of pipeline.c: a stream of equal requests, answered in order. */
  uint64_t owed;         /* bytes still to send */
  size_t request_offset; /* how much of the request at hand is sent */
  uint64_t *sent_at_ns;  /* ring of options.inflight times */
  uint32_t answered;
  uint32_t requested;
  uint64_t response_offset; /* HTTP: place in the response at hand */

  uint64_t longest_ns; /* of steady.c: what took longest of all that it was sent */

  /* Of fanout.c, where it publishes. */
  uint32_t publisher;
  uint32_t sequence;  /* the next publication's; also of steady.c */
  uint64_t delivered; /* of its publications, to all subscribers together */
  uint64_t next_due_ns;
  bool is_posting; /* its POST is not answered yet */
};

struct pool {
  struct conn *conns;
  int count;
  int next;    /* the first that was never opened */
  int opening; /* connecting, or greeting */
  int open;
  int dead;
};

extern struct pool pool;

void bytes_append(bytes *to, const char *data, size_t len);

/* The descriptor that the loop waits on, and where connections go: once, first. */
void pool_init(void);
const struct sockaddr_in *pool_target(void);
int pool_epoll(void);

/* Makes `count` connections that are not open yet; fails when there are not descriptors enough. */
void pool_prepare(int count);
/* Opens connections until all are open or options.opening are under way. */
void pool_open_some(void);

void conn_open(struct conn *conn);
/* Resets the connection, so that no port is left in TIME_WAIT. */
void conn_close(struct conn *conn);
/* Closes it and counts it as failed, or as lost where it had been open. */
void conn_fail(struct conn *conn, const char *why);
/* The greeting is done: counts it as open. */
void conn_opened(struct conn *conn);

/* Sends, or keeps what the socket does not take until it does. */
void conn_send(struct conn *conn, const char *data, size_t len);
/* Sends of what was kept. */
void conn_flush(struct conn *conn);
/* Nothing that happens on it is noticed any more. */
void conn_ignore(struct conn *conn);
/* Whether epoll is to tell when the socket can be written. */
void conn_want_write(struct conn *conn, bool wants);

#endif
