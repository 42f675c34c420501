/* perigee.shared: dictionaries that all workers share. */
#ifndef PERIGEE_SCRIPT_LUA_SHARED_H
#define PERIGEE_SCRIPT_LUA_SHARED_H

#include "script/lua_script.h"

void lua_shared_setup(struct script *script);
void lua_shared_register(struct script *script);

#endif
