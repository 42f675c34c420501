#include "pubsub/shared.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"

static const uint64_t never = UINT64_MAX;

/* One lock for all: a step is some hundred nanoseconds. */
struct shared_store {
  pthread_mutex_t lock;
  size_t max_bytes;
  size_t bytes;            /* of all dictionaries and entries, keys and structs included */
  uint64_t next_expiry_ms; /* no entry ends earlier */
  struct map dictionaries;
};

struct shared {
  struct shared_store *store;
  struct map_entry entry;
  struct map items;
  char name[];
};

/* One allocation with the key; a string's bytes are another one. */
struct item {
  struct map_entry entry;
  uint64_t expires_ms;
  shared_type type;
  bool boolean;
  double number;
  size_t string_len;
  char *string;
  char key[];
};

struct shared_store *shared_store_new(size_t max_bytes) {
  struct shared_store *store = mem_alloc_zero(sizeof *store);
  pthread_mutex_init(&store->lock, NULL);
  store->max_bytes = max_bytes;
  store->next_expiry_ms = never;
  map_init(&store->dictionaries);
  return store;
}

/* Each entry also has its part of the table of buckets. */
static size_t item_bytes(size_t key_len, size_t string_len) {
  return sizeof(struct item) + sizeof(struct map_entry *) + key_len + string_len;
}

static void drop(struct shared *shared, struct item *item) {
  shared->store->bytes -= item_bytes(item->entry.key.len, item->string_len);
  map_remove(&shared->items, &item->entry);
  mem_free(item->string);
  mem_free(item);
}

static struct item *next_item(const struct shared *shared, const struct item *after) {
  struct map_entry *entry = map_next(&shared->items, after != NULL ? &after->entry : NULL);
  return entry != NULL ? MAP_OWNER(entry, struct item, entry) : NULL;
}

static void free_dictionary(struct shared *shared) {
  for (struct item *item = next_item(shared, NULL), *next; item != NULL; item = next) {
    next = next_item(shared, item);
    drop(shared, item);
  }
  map_deinit(&shared->items);
  mem_free(shared);
}

void shared_store_free(struct shared_store *store) {
  if (store == NULL) return;
  struct map_entry *entry = map_next(&store->dictionaries, NULL);
  while (entry != NULL) {
    struct shared *shared = MAP_OWNER(entry, struct shared, entry);
    entry = map_next(&store->dictionaries, entry);
    free_dictionary(shared);
  }
  map_deinit(&store->dictionaries);
  pthread_mutex_destroy(&store->lock);
  mem_free(store);
}

/* --- under the lock --- */

static bool is_expired(const struct item *item, uint64_t now_ms) {
  return item->expires_ms <= now_ms;
}

static void sweep(struct shared_store *store, uint64_t now_ms) {
  if (store->next_expiry_ms > now_ms) return;
  store->next_expiry_ms = never;
  for (struct map_entry *entry = map_next(&store->dictionaries, NULL); entry != NULL;
       entry = map_next(&store->dictionaries, entry)) {
    struct shared *shared = MAP_OWNER(entry, struct shared, entry);
    for (struct item *item = next_item(shared, NULL), *next; item != NULL; item = next) {
      next = next_item(shared, item);
      if (is_expired(item, now_ms)) {
        drop(shared, item);
      } else if (item->expires_ms < store->next_expiry_ms) {
        store->next_expiry_ms = item->expires_ms;
      }
    }
  }
}

/* Whether `more` bytes fit when `less` are given back; what has expired makes room. */
static bool has_room(struct shared_store *store, size_t more, size_t less, uint64_t now_ms) {
  if (more <= less) return true;
  more -= less;
  if (more > store->max_bytes) return false;
  if (store->bytes > store->max_bytes - more) sweep(store, now_ms);
  return store->bytes <= store->max_bytes - more;
}

static struct item *find(struct shared *shared, slice key, uint64_t now_ms) {
  struct map_entry *entry = map_find(&shared->items, key);
  if (entry == NULL) return NULL;
  struct item *item = MAP_OWNER(entry, struct item, entry);
  if (!is_expired(item, now_ms)) return item;
  drop(shared, item);
  return NULL;
}

static void set_expiry(struct shared_store *store, struct item *item, uint64_t ttl_ms,
                       uint64_t now_ms) {
  item->expires_ms = ttl_ms == 0 || ttl_ms > never - now_ms ? never : now_ms + ttl_ms;
  if (item->expires_ms < store->next_expiry_ms) store->next_expiry_ms = item->expires_ms;
}

static struct item *make_item(struct shared *shared, slice key) {
  struct item *item = mem_alloc_zero(sizeof *item + key.len);
  if (key.len > 0) memcpy(item->key, key.data, key.len);
  map_insert(&shared->items, &item->entry, slice_of(item->key, key.len));
  shared->store->bytes += item_bytes(key.len, 0);
  return item;
}

/* `item` is what `key` has now, or NULL. */
static shared_result put(struct shared *shared, slice key, struct item *item,
                         const shared_value *value, uint64_t ttl_ms, uint64_t now_ms) {
  struct shared_store *store = shared->store;
  size_t string_len = value->type == SHARED_STRING ? value->string.len : 0;
  size_t before = item != NULL ? item_bytes(key.len, item->string_len) : 0;
  if (!has_room(store, item_bytes(key.len, string_len), before, now_ms)) return SHARED_FULL;
  if (item == NULL) item = make_item(shared, key);
  mem_free(item->string);
  item->string = string_len > 0 ? mem_copy(value->string) : NULL;
  store->bytes += string_len;
  store->bytes -= item->string_len;
  item->string_len = string_len;
  item->type = value->type;
  item->number = value->number;
  item->boolean = value->boolean;
  set_expiry(store, item, ttl_ms, now_ms);
  return SHARED_OK;
}

/* --- the calls --- */

struct shared *shared_find(struct shared_store *store, slice name) {
  if (name.len == 0 || name.len > SHARED_NAME_BYTES) return NULL;
  pthread_mutex_lock(&store->lock);
  struct map_entry *entry = map_find(&store->dictionaries, name);
  struct shared *shared = entry != NULL ? MAP_OWNER(entry, struct shared, entry) : NULL;
  size_t bytes = sizeof *shared + sizeof(struct map_entry *) + name.len;
  if (shared == NULL && has_room(store, bytes, 0, clock_now_ms())) {
    shared = mem_alloc_zero(sizeof *shared + name.len);
    shared->store = store;
    map_init(&shared->items);
    memcpy(shared->name, name.data, name.len);
    map_insert(&store->dictionaries, &shared->entry, slice_of(shared->name, name.len));
    store->bytes += bytes;
  }
  pthread_mutex_unlock(&store->lock);
  return shared;
}

shared_value shared_get(struct shared *shared, slice key, struct buf *out) {
  shared_value value = {.type = SHARED_NONE};
  buf_clear(out);
  pthread_mutex_lock(&shared->store->lock);
  const struct item *item = find(shared, key, clock_now_ms());
  if (item != NULL) {
    value = (shared_value){.type = item->type, .number = item->number, .boolean = item->boolean};
    if (item->type == SHARED_STRING) {
      REQUIRE(buf_append(out, slice_of(item->string, item->string_len)));
      value.string = buf_peek(out);
    }
  }
  pthread_mutex_unlock(&shared->store->lock);
  return value;
}

shared_result shared_set(struct shared *shared, slice key, const shared_value *value,
                         uint64_t ttl_ms) {
  shared_result result = SHARED_OK;
  pthread_mutex_lock(&shared->store->lock);
  uint64_t now_ms = clock_now_ms();
  struct item *item = find(shared, key, now_ms);
  if (value->type != SHARED_NONE) {
    result = put(shared, key, item, value, ttl_ms, now_ms);
  } else if (item != NULL) {
    drop(shared, item);
  }
  pthread_mutex_unlock(&shared->store->lock);
  return result;
}

shared_result shared_add(struct shared *shared, slice key, const shared_value *value,
                         uint64_t ttl_ms) {
  shared_result result = SHARED_OK;
  pthread_mutex_lock(&shared->store->lock);
  uint64_t now_ms = clock_now_ms();
  if (find(shared, key, now_ms) != NULL) {
    result = SHARED_EXISTS;
  } else if (value->type != SHARED_NONE) {
    result = put(shared, key, NULL, value, ttl_ms, now_ms);
  }
  pthread_mutex_unlock(&shared->store->lock);
  return result;
}

shared_result shared_incr(struct shared *shared, slice key, double by, uint64_t ttl_ms,
                          double *result) {
  shared_result outcome = SHARED_OK;
  pthread_mutex_lock(&shared->store->lock);
  uint64_t now_ms = clock_now_ms();
  struct item *item = find(shared, key, now_ms);
  if (item == NULL) {
    shared_value value = {.type = SHARED_NUMBER, .number = by};
    outcome = put(shared, key, NULL, &value, ttl_ms, now_ms);
    *result = by;
  } else if (item->type == SHARED_NUMBER) {
    item->number += by;
    *result = item->number;
  } else {
    outcome = SHARED_NOT_NUMBER;
  }
  pthread_mutex_unlock(&shared->store->lock);
  return outcome;
}

bool shared_delete(struct shared *shared, slice key) {
  pthread_mutex_lock(&shared->store->lock);
  struct item *item = find(shared, key, clock_now_ms());
  if (item != NULL) drop(shared, item);
  pthread_mutex_unlock(&shared->store->lock);
  return item != NULL;
}

size_t shared_keys(struct shared *shared, slice prefix, size_t max,
                   void (*each)(void *context, slice key), void *context) {
  size_t count = 0;
  pthread_mutex_lock(&shared->store->lock);
  uint64_t now_ms = clock_now_ms();
  for (struct item *item = next_item(shared, NULL); item != NULL && count < max;
       item = next_item(shared, item)) {
    if (is_expired(item, now_ms) || !slice_has_prefix(item->entry.key, prefix)) continue;
    each(context, item->entry.key);
    count++;
  }
  pthread_mutex_unlock(&shared->store->lock);
  return count;
}

void shared_sweep(struct shared_store *store) {
  pthread_mutex_lock(&store->lock);
  sweep(store, clock_now_ms());
  pthread_mutex_unlock(&store->lock);
}

size_t shared_count_bytes(struct shared_store *store) {
  pthread_mutex_lock(&store->lock);
  size_t bytes = store->bytes;
  pthread_mutex_unlock(&store->lock);
  return bytes;
}
