/* What an HTTP handler returned, checked and answered.
 *
 * Nothing here raises: it runs after the handler has returned, outside of any protected call, so
 * tables are read without metamethods and faults become a message. */
#ifndef PERIGEE_SCRIPT_LUA_RESPONSE_H
#define PERIGEE_SCRIPT_LUA_RESPONSE_H

#include <stdbool.h>

#include "gateway/exchange.h"
#include "script/lua_script.h"

/* Answers with the value at `index` of `L`. False: nothing was answered, and script->message says
 * why. */
bool lua_response_send(struct script *script, lua_State *L, int index, struct exchange *exchange);

#endif
