/* Commands of a test on standard input, one a line, each answered by one line on standard output:
 *
 *   freeze             -> frozen: time stands still but for advance
 *   advance <seconds>  -> advanced <seconds>: moved, in steps, all that was due has been done; but
 *                         the clock of peers stands still, so that nobody is pinged, or idle
 *   advance <seconds> peers
 *                      -> advanced <seconds>: the clock of peers is moved too
 *   counters           -> counters {json}
 *   forget             -> forgotten: the stalls that the counters tell of, so that what follows is
 *                         judged by itself
 *   collect            -> collected: a full collection of every worker's script state, and free
 *                         memory goes back to the system
 *   reload             -> reloaded {json}: how it ended, whether the script went live or not
 *   log fails, log stalls, log works
 *                      -> log fails: what a topic would keep is refused, waits, or is kept again
 *   exec <worker> <id> <code> <arguments>
 *                      -> executed <id> {json}: a function in base64, as string.dump gives it, has
 *                         run in that worker; the arguments are a JSON array. The answer comes when
 *                         it has ended, other commands are answered meanwhile
 *
 * Only with --test. */
#ifndef PERIGEE_GATEWAY_CONTROL_H
#define PERIGEE_GATEWAY_CONTROL_H

#include <stdint.h>

#include "base/slice.h"

struct gateway;

/* Where answers go, each a line with its newline: to standard output by default, and with NULL.
 * Before there are workers. */
typedef void (*control_sink)(void *context, slice line);
void control_set_sink(control_sink sink, void *context);

/* Carries out one line and prints its answer. On the main thread; waits for the workers. */
void control_run(struct gateway *gateway, slice line);
/* An exec has ended. Any thread. */
void control_executed(uint64_t id, slice result);
/* Prints the counters. */
void control_print_counters(struct gateway *gateway);

#endif
