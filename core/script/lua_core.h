/* The functions of the core, as the library's Lua half gets them.
 *
 * `core` has what declares (lua_app.h) and LuaJIT's FFI; in it `perigee` has what scripts get, with
 * json, crypto and log. Made for each generation, as scripts may change what they get. */
#ifndef PERIGEE_SCRIPT_LUA_CORE_H
#define PERIGEE_SCRIPT_LUA_CORE_H

#include "script/lua_script.h"

/* Pushes the table on the script's stack. */
void lua_core_push(struct script *script);

#endif
