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
  struct replay *merged; /* owned; NULL: none */
};

static struct replay *replay_of(struct source *source) {
  return CONTAINER_OF(source, struct replay, source);
}

/* The one among those merged whose next message is the earliest; it has none when all are done. */
static struct replay *find_earliest(struct replay *replay) {
  struct replay *earliest = replay;
  while ((replay = replay->merged) != NULL) {
    if (replay->next == NULL) continue;
    bool is_earlier = earliest->next == NULL || replay->next->release < earliest->next->release;
    if (is_earlier) earliest = replay;
  }
  return earliest;
}

static struct block *pull(struct source *source) {
  struct block *block = NULL;
  struct replay *replay;
  while ((replay = find_earliest(replay_of(source)))->next != NULL) {
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
  struct replay *replay = find_earliest(replay_of(source));
  if (replay->next == NULL) return false;
  *mark = encoding_mark(replay->next);
  return true;
}

static void replay_free(struct source *source) {
  struct replay *replay = replay_of(source);
  while (replay != NULL) {
    struct replay *merged = replay->merged;
    cut_free(replay->cut);
    mem_free(replay);
    replay = merged;
  }
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
  *replay = (struct replay){{&ops}, worker, cut, first, encoding, is_unframed, NULL};
  return &replay->source;
}

void replay_merge(struct source *source, struct source *other) {
  struct replay *last = replay_of(source);
  while (last->merged != NULL) last = last->merged;
  last->merged = replay_of(other);
}
