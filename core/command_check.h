/* `perigee check` and `perigee routes`: load a script as `perigee serve` would, and say what it
 * declares instead of serving it. */
#ifndef PERIGEE_COMMAND_CHECK_H
#define PERIGEE_COMMAND_CHECK_H

#include "base/buf.h"
#include "gateway/config.h"

/* Prints what the script declares: everything, or for command_routes a line for each route. Both
 * return the exit code: 0, or 1 with the line on standard error that `perigee serve` gives. They
 * use the script and the limits of the config, which is that of `perigee serve`. */
int command_check(struct config *config);
int command_routes(struct config *config);

void command_check_help(struct buf *out);
void command_routes_help(struct buf *out);

#endif
