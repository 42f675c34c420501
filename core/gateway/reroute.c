#include "gateway/reroute.h"

#include "base/clock.h"
#include "gateway/conn.h"
#include "gateway/worker.h"

const struct route *reroute_request(struct worker *worker, struct request *request,
                                    route_kind kind) {
  route_match match;
  routes_find(worker->routes, METHOD_GET, kind == ROUTE_WEBSOCKET, request_path(request), &match);
  if (match.route == NULL || match.route->kind != kind) return NULL;
  bool has_new_names = strcmp(request_route(request)->pattern, match.route->pattern) != 0;
  request_reroute(request, &match);
  if (has_new_names) worker->hooks->rerouted(worker, request);
  return match.route;
}

static bool is_ticking(const struct route *route) {
  return (route->handlers & HANDLER_TICK) != 0 && route->options.tick_every_ms > 0;
}

/* Ticks keep their phase while their period is the same. */
static void follow_ticks(struct conn *conn, const struct route *before) {
  uint64_t every_ms = conn->route->options.tick_every_ms;
  if (!is_ticking(conn->route)) {
    conn->next_tick_ms = UINT64_MAX;
  } else if (!is_ticking(before) || before->options.tick_every_ms != every_ms) {
    conn->next_tick_ms = clock_now_ms() + every_ms;
  }
}

static void leave_behind(struct conn *conn) {
  conn->is_orphan = true;
  if (conn_is_open(conn)) conn->worker->orphaned_count++;
  routes_retain(conn->route->routes);
  conn_close(conn, 1012, SLICE("this route is gone"));
}

/* The route that takes the place of the connection's; NULL: none. A connection that no handler
 * was ever told of has no request any more, and so no path: it goes by its pattern. */
static const struct route *find_successor(struct conn *conn, bool is_by_pattern) {
  const struct route *successor = conn->route->successor;
  if (!is_by_pattern && conn->request != NULL) {
    return reroute_request(conn->worker, conn->request, conn->route->kind);
  }
  if (successor != NULL && conn->request != NULL) request_follow(conn->request, successor);
  return successor;
}

static void follow(struct conn *conn, bool is_by_pattern) {
  const struct route *before = conn->route;
  const struct route *after = find_successor(conn, is_by_pattern);
  if (after == NULL) {
    leave_behind(conn);
    return;
  }
  conn->route = after;
  if (conn_is_open(conn)) conn->worker->kept_count++;
  follow_ticks(conn, before);
  conn->ops->on_route(conn, &before->options);
}

void reroute_connections(struct worker *worker, struct routes *older) {
  bool is_by_pattern = routes_compare(older, worker->routes);
  worker->kept_count = worker->orphaned_count = 0;
  struct list *next;
  for (struct list *link = worker->conns.next; link != &worker->conns; link = next) {
    struct conn *conn = LIST_OWNER(link, struct conn, all);
    next = link->next;
    if (!conn->is_orphan) follow(conn, is_by_pattern);
  }
}
