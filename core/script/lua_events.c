#include "script/lua_events.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/exchange.h"
#include "gateway/routes.h"
#include "script/lua_app.h"
#include "script/lua_conn.h"
#include "script/lua_error_page.h"
#include "script/lua_request.h"
#include "script/lua_response.h"
#include "script/lua_task.h"

/* --- connections --- */

static void on_conn_end(struct task *task, bool is_ok) {
  struct conn *conn = task->conn;
  if (!is_ok) conn_close(conn, 1011, SLICE(""));
  if (!task->has_suspended) return;
  conn->task = NULL;
  conn_resume(conn);
}

/* A task with handler and connection pushed; NULL at the limit of tasks: the connection closes.
 * Inline: `which` is known where it is called. */
static inline __attribute__((always_inline)) struct task *conn_task(struct conn *conn,
                                                                    const char *event, int which) {
  const struct route *route = conn->route;
  struct generation *generation = app_route(route)->generation;
  bool is_owed = which == APP_CLOSE;
  struct task *task = is_owed ? task_take_owed(generation, event, on_conn_end)
                              : task_take(generation, event, on_conn_end);
  if (task == NULL) {
    if (which == APP_OPEN) conn->is_told_open = false; /* so on_close is not told either */
    log_warn("%s of %s is left out, the limit of tasks is reached", event, route->pattern);
    conn_close(conn, 1013, SLICE("too many tasks"));
    return NULL;
  }
  task->conn = conn;
  task->route = route;
  task->label_place = &app_route(route)->labels[which];
  task->timeout_ms = route->options.handler_timeout_ms;
  /* What it said before it went is still told, but waits for nothing. */
  if (conn->state == CONN_GONE && !is_owed) task->ended = "closed";
  ref_push(task->L, app_route(route)->handlers[which]);
  lua_conn_push(task->L, task->script, conn);
  return task;
}

static hook_result conn_run(struct conn *conn, struct task *task, int arguments) {
  hook_result result = task_run(task, arguments);
  if (result == HOOK_SUSPENDED) conn->task = task;
  return result;
}

static hook_result tell(struct conn *conn, const char *event, int which) {
  struct task *task = conn_task(conn, event, which);
  return task != NULL ? conn_run(conn, task, 1) : HOOK_DONE;
}

hook_result events_on_open(struct conn *conn) {
  return tell(conn, "on_open", APP_OPEN);
}

hook_result events_on_message(struct conn *conn, slice data, bool is_binary) {
  struct task *task = conn_task(conn, "on_message", APP_MESSAGE);
  if (task == NULL) return HOOK_DONE;
  script_push_slice(task->L, data);
  lua_pushboolean(task->L, is_binary);
  return conn_run(conn, task, 3);
}

hook_result events_on_close(struct conn *conn, int code, slice reason) {
  struct task *task = conn_task(conn, "on_close", APP_CLOSE);
  if (task == NULL) return HOOK_DONE;
  lua_pushinteger(task->L, code);
  script_push_slice(task->L, reason);
  return conn_run(conn, task, 3);
}

hook_result events_on_drain(struct conn *conn) {
  return tell(conn, "on_drain", APP_DRAIN);
}

hook_result events_on_signal(struct conn *conn, slice data, bool is_binary, slice topic) {
  (void)is_binary;
  struct task *task = conn_task(conn, "on_signal", APP_SIGNAL);
  if (task == NULL) return HOOK_DONE;
  script_push_slice(task->L, data);
  script_push_slice(task->L, topic);
  return conn_run(conn, task, 3);
}

hook_result events_on_tick(struct conn *conn) {
  return tell(conn, "on_tick", APP_TICK);
}

void events_cancel(struct conn *conn) {
  struct task *task = conn->task;
  if (task != NULL) task_cancel(task, "closed");
}

void events_rerouted(struct worker *worker, struct request *request) {
  lua_request_forget_params(worker->script, request);
}

void events_forget(struct conn *conn) {
  lua_conn_forget(conn->worker->script, conn);
}

/* --- exchanges --- */

/* Where on its coroutine's stack the request's box stands while a handler runs (nil for one without
 * parameters); what the handler returns follows. */
enum { REQUEST_BOX = 1 };

/* The exchange that the task is to answer, once; NULL when its peer is gone. */
static struct exchange *take_exchange(struct task *task) {
  struct exchange *exchange = task->exchange;
  task->exchange = NULL;
  exchange->script = NULL;
  lua_request_take_back(exchange);
  return exchange->is_gone ? NULL : exchange;
}

/* `fault` is what is wrong with the results, NULL: it has raised. */
static void fail_exchange(struct task *task, struct exchange *exchange, int which,
                          const char *fault) {
  if (fault != NULL) {
    log_error("error in %s: %s", task->label, fault);
  }
  if (task->script->is_dev) {
    lua_error_page_send(task, exchange, app_route(task->route)->handlers[which], fault);
    return;
  }
  exchange_respond_text(exchange, 500, SLICE("Internal Server Error"));
}

static bool answer_timeout(struct task *task, struct exchange *exchange) {
  if (task->ended == NULL || strcmp(task->ended, "timeout") != 0) return false;
  log_warn("%s has taken too long", task->label);
  exchange_respond_text(exchange, 503, SLICE("Service Unavailable"));
  return true;
}

static void on_request_end(struct task *task, bool is_ok) {
  struct exchange *exchange = take_exchange(task);
  if (exchange == NULL || answer_timeout(task, exchange)) return;
  if (!is_ok) {
    fail_exchange(task, exchange, APP_HTTP, NULL);
    return;
  }
  if (lua_gettop(task->L) == REQUEST_BOX) lua_pushnil(task->L);
  struct script *script = task->script;
  if (!lua_response_send(script, task->L, REQUEST_BOX + 1, exchange)) {
    buf_append_char(&script->message, '\0');
    fail_exchange(task, exchange, APP_HTTP, script->message.data);
  }
}

static bool is_refusal_code(double code) {
  if (code != floor(code)) return false;
  if (code == 204 || code == 1008 || code == 1013) return true;
  return (code >= 400 && code <= 599) || (code >= 3000 && code <= 4999);
}

/* What is wrong with authenticate's results, or NULL. */
static const char *judge_entry(lua_State *L) {
  if (lua_istable(L, 1)) return NULL;
  if (!lua_isnil(L, 1)) return "authenticate returns a table, or nil, reason and code";
  if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TSTRING) return "the reason is not a string";
  if (lua_isnil(L, 3)) return NULL;
  if (lua_type(L, 3) != LUA_TNUMBER || !is_refusal_code(lua_tonumber(L, 3))) {
    return "the code is not 204, 400 to 599, 1008, 1013 or 3000 to 4999";
  }
  bool is_close_code = lua_tonumber(L, 3) >= 1000;
  if (is_close_code && lua_objlen(L, 2) > 123) return "a close reason has at most 123 bytes";
  return NULL;
}

static void on_authenticate_end(struct task *task, bool is_ok) {
  struct exchange *exchange = take_exchange(task);
  if (exchange == NULL || answer_timeout(task, exchange)) return;
  lua_State *L = task->L;
  if (is_ok) lua_settop(L, 3);
  const char *fault = is_ok ? judge_entry(L) : NULL;
  if (!is_ok || fault != NULL) {
    fail_exchange(task, exchange, APP_AUTHENTICATE, fault);
    return;
  }
  if (lua_istable(L, 1)) {
    lua_request_set_session(L, task->script, exchange->request, 1);
    exchange_admit(exchange);
    return;
  }
  int code = lua_isnil(L, 3) ? 403 : (int)lua_tointeger(L, 3);
  slice reason = lua_isnil(L, 2) ? SLICE("") : script_slice_at(L, 2);
  exchange_refuse(exchange, code, reason);
}

/* A task for one of the exchange's handlers; NULL at the limit of tasks: that was answered. */
static struct task *exchange_task(struct exchange *exchange, const char *event, int which,
                                  task_end on_end) {
  struct task *task = task_take(app_route(exchange->route)->generation, event, on_end);
  if (task == NULL) {
    exchange_respond_busy(exchange);
    return NULL;
  }
  task->exchange = exchange;
  task->route = exchange->route;
  task->label_place = &app_route(exchange->route)->labels[which];
  task->timeout_ms = exchange->route->options.handler_timeout_ms;
  exchange->script = task;
  return task;
}

void events_authenticate(struct exchange *exchange) {
  struct task *task =
      exchange_task(exchange, "authenticate", APP_AUTHENTICATE, on_authenticate_end);
  if (task == NULL) return;
  ref_push(task->L, app_route(exchange->route)->handlers[APP_AUTHENTICATE]);
  lua_request_push(task->L, task->script, exchange->request);
  task_run(task, 1);
}

void events_request(struct exchange *exchange) {
  struct task *task = exchange_task(exchange, "the handler", APP_HTTP, on_request_end);
  if (task == NULL) return;
  bool takes_request = app_route(exchange->route)->takes_request;
  if (takes_request) {
    lua_request_lend(task->L, task->script, exchange);
  } else {
    lua_pushnil(task->L);
  } /* at REQUEST_BOX */
  ref_push(task->L, app_route(exchange->route)->handlers[APP_HTTP]);
  if (takes_request) lua_pushvalue(task->L, REQUEST_BOX);
  task_run(task, takes_request ? 1 : 0);
}

void events_cancel_exchange(struct exchange *exchange) {
  struct task *task = exchange->script;
  if (task != NULL) task_cancel(task, "closed");
}

void events_forget_exchange(struct exchange *exchange, bool keep_session) {
  REQUIRE(exchange->script == NULL);
  if (!keep_session) lua_request_forget(exchange->worker->script, exchange->request, false);
}

/* --- a generation's beginning and end --- */

static void on_life_end(struct task *task, bool is_ok) {
  (void)task;
  (void)is_ok;
}

void events_run(struct generation *generation, const handler_list *list, const char *event,
                const char *argument) {
  for (size_t i = 0; i < list->count; i++) {
    struct task *task = task_take(generation, event, on_life_end);
    if (task == NULL) return;
    ref_push(task->L, list->handlers[i]);
    lua_pushstring(task->L, argument);
    task_run(task, 1);
  }
}
