#include "codec/sse.h"

#include "base/mem.h"

/* The text of one field, line by line. Where the next CR and LF stand is kept, so that text with
 * many of one and none of the other is not searched to its end again and again. */
struct lines {
  const char *at; /* NULL after the last line */
  const char *end;
  const char *next_cr;
  const char *next_lf;
};

static const char *find(const char *at, const char *end, char c) {
  const char *found = at < end ? memchr(at, c, (size_t)(end - at)) : NULL;
  return found != NULL ? found : end;
}

static struct lines lines_of(slice text) {
  const char *end = text.data != NULL ? text.data + text.len : NULL;
  return (struct lines){text.data, end, find(text.data, end, '\r'), find(text.data, end, '\n')};
}

/* False after the last line. Text that ends with a line's end has one more, empty line. */
static bool next_line(struct lines *lines, slice *line) {
  if (lines->at == NULL) return false;
  const char *stop = lines->next_cr < lines->next_lf ? lines->next_cr : lines->next_lf;
  *line = slice_of(lines->at, (size_t)(stop - lines->at));
  if (stop == lines->end) {
    lines->at = NULL;
    return true;
  }
  /* The end stands for "no more of these", so it is no LF behind a last CR. */
  bool is_crlf = stop == lines->next_cr && stop + 1 == lines->next_lf && stop + 1 < lines->end;
  lines->at = stop + (is_crlf ? 2 : 1);
  if (lines->next_cr < lines->at) lines->next_cr = find(lines->at, lines->end, '\r');
  if (lines->next_lf < lines->at) lines->next_lf = find(lines->at, lines->end, '\n');
  return true;
}

static bool is_one_line(slice text) {
  return find(text.data, text.data + text.len, '\0') == text.data + text.len &&
         find(text.data, text.data + text.len, '\r') == text.data + text.len &&
         find(text.data, text.data + text.len, '\n') == text.data + text.len;
}

static size_t lines_size(slice prefix, slice text) {
  struct lines lines = lines_of(text);
  size_t size = 0;
  for (slice line; next_line(&lines, &line);) size += prefix.len + line.len + 1;
  return size;
}

static char *put(char *out, slice bytes) {
  if (bytes.len > 0) memcpy(out, bytes.data, bytes.len);
  return out + bytes.len;
}

static char *put_lines(char *out, slice prefix, slice text) {
  struct lines lines = lines_of(text);
  for (slice line; next_line(&lines, &line);) {
    out = put(put(out, prefix), line);
    *out++ = '\n';
  }
  return out;
}

enum { RETRY_MAX_DIGITS = 10 /* 2^32 - 1 */ };

/* Into the end of `digits`. */
static slice retry_text(uint32_t retry_ms, char digits[RETRY_MAX_DIGITS]) {
  char *first = digits + RETRY_MAX_DIGITS;
  for (; retry_ms > 0; retry_ms /= 10) *--first = (char)('0' + retry_ms % 10);
  return slice_of(first, (size_t)(digits + RETRY_MAX_DIGITS - first));
}

/* Each prefix ends with the one space that the reader takes off, so that text which begins with a
 * space keeps it. */
static const slice COMMENT = {": ", 2};
static const slice RETRY = {"retry: ", 7};
static const slice EVENT = {"event: ", 7};
static const slice ID = {"id: ", 4};
static const slice DATA = {"data: ", 6};

size_t sse_encoded_size(const sse_event *event) {
  if (event->event.data != NULL && !is_one_line(event->event)) return 0;
  if (event->id.data != NULL && !is_one_line(event->id)) return 0;
  size_t size = lines_size(COMMENT, event->comment) + lines_size(EVENT, event->event) +
                lines_size(ID, event->id) + lines_size(DATA, event->data);
  char digits[RETRY_MAX_DIGITS];
  if (event->retry_ms > 0) size += RETRY.len + retry_text(event->retry_ms, digits).len + 1;
  return size > 0 ? size + 1 : 0;
}

char *sse_encode(const sse_event *event, char *out) {
  out = put_lines(out, COMMENT, event->comment);
  if (event->retry_ms > 0) {
    char digits[RETRY_MAX_DIGITS];
    out = put_lines(out, RETRY, retry_text(event->retry_ms, digits));
  }
  out = put_lines(out, EVENT, event->event);
  out = put_lines(out, ID, event->id);
  out = put_lines(out, DATA, event->data);
  *out++ = '\n';
  return out;
}

bool sse_append(struct buf *out, const sse_event *event) {
  size_t size = sse_encoded_size(event);
  char *place = size > 0 ? buf_reserve(out, size) : NULL;
  if (place == NULL) return false;
  sse_encode(event, place);
  out->len += size;
  return true;
}

static size_t hex_digits(size_t number) {
  size_t digits = 1;
  while (number >>= 4) digits++;
  return digits;
}

sse_extent sse_chunk_extent(size_t event_len) {
  size_t event_offset = hex_digits(event_len) + 2;
  return (sse_extent){event_offset, event_len, event_offset + event_len + 2};
}

sse_extent sse_encode_chunk(const sse_event *event, size_t event_len, char *out) {
  sse_extent extent = sse_chunk_extent(event_len);
  size_t left = event_len;
  for (char *digit = out + extent.event_offset - 2; digit > out; left >>= 4) {
    *--digit = "0123456789abcdef"[left & 15];
  }
  memcpy(out + extent.event_offset - 2, "\r\n", 2);
  char *end = sse_encode(event, out + extent.event_offset);
  REQUIRE(end == out + extent.event_offset + event_len);
  memcpy(end, "\r\n", 2);
  return extent;
}
