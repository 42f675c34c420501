/* Handlers under way: coroutines from a pool, and their suspensions.
 *
 * A task is one run of one handler. One that does not suspend costs a resume: its coroutine goes
 * back to the pool, and nothing is allocated. One that suspends is resumed by its timer, or ended
 * with nil, message and a code: "closed" (its connection went), "timeout" (handler_timeout),
 * "retired" (its code was replaced a minute ago), "stopping". What the handler belongs to is known
 * by `conn` or `exchange`; both NULL: neither. */
#ifndef PERIGEE_SCRIPT_LUA_TASK_H
#define PERIGEE_SCRIPT_LUA_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/timer.h"
#include "gateway/hooks.h"
#include "script/lua_generation.h"
#include "script/lua_script.h"

/* What a suspended task waits for, beside its deadline; embedded in whatever brings it. */
struct awaited {
  struct task *task; /* NULL: it waits no more */
  bool is_done;
  /* It is there: pushes what the call that suspended returns, and returns how many. */
  int (*push)(struct awaited *awaited, lua_State *L);
  /* It is there, and nobody will ask any more: frees all of it. */
  void (*free)(struct awaited *awaited);
};

struct conn;
struct every;
struct exchange;
struct route;

/* The handler has ended. With is_ok its results are on task->L from index 1. `task` goes back to
 * the pool afterwards. */
typedef void (*task_end)(struct task *task, bool is_ok);

struct task {
  lua_State *L;
  int ref; /* anchors the coroutine; standing */
  struct script *script;
  struct generation *generation; /* whose code runs; held while it is suspended */
  uint64_t environment; /* the number of the generation whose environment the coroutine has */
  struct task *next_free;
  struct list link; /* in script->suspended, or on no list */
  struct timer timer;
  struct awaited *awaited;  /* NULL: it sleeps */
  uint64_t wake_ms;         /* when the sleep is over; UINT64_MAX: not known */
  uint64_t deadline_ms;     /* UINT64_MAX: none; 0: not known, the handler has not suspended yet */
  uint64_t timeout_ms;      /* 0: none */
  const char *event;        /* "on_message": for the log */
  const char *label;        /* what stall.h calls it; NULL until it runs */
  const char **label_place; /* where its owner keeps the label, once it is made; NULL: nowhere */
  const struct route *route;
  struct conn *conn;
  struct exchange *exchange;
  struct every *every;
  task_end on_end;
  const char *ended; /* the code with which its suspensions end from now on; NULL: they do not */
  unsigned refused;  /* suspensions asked for since */
  const char *error; /* what it has failed with, while on_end is told */
  bool is_suspending;
  bool is_abandoned;
  bool has_suspended; /* it did not end in the call that began it */
};

/* For task_take, which are seldom: a task for the pool, and the environment that a coroutine from
 * another generation gets. */
__attribute__((noinline)) struct task *task_new(struct script *script);
__attribute__((noinline)) void task_set_environment(struct task *task,
                                                    const struct generation *generation);

/* A task whose coroutine has an empty stack, for the handler and its arguments; what it belongs to
 * is for the caller to fill in. Without the limit of tasks: for on_close, which is owed to each
 * connection that was opened. Inline: once an event. */
static inline struct task *task_take_owed(struct generation *generation, const char *event,
                                          task_end on_end) {
  struct script *script = generation->script;
  struct task *task = script->free_tasks;
  if (__builtin_expect(task == NULL, 0)) task = task_new(script);
  script->free_tasks = task->next_free;
  script->free_task_count--;
  script->task_count++;
  task->generation = generation;
  task->event = event;
  task->on_end = on_end;
  if (__builtin_expect(task->environment != generation->number, 0)) {
    task_set_environment(task, generation);
  }
  if (__builtin_expect(script->is_stopping, 0)) task->ended = "stopping";
  return task;
}
/* The same, but NULL at the limit of tasks. */
static inline struct task *task_take(struct generation *generation, const char *event,
                                     task_end on_end) {
  const struct script *script = generation->script;
  if (script->task_count >= script->worker->limits->tasks) return NULL;
  return task_take_owed(generation, event, on_end);
}

/* Runs the handler that stands on task->L below its `arguments`. */
hook_result task_run(struct task *task, int arguments);

/* Ends a suspended task with nil, message and this code; it has ended when this returns. */
void task_cancel(struct task *task, const char *code);

/* All suspended tasks. */
void tasks_cancel_all(struct script *script, const char *code);
/* Those of this generation, with "retired". */
void tasks_retire(struct generation *generation);
/* The pool is the live generation's from now on. */
void tasks_adopt(struct script *script);

/* Logs an error in the handler; the error value is at the top of `L`, whose stack is as it was
 * when it was raised. */
void task_log_error(const struct task *task, lua_State *L, const char *message);

/* Frees the pool. No task is under way. */
void tasks_deinit(struct script *script);

/* For a binding that suspends: raises where `name` cannot. */
void task_check_can_suspend(lua_State *L, struct script *script, const char *name);
/* Suspends until `wake_ms` at the latest; the binding returns what this returns. After it Lua gets
 * true, or nil, message and code. */
int task_suspend(lua_State *L, struct script *script, uint64_t wake_ms);
/* Whether a suspension would end at once: then task_suspend gives what the binding returns. */
static inline bool task_is_ended(const struct script *script) {
  return script->current->ended != NULL;
}
/* Suspends until task_bring is told of `awaited`; not in a task that is ended. */
int task_await(lua_State *L, struct script *script, struct awaited *awaited);
/* It is there: its task goes on in the turn; where that has ended meanwhile (its connection went,
 * its time was over) it is thrown away. On the worker; runs no script. */
void task_bring(struct awaited *awaited);

/* The connection whose handler runs: 0 for none. */
uint64_t task_current_conn_id(const struct script *script);

void lua_task_register(struct script *script);

#endif
