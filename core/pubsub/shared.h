/* Dictionaries that all workers share: strings, numbers and booleans by string key.
 *
 * Process-wide, by name; any thread; each call is one atomic step. They outlive reloads. Entries
 * may end after a time to live, judged exactly at each access. */
#ifndef PERIGEE_PUBSUB_SHARED_H
#define PERIGEE_PUBSUB_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct shared_store;              /* all dictionaries of a process */
enum { SHARED_NAME_BYTES = 255 }; /* of a dictionary */

struct shared; /* one dictionary; lives as long as its store */

typedef enum { SHARED_NONE, SHARED_STRING, SHARED_NUMBER, SHARED_BOOLEAN } shared_type;
typedef struct {
  shared_type type;
  slice string; /* SHARED_STRING: for shared_get it points into the caller's buf */
  double number;
  bool boolean;
} shared_value;

typedef enum {
  SHARED_OK = 0,
  SHARED_FULL = -1,       /* the store's bytes would pass their limit: "full" */
  SHARED_EXISTS = -2,     /* shared_add: there is one */
  SHARED_NOT_NUMBER = -3, /* shared_incr on a string or boolean: "type" */
} shared_result;

struct shared_store *shared_store_new(size_t max_bytes);
void shared_store_free(struct shared_store *store);

/* The dictionary of this name, made at first use. 1 to 255 bytes; NULL for other names, and when
 * the store has no room for another one. */
struct shared *shared_find(struct shared_store *store, slice name);

/* A missing key gives SHARED_NONE. A string is copied into `out` (cleared first), which must be
 * without a limit or with one no lower than the store's. */
shared_value shared_get(struct shared *shared, slice key, struct buf *out);
/* ttl_ms 0: for ever. SHARED_NONE deletes. */
shared_result shared_set(struct shared *shared, slice key, const shared_value *value,
                         uint64_t ttl_ms);
/* Sets only where there is nothing. */
shared_result shared_add(struct shared *shared, slice key, const shared_value *value,
                         uint64_t ttl_ms);
/* Adds `by` to a number, from 0 where there is none; a ttl is set only by the call that makes the
 * entry. */
shared_result shared_incr(struct shared *shared, slice key, double by, uint64_t ttl_ms,
                          double *result);
/* Whether there was one. */
bool shared_delete(struct shared *shared, slice key);
/* Calls `each` for up to `max` keys that begin with `prefix`, in no particular order. `each` runs
 * under the lock: it must only copy. */
size_t shared_keys(struct shared *shared, slice prefix, size_t max,
                   void (*each)(void *context, slice key), void *context);
/* Gives memory of expired entries back; the main thread calls it now and then. */
void shared_sweep(struct shared_store *store);
/* What counts against the limit: keys, strings and the structs around them. */
size_t shared_count_bytes(struct shared_store *store);

#endif
