/* perigee.log: lines in the gateway's log, with the route and connection they come from. */
#ifndef PERIGEE_SCRIPT_LUA_LOG_H
#define PERIGEE_SCRIPT_LUA_LOG_H

#include "script/lua_script.h"

/* Pushes the table perigee.log. */
void lua_log_push(struct script *script);

#endif
