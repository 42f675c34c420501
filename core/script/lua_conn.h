/* Connections as Lua sees them: a box with a pointer, made when the script first touches one.
 *
 * One box a connection, held by a registry reference while the connection lives, so that its
 * identity is kept. When the connection is forgotten the box lets go of it and answers
 * nil, "the connection is closed", "closed"; id, session, request and transport stay. */
#ifndef PERIGEE_SCRIPT_LUA_CONN_H
#define PERIGEE_SCRIPT_LUA_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "script/lua_script.h"

struct conn;

void lua_conn_setup(struct script *script);
/* Pushes the connection's box. */
void lua_conn_push(lua_State *L, struct script *script, struct conn *conn);
/* Pushes its session, if there is anything that one could be in. */
bool lua_conn_push_session(lua_State *L, struct script *script, struct conn *conn);
/* The id that `except` names, by connection or by id; 0 for a string that is no id of this gateway.
 * Raises for other types. */
uint64_t lua_conn_check_id(lua_State *L, struct script *script, int index);
/* hooks->forget. */
void lua_conn_forget(struct script *script, struct conn *conn);

#endif
