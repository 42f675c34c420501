/* What a script has declared, as text for people: `perigee check` and `perigee routes`.
 *
 * What is said is lua/perigee/describe.lua's; here are the defaults it compares with, in the units
 * of scripts. */
#ifndef PERIGEE_SCRIPT_LUA_DESCRIBE_H
#define PERIGEE_SCRIPT_LUA_DESCRIBE_H

#include <stdbool.h>

#include "base/buf.h"

struct worker;

/* Appends what the load of this worker has declared; after hooks->load, on the worker's thread.
 * `what` is a function of describe.lua: "check" or "routes". `has_colour`: with the sequences of a
 * terminal. False: `out` has a message instead. */
bool lua_describe(struct worker *worker, const char *what, bool has_colour, struct buf *out);

#endif
