#include "gateway/outbox.h"

#include "base/mem.h"

enum {
  SLICES_A_WRITE = 64,
  WRITE_BYTES_MAX = 1 << 30, /* a write's result is an int */
  IDLE_ITEMS = 4,            /* an empty outbox keeps no more places than these */
  REST_BYTES = 64 * 1024, /* what a full stream is given at a time: it can no longer be dropped */
};

void outbox_init(struct outbox *outbox, const struct outbox_events *events, struct stream *stream) {
  *outbox = (struct outbox){.events = events, .stream = stream};
}

static void free_item(outbox_item *item) {
  if (item->block != NULL) block_release(item->block);
  if (item->message != NULL) message_release(item->message);
  if (item->source != NULL) item->source->ops->free(item->source);
}

static outbox_item *item_at(struct outbox *outbox, uint32_t index) {
  return &outbox->items[outbox->first + index];
}

static void drop_first(struct outbox *outbox) {
  free_item(item_at(outbox, 0));
  outbox->first++;
  if (--outbox->count > 0) return;
  outbox->first = 0;
  if (outbox->capacity > IDLE_ITEMS) {
    mem_free(outbox->items);
    outbox->items = NULL;
    outbox->capacity = 0;
  }
}

static void drop_from(struct outbox *outbox, uint32_t index) {
  for (uint32_t i = index; i < outbox->count; i++) {
    outbox_item *item = item_at(outbox, i);
    if (item->kind != OUTBOX_SOURCE) outbox->bytes -= item->len;
    free_item(item);
  }
  outbox->count = index;
}

void outbox_deinit(struct outbox *outbox) {
  REQUIRE(!outbox->is_dirty);
  drop_from(outbox, 0);
  mem_free(outbox->items);
  outbox->items = NULL;
  outbox->capacity = 0;
  outbox->first = 0;
  outbox->stream = NULL;
}

void outbox_take(struct outbox *outbox, struct outbox *from) {
  REQUIRE(outbox->count == 0 && !from->is_dirty);
  const struct outbox_events *events = outbox->events;
  *outbox = *from;
  outbox->events = events;
  outbox_init(from, from->events, NULL);
}

static outbox_item *push(struct outbox *outbox) {
  if (outbox->first + outbox->count == outbox->capacity) {
    if (outbox->first > 0) {
      memmove(outbox->items, item_at(outbox, 0), outbox->count * sizeof *outbox->items);
      outbox->first = 0;
    } else {
      outbox->capacity = outbox->capacity > 0 ? outbox->capacity * 2 : 2;
      outbox->items = mem_realloc(outbox->items, outbox->capacity * sizeof *outbox->items);
    }
  }
  return item_at(outbox, outbox->count++);
}

void outbox_push_block(struct outbox *outbox, struct block *block, const char *data, size_t len) {
  outbox->bytes += len;
  if (outbox->count > 0) {
    outbox_item *last = item_at(outbox, outbox->count - 1);
    if (last->kind == OUTBOX_BLOCK && last->block == block && last->data + last->len == data) {
      last->len += len;
      return;
    }
  }
  *push(outbox) = (outbox_item){OUTBOX_BLOCK, block_retain(block), NULL, NULL, data, len, data};
}

void outbox_push_message(struct outbox *outbox, struct message *message, slice bytes) {
  outbox->bytes += bytes.len;
  *push(outbox) = (outbox_item){
      OUTBOX_MESSAGE, NULL, message_retain(message), NULL, bytes.data, bytes.len, bytes.data};
}

void outbox_push_source(struct outbox *outbox, struct source *source) {
  *push(outbox) = (outbox_item){OUTBOX_SOURCE, NULL, NULL, source, NULL, 0, NULL};
}

/* Makes the first item one with bytes, if there are any. */
static void pull_first(struct outbox *outbox) {
  while (outbox->count > 0) {
    outbox_item *item = item_at(outbox, 0);
    if (item->len > 0) return;
    if (item->kind == OUTBOX_SOURCE) {
      if (item->block != NULL) block_release(item->block);
      item->block = item->source->ops->pull(item->source);
      if (item->block != NULL) {
        item->data = item->begin = item->block->data;
        item->len = item->block->used;
        continue;
      }
    }
    drop_first(outbox);
  }
}

/* The bytes that one write can take: up to a source that still has to be pulled. */
static unsigned gather(struct outbox *outbox, uv_buf_t slices[SLICES_A_WRITE], size_t *total) {
  unsigned count = 0;
  *total = 0;
  for (uint32_t i = 0; i < outbox->count && count < SLICES_A_WRITE; i++) {
    outbox_item *item = item_at(outbox, i);
    if (item->len > WRITE_BYTES_MAX - *total) break;
    if (item->len > 0) {
      slices[count++] = uv_buf_init((char *)(uintptr_t)item->data, (unsigned)item->len);
      *total += item->len;
    }
    if (item->kind == OUTBOX_SOURCE) break;
  }
  return count;
}

static void consume(struct outbox *outbox, size_t count) {
  while (outbox->count > 0) {
    outbox_item *item = item_at(outbox, 0);
    size_t taken = count < item->len ? count : item->len;
    item->data += taken;
    item->len -= taken;
    count -= taken;
    if (item->kind != OUTBOX_SOURCE) outbox->bytes -= taken;
    if (item->len > 0 || item->kind == OUTBOX_SOURCE) return;
    drop_first(outbox);
  }
}

/* Hands the stream the first bytes to write when it can. */
static void push_rest(struct outbox *outbox) {
  char *rest = mem_alloc(REST_BYTES);
  size_t len = 0;
  pull_first(outbox);
  while (outbox->count > 0 && len < REST_BYTES) {
    outbox_item *item = item_at(outbox, 0);
    if (item->len == 0) break;
    size_t part = item->len < REST_BYTES - len ? item->len : REST_BYTES - len;
    memcpy(rest + len, item->data, part);
    len += part;
    consume(outbox, part);
  }
  outbox->in_flight = (uint32_t)len;
  outbox->is_blocked = true;
  stream_push_rest(outbox->stream, rest, len);
}

static uint32_t message_begin(const struct block *block, const block_mark *mark) {
  return mark > block->marks ? mark[-1].end : 0;
}

/* Copies `item`'s part of a shared block into a block of its own, marks and all, from the beginning
 * of the message that is under way. */
static void own_item(outbox_item *item) {
  struct block *shared = item->block;
  uint32_t at = (uint32_t)(item->data - shared->data);
  uint32_t end = at + (uint32_t)item->len;
  const block_mark *mark = block_find_mark(shared, at);
  REQUIRE(mark != NULL);
  uint32_t begin = message_begin(shared, mark);
  struct block *own = block_new(shared->pool, end - begin);
  memcpy(own->data, shared->data + begin, end - begin);
  for (; mark < shared->marks + shared->mark_count && mark->end <= end; mark++) {
    block_commit(own, mark->end - begin - own->used, mark->kind, &mark->position);
  }
  item->block = own;
  item->begin = own->data;
  item->data = own->data + (at - begin);
  block_release(shared);
}

static void own_all(struct outbox *outbox) {
  for (uint32_t i = 0; i < outbox->count; i++) {
    outbox_item *item = item_at(outbox, i);
    if (item->kind == OUTBOX_BLOCK && item->block->references > 1) own_item(item);
  }
}

void outbox_flush(struct outbox *outbox) {
  if (outbox->stream == NULL) {
    drop_from(outbox, 0);
    return;
  }
  if (outbox->is_blocked) {
    own_all(outbox);
    return;
  }
  for (;;) {
    pull_first(outbox);
    uv_buf_t slices[SLICES_A_WRITE];
    size_t total;
    unsigned count = gather(outbox, slices, &total);
    if (count == 0) break;
    int taken = stream_write(outbox->stream, slices, count);
    if (taken < 0) {
      outbox->events->on_broken(outbox, taken);
      return;
    }
    consume(outbox, (size_t)taken);
    if ((size_t)taken < total) {
      push_rest(outbox);
      own_all(outbox);
      return;
    }
  }
  outbox->events->on_flushed(outbox);
}

void outbox_on_writable(struct outbox *outbox, int error) {
  outbox->in_flight = 0;
  outbox->is_blocked = false;
  if (error < 0) {
    outbox->events->on_broken(outbox, error);
    return;
  }
  outbox_flush(outbox);
}

/* How much of the first item belongs to a message that was begun. Items hold whole messages and
 * blocks know where each ends. */
static size_t begun_bytes(const outbox_item *item) {
  if (item->len == 0 || item->data == item->begin) return 0;
  if (item->block == NULL) return item->len;
  uint32_t offset = (uint32_t)(item->data - item->block->data);
  const block_mark *mark = block_find_mark(item->block, offset);
  if (mark == NULL) return item->len;
  return message_begin(item->block, mark) == offset ? 0 : mark->end - offset;
}

static bool find_lost(struct outbox *outbox, uint32_t index, size_t skip, block_mark *lost) {
  for (uint32_t i = index; i < outbox->count; i++, skip = 0) {
    const outbox_item *item = item_at(outbox, i);
    if (item->kind == OUTBOX_MESSAGE) {
      if (skip > 0) continue;
      *lost = (block_mark){.kind = item->message->number > 0 ? MARK_KEPT : MARK_LIVE};
      memcpy(lost->position.heads, item->message->heads, sizeof lost->position.heads);
      return true;
    }
    if (item->block != NULL && item->len > skip) {
      const struct block *block = item->block;
      uint32_t begin = (uint32_t)(item->data - block->data);
      const block_mark *mark = block_find_mark(block, (uint32_t)(begin + skip));
      const block_mark *end = block->marks + block->mark_count;
      for (; mark != NULL && mark < end && mark->end <= begin + item->len; mark++) {
        if (mark->kind == MARK_PRIVATE) continue;
        *lost = *mark;
        return true;
      }
    }
    if (item->kind == OUTBOX_SOURCE && item->source->ops->peek_mark(item->source, lost)) {
      return true;
    }
  }
  return false;
}

bool outbox_cut(struct outbox *outbox, block_mark *first_lost) {
  if (outbox->count == 0) return false;
  size_t begun = begun_bytes(item_at(outbox, 0));
  bool has_lost = find_lost(outbox, 0, begun, first_lost);
  outbox_item *item = item_at(outbox, 0);
  if (begun == 0) {
    drop_from(outbox, 0);
    return has_lost;
  }
  drop_from(outbox, 1);
  if (item->kind == OUTBOX_SOURCE) {
    /* What was pulled stays as a block; the source has nothing more to say. */
    item->source->ops->free(item->source);
    item->source = NULL;
    item->kind = OUTBOX_BLOCK;
    outbox->bytes += item->len;
  }
  outbox->bytes -= item->len - begun;
  item->len = begun;
  return has_lost;
}
