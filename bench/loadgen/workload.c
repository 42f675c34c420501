#include "loadgen/workload.h"

#include <string.h>

const struct workload *workload;

static const struct workload *const all[] = {
    &echo_workload,   &http_workload,  &ws_fanout_workload, &sse_fanout_workload,
    &steady_workload, &churn_workload, &idle_workload,
};

const struct workload *workload_find(const char *name) {
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (strcmp(all[i]->name, name) == 0) return all[i];
  }
  return NULL;
}
