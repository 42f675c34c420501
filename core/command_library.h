/* Where this binary and the Lua library that belongs to it are: for the commands that need its
 * files rather than what is embedded. */
#ifndef PERIGEE_COMMAND_LIBRARY_H
#define PERIGEE_COMMAND_LIBRARY_H

#include <limits.h>
#include <stdbool.h>

#include "base/buf.h"

typedef struct {
  char binary[PATH_MAX];
  char library[PATH_MAX]; /* holds perigee/; absolute */
} command_places;

/* False: the library is neither where `make install` puts it nor in a source tree around the
 * binary, and `error` says so. */
bool command_find_places(command_places *places, struct buf *error);

#endif
