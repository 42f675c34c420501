/* The script layer's one door: the table of hooks that runs Lua.
 *
 * Each worker has one Lua state, made by hooks->load and freed by hooks->unload on the worker's
 * thread. Nothing outside core/script/ knows of Lua. */
#ifndef PERIGEE_SCRIPT_LUA_STATE_H
#define PERIGEE_SCRIPT_LUA_STATE_H

#include "gateway/hooks.h"

extern const struct hooks lua_hooks;

#endif
