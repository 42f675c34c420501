/* perigee.crypto, and what else needs randomness or the clock: secret, id, time, now, iso. */
#ifndef PERIGEE_SCRIPT_LUA_CRYPTO_H
#define PERIGEE_SCRIPT_LUA_CRYPTO_H

#include "script/lua_script.h"

/* Pushes the table perigee.crypto. */
void lua_crypto_push(struct script *script);
void lua_crypto_register(struct script *script);

#endif
