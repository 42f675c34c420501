/* The Lua module perigee_core: a gateway in the process of whoever requires it, for
 * perigee.testing.
 *
 * The Lua state here is the spec's; the application's script has its own. Bytes and commands go in,
 * bytes, answers and lines of the log come out; what they mean is lua/perigee/testing/app.lua's.
 * Nothing here waits. */
#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/config.h"
#include "gateway/embedded.h"
#include "script/lua_state.h"

#define APP "perigee_core.app"
#define STREAM "perigee_core.stream"

/* The box holds all that the gateway borrows. */
typedef struct {
  struct embedded *embedded; /* NULL: stopped */
  struct config config;
  char **arguments;
  int argument_count;
  struct buf log;
  struct buf answers;
} app_box;

typedef struct {
  struct memory_stream *memory; /* NULL: closed */
} stream_box;

/* --- the app --- */

static void on_log(void *context, slice line) {
  buf_append(&((app_box *)context)->log, line);
}

static void on_answer(void *context, slice line) {
  buf_append(&((app_box *)context)->answers, line);
}

static void take_arguments(lua_State *L, app_box *box) {
  int count = (int)lua_objlen(L, 1);
  box->arguments = mem_alloc_zero(((size_t)count + 1) * sizeof *box->arguments);
  for (int i = 1; i <= count; i++) {
    slice text;
    lua_rawgeti(L, 1, i);
    text.data = lua_tolstring(L, -1, &text.len);
    box->arguments[box->argument_count++] = mem_copy(text.data != NULL ? text : SLICE(""));
    lua_pop(L, 1);
  }
}

static bool start(app_box *box, struct buf *error) {
  embedded_options options = {.config = &box->config,
                              .hooks = &lua_hooks,
                              .log = on_log,
                              .answers = on_answer,
                              .context = box};
  if (!config_parse(&box->config, box->argument_count, box->arguments, error)) return false;
  box->embedded = embedded_start(&options, error);
  return box->embedded != NULL;
}

static void stop(app_box *box) {
  if (box->embedded == NULL) return;
  embedded_stop(box->embedded);
  box->embedded = NULL;
}

/* start { argument, ... } of `perigee serve` -> app | nil, message */
static int module_start(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  app_box *box = lua_newuserdata(L, sizeof *box);
  *box = (app_box){NULL};
  luaL_getmetatable(L, APP);
  lua_setmetatable(L, -2);
  take_arguments(L, box);
  struct buf error;
  buf_init(&error, 0);
  if (start(box, &error)) {
    buf_deinit(&error);
    return 1;
  }
  lua_pushnil(L);
  lua_pushlstring(L, error.data, error.len);
  buf_deinit(&error);
  return 2;
}

static int app_gc(lua_State *L) {
  app_box *box = luaL_checkudata(L, 1, APP);
  stop(box);
  if (box->arguments != NULL) {
    config_deinit(&box->config);
    for (int i = 0; i < box->argument_count; i++) mem_free(box->arguments[i]);
    mem_free(box->arguments);
  }
  buf_deinit(&box->log);
  buf_deinit(&box->answers);
  *box = (app_box){NULL};
  return 0;
}

static app_box *check_running(lua_State *L) {
  app_box *box = luaL_checkudata(L, 1, APP);
  if (box->embedded == NULL) luaL_error(L, "the app was stopped");
  return box;
}

/* stop() */
static int app_stop(lua_State *L) {
  stop(luaL_checkudata(L, 1, APP));
  return 0;
}

/* pump() -> whether it came to rest; also when it is stopped */
static int app_pump(lua_State *L) {
  app_box *box = luaL_checkudata(L, 1, APP);
  lua_pushboolean(L, box->embedded == NULL || embedded_pump(box->embedded));
  return 1;
}

/* command(line) -> whether it came to rest */
static int app_command(lua_State *L) {
  app_box *box = check_running(L);
  slice line;
  line.data = luaL_checklstring(L, 2, &line.len);
  lua_pushboolean(L, embedded_command(box->embedded, line));
  return 1;
}

/* answers() -> lines since the last time */
static int app_answers(lua_State *L) {
  app_box *box = luaL_checkudata(L, 1, APP);
  lua_pushlstring(L, box->answers.len > 0 ? box->answers.data : "", box->answers.len);
  buf_clear(&box->answers);
  return 1;
}

/* log() -> all of it */
static int app_log(lua_State *L) {
  app_box *box = luaL_checkudata(L, 1, APP);
  lua_pushlstring(L, box->log.len > 0 ? box->log.data : "", box->log.len);
  return 1;
}

/* connect(bytes that may wait to be read) -> stream */
static int app_connect(lua_State *L) {
  app_box *box = check_running(L);
  lua_Integer bytes = luaL_checkinteger(L, 2);
  luaL_argcheck(L, bytes > 0, 2, "a number of bytes");
  stream_box *stream = lua_newuserdata(L, sizeof *stream);
  stream->memory = NULL;
  luaL_getmetatable(L, STREAM);
  lua_setmetatable(L, -2);
  stream->memory = embedded_connect(box->embedded, (size_t)bytes);
  return 1;
}

/* --- a stream: the client's end --- */

static struct memory_stream *check_open(lua_State *L) {
  stream_box *stream = luaL_checkudata(L, 1, STREAM);
  if (stream->memory == NULL) luaL_error(L, "the stream was closed");
  return stream->memory;
}

static int push_reason(lua_State *L, int error) {
  lua_pushnil(L);
  lua_pushstring(L, error == 0 ? "again" : error == UV_EOF ? "eof" : "reset");
  return 2;
}

/* read() -> bytes | nil, "again" | "eof" | "reset" */
static int stream_read(lua_State *L) {
  struct memory_stream *memory = check_open(L);
  slice bytes = memory_stream_peer_peek(memory);
  if (bytes.len == 0) return push_reason(L, memory_stream_peer_ending(memory));
  lua_pushlstring(L, bytes.data, bytes.len);
  memory_stream_peer_drop(memory, bytes.len);
  return 1;
}

/* write(bytes, offset) -> how many were taken | nil, "again" | "reset" */
static int stream_push(lua_State *L) {
  struct memory_stream *memory = check_open(L);
  slice bytes;
  bytes.data = luaL_checklstring(L, 2, &bytes.len);
  lua_Integer offset = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, offset >= 0, 3, "an offset");
  int taken = memory_stream_peer_write(memory, slice_skip(bytes, (size_t)offset));
  if (taken <= 0) return push_reason(L, taken);
  lua_pushinteger(L, taken);
  return 1;
}

/* ready() -> whether read gives more than "again", whether write does */
static int stream_ready(lua_State *L) {
  const struct memory_stream *memory = check_open(L);
  bool has_ended = memory_stream_peer_ending(memory) != 0;
  lua_pushboolean(L, has_ended || memory_stream_peer_peek(memory).len > 0);
  lua_pushboolean(L, has_ended || memory_stream_peer_room(memory) > 0);
  return 2;
}

/* half_close() */
static int stream_half_close(lua_State *L) {
  memory_stream_peer_shutdown(check_open(L));
  return 0;
}

/* close(is_reset) */
static int stream_end(lua_State *L) {
  stream_box *stream = luaL_checkudata(L, 1, STREAM);
  struct memory_stream *memory = stream->memory;
  stream->memory = NULL;
  if (memory != NULL) memory_stream_peer_close(memory, lua_toboolean(L, 2));
  return 0;
}

/* --- the module --- */

static const luaL_Reg app_methods[] = {
    {"stop", app_stop},       {"pump", app_pump}, {"command", app_command},
    {"answers", app_answers}, {"log", app_log},   {"connect", app_connect},
    {"__gc", app_gc},         {NULL, NULL},
};

static const luaL_Reg stream_methods[] = {
    {"read", stream_read}, {"write", stream_push},  {"half_close", stream_half_close},
    {"close", stream_end}, {"ready", stream_ready}, {"__gc", stream_end},
    {NULL, NULL},
};

static const luaL_Reg module_functions[] = {{"start", module_start}, {NULL, NULL}};

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 1);
}

int luaopen_perigee_core(lua_State *L);

int luaopen_perigee_core(lua_State *L) {
  make_class(L, APP, app_methods);
  make_class(L, STREAM, stream_methods);
  lua_createtable(L, 0, 1);
  luaL_setfuncs(L, module_functions, 0);
  return 1;
}
