/* idle: connections that are opened and held, for what each costs in memory. */
#ifndef LOADGEN_IDLE_H
#define LOADGEN_IDLE_H

#include <stdbool.h>

/* Opens options.conns connections, shared among options.processes processes since one holds at most
 * RLIMIT_NOFILE of them, measures, holds them, measures again and prints. Returns whether all were
 * opened and kept. */
bool idle_run(void);

#endif
