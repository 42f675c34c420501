#include "gateway/outbox.h"

#include "base/mem.h"
#include "gateway/encoding.h"

enum {
  SLICES_A_WRITE = 64,
  WRITE_BYTES_MAX = 1 << 30, /* a write's result is an int */
  IDLE_ITEMS = 4,            /* an empty outbox keeps no more places than these */
  WRITES_A_FLUSH = 16,       /* of a source's pieces, before others get their turn */
  OWN_BYTES_MIN = 1024,
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
  if (item_at(outbox, 0)->kind == OUTBOX_SOURCE) outbox->source_count--;
  free_item(item_at(outbox, 0));
  if (outbox->owned > 0) outbox->owned--;
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
    if (item->kind == OUTBOX_SOURCE) {
      outbox->source_count--;
    } else {
      outbox->bytes -= item->len;
    }
    free_item(item);
  }
  outbox->count = index;
  if (outbox->owned > index) outbox->owned = index;
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
      outbox->capacity = outbox->capacity > 0 ? outbox->capacity * 2 : 1;
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
  outbox->source_count++;
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
    size_t len = item->len < WRITE_BYTES_MAX - *total ? item->len : WRITE_BYTES_MAX - *total;
    if (len > 0) {
      slices[count++] = uv_buf_init((char *)(uintptr_t)item->data, (unsigned)len);
      *total += len;
    }
    if (item->kind == OUTBOX_SOURCE || len < item->len) break;
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

/* Copies the item's bytes, marks and all, behind what the block has; the block has room. */
static void copy_marked(struct block *own, const struct block *shared, uint32_t begin,
                        uint32_t end) {
  uint32_t base = own->used;
  memcpy(own->data + base, shared->data + begin, end - begin);
  const block_mark *last = shared->marks + shared->mark_count;
  for (const block_mark *mark = block_find_mark(shared, begin); mark < last && mark->end <= end;
       mark++) {
    block_commit(own, base + (mark->end - begin) - own->used, mark->kind, &mark->position);
  }
}

/* Appends a whole item to the outbox's last own block, if it ends there and has room. */
static bool append_to(outbox_item *last, const outbox_item *item) {
  if (last->kind != OUTBOX_BLOCK || last->block->references > 1) return false;
  struct block *own = last->block;
  if (last->data + last->len != own->data + own->used) return false;
  if (item->len > own->capacity - own->used || item->data != item->begin) return false;
  uint32_t begin = (uint32_t)(item->data - item->block->data);
  copy_marked(own, item->block, begin, begin + (uint32_t)item->len);
  last->len += item->len;
  block_release(item->block);
  return true;
}

/* Copies an item's part of a shared block into a block of its own, from the beginning of the
 * message that is under way. The block has room for `room` bytes more, for what comes next. */
static void own_item(outbox_item *item, size_t room) {
  struct block *shared = item->block;
  uint32_t at = (uint32_t)(item->data - shared->data);
  const block_mark *mark = block_find_mark(shared, at);
  REQUIRE(mark != NULL);
  uint32_t begin = message_begin(shared, mark);
  uint32_t end = at + (uint32_t)item->len;
  struct block *own = block_new(shared->pool, end - begin + room);
  copy_marked(own, shared, begin, end);
  item->block = own;
  item->begin = own->data;
  item->data = own->data + (at - begin);
  block_release(shared);
}

/* Makes the bytes of all items the outbox's own, in few blocks: a reader that takes nothing shall
 * cost little more than what waits for it. Blocks above the standard size hold one message and are
 * shared with nobody but their lane. */
static void own_all(struct outbox *outbox) {
  uint32_t kept = outbox->owned;
  for (uint32_t i = kept; i < outbox->count; i++) {
    outbox_item item = *item_at(outbox, i);
    if (item.kind == OUTBOX_BLOCK && item.block->references > 1 &&
        item.block->capacity <= BLOCK_BYTES) {
      if (kept > 0 && append_to(item_at(outbox, kept - 1), &item)) continue;
      size_t room = outbox->bytes > OWN_BYTES_MIN ? outbox->bytes : OWN_BYTES_MIN;
      own_item(&item, room < BLOCK_BYTES ? room : BLOCK_BYTES);
    }
    *item_at(outbox, kept++) = item;
  }
  outbox->count = kept;
  outbox->owned = kept;
}

static void blocked(struct outbox *outbox) {
  own_all(outbox);
  if (outbox->events->on_blocked != NULL) outbox->events->on_blocked(outbox);
}

/* What most flushes are: one slice of a block, taken whole. Returns whether it was that. */
static bool flush_slice(struct outbox *outbox) {
  outbox_item *item = item_at(outbox, 0);
  uv_buf_t slice_to_write = {.base = (char *)(uintptr_t)item->data, .len = item->len};
  int taken = stream_write(outbox->stream, &slice_to_write, 1);
  if (taken != (int)item->len) {
    /* The rest, or the error, is the general case's affair. */
    if (taken > 0) consume(outbox, (size_t)taken);
    return false;
  }
  outbox->bytes -= item->len;
  block_release(item->block);
  outbox->first = 0;
  outbox->count = 0;
  outbox->owned = 0;
  return true;
}

bool outbox_flush(struct outbox *outbox) {
  if (outbox->count == 1 && !outbox->is_blocked && outbox->stream != NULL &&
      outbox->items[outbox->first].kind == OUTBOX_BLOCK &&
      outbox->items[outbox->first].len <= WRITE_BYTES_MAX && flush_slice(outbox)) {
    outbox->events->on_flushed(outbox);
    return false;
  }
  if (outbox->stream == NULL) {
    drop_from(outbox, 0);
    return false;
  }
  if (outbox->is_blocked) {
    blocked(outbox);
    return false;
  }
  for (int writes = 0; writes < WRITES_A_FLUSH; writes++) {
    pull_first(outbox);
    uv_buf_t slices[SLICES_A_WRITE];
    size_t total;
    unsigned count = gather(outbox, slices, &total);
    if (count == 0) {
      outbox->events->on_flushed(outbox);
      return false;
    }
    int taken = stream_write(outbox->stream, slices, count);
    if (taken < 0) {
      outbox->events->on_broken(outbox, taken);
      return false;
    }
    consume(outbox, (size_t)taken);
    if ((size_t)taken < total) {
      push_rest(outbox);
      blocked(outbox);
      return false;
    }
  }
  return true;
}

bool outbox_on_writable(struct outbox *outbox, int error) {
  outbox->in_flight = 0;
  outbox->is_blocked = false;
  if (error < 0) {
    outbox->events->on_broken(outbox, error);
    return false;
  }
  return outbox_flush(outbox);
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

/* Lowers the position to before what an item has behind its first `skip` bytes. */
static void limit_to_item(const outbox_item *item, size_t skip, hub_position *position) {
  if (item->kind == OUTBOX_MESSAGE) {
    if (skip == 0) {
      block_mark mark = encoding_mark(item->message);
      position_limit(position, &mark);
    }
    return;
  }
  if (item->block != NULL && item->len > skip) {
    const struct block *block = item->block;
    uint32_t begin = (uint32_t)(item->data - block->data);
    const block_mark *mark = block_find_mark(block, begin + (uint32_t)skip);
    const block_mark *last = block->marks + block->mark_count;
    for (; mark != NULL && mark < last && mark->end <= begin + item->len; mark++) {
      position_limit(position, mark);
    }
  }
  block_mark next;
  if (item->kind == OUTBOX_SOURCE && item->source->ops->peek_mark(item->source, &next)) {
    position_limit(position, &next);
  }
}

void outbox_cut(struct outbox *outbox, hub_position *position) {
  if (outbox->count == 0) return;
  outbox_item *first = item_at(outbox, 0);
  size_t begun = begun_bytes(first);
  limit_to_item(first, begun, position);
  for (uint32_t i = 1; i < outbox->count; i++) limit_to_item(item_at(outbox, i), 0, position);
  if (begun == 0) {
    drop_from(outbox, 0);
    return;
  }
  drop_from(outbox, 1);
  if (first->kind == OUTBOX_SOURCE) {
    /* What was pulled stays as a block; the source has nothing more to say. */
    first->source->ops->free(first->source);
    first->source = NULL;
    first->kind = OUTBOX_BLOCK;
    outbox->source_count--;
    outbox->bytes += first->len;
  }
  outbox->bytes -= first->len - begun;
  first->len = begun;
}
