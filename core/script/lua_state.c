#include "script/lua_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "script/lua_conn.h"
#include "script/lua_events.h"
#include "script/lua_exec.h"
#include "script/lua_generation.h"
#include "script/lua_keep.h"
#include "script/lua_pins.h"
#include "script/lua_request.h"
#include "script/lua_sandbox.h"
#include "script/lua_script.h"
#include "script/lua_shared.h"
#include "script/lua_task.h"
#include "script/lua_timer.h"

enum {
  /* The collector's own schedule is a safety net for handlers that allocate without end. */
  AUTOMATIC_PAUSE = 200,
  STEP_MULTIPLIER = 400,
  /* Growth that is not worth a step: it would be all overhead. */
  MIN_GROWTH_BYTES = 64 * 1024,
  /* A cycle begins when the heap is this much larger than what lives; sooner when there is nothing
   * else to do. */
  CYCLE_GROWTH_PERCENT = 50,
  IDLE_GROWTH_PERCENT = 20,
  CYCLE_MIN_BYTES = 1024 * 1024,
  /* In lua_gc's KiB: about 20 us each. */
  STEP_KIB = 8,
};
#define IDLE_STEP_NS ((uint64_t)400 * 1000) /* between two polls */
/* Since the poll's return, what it brought included. The last step may take as long again where
 * much is alive: there are pieces of work that the collector does not divide. */
#define BUSY_NS ((uint64_t)2500 * 1000)
/* Growth that is worth a step however late it is. */
enum { MUCH_GROWTH_BYTES = 1024 * 1024 };

static uint64_t heap_bytes(lua_State *L) {
  return (uint64_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + (uint64_t)lua_gc(L, LUA_GCCOUNTB, 0);
}

/* --- loading --- */

static int on_panic(lua_State *L) {
  log_error("Lua failed outside of a handler: %s", script_error_text(L, -1));
  abort();
}

static struct script *script_new(struct worker *worker) {
  struct script *script = mem_alloc_zero(sizeof *script);
  script->worker = worker;
  script->directory = gateway_script_directory(worker->gateway);
  script->is_dev = gateway_config(worker->gateway)->is_dev;
  list_init(&script->suspended);
  list_init(&script->afters);
  list_init(&script->older);
  buf_init(&script->scratch, 0);
  buf_init(&script->message, 0);
  buf_init(&script->cookies, 0);
  script->L = luaL_newstate();
  REQUIRE(script->L != NULL);
  lua_atpanic(script->L, on_panic);
  return script;
}

static void script_free(struct script *script) {
  lua_timer_stop_all(script);
  tasks_deinit(script);
  generation_end(script);
  lua_pins_deinit(script);
  ref_drop_standing(script, &script->library_environment);
  ref_drop_standing(script, &script->conn_metatable);
  ref_drop_standing(script, &script->request_metatable);
  ref_drop_standing(script, &script->headers_metatable);
  ref_drop_standing(script, &script->timer_metatable);
  ref_drop_standing(script, &script->shared_metatable);
  if (script->refs > 0 || script->standing_refs > 0) {
    log_error("%llu Lua references of connections and %llu others were not dropped",
              (unsigned long long)script->refs, (unsigned long long)script->standing_refs);
  }
  lua_close(script->L);
  refs_deinit(script);
  buf_deinit(&script->scratch);
  buf_deinit(&script->message);
  buf_deinit(&script->cookies);
  mem_free(script->directory);
  mem_free(script);
}

/* What all generations have in common. */
static int set_up_protected(lua_State *L) {
  struct script *script = lua_touserdata(L, 1);
  sandbox_open(script);
  lua_conn_setup(script);
  lua_request_setup(script);
  lua_timer_setup(script);
  lua_shared_setup(script);
  lua_keep_setup(script);
  lua_pins_setup(script);
  return 0;
}

static void set_up(struct script *script) {
  lua_State *L = script->L;
  lua_pushcfunction(L, set_up_protected);
  lua_pushlightuserdata(L, script);
  if (lua_pcall(L, 1, 0, 0) == 0) return;
  log_error("the library does not load: %s", script_error_text(L, -1));
  abort();
}

/* The collector's own schedule is for what nobody steps: loads allocate much at once. */
static void begin_collecting(struct script *script) {
  lua_State *L = script->L;
  lua_gc(L, LUA_GCCOLLECT, 0);
  script->live_bytes = script->collected_bytes = heap_bytes(L);
  lua_gc(L, LUA_GCSETPAUSE, AUTOMATIC_PAUSE);
  lua_gc(L, LUA_GCSETSTEPMUL, STEP_MULTIPLIER);
}

static bool on_load(struct worker *worker, uint64_t number, struct sources *sources,
                    struct buf *error) {
  bool is_first = worker->script == NULL;
  struct script *script = worker->script;
  if (is_first) {
    script = script_new(worker);
    worker->script = script;
    set_up(script);
  }
  bool is_loaded = generation_load(script, number, sources, error);
  if (is_first && is_loaded) begin_collecting(script);
  if (is_first && !is_loaded) {
    script_free(script);
    worker->script = NULL;
  }
  return is_loaded;
}

static struct policies *on_take_policies(struct worker *worker) {
  struct generation *loading = ((struct script *)worker->script)->loading;
  struct policies *policies = loading->policies;
  loading->policies = NULL;
  return policies;
}

static void on_swap(struct worker *worker) {
  generation_swap(worker->script);
}

static void on_discard(struct worker *worker) {
  generation_discard(worker->script);
}

/* --- life --- */

static void on_stop(struct worker *worker) {
  struct script *script = worker->script;
  script->is_stopping = true;
  lua_timer_stop_all(script);
  tasks_cancel_all(script, "stopping");
}

static void on_stopped(struct worker *worker) {
  struct generation *live = ((struct script *)worker->script)->live;
  events_run(live, &live->on_stop, "on_stop", "stop");
}

static void on_unload(struct worker *worker) {
  struct script *script = worker->script;
  if (script == NULL) return;
  script->is_stopping = true;
  tasks_cancel_all(script, "stopping");
  script_free(script);
  worker->script = NULL;
}

/* --- the collector --- */

static bool is_cycle_due(const struct script *script, uint64_t bytes, bool is_idle) {
  if (lua_pins_is_waiting(script)) return true;
  uint64_t percent = is_idle ? IDLE_GROWTH_PERCENT : CYCLE_GROWTH_PERCENT;
  uint64_t growth = script->live_bytes / 100 * percent;
  if (growth < CYCLE_MIN_BYTES) growth = CYCLE_MIN_BYTES;
  return bytes > script->live_bytes + growth;
}

/* Steps as much as the heap has grown or, when nothing else is to be done, until the time is over;
 * once at least.
 * Returns whether the cycle is finished. */
static bool run_steps(lua_State *L, uint64_t growth, bool is_idle, uint64_t polled_ns) {
  uint64_t now_ns = clock_real_ns();
  uint64_t deadline_ns = is_idle ? now_ns + IDLE_STEP_NS : polled_ns + BUSY_NS;
  uint64_t done = 0;
  do {
    if (lua_gc(L, LUA_GCSTEP, STEP_KIB) != 0) return true;
    done += STEP_KIB * 1024;
  } while ((is_idle || done < growth) && clock_real_ns() < deadline_ns);
  return false;
}

static bool on_step(struct worker *worker, bool is_idle) {
  struct script *script = worker->script;
  lua_State *L = script->L;
  uint64_t bytes = heap_bytes(L);
  if (!script->is_collecting) {
    if (!is_cycle_due(script, bytes, is_idle)) return false;
    script->cycle_bytes = 0;
    script->collected_bytes = bytes;
  }
  uint64_t growth = bytes > script->collected_bytes ? bytes - script->collected_bytes : 0;
  if (script->is_collecting && !is_idle && growth < MIN_GROWTH_BYTES) return true;
  uint64_t polled_ns = worker->streams.polled_ns;
  if (growth < MUCH_GROWTH_BYTES && clock_real_ns() > polled_ns + BUSY_NS) return true;
  script->cycle_bytes += growth;
  script->is_collecting = !run_steps(L, growth, is_idle, polled_ns);
  script->collected_bytes = heap_bytes(L);
  if (!script->is_collecting) {
    /* What was allocated during the cycle was kept by it, dead or alive. */
    bool is_known = script->collected_bytes > script->cycle_bytes * 2;
    script->live_bytes =
        is_known ? script->collected_bytes - script->cycle_bytes : script->collected_bytes / 2;
    lua_pins_look(script);
  }
  /* Pushes the collector's own next step away, to twice this size. Where the heap has outgrown our
   * steps it stays near: then allocating itself pays, until the cycle is done. */
  if (script->collected_bytes < script->live_bytes * 2 + CYCLE_MIN_BYTES) {
    lua_gc(L, LUA_GCRESTART, -1);
  }
  return script->is_collecting;
}

static void on_collect(struct worker *worker) {
  struct script *script = worker->script;
  /* Twice: what a finalizer lets go of is found by the second. */
  for (int i = 0; i < 2; i++) {
    lua_gc(script->L, LUA_GCCOLLECT, 0);
    lua_pins_look(script);
  }
  script->is_collecting = false;
  script->live_bytes = script->collected_bytes = heap_bytes(script->L);
}

static void on_count(struct worker *worker, hook_counts *counts) {
  const struct script *script = worker->script;
  *counts = (hook_counts){0};
  if (script == NULL) return;
  counts->lua_refs = script->refs;
  counts->tasks = script->task_count;
  counts->lua_bytes = heap_bytes(script->L);
  counts->generations = script->generation_count;
}

const struct hooks lua_hooks = {
    .load = on_load,
    .take_policies = on_take_policies,
    .swap = on_swap,
    .discard = on_discard,
    .stop = on_stop,
    .stopped = on_stopped,
    .unload = on_unload,
    .authenticate = events_authenticate,
    .request = events_request,
    .cancel_exchange = events_cancel_exchange,
    .forget_exchange = events_forget_exchange,
    .on_open = events_on_open,
    .on_message = events_on_message,
    .on_close = events_on_close,
    .on_drain = events_on_drain,
    .on_signal = events_on_signal,
    .on_tick = events_on_tick,
    .rerouted = events_rerouted,
    .cancel = events_cancel,
    .forget = events_forget,
    .step = on_step,
    .collect = on_collect,
    .exec = lua_exec,
    .count = on_count,
};
