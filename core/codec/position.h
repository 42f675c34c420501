/* Positions: a place in the order of publications, as text (the design's `epoch.number~...`).
 *
 * One part for each log that keeps publications: its epoch and the number of its head. The text is
 * what clients hand back as Last-Event-ID, `since` or a cursor, so whatever arrives is foreign
 * until proved otherwise: what is not well-formed claims nothing and is never an error. What a
 * part means, and whether its log still has what follows, belongs to the logs. */
#ifndef PERIGEE_CODEC_POSITION_H
#define PERIGEE_CODEC_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum {
  POSITION_EPOCH_BYTES = 6,
  POSITION_MAX_BYTES = 64, /* an id in every SSE event, a header value in a request */
  POSITION_MAX_PARTS = 7,  /* an eighth would not fit: 8 times "epoch1.1" and 7 times "~" are 71 */
};

typedef struct {
  char epoch[POSITION_EPOCH_BYTES]; /* of [0-9A-Za-z], no NUL */
  uint64_t number;
} position_part;

/* Writes the text, no NUL behind it. Returns its length, or 0 when there are no parts, when they
 * do not fit, or when an epoch has other characters than it may have. */
size_t position_encode(const position_part *parts, size_t count, char out[POSITION_MAX_BYTES]);

/* Reads the well-formed parts of `text`, at most `max` of them, and returns how many. Parts that
 * are ill-formed, or whose number does not fit 64 bits, are left out; text that is too long has
 * none. */
int position_decode(slice text, position_part *out, size_t max);

/* The number of the first well-formed part with this epoch; false if there is none. */
bool position_find(slice text, const char epoch[POSITION_EPOCH_BYTES], uint64_t *number);

#endif
