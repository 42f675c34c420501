#include "gateway/replay.h"

#include "base/mem.h"
#include "gateway/worker.h"

struct replay {
  struct source source;
  struct worker *worker;
  struct cut *cut;
  struct message *next; /* borrowed from the cut */
  encoding_kind encoding;
  bool is_unframed;
};

static struct block *pull(struct source *source) {
  struct replay *replay = CONTAINER_OF(source, struct replay, source);
  struct block *block = NULL;
  while (replay->next != NULL) {
    slice bytes =
        encoding_bytes(replay->worker, replay->next, replay->encoding, replay->is_unframed);
    if (block == NULL) {
      size_t capacity = bytes.len > BLOCK_BYTES ? bytes.len : BLOCK_BYTES;
      block = block_new(&replay->worker->blocks.pool, capacity);
    }
    if (bytes.len > block->capacity - block->used) break;
    memcpy(block->data + block->used, bytes.data, bytes.len);
    block_mark mark = encoding_mark(replay->next);
    block_commit(block, bytes.len, mark.kind, &mark.position);
    replay->next = cut_next(replay->cut);
  }
  return block;
}

static bool peek_mark(struct source *source, block_mark *mark) {
  struct replay *replay = CONTAINER_OF(source, struct replay, source);
  if (replay->next == NULL) return false;
  *mark = encoding_mark(replay->next);
  return true;
}

static void replay_free(struct source *source) {
  struct replay *replay = CONTAINER_OF(source, struct replay, source);
  cut_free(replay->cut);
  mem_free(replay);
}

static const struct source_ops ops = {.pull = pull, .peek_mark = peek_mark, .free = replay_free};

struct source *replay_new(struct worker *worker, struct cut *cut, encoding_kind encoding,
                          bool is_unframed) {
  struct message *first = cut_next(cut);
  if (first == NULL) {
    cut_free(cut);
    return NULL;
  }
  struct replay *replay = mem_alloc(sizeof *replay);
  *replay = (struct replay){{&ops}, worker, cut, first, encoding, is_unframed};
  return &replay->source;
}
