/* A gateway in a child process that is started anew when it crashes or is stuck.
 *
 * The parent holds the bound sockets and does nothing but wait: while a child is gone, connections
 * queue in the kernel, and the next child, which inherits the sockets, accepts them. A child that
 * serves beats through a pipe; one that falls silent is killed. Between two starts there is a
 * pause, from 100 ms, doubled each time up to 10 s, and short again after a minute of life.
 *
 * SIGHUP is passed on. SIGTERM and SIGINT are, once: a child may get them from its terminal or
 * control group too, and does not take the second for haste. Asked twice, the parent kills it. When
 * the parent dies the child stops in good order. */
#ifndef PERIGEE_GATEWAY_SUPERVISE_H
#define PERIGEE_GATEWAY_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

/* The child's end. */
struct supervise_link {
  int fd;
};

typedef struct {
  /* The gateway, in a child; returns its exit code. */
  int (*run)(void *context, const struct supervise_link *link);
  /* In the parent, when the first child that serves has beaten. */
  void (*on_ready)(void *context);
  /* In the parent, when it is asked to stop: closes its sockets, or they would go on queueing. */
  void (*stop_listening)(void *context);
  void *context;
  uint64_t silence_ms; /* a child that served and has not beaten for so long is killed; 0: never */
} supervise_options;

/* Forks: no thread and no loop may exist. Returns in the child what `run` returned, and in the
 * parent, at the end of it all, the process's exit code: the last child's, or 128 and the signal
 * that ended it. A first child that cannot start is not started again. */
int supervise_run(const supervise_options *options);

/* In the child: it serves, and is not stuck. False when the parent is gone. */
bool supervise_beat(const struct supervise_link *link);

#endif
