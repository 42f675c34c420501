#include "script/lua_task.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/exchange.h"
#include "gateway/gateway.h"
#include "gateway/routes.h"
#include "script/lua_conn.h"

enum {
  POOL_TASKS = 256, /* idle coroutines worth keeping: about 1 KiB each */
  /* A handler that goes on suspending after its end was told is a loop without an exit. */
  MAX_REFUSED = 10,
};

static void on_task_due(struct timer *timer);

static const char *ended_message(const char *code) {
  if (strcmp(code, "closed") == 0) return "the connection is closed";
  if (strcmp(code, "timeout") == 0) return "the handler has taken too long";
  if (strcmp(code, "retired") == 0) return "the handler's code was replaced a minute ago";
  return "the gateway is stopping";
}

/* --- the pool --- */

struct task *task_new(struct script *script) {
  struct task *task = mem_alloc_zero(sizeof *task);
  task->script = script;
  task->L = lua_newthread(script->L);
  task->ref = ref_take_standing(script, script->L);
  list_init(&task->link);
  timer_init(&task->timer, on_task_due);
  script->free_tasks = task;
  script->free_task_count++;
  return task;
}

/* Not inlined: seldom. */
__attribute__((noinline)) static void task_free(struct task *task) {
  ref_drop_standing(task->script, &task->ref);
  mem_free(task);
}

/* What the coroutine's own functions see as globals, and what new coroutines of its get. */
void task_set_environment(struct task *task, const struct generation *generation) {
  ref_push(task->L, generation->environment);
  lua_replace(task->L, LUA_GLOBALSINDEX);
  task->environment = generation->number;
}

/* In the pool a task is as task_new has made it. */
static void forget_run(struct task *task) {
  task->route = NULL;
  task->conn = NULL;
  task->exchange = NULL;
  task->every = NULL;
  task->label = NULL;
  task->label_place = NULL;
  task->timeout_ms = 0;
  if (!task->has_suspended && task->ended == NULL) return;
  task->deadline_ms = 0;
  task->ended = NULL;
  task->refused = 0;
  task->is_abandoned = false;
  task->has_suspended = false;
}

/* A coroutine that has failed cannot be used again: only one that `is_clean` is kept. */
static void task_give_back(struct task *task, bool is_clean) {
  struct script *script = task->script;
  script->task_count--;
  if (task->has_suspended) generation_release(task->generation);
  if (!is_clean || script->free_task_count >= POOL_TASKS) {
    task_free(task);
    return;
  }
  if (lua_gettop(task->L) > 0) lua_settop(task->L, 0);
  forget_run(task);
  /* One that waits here would hold an older generation. */
  if (script->live != NULL && task->environment != script->live->number) {
    task_set_environment(task, script->live);
  }
  task->next_free = script->free_tasks;
  script->free_tasks = task;
  script->free_task_count++;
}

void tasks_adopt(struct script *script) {
  for (struct task *task = script->free_tasks; task != NULL; task = task->next_free) {
    task_set_environment(task, script->live);
  }
}

void tasks_deinit(struct script *script) {
  while (script->free_tasks != NULL) {
    struct task *task = script->free_tasks;
    script->free_tasks = task->next_free;
    task_free(task);
  }
  script->free_task_count = 0;
}

/* --- running --- */

void task_log_error(const struct task *task, lua_State *L, const char *message) {
  struct script *script = task->script;
  char id[GATEWAY_CONN_ID_BYTES] = "";
  if (task->conn != NULL)
    gateway_format_conn_id(script->worker->gateway, task->conn->subscriber.id, id);
  luaL_traceback(script->L, L, NULL, 0);
  buf_clear(&script->message);
  buf_append_format(&script->message, "error in %s", task->event);
  if (task->route != NULL) buf_append_format(&script->message, " of %s", task->route->pattern);
  buf_append_format(&script->message, " (generation %llu",
                    (unsigned long long)task->generation->number);
  if (id[0] != '\0') buf_append_format(&script->message, ", connection %s", id);
  buf_append_char(&script->message, ')');
  buf_append_format(&script->message, ": %s\n%s", message, lua_tostring(script->L, -1));
  log_write_text(LOG_ERROR, buf_peek(&script->message));
  lua_pop(script->L, 1);
}

/* A loop around perigee.sleep without an exit ends here. That is how background work is often
 * written, so at the gateway's end it is nothing to speak of. */
static void log_abandoned(const struct task *task) {
  bool is_stopping = strcmp(task->ended, "stopping") == 0;
  log_write(is_stopping ? LOG_DEBUG : LOG_WARN,
            "%s%s%s went on suspending after it was told \"%s\", and was given up", task->event,
            task->route != NULL ? " of " : "", task->route != NULL ? task->route->pattern : "",
            task->ended);
}

/* Not inlined: seldom. */
__attribute__((noinline)) static void log_failure(struct task *task, int status) {
  if (task->is_abandoned) { /* by a last yield */
    log_abandoned(task);
    task->error = "the handler went on suspending after it was told to end";
  } else if (status == LUA_YIELD) {
    task->error = "the handler yielded; coroutine.yield is for coroutines of your own";
    task_log_error(task, task->L, task->error);
  } else {
    task->error = script_error_text(task->L, -1);
    task_log_error(task, task->L, task->error);
  }
}

static inline void task_finish(struct task *task, int status) {
  bool is_ok = status == 0;
  if (!is_ok) log_failure(task, status); /* a task that has failed does not come back: no error */
  task->on_end(task, is_ok);
  task_give_back(task, is_ok);
}

/* "on_message of /rooms (rooms.lua:12)": what the log calls a handler that holds up its worker.
 * Code that is not from a file has any text for a name: labels with it would have no end. */
static const char *make_label(const struct task *task, int arguments) {
  lua_Debug function;
  lua_pushvalue(task->L, -arguments - 1);
  lua_getinfo(task->L, ">S", &function);
  struct buf *text = &task->script->message;
  buf_clear(text);
  buf_append_format(text, "%s", task->event);
  if (task->route != NULL) buf_append_format(text, " of %s", task->route->pattern);
  if (function.source[0] == '@') {
    buf_append_format(text, " (%s:%d)", function.short_src, function.linedefined);
  }
  return stall_label(task->script->worker->gateway, buf_peek(text));
}

/* A route's handlers and an app:every are named once, others, which come and go, each time. */
static const char *label_of(const struct task *task, int arguments) {
  const char **place = task->label_place;
  if (place == NULL) return make_label(task, arguments);
  if (*place == NULL) *place = make_label(task, arguments);
  return *place;
}

/* Inline: once an event. */
static inline __attribute__((always_inline)) hook_result task_resume(struct task *task,
                                                                     int arguments) {
  struct script *script = task->script;
  struct activity *activity = &script->worker->activity;
  struct task *outer = script->current;
  script->current = task;
  uint64_t conn_id = task->conn != NULL ? task->conn->subscriber.id : 0;
  stall_running outer_running = stall_enter(activity, task->label, conn_id);
  int status = lua_resume(task->L, arguments);
  stall_leave(activity, outer_running);
  script->current = outer;
  if (status == LUA_YIELD && task->is_suspending) {
    task->is_suspending = false;
    return HOOK_SUSPENDED;
  }
  task_finish(task, status);
  return HOOK_DONE;
}

hook_result task_run(struct task *task, int arguments) {
  task->label = label_of(task, arguments);
  hook_result result = task_resume(task, arguments);
  if (result == HOOK_SUSPENDED) {
    task->has_suspended = true;
    generation_retain(task->generation);
    generation_note_suspended(task->generation);
  }
  return result;
}

/* --- suspending --- */

/* The task waits no more. What is not there yet is freed when it comes. */
static void forget_awaited(struct awaited *awaited) {
  awaited->task = NULL;
  if (awaited->is_done) awaited->free(awaited);
}

/* Ends the suspension. Returns what was awaited, for the caller to forget, or NULL. */
static struct awaited *task_wake(struct task *task) {
  list_remove(&task->link);
  timer_stop(&task->script->worker->timers, &task->timer);
  struct awaited *awaited = task->awaited;
  task->awaited = NULL;
  return awaited;
}

/* Its connection may go while the handler runs: it is held meanwhile. */
static void task_continue(struct task *task, int arguments) {
  struct conn *conn = task->conn;
  if (conn != NULL) conn_retain(conn);
  task_resume(task, arguments);
  if (conn != NULL) conn_release(conn);
}

void task_cancel(struct task *task, const char *code) {
  struct awaited *awaited = task_wake(task);
  if (awaited != NULL) forget_awaited(awaited);
  task->ended = code;
  task_continue(task, script_push_failure(task->L, ended_message(code), code));
}

static void on_task_due(struct timer *timer) {
  struct task *task = CONTAINER_OF(timer, struct task, timer);
  if (task->wake_ms > task->deadline_ms) {
    task_cancel(task, "timeout");
    return;
  }
  struct awaited *awaited = task_wake(task);
  int results = 1;
  if (awaited != NULL) {
    results = awaited->push(awaited, task->L);
    forget_awaited(awaited);
  } else {
    lua_pushboolean(task->L, true);
  }
  task_continue(task, results);
}

void tasks_cancel_all(struct script *script, const char *code) {
  struct list *link;
  while ((link = list_peek(&script->suspended)) != NULL) {
    task_cancel(LIST_OWNER(link, struct task, link), code);
  }
}

void tasks_retire(struct generation *generation) {
  struct script *script = generation->script;
  struct list retired;
  list_init(&retired);
  struct list *next;
  for (struct list *link = script->suspended.next; link != &script->suspended; link = next) {
    next = link->next;
    if (LIST_OWNER(link, struct task, link)->generation != generation) continue;
    list_remove(link);
    list_insert(&retired, link);
  }
  while ((next = list_peek(&retired)) != NULL) {
    task_cancel(LIST_OWNER(next, struct task, link), "retired");
  }
}

void task_check_can_suspend(lua_State *L, struct script *script, const char *name) {
  script_check_loaded(L, script, name);
  if (script->current == NULL || script->current->L != L) {
    luaL_error(L,
               "%s cannot be called in a coroutine of your own; perigee.spawn runs a function "
               "that can",
               name);
  }
  if (!lua_isyieldable(L)) {
    luaL_error(L,
               "%s cannot suspend inside table.sort, string.gsub, require or another function "
               "in C that calls back",
               name);
  }
}

int task_suspend(lua_State *L, struct script *script, uint64_t wake_ms) {
  struct task *task = script->current;
  if (task->ended != NULL) {
    if (++task->refused <= MAX_REFUSED) {
      return script_push_failure(L, ended_message(task->ended), task->ended);
    }
    task->is_abandoned = true;
    return lua_yield(L, 0);
  }
  uint64_t now_ms = clock_now_ms();
  if (task->deadline_ms == 0) {
    task->deadline_ms = task->timeout_ms > 0 ? now_ms + task->timeout_ms : UINT64_MAX;
  }
  task->wake_ms = wake_ms;
  uint64_t due_ms = wake_ms < task->deadline_ms ? wake_ms : task->deadline_ms;
  if (due_ms != UINT64_MAX) timer_start(&script->worker->timers, &task->timer, due_ms);
  list_insert(&script->suspended, &task->link);
  task->is_suspending = true;
  return lua_yield(L, 0);
}

int task_await(lua_State *L, struct script *script, struct awaited *awaited) {
  script->current->awaited = awaited;
  awaited->task = script->current;
  return task_suspend(L, script, UINT64_MAX);
}

void task_bring(struct awaited *awaited) {
  struct task *task = awaited->task;
  awaited->is_done = true;
  if (task == NULL) {
    awaited->free(awaited);
    return;
  }
  task->wake_ms = clock_now_ms();
  timer_start(&task->script->worker->timers, &task->timer, task->wake_ms);
}

uint64_t task_current_conn_id(const struct script *script) {
  const struct task *task = script->current;
  return task != NULL && task->conn != NULL ? task->conn->subscriber.id : 0;
}

static int l_sleep(lua_State *L) {
  struct script *script = script_of(L);
  uint64_t ms = script_check_ms(L, 1);
  task_check_can_suspend(L, script, "perigee.sleep");
  return task_suspend(L, script, clock_now_ms() + ms);
}

static const luaL_Reg perigee_task_functions[] = {
    {"sleep", l_sleep},
    {NULL, NULL},
};

void lua_task_register(struct script *script) {
  script_register(script, perigee_task_functions);
}
