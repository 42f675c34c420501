/* A run from its first connection to its last message: open, settle, warm up, measure.
 *
 * By time, or by rounds. Everything is answered between one round and the next, and before and
 * after what is measured. */
#ifndef LOADGEN_RUN_H
#define LOADGEN_RUN_H

#include <stdbool.h>

#include "loadgen/server.h"

typedef struct {
  double seconds; /* of the measured part */
  server_usage before;
  server_usage after;
  double own_cpu_s;
} run_result;

run_result run_all(void);

/* Whether an answer is to be followed by the next request at once. */
bool run_wants_more(void);

#endif
