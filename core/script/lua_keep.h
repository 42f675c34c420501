/* perigee.keep(name): tables of this worker that outlive a reload.
 *
 * They belong to the worker's state and to no generation. What a load makes is provisional until
 * that goes live, or code that is live asks for it. A function in one holds the generation it is
 * from: lua_pins.h tells. */
#ifndef PERIGEE_SCRIPT_LUA_KEEP_H
#define PERIGEE_SCRIPT_LUA_KEEP_H

#include "script/lua_script.h"

void lua_keep_setup(struct script *script);
void lua_keep_register(struct script *script);
/* Pushes the table of all, name to table. */
void lua_keep_push(lua_State *L);

/* What the load has made stays, or goes. */
void lua_keep_confirm(struct script *script);
void lua_keep_discard(struct script *script);

#endif
