/* Connections counted, in all and by remote address; any thread. */
#ifndef PERIGEE_GATEWAY_ADDRESSES_H
#define PERIGEE_GATEWAY_ADDRESSES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"

struct addresses {
  pthread_mutex_t lock;
  struct map by_text;
  uint64_t count;
  uint64_t max_count;
  uint64_t max_per_address;
};
struct address;

void addresses_init(struct addresses *addresses, uint64_t max_count, uint64_t max_per_address);
/* All have left. */
void addresses_deinit(struct addresses *addresses);

/* One connection more; `*is_welcome` is false, and it is not counted, when that would pass a limit.
 * "unix" has no limit of its own. The address is held until it is left. */
struct address *addresses_enter(struct addresses *addresses, slice text, bool *is_welcome);
void addresses_leave(struct addresses *addresses, struct address *address, bool was_welcome);
slice address_text(const struct address *address);

#endif
