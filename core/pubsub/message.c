#include "pubsub/message.h"

#include <string.h>

#include "base/mem.h"
#include "pubsub/hub.h"

static atomic_uint_fast64_t alive;

struct message *message_new(slice event, slice data, unsigned flags) {
  struct message *message = mem_alloc(sizeof *message + event.len + MESSAGE_HEADROOM + data.len);
  memset(message, 0, sizeof *message);
  atomic_init(&message->references, 1);
  message->flags = flags;
  if (event.len > 0) memcpy(message->bytes, event.data, event.len);
  message->event = slice_of(message->bytes, event.len);
  char *at = message_data(message);
  if (data.data != NULL && data.len > 0) memcpy(at, data.data, data.len);
  message->data = slice_of(at, data.len);
  atomic_init(&message->is_removed, false);
  for (int kind = 0; kind < MESSAGE_ENCODINGS; kind++) {
    atomic_init(&message->encodings[kind], NULL);
  }
  atomic_fetch_add_explicit(&alive, 1, memory_order_relaxed);
  return message;
}

struct message *message_retain(struct message *message) {
  atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
  return message;
}

void message_release(struct message *message) {
  /* Acquire as well: the last one out must see what the others wrote before they left. */
  if (atomic_fetch_sub_explicit(&message->references, 1, memory_order_acq_rel) != 1) return;
  for (int kind = 0; kind < MESSAGE_ENCODINGS; kind++) {
    mem_free(message_find_encoding(message, kind));
  }
  if (message->topic != NULL) hub_topic_release(message->topic);
  mem_free(message);
  atomic_fetch_sub_explicit(&alive, 1, memory_order_relaxed);
}

struct encoding *message_push_encoding(struct message *message, int kind,
                                       struct encoding *encoding) {
  struct encoding *other = NULL;
  if (atomic_compare_exchange_strong_explicit(&message->encodings[kind], &other, encoding,
                                              memory_order_acq_rel, memory_order_acquire)) {
    return encoding;
  }
  mem_free(encoding);
  return other;
}

size_t message_cost_bytes(const struct message *message) {
  return sizeof *message + message->event.len + MESSAGE_HEADROOM + message->data.len;
}

uint64_t message_count(void) {
  return atomic_load_explicit(&alive, memory_order_relaxed);
}

uint64_t message_swap_count(uint64_t count) {
  return atomic_exchange(&alive, count);
}
