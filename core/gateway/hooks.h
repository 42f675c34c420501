/* Whom the gateway asks or tells when something happens: the script layer fills this table.
 *
 * All are called on the worker's thread. A handler that suspends gives HOOK_SUSPENDED; its end is
 * told by conn_resume (connections) or by answering (exchanges). */
#ifndef PERIGEE_GATEWAY_HOOKS_H
#define PERIGEE_GATEWAY_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "pubsub/policy.h"

struct conn;
struct exchange;
struct request;
struct sources;
struct worker;

typedef enum { HOOK_DONE, HOOK_SUSPENDED } hook_result;

typedef struct {
  uint64_t lua_refs;
  uint64_t tasks;
  uint64_t lua_bytes;
  uint64_t generations; /* the live one, and older ones that something holds */
} hook_counts;

struct hooks {
  /* Loads the script as generation `number`, beside the one that is live, from `sources`, which
   * stay until the next load has gone live or was dropped. Makes the script's state first where
   * there is none. Builds all that can fail. False: `error` has one line with file and line
   * number, and nothing is left of the load. */
  bool (*load)(struct worker *worker, uint64_t number, struct sources *sources, struct buf *error);
  /* The topic policies that the load declared; the caller owns them. Asked of worker 0 only. */
  struct policies *(*take_policies)(struct worker *worker);
  /* What was loaded goes live: sets worker->routes, moves connections and timers over, runs
   * on_stop("reload") of the generation so far and on_start("boot" or "reload"). Cannot fail. */
  void (*swap)(struct worker *worker);
  /* What was loaded is dropped. No effect where nothing was. */
  void (*discard)(struct worker *worker);
  /* Ends all suspensions with nil, message, "stopping"; from now on suspending gives that at
   * once; timers stop. */
  void (*stop)(struct worker *worker);
  /* After the last connection: on_stop("stop"). */
  void (*stopped)(struct worker *worker);
  /* Frees everything, routes and what was loaded included. */
  void (*unload)(struct worker *worker);

  /* Asks who may enter; answered by exchange_admit or exchange_refuse, now or later. Only for
   * routes with HANDLER_AUTHENTICATE. */
  void (*authenticate)(struct exchange *exchange);
  /* An HTTP route's handler; answered by exchange_respond or exchange_respond_file. */
  void (*request)(struct exchange *exchange);
  /* The peer is gone while a handler is suspended: end it with "closed". */
  void (*cancel_exchange)(struct exchange *exchange);
  /* The exchange ends; with `keep_session` its request lives on in a connection. Drop what refers
   * to it. */
  void (*forget_exchange)(struct exchange *exchange, bool keep_session);

  /* Told only where the route has the handler. */
  hook_result (*on_open)(struct conn *conn);
  hook_result (*on_message)(struct conn *conn, slice data, bool is_binary);
  hook_result (*on_close)(struct conn *conn, int code, slice reason);
  hook_result (*on_drain)(struct conn *conn);
  hook_result (*on_signal)(struct conn *conn, slice data, bool is_binary, slice topic);
  hook_result (*on_tick)(struct conn *conn);
  /* The request's route has another pattern now, so its parameters may have other names. */
  void (*rerouted)(struct worker *worker, struct request *request);
  /* The connection is gone while its handler (conn->task) is suspended: end it with "closed". */
  void (*cancel)(struct conn *conn);
  /* The connection is about to be freed: drop what refers to it. */
  void (*forget)(struct conn *conn);

  /* The end of a turn: a bounded step of the collector. `is_idle`: nothing else is to be done.
   * Returns whether there is more that is worth a step soon. */
  bool (*step)(struct worker *worker, bool is_idle);
  /* For tests: a full collection. */
  void (*collect)(struct worker *worker);
  /* For tests: runs code, a function in the script's language, with the values of a JSON array;
   * its end is told by control_executed. */
  void (*exec)(struct worker *worker, uint64_t id, slice code, slice arguments);
  /* Also after unload: what is left then was leaked. Also, for tests, from the main thread, and so
   * of numbers alone. */
  void (*count)(struct worker *worker, hook_counts *counts);
};

#endif
