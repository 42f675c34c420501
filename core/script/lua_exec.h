/* Code of a test inside a worker: a function as LuaJIT's bytecode, its arguments and results as
 * JSON. Only in test mode: bytecode is not checked and can do anything. */
#ifndef PERIGEE_SCRIPT_LUA_EXEC_H
#define PERIGEE_SCRIPT_LUA_EXEC_H

#include <stdint.h>

#include "base/slice.h"

struct worker;

/* Runs the function as a handler that belongs to no connection, with `perigee` and the values of
 * the JSON array `arguments`. control_executed is told when it has ended, which may be later:
 * {"ok":true,"count":n,"values":[…]} or {"ok":false,"error":"…"}. */
void lua_exec(struct worker *worker, uint64_t id, slice code, slice arguments);

#endif
