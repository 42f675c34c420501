#include "pubsub/inbox.h"

#include <string.h>

#include "base/mem.h"

enum { SMALLEST_CAPACITY = 64 };

void inbox_init(struct inbox *inbox, size_t max_entries, size_t max_bytes) {
  *inbox = (struct inbox){.max_entries = max_entries, .max_bytes = max_bytes};
  atomic_init(&inbox->is_filled, false);
}

void inbox_deinit(struct inbox *inbox) {
  for (size_t i = 0; i < inbox->count; i++) {
    if (inbox->entries[i].message != NULL) message_release(inbox->entries[i].message);
  }
  mem_free(inbox->entries);
  inbox->entries = NULL;
  inbox->count = inbox->capacity = inbox->bytes = 0;
}

static inbox_entry *grown(inbox_entry *entries, size_t *capacity, size_t count) {
  if (count <= *capacity) return entries;
  if (*capacity == 0) *capacity = SMALLEST_CAPACITY;
  while (*capacity < count) *capacity *= 2;
  return mem_realloc(entries, *capacity * sizeof(inbox_entry));
}

static void push(struct inbox *inbox, inbox_entry entry) {
  inbox->entries = grown(inbox->entries, &inbox->capacity, inbox->count + 1);
  inbox->entries[inbox->count++] = entry;
  atomic_store_explicit(&inbox->is_filled, true, memory_order_release);
}

bool inbox_push_message(struct inbox *inbox, struct message *message) {
  if (inbox->is_overrun) return false;
  size_t cost = message_cost_bytes(message);
  /* An empty inbox takes any message: a worker is woken by what is in its inbox, so one that is
   * overrun and empty would never be. */
  if (inbox->count > 0 &&
      (inbox->count >= inbox->max_entries || cost > inbox->max_bytes - inbox->bytes)) {
    inbox->is_overrun = true;
    return false;
  }
  inbox->bytes += cost < inbox->max_bytes - inbox->bytes ? cost : inbox->max_bytes - inbox->bytes;
  push(inbox, (inbox_entry){.message = message_retain(message)});
  return true;
}

void inbox_push_task(struct inbox *inbox, inbox_task task, void *context) {
  push(inbox, (inbox_entry){.task = task, .context = context});
}

void inbox_take(struct inbox *inbox, struct inbox_batch *batch) {
  if (batch->next == batch->count) {
    /* The usual case costs no copy: the two change their arrays. */
    inbox_entry *entries = batch->entries;
    size_t capacity = batch->capacity;
    *batch = (struct inbox_batch){
        .entries = inbox->entries, .count = inbox->count, .capacity = inbox->capacity};
    inbox->entries = entries;
    inbox->capacity = capacity;
  } else if (inbox->count > 0) {
    batch->entries = grown(batch->entries, &batch->capacity, batch->count + inbox->count);
    memcpy(batch->entries + batch->count, inbox->entries, inbox->count * sizeof(inbox_entry));
    batch->count += inbox->count;
  }
  inbox->count = 0;
  inbox->bytes = 0;
  inbox->is_overrun = false;
  atomic_store_explicit(&inbox->is_filled, false, memory_order_release);
}

void inbox_batch_push(struct inbox_batch *batch, inbox_entry entry) {
  batch->entries = grown(batch->entries, &batch->capacity, batch->count + 1);
  batch->entries[batch->count++] = entry;
}
