/* perigee.publish, signal, history, clear, subscribers: topics for scripts. */
#ifndef PERIGEE_SCRIPT_LUA_TOPIC_H
#define PERIGEE_SCRIPT_LUA_TOPIC_H

#include "script/lua_script.h"

void lua_topic_register(struct script *script);

#endif
