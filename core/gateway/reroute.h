/* Connections follow the routes of a new generation.
 *
 * Each finds the route that its path has now. Where only handlers and options have changed, which
 * is what most saves do, that is the one with the same pattern, and no path is looked at. A
 * connection whose path has no route any more closes with 1012; its end is told by the code that
 * it was opened with. Requests under way are not looked at: they end with the routes that they
 * began with, and one that becomes a connection asks for its route then (http_exchange.c). */
#ifndef PERIGEE_GATEWAY_REROUTE_H
#define PERIGEE_GATEWAY_REROUTE_H

#include "gateway/routes.h"

struct request;
struct worker;

/* From `older`, the worker's routes so far, to worker->routes. */
void reroute_connections(struct worker *worker, struct routes *older);

/* The route of this kind that the request's path has in the worker's routes, which then is the
 * request's; NULL: none. */
const struct route *reroute_request(struct worker *worker, struct request *request,
                                    route_kind kind);

#endif
