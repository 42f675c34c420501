/* The Lua library, lua/perigee/, as it was when the binary was built: the build writes the table.
 *
 * One file is enough to deploy, and the library always fits the C code it calls. */
#ifndef PERIGEE_SCRIPT_EMBEDDED_LUA_H
#define PERIGEE_SCRIPT_EMBEDDED_LUA_H

#include <stddef.h>

struct embedded_lua {
  const char *name;   /* as `require` takes it: "perigee", "perigee.app" */
  const char *source; /* ends with a NUL that `len` does not count */
  size_t len;
};

/* Ends with an entry whose name is NULL. */
extern const struct embedded_lua embedded_lua[];

#endif
