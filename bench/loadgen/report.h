/* What is printed at the end, as text or as one line of JSON. */
#ifndef LOADGEN_REPORT_H
#define LOADGEN_REPORT_H

#include <stdbool.h>

#include "loadgen/run.h"

/* Returns whether the server told the truth: nothing lost, reordered, damaged or disconnected. */
bool report_print(const run_result *result);

#endif
