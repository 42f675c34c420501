/* What lua_json.c, which reads, and lua_json_encode.c share. Nobody else includes it. */
#ifndef PERIGEE_SCRIPT_LUA_JSON_INTERNAL_H
#define PERIGEE_SCRIPT_LUA_JSON_INTERNAL_H

#include "script/lua_json.h"

/* The metatable that marks arrays. */
void lua_json_push_array_metatable(lua_State *L);

/* Fills the error and returns false. */
bool lua_json_fail(lua_json_error *error, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
