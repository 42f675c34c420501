/* A replay: the source that feeds an outbox with what a topic's history holds, at the reader's
 * pace. */
#ifndef PERIGEE_GATEWAY_REPLAY_H
#define PERIGEE_GATEWAY_REPLAY_H

#include <stdbool.h>

#include "gateway/encoding.h"
#include "gateway/outbox.h"
#include "pubsub/history.h"

struct worker;

/* Takes over the cut. NULL, with the cut freed, when there is nothing in it. */
struct source *replay_new(struct worker *worker, struct cut *cut, encoding_kind encoding,
                          bool is_unframed);

/* Joins two replays of which nothing was pulled yet, to be read in release order. Takes `other`
 * over. */
void replay_merge(struct source *source, struct source *other);

#endif
