/* The routes of one load of a script on one worker: which path and method goes where.
 *
 * Built while the script loads, immutable afterwards. It matches paths; what a route does is its
 * kind's affair, and its handlers are known to the script alone (`script`).
 *
 * Counted, for the one worker's thread: a reload replaces the routes while requests and handlers
 * of the older ones are under way. Each of these holds a reference, and so does the script while
 * the routes are live. */
#ifndef PERIGEE_GATEWAY_ROUTES_H
#define PERIGEE_GATEWAY_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "gateway/limits.h"

typedef enum { ROUTE_HTTP, ROUTE_WEBSOCKET, ROUTE_SSE, ROUTE_STATIC } route_kind;

/* Methods that routes can have; a bit each, so that Allow can be answered. */
typedef enum {
  METHOD_GET = 1,
  METHOD_HEAD = 2,
  METHOD_POST = 4,
  METHOD_PUT = 8,
  METHOD_PATCH = 16,
  METHOD_DELETE = 32,
  METHOD_OPTIONS = 64,
  METHOD_OTHER = 128,
} route_method;

/* Handlers that a behavior has; without one its event is not told. */
typedef enum {
  HANDLER_AUTHENTICATE = 1,
  HANDLER_OPEN = 2,
  HANDLER_MESSAGE = 4,
  HANDLER_CLOSE = 8,
  HANDLER_DRAIN = 16,
  HANDLER_SIGNAL = 32,
  HANDLER_TICK = 64,
} route_handler;

typedef enum { EXCESS_CLOSE, EXCESS_DROP, EXCESS_WAIT } rate_excess;

/* SURFACE.md has the meaning. Durations are milliseconds here; 0 means none where that is
 * possible. The lists' strings are NUL-terminated and owned by the route. */
typedef struct {
  char **origins;  /* allowed Origins; the list ends with NULL */
  bool any_origin; /* "*" */
  char **protocols;
  char **keep_headers; /* lower case */
  uint64_t max_message_bytes;
  uint64_t max_outbox_bytes;
  uint64_t max_body_bytes;
  uint32_t max_topics;
  uint64_t idle_timeout_ms;
  uint64_t ping_every_ms;
  uint64_t handler_timeout_ms; /* for an HTTP route `timeout` */
  uint64_t tick_every_ms;
  uint64_t retry_ms;    /* SSE */
  double rate_messages; /* a token bucket: so many ... */
  uint64_t rate_per_ms; /* ... in this time; 0: no rate */
  rate_excess excess;
} route_options;

/* The defaults of SURFACE.md for a kind. */
/* ... but never beyond the gateway's limits. */
route_options route_options_default(route_kind kind, const struct limits *limits);

struct routes;

struct route {
  route_kind kind;
  unsigned methods; /* ROUTE_HTTP: exactly one; ROUTE_STATIC: GET and HEAD; others GET */
  char *pattern;
  unsigned handlers; /* of route_handler */
  route_options options;
  char *directory; /* ROUTE_STATIC */
  void *script;    /* the script layer's */
  struct routes *routes;
  const struct route *successor; /* routes_compare's: the same pattern's in the newer routes */
};

/* The script layer's end of the routes. */
typedef struct {
  /* What stands in a route's `script`, if that is not NULL. */
  void (*free_script)(void *context, void *script);
  /* The routes are gone. */
  void (*on_freed)(void *context);
  void *context;
} routes_owner;

/* With one reference. */
struct routes *routes_new(const routes_owner *owner);
struct routes *routes_retain(struct routes *routes);
void routes_release(struct routes *routes);

/* Adds a route. It takes over `options` lists, and copies pattern and directory. Returns the route,
 * or NULL with a reason in `*error` (static text): a duplicate, sse with get on one pattern, a
 * pattern that does not begin with "/", an empty or repeated parameter name, something behind a
 * "*rest", more than ROUTE_PARAMS parameters. On failure the lists stay the caller's. */
struct route *routes_add(struct routes *routes, route_kind kind, unsigned methods, slice pattern,
                         const route_options *options, slice directory, const char **error);

void route_options_free(route_options *options);

enum { ROUTE_PARAMS = 16 };
/* `name` is the route's, `value` points into the path, still percent-encoded. */
typedef struct {
  slice name;
  slice value;
} route_param;

typedef struct {
  const struct route *route; /* NULL: none; then `allowed` tells which methods the path has */
  unsigned allowed;
  bool has_websocket; /* the path has a WebSocket route (for 426 where nothing else answers) */
  size_t param_count;
  route_param params[ROUTE_PARAMS];
} route_match;

/* The best route for a raw path (no query). `is_upgrade` looks for a WebSocket route first. HEAD
 * finds GET. Literal beats ":param" beats "*rest", segment by segment. Literals in patterns are
 * compared with the percent-decoded path. */
void routes_find(const struct routes *routes, route_method method, bool is_upgrade, slice path,
                 route_match *match);

/* The directories of static routes. Any thread: for as long as the routes are held, they do not
 * change. */
void routes_for_each_directory(const struct routes *routes,
                               void (*visit)(void *context, const char *directory), void *context);

/* The name of the pattern's parameter `index`, which is one. */
slice route_param_name(const struct route *route, size_t index);

/* Notes in each older route its successor: the route with the same pattern, kind and methods, or
 * NULL. Whether that is all there is to say: every path that found a route finds its successor. */
bool routes_compare(struct routes *older, const struct routes *newer);

#endif
