/* A publication, or a message to one connection, as JSON: an envelope on a WebSocket, an event of a
 * long-poll's answer.
 *
 * Pure encoding into a buf. Who frames it, and what a position is, others know. */
#ifndef PERIGEE_CODEC_JSON_EVENT_H
#define PERIGEE_CODEC_JSON_EVENT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

typedef struct {
  slice topic; /* this and the next two are left out where they are empty */
  slice id;
  slice event;
  slice data;
  bool is_json; /* the data is JSON text: a value there, else a string */
} json_event;

/* Appends {"topic":…,"id":…,"event":…,"data":…}. Data that is not UTF-8 has no JSON form: null
 * stands for it. Topic, id and event are UTF-8. */
void json_event_encode(struct buf *out, const json_event *event);

#endif
