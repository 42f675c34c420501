/* perigee.log: lines in the gateway's log, with the route and connection they come from. */
#ifndef PERIGEE_SCRIPT_LUA_LOG_H
#define PERIGEE_SCRIPT_LUA_LOG_H

#include "script/lua_script.h"

/* Pushes the table perigee.log. */
void lua_log_push(struct script *script);
/* `print`: a line in the log, for standard output is the gateway's. Upvalue: the script. */
int lua_log_print(lua_State *L);

#endif
