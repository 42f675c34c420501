#include "gateway/addresses.h"

#include "base/mem.h"

struct address {
  struct map_entry entry;
  uint64_t count;   /* connections that were welcome */
  uint64_t holders; /* they, and those that were not, until they are gone */
  size_t len;
  char text[];
};

void addresses_init(struct addresses *addresses, uint64_t max_count, uint64_t max_per_address) {
  *addresses = (struct addresses){.max_count = max_count, .max_per_address = max_per_address};
  pthread_mutex_init(&addresses->lock, NULL);
  map_init(&addresses->by_text);
}

void addresses_deinit(struct addresses *addresses) {
  REQUIRE(addresses->count == 0);
  map_deinit(&addresses->by_text);
  pthread_mutex_destroy(&addresses->lock);
}

struct address *addresses_enter(struct addresses *addresses, slice text, bool *is_welcome) {
  pthread_mutex_lock(&addresses->lock);
  struct map_entry *entry = map_find(&addresses->by_text, text);
  struct address *address;
  if (entry != NULL) {
    address = MAP_OWNER(entry, struct address, entry);
  } else {
    address = mem_alloc(sizeof *address + text.len);
    address->count = 0;
    address->holders = 0;
    address->len = text.len;
    memcpy(address->text, text.data, text.len);
    map_insert(&addresses->by_text, &address->entry, slice_of(address->text, text.len));
  }
  address->holders++;
  *is_welcome =
      addresses->count < addresses->max_count &&
      (address->count < addresses->max_per_address || slice_is_equal(text, SLICE("unix")));
  if (*is_welcome) {
    address->count++;
    addresses->count++;
  }
  pthread_mutex_unlock(&addresses->lock);
  return address;
}

void addresses_leave(struct addresses *addresses, struct address *address, bool was_welcome) {
  pthread_mutex_lock(&addresses->lock);
  if (was_welcome) {
    address->count--;
    addresses->count--;
  }
  bool is_last = --address->holders == 0;
  if (is_last) map_remove(&addresses->by_text, &address->entry);
  pthread_mutex_unlock(&addresses->lock);
  if (is_last) mem_free(address);
}

slice address_text(const struct address *address) {
  return slice_of(address->text, address->len);
}
