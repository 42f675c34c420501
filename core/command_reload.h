/* `perigee reload`: asks a gateway that runs to load its script anew, and says how that ended. */
#ifndef PERIGEE_COMMAND_RELOAD_H
#define PERIGEE_COMMAND_RELOAD_H

#include <stdbool.h>

#include "base/buf.h"

/* Asks the gateway whose control socket is at `path`. True when the new generation is live: `text`
 * has the gateway's line of it. Else `text` has one or more lines of what is wrong. */
bool command_reload_run(const char *path, struct buf *text);
void command_reload_help(struct buf *out);

#endif
