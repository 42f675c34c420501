/* What the files of the script layer share: the worker's script, its references, its failures.
 *
 * A `struct script` is one Lua state with what C holds for it, for the worker's life; what comes
 * with each load of the script is a generation (lua_generation.h). It finds its way into binding
 * functions as their first upvalue. Lua values held by C are references, taken and dropped here
 * only, and counted: both counts are zero when the script is unloaded. Beyond the first few hundred
 * those of connections and requests are not in the registry but on shelves, tables of a few hundred
 * places: the collector marks a table in one piece, which with 19,000 places took it 4 ms. */
#ifndef PERIGEE_SCRIPT_LUA_SCRIPT_H
#define PERIGEE_SCRIPT_LUA_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/slice.h"
#include "gateway/worker.h"

struct generation;
struct pinned;
struct sources;
struct task;

/* A table of values that C holds for a while. */
struct shelf {
  int table; /* the registry's reference */
  uint32_t used;
};

struct script {
  lua_State *L; /* the main thread: runs the loads, else only lends its stack */
  struct worker *worker;
  struct generation *live;
  struct generation *loading; /* loaded, or being loaded, and not yet live */
  struct pinned *pinned;      /* lua_pins.c's */
  struct list older;          /* generations that were live and are held */
  uint64_t generation_count;  /* the live one and those */
  struct sources *sources; /* where files are read: the live one's, or that of a load that runs */
  uint64_t refs;           /* held for connections, requests, tasks and timers under way */
  uint64_t standing_refs;  /* held for a generation's life or longer: handlers, metatables */
  uint32_t registry_used;  /* of `refs`, those that are not on a shelf */
  struct shelf *shelves;
  uint32_t shelf_count;
  uint32_t full_shelves; /* so many, from the first on */

  struct task *current;    /* whose handler runs */
  struct task *free_tasks; /* the pool */
  uint32_t free_task_count;
  uint64_t task_count; /* running and suspended */
  struct list suspended;

  struct list afters; /* perigee.after and spawn, not yet fired */
  uint64_t after_count;

  int library_environment; /* of the library's own code, which is of no generation */
  int conn_metatable;
  int request_metatable;
  int headers_metatable;
  int timer_metatable;
  int shared_metatable;

  struct buf scratch; /* one call's text: JSON to publish, a header's values */
  struct buf message; /* what is wrong with a handler's result */
  struct buf cookies; /* a response's Set-Cookie values */
  char *directory;    /* the main script's */

  uint64_t collected_bytes; /* the heap's size after the last step */
  uint64_t live_bytes;      /* about what the last cycle found alive */
  uint64_t cycle_bytes;     /* allocated since the cycle began */
  bool is_collecting;
  bool is_loading; /* a load runs */
  bool is_stopping;
  bool is_dev; /* --dev */
};

static inline struct script *script_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/* Takes the value at the top of the stack onto a shelf; never 0. */
int ref_take(struct script *script, lua_State *L);
/* Drops it and sets the place to 0; no effect on 0. */
void ref_drop(struct script *script, int *ref);
/* The same for what lives as long as a generation. */
int ref_take_standing(struct script *script, lua_State *L);
void ref_drop_standing(struct script *script, int *ref);

/* For ref_push: of those that are on a shelf. Never inlined: seldom. */
__attribute__((noinline)) void ref_push_shelved(lua_State *L, int ref);

static inline void ref_push(lua_State *L, int ref) {
  if (ref < 0) {
    ref_push_shelved(L, ref);
  } else {
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  }
}
/* When all were dropped. */
void refs_deinit(struct script *script);

/* Registers functions in the table at the top, with the script as their first upvalue. */
void script_register(struct script *script, const luaL_Reg *functions);
/* A metatable held by a standing reference: `name` for error messages, `methods` get the script
 * and the metatable as upvalues; `index`, when not NULL, is __index with a table of the methods as
 * third upvalue, else that table itself is. */
int script_new_metatable(struct script *script, const char *name, const luaL_Reg *methods,
                         lua_CFunction index);

/* The userdata at the top, made where no function of ours runs, belongs to no generation: else it
 * would hold the one whose coroutine this is. */
void script_own_box(struct script *script, lua_State *L);

/* Whether the value is a userdata with this metatable: the box, or NULL. */
void *script_peek_box(lua_State *L, int index, int metatable);
/* The same, raising where it is not. */
void *script_check_box(lua_State *L, int index, int metatable, const char *name);

static inline slice script_slice_at(lua_State *L, int index) {
  slice s;
  s.data = lua_tolstring(L, index, &s.len);
  return s;
}
/* A string argument; numbers are not taken for strings. */
slice script_check_slice(lua_State *L, int index);

static inline void script_push_slice(lua_State *L, slice s) {
  lua_pushlstring(L, s.len > 0 ? s.data : "", s.len);
}

/* nil, message, code. */
int script_push_failure(lua_State *L, const char *message, const char *code);

/* Raises while the script loads: `name` does something, and loading only declares. */
void script_check_loaded(lua_State *L, struct script *script, const char *name);

/* Seconds to milliseconds, rounded up, so that a wait is never shorter than asked. Raises for
 * what is no number, negative or beyond 100 years. */
uint64_t script_check_ms(lua_State *L, int index);
bool script_seconds_to_ms(double seconds, uint64_t *ms);

/* Raises `unknown option "key" for function`, or `not yet: key` for one in `later` (ends with
 * NULL) whose value is not false. For the key at index -2 and the value at -1. */
void script_unknown_option(lua_State *L, const char *function, const char *const *later);

/* Text or, for a table, JSON in script->scratch, valid until that is used again. Raises for other
 * types, and for tables that JSON cannot say. False for what is not UTF-8 or too large: then nil,
 * message and code are pushed. */
bool script_check_data(lua_State *L, struct script *script, int index, slice *data);

/* A message for people of an error value of any type; never raises. Borrowed from the stack. */
const char *script_error_text(lua_State *L, int index);

#endif
