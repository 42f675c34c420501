/* A hash map from bytes to structs that carry their own entry.
 *
 * Intrusive: the map allocates only its table of buckets. Seeded, so that a peer who chooses keys
 * cannot choose collisions. The key's bytes belong to the struct that holds the entry and must
 * not change while it is in a map. Not for several threads at once. */
#ifndef PERIGEE_BASE_MAP_H
#define PERIGEE_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/slice.h"

struct map_entry {
  struct map_entry *next;
  slice key;
  uint64_t hash;
};

struct map {
  struct map_entry **buckets;
  size_t bucket_count; /* zero or a power of two */
  size_t count;
};

void map_init(struct map *map);
/* Frees the buckets; the entries stay their owners' affair. */
void map_deinit(struct map *map);

struct map_entry *map_find(const struct map *map, slice key);
/* The key must not be in the map; `entry->key` and `entry->hash` are set here. */
void map_insert(struct map *map, struct map_entry *entry, slice key);
/* The entry must be in the map. */
void map_remove(struct map *map, struct map_entry *entry);

/* Walks all entries in no particular order: NULL begins, NULL ends. The map must not change
 * between two calls, except that the entry last returned may be removed after its follower is
 * known: call map_next first. */
struct map_entry *map_next(const struct map *map, const struct map_entry *after);

/* The seeded hash that all maps use. */
uint64_t map_hash(slice key);

#define MAP_OWNER(entry, type, member) CONTAINER_OF(entry, type, member)

#endif
