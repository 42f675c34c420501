#include "gateway/watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/file_tree.h"

enum {
  QUIET_MS = 50, /* editors write, rename and touch within a few milliseconds */
  BURST_MS = 500 /* who never stops writing is heard all the same */
};

struct directory {
  struct map_entry entry;
  uv_fs_event_t event;
  struct watch *watch;
  char *path;
  dev_t device; /* what the path was when it was opened */
  ino_t inode;
  bool is_wanted;
  bool is_in_tree; /* any name in it counts */
  bool is_stale;   /* it may have been deleted: another may have its path, and even its inode */
};

struct name {
  struct map_entry entry;
  char *text;
};

static struct directory *find_directory(const struct watch *watch, const char *path) {
  struct map_entry *entry = map_find(&watch->directories, slice_of_string(path));
  return entry != NULL ? MAP_OWNER(entry, struct directory, entry) : NULL;
}

/* --- events --- */

static void on_quiet(uv_timer_t *timer) {
  struct watch *watch = timer->data;
  watch_look(watch);
  watch->on_change(watch->context);
}

static void note_event(struct watch *watch) {
  uint64_t now_ns = clock_real_ns();
  bool is_first = !uv_is_active((uv_handle_t *)&watch->timer);
  if (is_first) watch->began_ns = now_ns;
  if (!is_first && now_ns - watch->began_ns >= BURST_MS * UINT64_C(1000000)) return;
  uv_timer_start(&watch->timer, on_quiet, QUIET_MS, 0);
}

/* An event of the directory itself. */
static bool is_own_name(const struct directory *directory, const char *name) {
  const char *slash = strrchr(directory->path, '/');
  return strcmp(slash != NULL ? slash + 1 : directory->path, name) == 0;
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
  struct directory *directory = event->data;
  (void)events;
  (void)status;
  /* Some systems do not tell which file it was. */
  if (name == NULL || is_own_name(directory, name)) directory->is_stale = true;
  bool is_known = name == NULL || directory->is_in_tree ||
                  map_find(&directory->watch->names, slice_of_string(name)) != NULL;
  if (is_known) note_event(directory->watch);
}

/* --- directories --- */

static void on_closed(uv_handle_t *handle) {
  struct directory *directory = handle->data;
  mem_free(directory->path);
  mem_free(directory);
}

static void close_directory(struct directory *directory) {
  map_remove(&directory->watch->directories, &directory->entry);
  uv_close((uv_handle_t *)&directory->event, on_closed);
}

static void open_directory(struct watch *watch, const char *path, const struct stat *status) {
  struct directory *directory = mem_alloc_zero(sizeof *directory);
  directory->watch = watch;
  directory->path = mem_copy(slice_of_string(path));
  directory->device = status->st_dev;
  directory->inode = status->st_ino;
  directory->is_wanted = true;
  uv_fs_event_init(watch->loop, &directory->event);
  directory->event.data = directory;
  map_insert(&watch->directories, &directory->entry, slice_of_string(directory->path));
  int error = uv_fs_event_start(&directory->event, on_event, path, 0);
  if (error == 0) return;
  if (!watch->has_failed) {
    log_warn("changes in %s are not seen: %s; SIGHUP reloads", path, uv_strerror(error));
  }
  watch->has_failed = true;
  close_directory(directory);
}

/* Whether the directory is there, and then watched. */
static bool want_directory(struct watch *watch, const char *path) {
  struct stat status;
  struct directory *directory = find_directory(watch, path);
  if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode)) return false;
  if (directory != NULL && (directory->is_stale || directory->device != status.st_dev ||
                            directory->inode != status.st_ino)) {
    close_directory(directory);
    directory = NULL;
  }
  if (directory != NULL) {
    directory->is_wanted = true;
  } else {
    open_directory(watch, path, &status);
  }
  return true;
}

/* Cuts the last part off; false when there is no other. */
static bool go_up(char *path) {
  char *slash = strrchr(path, '/');
  if (slash == NULL) {
    bool was_here = strcmp(path, ".") == 0;
    memcpy(path, ".", 2); /* a path has a character */
    return !was_here;
  }
  if (slash == path) {
    bool was_root = path[1] == '\0';
    path[1] = '\0';
    return !was_root;
  }
  *slash = '\0';
  return true;
}

static bool is_link(const char *path) {
  struct stat status;
  return lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

/* Whether it is the root or is below it. */
static bool is_in_root(const struct watch *watch, const char *path) {
  size_t len = strlen(watch->root);
  if (strcmp(watch->root, ".") == 0) return path[0] != '/';
  if (strncmp(path, watch->root, len) != 0) return false;
  return path[len] == '\0' || path[len] == '/' || strcmp(watch->root, "/") == 0;
}

static void want_directories_of(struct watch *watch, const char *file) {
  char *path = mem_copy(slice_of_string(file));
  bool is_below_root = is_in_root(watch, file);
  bool is_there = false;
  bool may_turn = false; /* the directory is a link: the one above tells when that changes */
  while ((is_below_root || !is_there || may_turn) && go_up(path)) {
    if (strcmp(path, watch->root) == 0) is_below_root = false;
    if (want_directory(watch, path)) is_there = true;
    may_turn = is_link(path);
  }
  mem_free(path);
}

static void want_in_tree(void *context, const char *path, const struct stat *info) {
  struct watch *watch = context;
  if (!S_ISDIR(info->st_mode) || !want_directory(watch, path)) return;
  struct directory *directory = find_directory(watch, path);
  if (directory != NULL) directory->is_in_tree = true;
}

static void want_tree(struct watch *watch, const char *root) {
  if (file_tree_walk(root, want_in_tree, watch) || watch->is_cut) return;
  watch->is_cut = true;
  log_warn("there is too much below %s: changes in %d directories and %d files are seen", root,
           FILE_TREE_DIRECTORIES, FILE_TREE_FILES);
}

void watch_look(struct watch *watch) {
  struct map_entry *entry;
  for (entry = map_next(&watch->directories, NULL); entry != NULL;
       entry = map_next(&watch->directories, entry)) {
    struct directory *directory = MAP_OWNER(entry, struct directory, entry);
    directory->is_wanted = directory->is_in_tree = false;
  }
  for (size_t i = 0; i < watch->path_count; i++) want_directories_of(watch, watch->paths[i]);
  for (size_t i = 0; i < watch->tree_count; i++) want_tree(watch, watch->trees[i]);
  entry = map_next(&watch->directories, NULL);
  while (entry != NULL) {
    struct directory *directory = MAP_OWNER(entry, struct directory, entry);
    entry = map_next(&watch->directories, entry);
    if (!directory->is_wanted) close_directory(directory);
  }
}

/* --- files --- */

static void add_name(struct watch *watch, slice text) {
  if (text.len == 0 || map_find(&watch->names, text) != NULL) return;
  struct name *name = mem_alloc_zero(sizeof *name);
  name->text = mem_copy(text);
  map_insert(&watch->names, &name->entry, slice_of(name->text, text.len));
}

static void add_path(struct watch *watch, const char *path) {
  if (watch->path_count == watch->path_capacity) {
    watch->path_capacity = watch->path_capacity > 0 ? watch->path_capacity * 2 : 16;
    watch->paths = mem_realloc(watch->paths, watch->path_capacity * sizeof *watch->paths);
  }
  watch->paths[watch->path_count++] = mem_copy(slice_of_string(path));
  slice rest = slice_of_string(path);
  while (rest.data != NULL) add_name(watch, slice_split(&rest, '/'));
}

void watch_add(struct watch *watch, const char *path) {
  add_path(watch, path);
  char *target = is_link(path) ? realpath(path, NULL) : NULL;
  if (target != NULL) add_path(watch, target);
  free(target);
}

void watch_add_tree(struct watch *watch, const char *path) {
  watch->trees = mem_realloc(watch->trees, (watch->tree_count + 1) * sizeof *watch->trees);
  watch->trees[watch->tree_count++] = mem_copy(slice_of_string(path));
}

void watch_forget(struct watch *watch) {
  for (size_t i = 0; i < watch->path_count; i++) mem_free(watch->paths[i]);
  watch->path_count = 0;
  for (size_t i = 0; i < watch->tree_count; i++) mem_free(watch->trees[i]);
  watch->tree_count = 0;
  struct map_entry *entry = map_next(&watch->names, NULL);
  while (entry != NULL) {
    struct name *name = MAP_OWNER(entry, struct name, entry);
    entry = map_next(&watch->names, entry);
    map_remove(&watch->names, &name->entry);
    mem_free(name->text);
    mem_free(name);
  }
}

/* --- life --- */

void watch_init(struct watch *watch, uv_loop_t *loop, const char *root,
                void (*on_change)(void *context), void *context) {
  *watch = (struct watch){.loop = loop, .on_change = on_change, .context = context};
  watch->root = mem_copy(slice_of_string(root));
  map_init(&watch->directories);
  map_init(&watch->names);
  uv_timer_init(loop, &watch->timer);
  watch->timer.data = watch;
}

void watch_stop(struct watch *watch) {
  uv_timer_stop(&watch->timer);
  watch_forget(watch);
  watch_look(watch);
}

void watch_deinit(struct watch *watch) {
  map_deinit(&watch->directories);
  map_deinit(&watch->names);
  mem_free(watch->paths);
  mem_free(watch->trees);
  mem_free(watch->root);
}
