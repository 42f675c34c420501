/* A mode of the load generator: what its connections agree on, send and expect. */
#ifndef LOADGEN_WORKLOAD_H
#define LOADGEN_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loadgen/sse.h"

struct conn;

typedef enum {
  GREETING_NONE, /* open as soon as connected: plain HTTP */
  GREETING_WS,
  GREETING_SSE,
} greeting;

/* `now` is monotonic nanoseconds in all of them. What may be NULL is so where a mode has no use
 * for it. */
struct workload {
  const char *name;
  const char *unit; /* what is counted: "messages" */

  /* Before any connection: builds what is sent, calls pool_prepare. */
  void (*prepare)(void);
  greeting (*greeting_of)(const struct conn *conn);
  /* What it asks for, valid until the next call. May be NULL: options.path, or publish_path. */
  const char *(*path_of)(const struct conn *conn);
  void (*on_open)(struct conn *conn, uint64_t now); /* may be NULL */
  void (*on_bytes)(struct conn *conn, const char *data, size_t len, uint64_t now);

  /* A piece of a data frame's payload, on connections whose bytes go to ws_feed; conn->frame says
   * of which frame and where in it. `is_last` is true once a frame. May be NULL: `other` counts. */
  void (*on_piece)(struct conn *conn, const char *data, size_t len, bool is_last, uint64_t now);
  /* An event, on connections whose bytes go to sse_feed. */
  void (*on_event)(struct conn *conn, const sse_event *event, uint64_t now);
  /* From now on code of this generation, or newer, answers. May be NULL. */
  void (*on_live)(uint32_t generation, uint64_t now);
  /* The server ended the connection, by a close frame or at once. Returns whether that is in
   * order. May be NULL: it never is. */
  bool (*on_end)(struct conn *conn);

  /* Sends what starts the work, or one round of it. May be NULL. */
  void (*send_round)(uint64_t now);
  /* Called after every turn while work is wanted. May be NULL. */
  void (*step)(uint64_t now);
  /* Whether all that was sent is answered. May be NULL: always. */
  bool (*is_quiet)(void);
  /* How much of what was sent has not come, at the end. May be NULL. */
  uint64_t (*count_missing)(void);
  /* Counts what is only known at the end, such as pauses. May be NULL. */
  void (*on_finish)(void);
};

/* The mode of this run. */
extern const struct workload *workload;

extern const struct workload echo_workload;
extern const struct workload http_workload;
extern const struct workload ws_fanout_workload;
extern const struct workload sse_fanout_workload;
extern const struct workload steady_workload;
extern const struct workload churn_workload;
extern const struct workload idle_workload;

/* NULL when there is none of that name. */
const struct workload *workload_find(const char *name);

#endif
