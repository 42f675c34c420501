#include "script/lua_timer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "script/lua_task.h"

/* --- app:every --- */

/* Whether a run is under way: the same thing for those that take over from each other. */
struct every_run {
  unsigned references;
  bool is_busy; /* it is still suspended: the next is left out */
};

struct every {
  struct timer timer;
  struct generation *generation;
  struct every *next; /* in the order of their declaration */
  uint64_t period_ms;
  struct every_run *run;
  int handler;       /* standing */
  const char *label; /* struct task */
  bool has_heir;
};

static void on_every_end(struct task *task, bool is_ok) {
  (void)is_ok;
  task->every->run->is_busy = false;
}

static struct timers *timers_of(const struct every *every) {
  return &every->generation->script->worker->timers;
}

/* Missed runs are left out, so that a stall is not followed by a burst. */
static void every_start(struct every *every) {
  uint64_t started_ms = gateway_started_ms(every->generation->script->worker->gateway);
  uint64_t now_ms = clock_now_ms();
  uint64_t passed = now_ms > started_ms ? (now_ms - started_ms) / every->period_ms : 0;
  timer_start(timers_of(every), &every->timer, started_ms + (passed + 1) * every->period_ms);
}

static void on_every_due(struct timer *timer) {
  struct every *every = CONTAINER_OF(timer, struct every, timer);
  every_start(every);
  if (every->run->is_busy) return;
  struct task *task = task_take(every->generation, "app:every", on_every_end);
  if (task == NULL) {
    log_warn("app:every: a run is left out, the limit of tasks is reached");
    return;
  }
  task->every = every;
  task->label_place = &every->label;
  every->run->is_busy = true;
  ref_push(task->L, every->handler);
  task_run(task, 0);
}

void every_new(struct generation *generation, lua_State *L, uint64_t period_ms) {
  struct every *every = mem_alloc_zero(sizeof *every);
  timer_init(&every->timer, on_every_due);
  every->generation = generation;
  every->period_ms = period_ms;
  every->handler = ref_take_standing(generation->script, L);
  every->run = mem_alloc_zero(sizeof *every->run);
  every->run->references = 1;
  struct every **end = &generation->everies;
  while (*end != NULL) end = &(*end)->next;
  *end = every;
}

static void run_release(struct every_run *run) {
  if (--run->references == 0) mem_free(run);
}

static struct every *find_older(struct generation *older, uint64_t period_ms) {
  struct every *every = older != NULL ? older->everies : NULL;
  while (every != NULL && (every->has_heir || every->period_ms != period_ms)) every = every->next;
  return every;
}

/* The older one's next run becomes this one's, even if it is due already. */
static void take_over(struct every *every, struct every *older) {
  older->has_heir = true;
  run_release(every->run);
  every->run = older->run;
  every->run->references++;
  timer_start(timers_of(every), &every->timer, older->timer.due_ms);
}

void everies_start(struct generation *generation, struct generation *older) {
  for (struct every *every = generation->everies; every != NULL; every = every->next) {
    struct every *before = find_older(older, every->period_ms);
    if (before != NULL) {
      take_over(every, before);
    } else {
      every_start(every);
    }
  }
  struct every *every = older != NULL ? older->everies : NULL;
  for (; every != NULL; every = every->next) timer_stop(timers_of(every), &every->timer);
}

void everies_free(struct generation *generation) {
  while (generation->everies != NULL) {
    struct every *every = generation->everies;
    generation->everies = every->next;
    timer_stop(timers_of(every), &every->timer);
    ref_drop_standing(generation->script, &every->handler);
    run_release(every->run);
    mem_free(every);
  }
}

/* --- perigee.after and perigee.spawn --- */

struct after {
  struct timer timer;
  struct list link; /* in script->afters */
  struct script *script;
  struct generation *generation; /* whose code made it: held */
  struct after **box;            /* the timer object's pointer to this, or NULL */
  int handler;
  int box_ref; /* keeps the timer object while it is pending */
  const char *event;
};

static void after_free(struct after *after) {
  struct script *script = after->script;
  if (after->box != NULL) *after->box = NULL;
  timer_stop(&script->worker->timers, &after->timer);
  list_remove(&after->link);
  script->after_count--;
  ref_drop(script, &after->handler);
  ref_drop(script, &after->box_ref);
  generation_release(after->generation);
  mem_free(after);
}

static void on_after_end(struct task *task, bool is_ok) {
  (void)task;
  (void)is_ok;
}

static void on_after_due(struct timer *timer) {
  struct after *after = CONTAINER_OF(timer, struct after, timer);
  struct generation *generation = after->generation;
  struct task *task = task_take(generation, after->event, on_after_end);
  if (task == NULL) {
    /* It is late rather than lost. */
    timer_start(&after->script->worker->timers, timer, clock_now_ms() + 100);
    return;
  }
  ref_push(task->L, after->handler);
  generation_retain(generation);
  after_free(after);
  task_run(task, 0);
  generation_release(generation);
}

/* The function is at the top of the stack and is popped. */
static struct after *after_new(struct script *script, lua_State *L, const char *event,
                               uint64_t delay_ms) {
  struct after *after = mem_alloc_zero(sizeof *after);
  timer_init(&after->timer, on_after_due);
  after->script = script;
  /* Code of the library's own, or of a coroutine that is not ours, is the live one's. */
  after->generation = script->current != NULL ? script->current->generation : script->live;
  generation_retain(after->generation);
  after->event = event;
  after->handler = ref_take(script, L);
  list_init(&after->link);
  list_insert(&script->afters, &after->link);
  script->after_count++;
  timer_start(&script->worker->timers, &after->timer, clock_now_ms() + delay_ms);
  return after;
}

void lua_timer_stop_all(struct script *script) {
  struct every *every = script->live != NULL ? script->live->everies : NULL;
  for (; every != NULL; every = every->next) timer_stop(timers_of(every), &every->timer);
  struct list *link;
  while ((link = list_peek(&script->afters)) != NULL) {
    after_free(LIST_OWNER(link, struct after, link));
  }
}

void lua_timer_log_pending(const struct generation *generation) {
  struct script *script = generation->script;
  const struct after *last = NULL;
  unsigned count = 0;
  for (struct list *link = script->afters.next; link != &script->afters; link = link->next) {
    const struct after *after = LIST_OWNER(link, struct after, link);
    if (after->generation != generation) continue;
    count++;
    if (last == NULL || after->timer.due_ms > last->timer.due_ms) last = after;
  }
  if (last == NULL) return;
  lua_Debug about;
  ref_push(script->L, last->handler);
  lua_getinfo(script->L, ">S", &about);
  log_info("generation %llu is held by %u timer%s of perigee.after, the last due in %.0f s (%s:%d)",
           (unsigned long long)generation->number, count, count == 1 ? "" : "s",
           (double)(last->timer.due_ms - clock_now_ms()) / 1000, about.short_src,
           about.linedefined);
}

/* True when another may be made; else nil, message and code are pushed. */
static bool check_room(lua_State *L, const struct script *script) {
  if (script->is_stopping) {
    script_push_failure(L, "the gateway is stopping", "stopping");
    return false;
  }
  if (script->after_count < script->worker->limits->timers) return true;
  script_push_failure(L, "too many timers", "limit");
  return false;
}

static int l_after(lua_State *L) {
  struct script *script = script_of(L);
  uint64_t delay_ms = script_check_ms(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  script_check_loaded(L, script, "perigee.after");
  if (!check_room(L, script)) return 3;
  struct after **box = lua_newuserdata(L, sizeof(struct after *));
  *box = NULL;
  ref_push(L, script->timer_metatable);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 2);
  struct after *after = after_new(script, L, "perigee.after", delay_ms);
  after->box = box;
  *box = after;
  lua_pushvalue(L, -1);
  after->box_ref = ref_take(script, L);
  return 1;
}

static int l_spawn(lua_State *L) {
  struct script *script = script_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  script_check_loaded(L, script, "perigee.spawn");
  if (!check_room(L, script)) return 3;
  lua_pushvalue(L, 1);
  after_new(script, L, "perigee.spawn", 0);
  lua_pushboolean(L, true);
  return 1;
}

static int l_cancel(lua_State *L) {
  struct script *script = script_of(L);
  struct after **box = script_check_box(L, 1, script->timer_metatable, "timer");
  bool was_pending = *box != NULL;
  if (was_pending) after_free(*box);
  lua_pushboolean(L, was_pending);
  return 1;
}

static const luaL_Reg perigee_timer_functions[] = {
    {"after", l_after},
    {"spawn", l_spawn},
    {NULL, NULL},
};

static const luaL_Reg timer_methods[] = {
    {"cancel", l_cancel},
    {NULL, NULL},
};

void lua_timer_setup(struct script *script) {
  script->timer_metatable = script_new_metatable(script, "timer", timer_methods, NULL);
}

void lua_timer_register(struct script *script) {
  script_register(script, perigee_timer_functions);
}
