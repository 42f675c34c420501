/* Tells when files may have changed, through the system's events on their directories.
 *
 * Directories are watched and not files, so that an editor's write-and-rename, a file that comes
 * and one that is deleted are seen alike; of a directory that is not there the nearest one above
 * that is. What a symbolic link stands for is watched, and so is the link. Of a tree all
 * directories are watched (file_tree.h) and any name in them counts. A burst of events is told
 * once, when it is over. What has really changed is for others to find out (sources.h, dev.h). The
 * main thread's. */
#ifndef PERIGEE_GATEWAY_WATCH_H
#define PERIGEE_GATEWAY_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/map.h"

struct watch {
  uv_loop_t *loop;
  uv_timer_t timer;       /* the burst is over when it fires */
  uint64_t began_ns;      /* the burst */
  struct map directories; /* that are watched, by path */
  struct map names; /* parts of the files' paths: other names in their directories count not */
  char **paths;     /* the files */
  size_t path_count;
  size_t path_capacity;
  char **trees;
  size_t tree_count;
  char *root; /* of the files below it all directories up to this one are watched */
  void (*on_change)(void *context);
  void *context;
  bool has_failed; /* the log says so */
  bool is_cut;     /* a tree has too many directories: the same */
};

/* `root` is the directory of the main script. */
void watch_init(struct watch *watch, uv_loop_t *loop, const char *root,
                void (*on_change)(void *context), void *context);
/* What is watched from now on: watch_forget, watch_add for each file, watch_add_tree for each
 * directory with all below it, watch_look. */
void watch_forget(struct watch *watch);
void watch_add(struct watch *watch, const char *path);
void watch_add_tree(struct watch *watch, const char *path);
void watch_look(struct watch *watch);
/* Nothing is told any more. The handles are closed by the loop's owner, after that watch_deinit. */
void watch_stop(struct watch *watch);
void watch_deinit(struct watch *watch);

#endif
