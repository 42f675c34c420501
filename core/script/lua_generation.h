/* One load of the script on one worker, numbered: its environment, routes, timers and handlers.
 *
 * Loaded beside the live one and swapped in its place, or dropped. It lives while it is live, and
 * then while something of it is under way: handlers that are suspended, pending timers, requests,
 * connections whose route is gone. All of them hold its routes, which are what is counted
 * (gateway/routes.h). Its Lua values go when the collector finds that nobody has them: what a
 * script keeps of them outside (lua_keep.h) holds them, which lua_pins.h tells. */
#ifndef PERIGEE_SCRIPT_LUA_GENERATION_H
#define PERIGEE_SCRIPT_LUA_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/timer.h"
#include "gateway/routes.h"
#include "pubsub/policy.h"
#include "script/lua_script.h"

struct every;
struct sources;

/* Functions that run when a generation begins or ends. */
typedef struct {
  int *handlers; /* standing references */
  size_t count;
} handler_list;

struct generation {
  uint64_t number;
  struct script *script;
  struct routes *routes;
  struct sources *sources; /* the gateway's, until another generation has gone live */
  int environment;         /* standing */
  struct list link;        /* in script->older once it is not live any more */
  struct every *everies;
  handler_list on_start;
  handler_list on_stop;
  struct policies *policies; /* declared by the load, until they are taken */
  struct timer retire;       /* its suspensions end then */
  bool was_live;
};

static inline void generation_retain(struct generation *generation) {
  routes_retain(generation->routes);
}
/* It may be gone afterwards. */
static inline void generation_release(struct generation *generation) {
  routes_release(generation->routes);
}

/* A handler of it has suspended. Where its code was replaced long ago, as a timer's can be, that
 * has an end too. */
void generation_note_suspended(struct generation *generation);

/* The function is at the top of `L`, and is popped. */
void handler_list_add(struct script *script, lua_State *L, handler_list *list);

/* Loads the main script into script->loading. False: `error` has one line, and nothing is left. */
bool generation_load(struct script *script, uint64_t number, struct sources *sources,
                     struct buf *error);
/* What was loaded is dropped. No effect where nothing was. */
void generation_discard(struct script *script);
/* What was loaded takes the place of the live one. */
void generation_swap(struct script *script);
/* The gateway's end: the live one goes. */
void generation_end(struct script *script);

#endif
