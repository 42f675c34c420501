/* What a script sees: a copy of the standard library without what would leave the sandbox, a
 * `require` of its own, and no way to make globals by accident.
 *
 * A sandbox against mistakes, not against malice: a script may still loop for ever. */
#ifndef PERIGEE_SCRIPT_LUA_SANDBOX_H
#define PERIGEE_SCRIPT_LUA_SANDBOX_H

#include "script/lua_script.h"

/* Opens the libraries, once, and takes from them what leaves the sandbox. The state's globals from
 * then on are those of the library's own code. */
void sandbox_open(struct script *script);

/* Makes the environment that all code of a generation runs in. Replaces the table at the top: the
 * functions of the core, which the embedded Lua code gets as its second argument. */
void sandbox_push_environment(struct script *script);

/* Runs a file of the library that is of no generation; replaces the table at the top, which it
 * gets, by what it returns. */
void sandbox_run_library(struct script *script, const char *name);

/* Pushes the chunk of a file, or returns false with one line pushed: "file:line: message". Its
 * environment is the thread's, until it is set. */
bool sandbox_load_file(struct script *script, lua_State *L, const char *path);

/* Pushes LuaJIT's FFI library: for the embedded Lua code, and for scripts that are not sandboxed.
 */
void sandbox_push_ffi(lua_State *L);

/* Pushes "file:line" of the innermost script function from `level` on; "" without one. */
void sandbox_push_where(lua_State *L, int level);
/* Whether a message begins with "file:line: ". */
bool sandbox_has_position(const char *message);
/* An error handler for lua_pcall: makes any error value a message with a position. */
int sandbox_on_load_error(lua_State *L);

#endif
