/* The files of one load: each is read once, by the worker that asks first, so that all workers load
 * the same text even while an editor writes.
 *
 * What was looked for and is not there is a source too: the load would be another one if it came.
 * When the load is over the texts go and what remains says whether a file has changed since.
 * Any thread. */
#ifndef PERIGEE_GATEWAY_SOURCES_H
#define PERIGEE_GATEWAY_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct sources;

struct sources *sources_new(void);
void sources_free(struct sources *sources);

/* Appends the whole file, as it was when it was first asked for, to `out` (NULL: it is only asked
 * whether it can be read). False, with a reason in `*error`, when it cannot. Once the texts are
 * forgotten each call reads the file anew. */
bool sources_read(struct sources *sources, const char *path, struct buf *out, const char **error);
void sources_forget_texts(struct sources *sources);

/* Line `number` (from 1) of a file that was read; data NULL where there is none. A path that begins
 * with "..." is the end of one, as Lua shortens it. Borrowed until sources_forget_texts. */
slice sources_line(struct sources *sources, slice path, unsigned number);

/* Whether a file was read for the first time since the last call: modules may be required late. */
bool sources_has_grown(struct sources *sources);
/* Calls `visit`, which must not ask for sources, for each file. */
void sources_for_each(struct sources *sources, void (*visit)(void *context, const char *path),
                      void *context);
/* Appends the paths of files that are not as they were when they were first read, to be told to
 * people: "main.lua, rooms/list.lua", but no more than a line has room for; `*unnamed` grows by how
 * many those are. Returns how many have changed. Those that are among `others` (may be NULL) too
 * are left out. */
size_t sources_changed(struct sources *sources, struct sources *others, struct buf *out,
                       size_t *unnamed);

#endif
