#include "script/lua_pins.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "gateway/conn.h"
#include "script/lua_conn.h"
#include "script/lua_keep.h"

enum {
  CYCLES = 2,          /* what a finalizer lets go of is found by the second */
  MAX_DEPTH = 50,      /* of the search, in values inside values */
  MAX_VALUES = 200000, /* some 20 ms, once, in a script that leaks */
};

/* A generation that should be gone. */
struct pinned {
  struct pinned *next;
  uint64_t number;
  unsigned cycles; /* that have ended since */
};

/* Registry key of environments by number, held weakly. */
static const char environments_key = 'e';

static void push_environments(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&environments_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void lua_pins_setup(struct script *script) {
  lua_State *L = script->L;
  lua_pushlightuserdata(L, (void *)&environments_key);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void lua_pins_deinit(struct script *script) {
  while (script->pinned != NULL) {
    struct pinned *pinned = script->pinned;
    script->pinned = pinned->next;
    mem_free(pinned);
  }
}

void lua_pins_watch(struct generation *generation) {
  lua_State *L = generation->script->L;
  push_environments(L);
  lua_pushnumber(L, (lua_Number)generation->number);
  ref_push(L, generation->environment);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

void lua_pins_expect_gone(struct generation *generation) {
  struct script *script = generation->script;
  struct pinned *pinned = mem_alloc_zero(sizeof *pinned);
  pinned->number = generation->number;
  pinned->next = script->pinned;
  script->pinned = pinned;
}

bool lua_pins_is_waiting(const struct script *script) {
  return script->pinned != NULL;
}

/* --- the search --- */

struct search {
  lua_State *L;
  int environment; /* stack index of what is looked for */
  int seen;        /* of a table of what was looked at */
  unsigned count;
  struct buf path;
  struct buf found; /* what it is; empty: nothing yet */
};

static bool look(struct search *search, unsigned depth);

/* Looks at the value at the top, which the path names when `step` is added to it; pops it. */
static bool look_at(struct search *search, unsigned depth, const char *format, slice step) {
  size_t len = search->path.len;
  buf_append_format(&search->path, format, (int)step.len, step.data);
  bool is_found = look(search, depth + 1);
  if (!is_found) search->path.len = len;
  lua_pop(search->L, 1);
  return is_found;
}

static bool is_of_environment(struct search *search) {
  lua_State *L = search->L;
  lua_getfenv(L, -1);
  bool is_it = lua_rawequal(L, -1, search->environment);
  lua_pop(L, 1);
  return is_it;
}

static bool note(struct search *search, const char *what) {
  buf_append_format(&search->found, "%s", what);
  return true;
}

static bool look_into_function(struct search *search, unsigned depth) {
  lua_State *L = search->L;
  if (is_of_environment(search)) {
    lua_Debug about;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &about);
    if (about.source[0] != '@') return note(search, "a function");
    buf_append_format(&search->found, "a function of %s:%d", about.short_src, about.linedefined);
    return true;
  }
  const char *name;
  for (int i = 1; (name = lua_getupvalue(L, -1, i)) != NULL; i++) {
    if (look_at(search, depth, " (its local %.*s)", slice_of_string(name))) return true;
  }
  return false;
}

/* The key below the value at the top, as it is written behind a dot or in brackets. */
static bool look_at_member(struct search *search, unsigned depth) {
  lua_State *L = search->L;
  char text[64];
  switch (lua_type(L, -2)) {
    case LUA_TSTRING:
      return look_at(search, depth, ".%.*s", script_slice_at(L, -2));
    case LUA_TNUMBER:
      lua_pushvalue(L, -2);
      snprintf(text, sizeof text, "%.14g", lua_tonumber(L, -1));
      lua_pop(L, 1);
      return look_at(search, depth, "[%.*s]", slice_of_string(text));
    default:
      return look_at(search, depth, "[a %.*s]", slice_of_string(luaL_typename(L, -2)));
  }
}

static bool look_into_table(struct search *search, unsigned depth) {
  lua_State *L = search->L;
  int table = lua_gettop(L);
  if (lua_getmetatable(L, table)) {
    if (look_at(search, depth, "%.*s", SLICE(" (its metatable)"))) return true;
  }
  for (lua_pushnil(L); lua_next(L, table) != 0;) {
    if (look_at_member(search, depth)) { /* the value is popped */
      lua_pop(L, 1);
      return true;
    }
    lua_pushvalue(L, -1);
    if (look_at(search, depth, "%.*s", SLICE(" (a key)"))) {
      lua_pop(L, 1);
      return true;
    }
  }
  return false;
}

/* Whether the value at the top holds the environment; then `path` and `found` say how. */
static bool look(struct search *search, unsigned depth) {
  lua_State *L = search->L;
  int type = lua_type(L, -1);
  if (type == LUA_TUSERDATA) return is_of_environment(search) && note(search, "an object");
  if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TTHREAD) return false;
  if (depth > MAX_DEPTH || search->count > MAX_VALUES || !lua_checkstack(L, 8)) return false;
  if (lua_rawequal(L, -1, search->environment)) return note(search, "its globals");
  lua_pushvalue(L, -1);
  lua_rawget(L, search->seen);
  bool is_seen = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (is_seen) return false;
  search->count++;
  lua_pushvalue(L, -1);
  lua_pushboolean(L, true);
  lua_rawset(L, search->seen);
  if (type == LUA_TFUNCTION) return look_into_function(search, depth);
  if (type == LUA_TTABLE) return look_into_table(search, depth);
  return is_of_environment(search) && note(search, "a coroutine");
}

static bool look_into_keep(struct search *search) {
  lua_State *L = search->L;
  lua_keep_push(L);
  for (lua_pushnil(L); lua_next(L, -2) != 0;) {
    if (look_at(search, 0, "perigee.keep(\"%.*s\")", script_slice_at(L, -2))) return true;
  }
  return false;
}

static bool look_into_sessions(struct search *search, struct worker *worker) {
  for (struct list *link = worker->conns.next; link != &worker->conns; link = link->next) {
    struct conn *conn = LIST_OWNER(link, struct conn, all);
    if (!lua_conn_push_session(search->L, worker->script, conn)) continue;
    slice pattern = slice_of_string(conn->route->pattern);
    if (look_at(search, 0, "the session of a connection of %.*s", pattern)) return true;
  }
  return false;
}

/* Argument: the script and the place for the sentence; the environment is the third. */
static int find_protected(lua_State *L) {
  struct script *script = lua_touserdata(L, 1);
  struct search *search = lua_touserdata(L, 2);
  search->environment = 3;
  lua_newtable(L);
  search->seen = lua_gettop(L);
  if (!look_into_keep(search)) look_into_sessions(search, script->worker);
  return 0;
}

/* The environment is at the top; stays there. */
static void tell(struct script *script, const struct pinned *pinned) {
  lua_State *L = script->L;
  struct search search = {.L = L};
  buf_init(&search.path, 0);
  buf_init(&search.found, 0);
  lua_pushcfunction(L, find_protected);
  lua_pushlightuserdata(L, script);
  lua_pushlightuserdata(L, &search);
  lua_pushvalue(L, -4);
  if (lua_pcall(L, 3, 0, 0) != 0) lua_pop(L, 1);
  unsigned long long number = pinned->number;
  if (search.found.len > 0) {
    log_warn("generation %llu cannot be collected: %.*s is %.*s", number, (int)search.path.len,
             search.path.data, (int)search.found.len, search.found.data);
  } else {
    log_warn(
        "generation %llu cannot be collected, and neither perigee.keep nor a session shows why",
        number);
  }
  buf_deinit(&search.path);
  buf_deinit(&search.found);
}

/* Whether there is nothing more to find out about it. */
static bool judge(struct script *script, struct pinned *pinned) {
  lua_State *L = script->L;
  push_environments(L);
  lua_pushnumber(L, (lua_Number)pinned->number);
  lua_rawget(L, -2);
  bool is_there = lua_istable(L, -1);
  bool is_over = !is_there || ++pinned->cycles >= CYCLES;
  if (is_there && is_over) tell(script, pinned);
  lua_pop(L, 2);
  return is_over;
}

void lua_pins_look(struct script *script) {
  struct pinned **at = &script->pinned;
  while (*at != NULL) {
    struct pinned *pinned = *at;
    if (judge(script, pinned)) {
      *at = pinned->next;
      mem_free(pinned);
    } else {
      at = &pinned->next;
    }
  }
}
