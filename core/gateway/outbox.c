#include "gateway/outbox.h"

#include "base/mem.h"
#include "gateway/encoding.h"

enum {
  SLICES_A_WRITE = 64,
  WRITE_BYTES_MAX = 1 << 30, /* a write's result is an int */
  QUEUE_ITEMS = 4,           /* a queue's places at first */
  WRITES_A_FLUSH = 16,       /* of a source's pieces, before others get their turn */
  OWN_BYTES_MIN = 1024,
  REST_BYTES = 64 * 1024, /* what a full stream is given at a time: it can no longer be dropped */
};

typedef enum { OUTBOX_BLOCK, OUTBOX_MESSAGE, OUTBOX_SOURCE } outbox_item_kind;

typedef struct {
  outbox_item_kind kind;
  struct block *block;     /* one reference; for a source what was pulled last, or NULL */
  struct message *message; /* OUTBOX_MESSAGE: one reference */
  struct source *source;   /* OUTBOX_SOURCE: owned */
  const char *data;        /* what is left of the bytes */
  size_t len;
  const char *begin; /* where the bytes began: a frame's beginning */
} outbox_item;

/* There while it has items or a rest is under way. */
struct outbox_queue {
  size_t bytes; /* in block and message items */
  uint32_t first;
  uint32_t count;
  uint32_t capacity;
  uint32_t owned; /* of the items, from the first: those whose bytes are this outbox's own */
  uint32_t source_count;
  uint32_t in_flight;  /* bytes of the rest under way; until it is done nothing is written */
  outbox_item items[]; /* items[first .. first + count) */
};

void outbox_init(struct outbox *outbox, const struct outbox_events *events, struct stream *stream) {
  *outbox = (struct outbox){.events = events, .stream = stream, .is_awaited = true};
}

size_t outbox_queue_bytes(const struct outbox_queue *queue) {
  return queue->bytes + queue->in_flight;
}

bool outbox_has_source(const struct outbox *outbox) {
  return outbox->queue != NULL && outbox->queue->source_count > 0;
}

static void free_item(outbox_item *item) {
  if (item->block != NULL) block_release(item->block);
  if (item->message != NULL) message_release(item->message);
  if (item->source != NULL) item->source->ops->free(item->source);
}

static outbox_item *item_at(struct outbox_queue *queue, uint32_t index) {
  return &queue->items[queue->first + index];
}

static void drop_first(struct outbox_queue *queue) {
  if (item_at(queue, 0)->kind == OUTBOX_SOURCE) queue->source_count--;
  free_item(item_at(queue, 0));
  if (queue->owned > 0) queue->owned--;
  queue->first++;
  queue->count--;
}

static void drop_from(struct outbox_queue *queue, uint32_t index) {
  for (uint32_t i = index; i < queue->count; i++) {
    outbox_item *item = item_at(queue, i);
    if (item->kind == OUTBOX_SOURCE) {
      queue->source_count--;
    } else {
      queue->bytes -= item->len;
    }
    free_item(item);
  }
  queue->count = index;
  if (queue->owned > index) queue->owned = index;
}

static outbox_item block_item(struct block *block, const char *data, size_t len) {
  return (outbox_item){OUTBOX_BLOCK, block, NULL, NULL, data, len, data};
}

/* The outbox's queue, made of its slice when there is none yet. To be followed by settle where
 * nothing is pushed. */
static struct outbox_queue *queue_of(struct outbox *outbox) {
  if (outbox->queue != NULL) return outbox->queue;
  struct outbox_queue *queue = mem_alloc(sizeof *queue + QUEUE_ITEMS * sizeof queue->items[0]);
  *queue = (struct outbox_queue){.capacity = QUEUE_ITEMS};
  if (outbox->block != NULL) {
    queue->items[0] = block_item(outbox->block, outbox->block->data + outbox->at, outbox->len);
    queue->count = 1;
    queue->bytes = outbox->len;
    outbox->block = NULL;
    outbox->len = 0;
  }
  outbox->queue = queue;
  return queue;
}

/* A queue that has nothing left goes. */
static void settle(struct outbox *outbox) {
  if (outbox->queue->count > 0 || outbox->queue->in_flight > 0) return;
  mem_free(outbox->queue);
  outbox->queue = NULL;
}

static void drop_all(struct outbox *outbox) {
  if (outbox->block != NULL) block_release(outbox->block);
  outbox->block = NULL;
  outbox->len = 0;
  if (outbox->queue == NULL) return;
  drop_from(outbox->queue, 0);
  mem_free(outbox->queue);
  outbox->queue = NULL;
}

void outbox_deinit(struct outbox *outbox) {
  REQUIRE(outbox->dirty_place == 0);
  drop_all(outbox);
  outbox->stream = NULL;
}

void outbox_take(struct outbox *outbox, struct outbox *from) {
  REQUIRE(outbox_is_empty(outbox) && from->dirty_place == 0);
  const struct outbox_events *events = outbox->events;
  *outbox = *from;
  outbox->events = events;
  outbox_init(from, from->events, NULL);
}

static outbox_item *push(struct outbox *outbox) {
  struct outbox_queue *queue = queue_of(outbox);
  if (queue->first + queue->count == queue->capacity) {
    if (queue->first > 0) {
      memmove(queue->items, item_at(queue, 0), queue->count * sizeof queue->items[0]);
      queue->first = 0;
    } else {
      queue->capacity *= 2;
      queue = mem_realloc(queue, sizeof *queue + queue->capacity * sizeof queue->items[0]);
      outbox->queue = queue;
    }
  }
  return item_at(queue, queue->count++);
}

void outbox_queue_block(struct outbox *outbox, struct block *block, uint32_t at, uint32_t len) {
  const char *data = block->data + at;
  struct outbox_queue *queue = queue_of(outbox);
  queue->bytes += len;
  if (queue->count > 0) {
    outbox_item *last = item_at(queue, queue->count - 1);
    if (last->kind == OUTBOX_BLOCK && last->block == block && last->data + last->len == data) {
      last->len += len;
      return;
    }
  }
  *push(outbox) = block_item(block_retain(block), data, len);
}

void outbox_push_message(struct outbox *outbox, struct message *message, slice bytes) {
  queue_of(outbox)->bytes += bytes.len;
  *push(outbox) = (outbox_item){
      OUTBOX_MESSAGE, NULL, message_retain(message), NULL, bytes.data, bytes.len, bytes.data};
}

void outbox_push_source(struct outbox *outbox, struct source *source) {
  queue_of(outbox)->source_count++;
  *push(outbox) = (outbox_item){OUTBOX_SOURCE, NULL, NULL, source, NULL, 0, NULL};
}

/* Makes the first item one with bytes, if there are any. */
static void pull_first(struct outbox_queue *queue) {
  while (queue->count > 0) {
    outbox_item *item = item_at(queue, 0);
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
    drop_first(queue);
  }
}

/* The bytes that one write can take: up to a source that still has to be pulled. */
static unsigned gather(struct outbox_queue *queue, uv_buf_t slices[SLICES_A_WRITE], size_t *total) {
  unsigned count = 0;
  *total = 0;
  for (uint32_t i = 0; i < queue->count && count < SLICES_A_WRITE; i++) {
    outbox_item *item = item_at(queue, i);
    size_t len = item->len < WRITE_BYTES_MAX - *total ? item->len : WRITE_BYTES_MAX - *total;
    if (len > 0) {
      slices[count++] = uv_buf_init((char *)(uintptr_t)item->data, (unsigned)len);
      *total += len;
    }
    if (item->kind == OUTBOX_SOURCE || len < item->len) break;
  }
  return count;
}

static void consume(struct outbox_queue *queue, size_t count) {
  while (queue->count > 0) {
    outbox_item *item = item_at(queue, 0);
    size_t taken = count < item->len ? count : item->len;
    item->data += taken;
    item->len -= taken;
    count -= taken;
    if (item->kind != OUTBOX_SOURCE) queue->bytes -= taken;
    if (item->len > 0 || item->kind == OUTBOX_SOURCE) return;
    drop_first(queue);
  }
}

/* Hands the stream the first bytes to write when it can. */
static void push_rest(struct outbox *outbox) {
  struct outbox_queue *queue = outbox->queue;
  char *rest = mem_alloc(REST_BYTES);
  size_t len = 0;
  pull_first(queue);
  while (queue->count > 0 && len < REST_BYTES) {
    outbox_item *item = item_at(queue, 0);
    if (item->len == 0) break;
    size_t part = item->len < REST_BYTES - len ? item->len : REST_BYTES - len;
    memcpy(rest + len, item->data, part);
    len += part;
    consume(queue, part);
  }
  queue->in_flight = (uint32_t)len;
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
static void own_all(struct outbox_queue *queue) {
  uint32_t kept = queue->owned;
  for (uint32_t i = kept; i < queue->count; i++) {
    outbox_item item = *item_at(queue, i);
    if (item.kind == OUTBOX_BLOCK && item.block->references > 1 &&
        item.block->capacity <= BLOCK_BYTES) {
      if (kept > 0 && append_to(item_at(queue, kept - 1), &item)) continue;
      size_t room = queue->bytes > OWN_BYTES_MIN ? queue->bytes : OWN_BYTES_MIN;
      own_item(&item, room < BLOCK_BYTES ? room : BLOCK_BYTES);
    }
    *item_at(queue, kept++) = item;
  }
  queue->count = kept;
  queue->owned = kept;
}

static void blocked(struct outbox *outbox) {
  own_all(outbox->queue);
  if (outbox->events->on_blocked != NULL) outbox->events->on_blocked(outbox);
}

static outbox_result flush_queue(struct outbox *outbox) {
  struct outbox_queue *queue = queue_of(outbox);
  if (queue->in_flight > 0) {
    blocked(outbox);
    return OUTBOX_TRIED;
  }
  for (int writes = 0; writes < WRITES_A_FLUSH; writes++) {
    pull_first(queue);
    uv_buf_t slices[SLICES_A_WRITE];
    size_t total;
    unsigned count = gather(queue, slices, &total);
    if (count == 0) {
      settle(outbox);
      outbox->events->on_flushed(outbox);
      return OUTBOX_TRIED;
    }
    int taken = stream_write_slices(outbox->stream, slices, count);
    if (taken < 0) {
      outbox->events->on_broken(outbox, taken);
      return OUTBOX_TRIED;
    }
    consume(queue, (size_t)taken);
    if ((size_t)taken < total) {
      push_rest(outbox);
      blocked(outbox);
      return OUTBOX_TRIED;
    }
  }
  return OUTBOX_HAS_MORE;
}

/* There is no stream. What goes on waiting shall not pin the blocks of this turn. */
static void gathered(struct outbox *outbox) {
  if (outbox->events->on_gathered == NULL) {
    drop_all(outbox);
    return;
  }
  outbox->events->on_gathered(outbox);
  if (outbox->stream == NULL && !outbox_is_empty(outbox)) own_all(queue_of(outbox));
}

/* The general case, after `taken` bytes of a slice. Not inlined: it needs a large frame, and most
 * flushes none. */
__attribute__((noinline)) static outbox_result flush_rest(struct outbox *outbox, int taken) {
  if (outbox->stream == NULL) {
    gathered(outbox);
    return OUTBOX_TRIED;
  }
  /* An error is told again by the next write. */
  if (taken > 0) consume(queue_of(outbox), (size_t)taken);
  return flush_queue(outbox);
}

outbox_result outbox_flush(struct outbox *outbox) {
  struct block *block = outbox->block;
  if (__builtin_expect(block == NULL || outbox->stream == NULL, 0)) return flush_rest(outbox, 0);
  int taken = stream_write(outbox->stream, block->data + outbox->at, outbox->len);
  if (__builtin_expect(taken != (int)outbox->len, 0)) return flush_rest(outbox, taken);
  outbox->block = NULL;
  outbox->len = 0;
  block_release(block);
  if (outbox->is_awaited) outbox->events->on_flushed(outbox);
  return OUTBOX_WRITTEN;
}

outbox_result outbox_on_writable(struct outbox *outbox, int error) {
  queue_of(outbox)->in_flight = 0;
  if (error < 0) {
    outbox->events->on_broken(outbox, error);
    return OUTBOX_TRIED;
  }
  return outbox_flush(outbox);
}

struct source *outbox_peek_last_source(const struct outbox *outbox) {
  struct outbox_queue *queue = outbox->queue;
  if (queue == NULL || queue->count == 0) return NULL;
  const outbox_item *last = item_at(queue, queue->count - 1);
  return last->block == NULL ? last->source : NULL;
}

slice outbox_peek_message(struct outbox *outbox) {
  slice none = {NULL, 0};
  if (outbox_is_empty(outbox)) return none;
  struct outbox_queue *queue = queue_of(outbox);
  pull_first(queue);
  settle(outbox);
  if (outbox->queue == NULL) return none;
  const outbox_item *item = item_at(queue, 0);
  if (item->kind == OUTBOX_MESSAGE) return slice_of(item->data, item->len);
  uint32_t at = (uint32_t)(item->data - item->block->data);
  return slice_of(item->data, block_find_mark(item->block, at)->end - at);
}

void outbox_drop_message(struct outbox *outbox, slice message) {
  consume(outbox->queue, message.len);
  settle(outbox);
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
  if (outbox_is_empty(outbox)) return;
  struct outbox_queue *queue = queue_of(outbox);
  if (queue->count == 0) return; /* a rest alone */
  outbox_item *first = item_at(queue, 0);
  size_t begun = begun_bytes(first);
  limit_to_item(first, begun, position);
  for (uint32_t i = 1; i < queue->count; i++) limit_to_item(item_at(queue, i), 0, position);
  if (begun == 0) {
    drop_from(queue, 0);
    settle(outbox);
    return;
  }
  drop_from(queue, 1);
  if (first->kind == OUTBOX_SOURCE) {
    /* What was pulled stays as a block; the source has nothing more to say. */
    first->source->ops->free(first->source);
    first->source = NULL;
    first->kind = OUTBOX_BLOCK;
    queue->source_count--;
    queue->bytes += first->len;
  }
  queue->bytes -= first->len - begun;
  first->len = begun;
}
