/* Older generations that do not go: found, and what holds them named.
 *
 * When nothing of a generation is under way its environment should be garbage. One that is still
 * there after two full cycles of the collector is held by a value that the script has put where it
 * outlives its code: a function, a metatable or a coroutine in a table of perigee.keep, or in a
 * connection's session. The log tells the path, once for each generation. */
#ifndef PERIGEE_SCRIPT_LUA_PINS_H
#define PERIGEE_SCRIPT_LUA_PINS_H

#include "script/lua_generation.h"

void lua_pins_setup(struct script *script);
void lua_pins_deinit(struct script *script);

/* The generation has gone live. */
void lua_pins_watch(struct generation *generation);
/* Nothing of it is under way any more. */
void lua_pins_expect_gone(struct generation *generation);
/* The collector has finished a cycle. */
void lua_pins_look(struct script *script);
/* Whether cycles are wanted to find out. */
bool lua_pins_is_waiting(const struct script *script);

#endif
