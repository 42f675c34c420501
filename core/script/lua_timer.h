/* Timers of scripts: app:every on a clock common to all workers, perigee.after, perigee.spawn. */
#ifndef PERIGEE_SCRIPT_LUA_TIMER_H
#define PERIGEE_SCRIPT_LUA_TIMER_H

#include "script/lua_generation.h"
#include "script/lua_script.h"

/* Declares a recurring timer with the function at the top of `L`, which is popped. */
void every_new(struct generation *generation, lua_State *L, uint64_t period_ms);
/* Starts those that were declared: due at the gateway's start plus whole periods. They take over
 * from those of `older` (NULL: none), which are stopped: nothing that is due is left out or runs
 * twice. */
void everies_start(struct generation *generation, struct generation *older);
/* Frees them. */
void everies_free(struct generation *generation);

/* Logs the pending timers of perigee.after that hold an older generation, if there are any. */
void lua_timer_log_pending(const struct generation *generation);

/* Stops the recurring ones, and forgets all others. */
void lua_timer_stop_all(struct script *script);

void lua_timer_setup(struct script *script);
void lua_timer_register(struct script *script);

#endif
