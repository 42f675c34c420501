#include "base/map.h"

#include <pthread.h>

#include "base/random.h"

enum { SMALLEST_BUCKETS = 16 };

static inline uint64_t rotate(uint64_t x, int bits) {
  return (x << bits) | (x >> (64 - bits));
}

/* SipHash-1-3's round (Aumasson, Bernstein: SipHash, a fast short-input PRF). */
static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[0] = rotate(v[0], 32);
  v[2] += v[3];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[2] = rotate(v[2], 32);
}

static uint64_t seed[2];

static void draw_seed(void) {
  random_fill(seed, sizeof seed);
}

uint64_t map_hash(slice key) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, draw_seed);
  uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du,
                   seed[0] ^ 0x6c7967656e657261u, seed[1] ^ 0x7465646279746573u};
  size_t left = key.len;
  const char *at = key.data;
  uint64_t word;
  for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
    memcpy(&word, at, sizeof word);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  word = (uint64_t)key.len << 56;
  for (size_t i = 0; i < left; i++) word |= (uint64_t)(unsigned char)at[i] << (8 * i);
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *map) {
  *map = (struct map){0};
}

void map_deinit(struct map *map) {
  mem_free(map->buckets);
  map_init(map);
}

static struct map_entry **bucket_of(const struct map *map, uint64_t hash) {
  return &map->buckets[hash & (map->bucket_count - 1)];
}

struct map_entry *map_find(const struct map *map, slice key) {
  if (map->count == 0) return NULL;
  uint64_t hash = map_hash(key);
  for (struct map_entry *entry = *bucket_of(map, hash); entry != NULL; entry = entry->next) {
    if (entry->hash == hash && slice_is_equal(entry->key, key)) return entry;
  }
  return NULL;
}

static void resize(struct map *map, size_t bucket_count) {
  struct map old = *map;
  map->buckets = mem_alloc_zero(bucket_count * sizeof *map->buckets);
  map->bucket_count = bucket_count;
  for (size_t i = 0; i < old.bucket_count; i++) {
    for (struct map_entry *entry = old.buckets[i], *next; entry != NULL; entry = next) {
      next = entry->next;
      struct map_entry **bucket = bucket_of(map, entry->hash);
      entry->next = *bucket;
      *bucket = entry;
    }
  }
  mem_free(old.buckets);
}

void map_insert(struct map *map, struct map_entry *entry, slice key) {
  if (map->count >= map->bucket_count) {
    resize(map, map->bucket_count > 0 ? map->bucket_count * 2 : SMALLEST_BUCKETS);
  } else if (map->bucket_count > SMALLEST_BUCKETS && map->count < map->bucket_count / 16) {
    /* After a burst. Not in map_remove, so that a walk may remove what it passes. */
    resize(map, map->bucket_count / 4);
  }
  entry->key = key;
  entry->hash = map_hash(key);
  struct map_entry **bucket = bucket_of(map, entry->hash);
  entry->next = *bucket;
  *bucket = entry;
  map->count++;
}

void map_remove(struct map *map, struct map_entry *entry) {
  struct map_entry **at = bucket_of(map, entry->hash);
  while (*at != NULL && *at != entry) at = &(*at)->next;
  REQUIRE(*at == entry);
  *at = entry->next;
  map->count--;
}

struct map_entry *map_next(const struct map *map, const struct map_entry *after) {
  size_t i = 0;
  if (after != NULL) {
    if (after->next != NULL) return after->next;
    i = (after->hash & (map->bucket_count - 1)) + 1;
  }
  for (; i < map->bucket_count; i++) {
    if (map->buckets[i] != NULL) return map->buckets[i];
  }
  return NULL;
}
