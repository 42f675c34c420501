/* Secrets by name: from the environment, or made, one for all workers.
 *
 * What a script signs with must be the same in each worker, which a random value made while it
 * loads is not. Any thread. */
#ifndef PERIGEE_GATEWAY_SECRETS_H
#define PERIGEE_GATEWAY_SECRETS_H

#include <pthread.h>
#include <stdbool.h>

#include "base/map.h"
#include "base/slice.h"

struct secrets {
  pthread_mutex_t lock;
  struct map by_name;
};

void secrets_init(struct secrets *secrets);
void secrets_deinit(struct secrets *secrets);

/* The environment variable of this name, else 32 random bytes in hexadecimal (`*is_made`), made at
 * the first call. Valid until secrets_deinit. */
slice secrets_find(struct secrets *secrets, slice name, bool *is_made);

#endif
