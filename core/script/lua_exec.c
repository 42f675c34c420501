#include "script/lua_exec.h"

#include <string.h>

#include "gateway/control.h"
#include "gateway/worker.h"
#include "script/lua_json.h"
#include "script/lua_script.h"
#include "script/lua_task.h"

enum {
  MAX_ARGUMENTS = 100,
  EXEC_OK = 1, /* xpcall's results on the coroutine's stack */
};

static void append_text(struct buf *out, lua_State *L, const char *text) {
  lua_json_error error;
  lua_pushstring(L, text);
  if (!lua_json_encode(L, -1, out, &error)) buf_append(out, SLICE("\"an error that is not text\""));
  lua_pop(L, 1);
}

static void answer_error(lua_State *L, uint64_t id, const char *text) {
  struct buf out;
  buf_init(&out, 0);
  buf_append(&out, SLICE("{\"ok\":false,\"error\":"));
  append_text(&out, L, text);
  buf_append_char(&out, '}');
  control_executed(id, buf_peek(&out));
  buf_deinit(&out);
}

static void answer_values(lua_State *L, uint64_t id) {
  struct buf out;
  lua_json_error error;
  int count = lua_gettop(L) - EXEC_OK;
  bool is_ok = true;
  buf_init(&out, 0);
  buf_append_format(&out, "{\"ok\":true,\"count\":%d,\"values\":[", count);
  for (int i = 1; i <= count && is_ok; i++) {
    if (i > 1) buf_append_char(&out, ',');
    if (lua_isnil(L, EXEC_OK + i)) {
      buf_append(&out, SLICE("null"));
    } else {
      is_ok = lua_json_encode(L, EXEC_OK + i, &out, &error);
    }
  }
  buf_append(&out, SLICE("]}"));
  if (is_ok) control_executed(id, buf_peek(&out));
  buf_deinit(&out);
  if (is_ok) return;
  lua_pushfstring(L, "what it returned is not for JSON: %s", error.message);
  answer_error(L, id, lua_tostring(L, -1));
}

/* Whom a task's answer is for is kept in the registry: the stack of one that yielded is not to be
 * relied on. */
static void note_id(struct task *task, uint64_t id) {
  lua_State *L = task->script->L;
  lua_pushlightuserdata(L, task);
  lua_pushnumber(L, (lua_Number)id);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static uint64_t take_id(struct task *task) {
  lua_State *L = task->script->L;
  lua_pushlightuserdata(L, task);
  lua_rawget(L, LUA_REGISTRYINDEX);
  uint64_t id = (uint64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  lua_pushlightuserdata(L, task);
  lua_pushnil(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
  return id;
}

static void on_exec_end(struct task *task, bool is_ok) {
  lua_State *L = task->L;
  uint64_t id = take_id(task);
  if (!is_ok) {
    answer_error(task->script->L, id, "it did not return");
  } else if (lua_toboolean(L, EXEC_OK)) {
    answer_values(L, id);
  } else {
    answer_error(L, id, lua_tostring(L, EXEC_OK + 1));
  }
}

static int on_error(lua_State *L) {
  luaL_traceback(L, L, script_error_text(L, 1), 1);
  return 1;
}

/* Replaces the array at the top by its values, null as nil; how many, or -1 for too many. */
static int push_arguments(lua_State *L) {
  int array = lua_gettop(L);
  int count = (int)lua_objlen(L, array);
  if (count > MAX_ARGUMENTS || !lua_checkstack(L, count + LUA_MINSTACK)) return -1;
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, array, i);
    if (lua_islightuserdata(L, -1)) {
      lua_pop(L, 1);
      lua_pushnil(L);
    }
  }
  lua_remove(L, array);
  return count;
}

/* Pushes xpcall, the function, its handler and its arguments; how many stand above xpcall, or -1
 * with a message at the top. */
static int push_call(struct script *script, lua_State *L, slice code, slice arguments) {
  lua_json_error error;
  ref_push(L, script->live->environment);
  int environment = lua_gettop(L);
  lua_getfield(L, environment, "xpcall");
  if (luaL_loadbufferx(L, code.data, code.len, "exec", "b") != 0) return -1;
  lua_pushvalue(L, environment);
  lua_setfenv(L, -2);
  lua_pushcfunction(L, on_error);
  lua_getfield(L, environment, "require");
  lua_remove(L, environment);
  lua_pushliteral(L, "perigee");
  if (lua_pcall(L, 1, 1, 0) != 0) return -1;
  int depth = (int)script->worker->limits->json_depth;
  if (!lua_json_decode(L, arguments, depth, &error)) {
    lua_pushstring(L, error.message);
    return -1;
  }
  int count = lua_istable(L, -1) ? push_arguments(L) : -1;
  if (count < 0) {
    lua_pushliteral(L, "the arguments are not an array of a reasonable length");
    return -1;
  }
  return 3 + count;
}

void lua_exec(struct worker *worker, uint64_t id, slice code, slice arguments) {
  struct script *script = worker->script;
  /* What can fail is done on the main thread's stack: a task that was taken must run. */
  int top = lua_gettop(script->L);
  int count = push_call(script, script->L, code, arguments);
  if (count < 0) {
    answer_error(script->L, id, script_error_text(script->L, -1));
    lua_settop(script->L, top);
    return;
  }
  struct task *task = task_take_owed(script->live, "exec", on_exec_end);
  lua_checkstack(task->L, count + LUA_MINSTACK);
  note_id(task, id);
  lua_xmove(script->L, task->L, count + 1);
  task_run(task, count);
}
