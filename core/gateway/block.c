#include "gateway/block.h"

#include "base/mem.h"

void block_writer_init(struct block_writer *writer) {
  *writer = (struct block_writer){0};
}

void block_writer_deinit(struct block_writer *writer) {
  for (int lane = 0; lane < BLOCK_LANES; lane++) {
    if (writer->lanes[lane] != NULL) block_release(writer->lanes[lane]);
  }
  REQUIRE(writer->pool.alive == writer->pool.free_count);
  for (uint32_t i = 0; i < writer->pool.free_count; i++) {
    mem_free(writer->pool.free[i]->marks);
    mem_free(writer->pool.free[i]);
  }
  block_writer_init(writer);
}

struct block *block_new(struct block_pool *pool, size_t capacity) {
  REQUIRE(capacity < UINT32_MAX);
  if (capacity <= BLOCK_BYTES && capacity > BLOCK_BYTES / 2 && pool->free_count > 0) {
    struct block *block = pool->free[--pool->free_count];
    block->references = 1;
    block->used = 0;
    block->mark_count = 0;
    return block;
  }
  struct block *block = mem_alloc(sizeof *block + capacity);
  *block = (struct block){.pool = pool, .references = 1, .capacity = (uint32_t)capacity};
  pool->alive++;
  return block;
}

void block_free(struct block *block) {
  struct block_pool *pool = block->pool;
  size_t places = sizeof pool->free / sizeof pool->free[0];
  if (block->capacity == BLOCK_BYTES && pool->free_count < places) {
    pool->free[pool->free_count++] = block;
    return;
  }
  pool->alive--;
  mem_free(block->marks);
  mem_free(block);
}

struct block *block_begin(struct block_writer *writer, int lane, size_t len) {
  struct block *block = writer->lanes[lane];
  if (block != NULL) block_release(block);
  block = block_new(&writer->pool, len > BLOCK_BYTES ? len : BLOCK_BYTES);
  writer->lanes[lane] = block;
  return block;
}

void block_grow_marks(struct block *block) {
  block->mark_capacity = block->mark_capacity > 0 ? block->mark_capacity * 2 : 16;
  block->marks = mem_realloc(block->marks, block->mark_capacity * sizeof *block->marks);
}

const block_mark *block_find_mark(const struct block *block, uint32_t offset) {
  uint32_t low = 0, high = block->mark_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (block->marks[middle].end > offset) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low < block->mark_count ? &block->marks[low] : NULL;
}

void block_writer_recycle(struct block_writer *writer) {
  for (int lane = 0; lane < BLOCK_LANES; lane++) {
    struct block *block = writer->lanes[lane];
    if (block == NULL) continue;
    if (block->references == 1 && block->capacity == BLOCK_BYTES) {
      block->used = 0;
      block->mark_count = 0;
    } else if (block->references == 1 || block->used > BLOCK_BYTES / 2) {
      block_release(block);
      writer->lanes[lane] = NULL;
    }
  }
}
