#include "codec/json_event.h"

#include "codec/json_encode.h"

static void append_text(struct buf *out, slice key, slice text) {
  if (text.len == 0) return;
  buf_append(out, key);
  json_encode_string(out, text);
  buf_append_char(out, ',');
}

void json_event_encode(struct buf *out, const json_event *event) {
  buf_append_char(out, '{');
  append_text(out, SLICE("\"topic\":"), event->topic);
  append_text(out, SLICE("\"id\":"), event->id);
  append_text(out, SLICE("\"event\":"), event->event);
  buf_append(out, SLICE("\"data\":"));
  if (event->is_json) {
    buf_append(out, event->data);
  } else if (json_encode_string(out, event->data) != JSON_ENCODED) {
    buf_append(out, SLICE("null"));
  }
  buf_append_char(out, '}');
}
