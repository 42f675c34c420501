/* Requests as Lua sees them: a box with a pointer, one a request, made when the script is first
 * asked about it. Fields are made when they are read.
 *
 * The request's session place holds the box's reference; the session stands in the box. When the
 * request is forgotten the box of an exchange is empty (reading it raises), the box of a
 * connection has been filled with what stays. */
#ifndef PERIGEE_SCRIPT_LUA_REQUEST_H
#define PERIGEE_SCRIPT_LUA_REQUEST_H

#include <stdbool.h>

#include "gateway/request.h"
#include "script/lua_script.h"

void lua_request_setup(struct script *script);
/* Pushes the request's box. */
void lua_request_push(lua_State *L, struct script *script, struct request *request);
bool lua_request_has_box(const struct request *request);
/* Pushes the session; the first call makes it {} where authenticate gave none. */
void lua_request_push_session(lua_State *L, struct script *script, struct request *request);
/* Makes the value at `index` the session. */
void lua_request_set_session(lua_State *L, struct script *script, struct request *request,
                             int index);
/* The request is about to be freed; with `is_kept` its box stays readable. */
void lua_request_forget(struct script *script, struct request *request, bool is_kept);

#endif
