/* Timers of scripts: app:every on a clock common to all workers, perigee.after, perigee.spawn. */
#ifndef PERIGEE_SCRIPT_LUA_TIMER_H
#define PERIGEE_SCRIPT_LUA_TIMER_H

#include "script/lua_script.h"

/* Declares a recurring timer with the function at the top of `L`, which is popped. */
void every_new(struct script *script, lua_State *L, uint64_t period_ms);
/* Starts those that were declared: due at the gateway's start plus whole periods. */
void everies_start(struct script *script);
/* Stops and forgets all timers, after's too. */
void lua_timer_stop_all(struct script *script);
/* Frees the recurring ones. */
void everies_free(struct script *script);

void lua_timer_setup(struct script *script);
void lua_timer_register(struct script *script);

#endif
