/* Files below a directory as answers to requests: which file a path means, whether it has to be
 * sent, which part of it, and its bytes.
 *
 * Writes nothing: the caller makes the response's head and queues the source. A path never leads
 * out of its directory. Symbolic links are followed as long as they stay inside, by relative
 * targets; on a kernel without openat2 (before Linux 5.6) none below the directory is. Only regular
 * files are served.
 *
 * Opening and reading block the worker: files are expected on a local disk. Files are not to be
 * changed in place but replaced (written beside and renamed); one that shrinks while it is sent
 * cuts the connection, since the promised length cannot be honoured. */
#ifndef PERIGEE_GATEWAY_STATIC_FILE_H
#define PERIGEE_GATEWAY_STATIC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "gateway/exchange.h"
#include "gateway/request.h"

struct source;
struct worker;

enum {
  STATIC_FILE_HEADERS = 8,
  STATIC_FILE_TEXT_BYTES = 1024, /* a Location of one segment, all of it escaped, and a query */
};

/* What a request for a file is answered with.
 *
 *   200, 206  the file or a part of it
 *   301       a directory without its "/"; Location is there
 *   304, 412  If-None-Match and so on (http1_condition.h)
 *   404       no such file, or none that may be seen
 *   416       a range beyond the file's end; Content-Range is there
 *   503       no descriptor or memory for it now
 *
 * Only the first two, or `status` in place of 200, have content. The headers' values point into
 * `text` and static memory: the answer must not be copied while they are used. They are defaults
 * where a script's own header of the same name exists (Content-Type, Cache-Control). */
typedef struct {
  int status;
  response_header headers[STATIC_FILE_HEADERS];
  size_t header_count;
  char text[STATIC_FILE_TEXT_BYTES];
  size_t text_len;
  bool has_content;        /* the file, or a part: tells a 404 page that was found from no file */
  uint64_t content_length; /* of GET, for HEAD too */
  struct source *source;   /* the content, the caller's; NULL for HEAD and where there is none */
} static_file_answer;

/* Finds what `path`, as it is in a URL: percent-encoded, below the route's prefix, means. Empty or
 * ending in "/" it is a directory's index.html. Segments that are empty, begin with "." or hold an
 * encoded "/", a backslash or a NUL are 404.
 *
 * With --dev (dev.h) a page has one more line, no validators, and is sent whole.
 *
 * `status` is what a 200 becomes, for pages that go with an error; then conditions and ranges are
 * not looked at. Nor are they for methods other than GET and HEAD, nor ranges for HEAD. */
void static_file_find(struct worker *worker, const struct request *request, slice directory,
                      slice path, int status, static_file_answer *out);

/* The same for a path that a script gave: plain, not percent-encoded; hidden files may be named,
 * directories are 404. */
void static_file_find_named(struct worker *worker, const struct request *request, slice directory,
                            slice path, int status, static_file_answer *out);

/* Whom to tell when an answer's source ends before all the bytes it promised: at most once, from
 * within pull, thus while the outbox is being flushed. `on_short` has to close the stream there and
 * then (stream_close), before anything queued behind the source could be taken for the rest of it.
 * `owner` outlives the source. */
void static_file_watch(struct source *source, void (*on_short)(void *owner), void *owner);

#endif
