#include "gateway/secrets.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/random.h"

enum { SECRET_RANDOM_BYTES = 32 };

struct secret {
  struct map_entry entry;
  char *name;
  char *value;
  bool is_made;
};

static struct secret *secret_new(slice name) {
  struct secret *secret = mem_alloc_zero(sizeof *secret);
  secret->name = mem_copy(name);
  const char *given = getenv(secret->name);
  if (given != NULL && given[0] != '\0') {
    secret->value = mem_copy(slice_of_string(given));
    return secret;
  }
  unsigned char bytes[SECRET_RANDOM_BYTES];
  random_fill(bytes, sizeof bytes);
  secret->value = mem_alloc(2 * sizeof bytes + 1);
  for (size_t i = 0; i < sizeof bytes; i++) snprintf(secret->value + 2 * i, 3, "%02x", bytes[i]);
  secret->is_made = true;
  return secret;
}

void secrets_init(struct secrets *secrets) {
  pthread_mutex_init(&secrets->lock, NULL);
  map_init(&secrets->by_name);
}

void secrets_deinit(struct secrets *secrets) {
  struct map_entry *entry = map_next(&secrets->by_name, NULL);
  while (entry != NULL) {
    struct secret *secret = MAP_OWNER(entry, struct secret, entry);
    entry = map_next(&secrets->by_name, entry);
    mem_free(secret->name);
    mem_free(secret->value);
    mem_free(secret);
  }
  map_deinit(&secrets->by_name);
  pthread_mutex_destroy(&secrets->lock);
}

slice secrets_find(struct secrets *secrets, slice name, bool *is_made) {
  pthread_mutex_lock(&secrets->lock);
  struct map_entry *entry = map_find(&secrets->by_name, name);
  struct secret *secret;
  if (entry != NULL) {
    secret = MAP_OWNER(entry, struct secret, entry);
  } else {
    secret = secret_new(name);
    map_insert(&secrets->by_name, &secret->entry, slice_of(secret->name, name.len));
  }
  pthread_mutex_unlock(&secrets->lock);
  *is_made = secret->is_made;
  return slice_of_string(secret->value);
}
