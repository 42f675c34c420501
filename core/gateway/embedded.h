/* A gateway on the calling thread, without sockets: one worker, connections in memory, a clock that
 * stands still. For specs that run an application's handlers in their own process.
 *
 * The same code as gateway_run's, driven by embedded_pump instead of by threads. Test commands
 * (control.h) do what they do there: advance, counters, collect, exec, reload. Left out is what
 * makes a process of it: listeners, control socket, signals, supervision, the watches over stuck
 * handlers and over saved files, and the tending of free memory. A handler that never returns is
 * never interrupted.
 *
 * There may be several: each has its own clock, log and count of messages, which are the process's
 * while it runs. One thread, and nothing of them may be called from within one that runs. */
#ifndef PERIGEE_GATEWAY_EMBEDDED_H
#define PERIGEE_GATEWAY_EMBEDDED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/slice.h"
#include "gateway/config.h"
#include "gateway/control.h"
#include "gateway/hooks.h"
#include "net/memory_stream.h"

struct embedded;

typedef struct {
  const struct config *config; /* copied; its strings must live as long as the gateway */
  const struct hooks *hooks;
  log_sink log; /* lines of the log, and answers to commands, as they come */
  control_sink answers;
  void *context; /* for both */
} embedded_options;

/* Loads the script and serves it, at the time that it is. NULL when that fails: `error` has one
 * line, and nothing is left. */
struct embedded *embedded_start(const embedded_options *options, struct buf *error);

/* Runs until nothing is left to do before something comes or the clock moves. False when that takes
 * too long: there is always more to do, as with a timer of no time that starts itself anew. */
bool embedded_pump(struct embedded *embedded);

/* A connection from 127.0.0.1: the peer's end, which the caller closes. What is done with it has
 * its effect when the loop is pumped. */
struct memory_stream *embedded_connect(struct embedded *embedded, size_t peer_bytes);

/* Carries out a test's command and pumps. A command that suspends is answered by a later pump.
 * False as embedded_pump. */
bool embedded_command(struct embedded *embedded, slice line);

/* Stops in good order, within the drain time, answers with the counters of what is left, and frees
 * everything. */
void embedded_stop(struct embedded *embedded);

#endif
