/* `perigee new`: makes a small application of the files in lua/perigee/template/. */
#ifndef PERIGEE_COMMAND_NEW_H
#define PERIGEE_COMMAND_NEW_H

#include <stdbool.h>

#include "base/buf.h"

/* Makes it in this directory, which must be empty if it exists, and prints what was made. False: a
 * line on `error`; what was made until then stays. */
bool command_new_run(const char *directory, struct buf *error);
void command_new_help(struct buf *out);

#endif
