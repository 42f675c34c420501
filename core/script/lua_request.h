/* Requests as Lua sees them: a box with a pointer, one a request, made when the script is first
 * asked about it. Fields are made when they are read.
 *
 * What lives longer than one handler, because it has a session or belongs to a connection, has a
 * reference to its box in the request's session place; the session stands in the box. The box of
 * an HTTP route's request is merely lent to the handler and held by its coroutine's stack. When the
 * request is forgotten the box of an exchange is empty (reading it raises), the box of a
 * connection has been filled with what stays. */
#ifndef PERIGEE_SCRIPT_LUA_REQUEST_H
#define PERIGEE_SCRIPT_LUA_REQUEST_H

#include <stdbool.h>

#include "gateway/exchange.h"
#include "gateway/request.h"
#include "script/lua_script.h"

void lua_request_setup(struct script *script);
/* Pushes the request's box. */
void lua_request_push(lua_State *L, struct script *script, struct request *request);
/* Pushes a box that is good until lua_request_take_back, and must stay where it was pushed until
 * then: nothing else keeps it from being collected. */
void lua_request_lend(lua_State *L, struct script *script, struct exchange *exchange);
void lua_request_take_back(struct exchange *exchange);
bool lua_request_has_box(const struct request *request);
/* Pushes the session; the first call makes it {} where authenticate gave none. */
void lua_request_push_session(lua_State *L, struct script *script, struct request *request);
/* Makes the value at `index` the session. */
void lua_request_set_session(lua_State *L, struct script *script, struct request *request,
                             int index);
/* Its parameters may be others: what the box has of them is read again. */
void lua_request_forget_params(struct script *script, struct request *request);
/* The request is about to be freed; with `is_kept` its box stays readable. */
void lua_request_forget(struct script *script, struct request *request, bool is_kept);

#endif
