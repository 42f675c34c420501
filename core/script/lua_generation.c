#include "script/lua_generation.h"

#include <luajit.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/reroute.h"
#include "gateway/sources.h"
#include "script/lua_app.h"
#include "script/lua_core.h"
#include "script/lua_events.h"
#include "script/lua_keep.h"
#include "script/lua_pins.h"
#include "script/lua_sandbox.h"
#include "script/lua_task.h"
#include "script/lua_timer.h"

/* Long enough for a handler that waits for somebody, short enough to be sure what runs. */
#define RETIRE_MS UINT64_C(60000)

/* --- life --- */

static void free_generation(void *context);
static void on_retire(struct timer *timer);

static struct generation *generation_new(struct script *script, uint64_t number,
                                         struct sources *sources) {
  struct generation *generation = mem_alloc_zero(sizeof *generation);
  routes_owner owner = {lua_app_free_route, free_generation, generation};
  generation->number = number;
  generation->script = script;
  generation->sources = sources;
  generation->routes = routes_new(&owner);
  generation->policies = policies_new();
  list_init(&generation->link);
  timer_init(&generation->retire, on_retire);
  return generation;
}

void handler_list_add(struct script *script, lua_State *L, handler_list *list) {
  list->handlers = mem_realloc(list->handlers, (list->count + 1) * sizeof *list->handlers);
  list->handlers[list->count++] = ref_take_standing(script, L);
}

static void handler_list_free(struct script *script, handler_list *list) {
  for (size_t i = 0; i < list->count; i++) ref_drop_standing(script, &list->handlers[i]);
  mem_free(list->handlers);
}

/* Nothing holds its routes any more. */
static void free_generation(void *context) {
  struct generation *generation = context;
  struct script *script = generation->script;
  if (generation->was_live) script->generation_count--;
  if (generation->was_live && !script->is_stopping) lua_pins_expect_gone(generation);
  everies_free(generation);
  handler_list_free(script, &generation->on_start);
  handler_list_free(script, &generation->on_stop);
  ref_drop_standing(script, &generation->environment);
  policies_free(generation->policies);
  timer_stop(&script->worker->timers, &generation->retire);
  list_remove(&generation->link);
  mem_free(generation);
}

/* --- loading --- */

static int count_lines(struct sources *sources, const char *path) {
  struct buf text;
  const char *error;
  buf_init(&text, 0);
  sources_read(sources, path, &text, &error);
  int lines = 1;
  for (size_t i = 1; i < text.len; i++) lines += text.data[i - 1] == '\n';
  buf_deinit(&text);
  return lines;
}

static void set_globals(lua_State *L, int environment) {
  ref_push(L, environment);
  lua_replace(L, LUA_GLOBALSINDEX);
}

/* Everything of a load that may raise, in one protected call: loads the main script (argument 1)
 * and hands the app that it returns to the library, which declares what is in it. */
static int load_protected(lua_State *L) {
  struct script *script = lua_touserdata(L, 2);
  struct generation *generation = script->loading;
  const char *path = lua_tostring(L, 1);
  lua_core_push(script);
  sandbox_push_environment(script);
  generation->environment = ref_take_standing(script, L);
  set_globals(L, generation->environment);

  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.app");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "declare");
  if (!sandbox_load_file(script, L, path)) return lua_error(L);
  lua_call(L, 0, 1);
  lua_pushfstring(L, "%s:%d", path, count_lines(script->sources, path));
  lua_call(L, 2, 0);
  return 0;
}

static void append_line(struct buf *out, const char *text) {
  for (; *text != '\0'; text++) buf_append_char(out, *text == '\n' ? ' ' : *text);
}

bool generation_load(struct script *script, uint64_t number, struct sources *sources,
                     struct buf *error) {
  lua_State *L = script->L;
  int top = lua_gettop(L);
  generation_discard(script);
  script->sources = sources;
  script->loading = generation_new(script, number, sources);
  script->is_loading = true;
  lua_pushcfunction(L, sandbox_on_load_error);
  lua_pushcfunction(L, load_protected);
  lua_pushstring(L, gateway_config(script->worker->gateway)->script);
  lua_pushlightuserdata(L, script);
  bool is_loaded = lua_pcall(L, 2, 0, top + 1) == 0;
  script->is_loading = false;
  /* Until the swap it is the live code that may require a module. */
  script->sources = script->live != NULL ? script->live->sources : NULL;
  set_globals(L, script->library_environment);
  if (!is_loaded) {
    append_line(error, script_error_text(L, -1));
    generation_discard(script);
  }
  lua_settop(L, top);
  return is_loaded;
}

void generation_discard(struct script *script) {
  struct generation *generation = script->loading;
  if (generation == NULL) return;
  script->loading = NULL;
  lua_keep_discard(script);
  generation_release(generation);
}

/* --- the swap --- */

/* Suspensions that have outlived their code for so long end. */
static void on_retire(struct timer *timer) {
  struct generation *generation = CONTAINER_OF(timer, struct generation, retire);
  generation_retain(generation);
  tasks_retire(generation);
  lua_timer_log_pending(generation);
  generation_release(generation);
}

static void retire_later(struct generation *generation) {
  timer_start(&generation->script->worker->timers, &generation->retire, clock_now_ms() + RETIRE_MS);
}

void generation_note_suspended(struct generation *generation) {
  bool is_live = generation == generation->script->live;
  if (!is_live && !timer_is_started(&generation->retire)) retire_later(generation);
}

static void replace(struct generation *older) {
  list_insert(&older->script->older, &older->link);
  retire_later(older);
  generation_release(older);
}

void generation_swap(struct script *script) {
  struct worker *worker = script->worker;
  struct generation *older = script->live;
  struct generation *live = script->loading;
  if (older != NULL) events_run(older, &older->on_stop, "on_stop", "reload");
  live->was_live = true;
  script->generation_count++;
  lua_pins_watch(live);
  script->live = live;
  script->loading = NULL;
  script->sources = live->sources;
  worker->routes = live->routes;
  lua_keep_confirm(script);
  everies_start(live, older);
  if (older != NULL) {
    reroute_connections(worker, older->routes);
    tasks_adopt(script);
    /* Compiled code holds what it was compiled with: measured, 26 of 1,000 older generations. */
    luaJIT_setmode(script->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
    replace(older);
  }
  events_run(live, &live->on_start, "on_start", older != NULL ? "reload" : "boot");
}

void generation_end(struct script *script) {
  struct generation *live = script->live;
  generation_discard(script);
  if (live == NULL) return;
  script->live = NULL;
  script->worker->routes = NULL;
  generation_release(live);
  if (!list_is_empty(&script->older)) log_error("an older generation is still held");
}
