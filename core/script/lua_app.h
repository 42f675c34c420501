/* From an app's declarations to routes, policies and timers.
 *
 * The Lua half (lua/perigee/app.lua) collects and checks what a script declares; when the script
 * has returned its app, each declaration comes here once, with its options in Lua's units. */
#ifndef PERIGEE_SCRIPT_LUA_APP_H
#define PERIGEE_SCRIPT_LUA_APP_H

#include "gateway/routes.h"
#include "script/lua_generation.h"
#include "script/lua_script.h"

/* Places in route_script.handlers: the bit numbers of route_handler, then the HTTP handler. */
enum {
  APP_AUTHENTICATE,
  APP_OPEN,
  APP_MESSAGE,
  APP_CLOSE,
  APP_DRAIN,
  APP_SIGNAL,
  APP_TICK,
  APP_HTTP,
  APP_HANDLERS
};

/* route->script: standing references to the handlers, 0 where there is none, and what they are
 * called once they have run (struct task). */
struct route_script {
  int handlers[APP_HANDLERS];
  const char *labels[APP_HANDLERS];
  struct generation *generation;
  bool takes_request; /* the HTTP handler has a parameter: else no request is made for it */
};

static inline struct route_script *app_route(const struct route *route) {
  return route->script;
}

/* Adds the functions that the Lua half calls to the table at the top. */
void lua_app_register(struct script *script);
/* Drops a route's handlers: for routes_owner. `context` is the generation. */
void lua_app_free_route(void *context, void *route_script);

#endif
