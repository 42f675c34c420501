#include "gateway/sources.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"

enum { SOURCE_BYTES = 16 * 1024 * 1024, READ_BYTES = 16 * 1024 };

struct source {
  struct map_entry entry;
  char *path;
  char *text; /* NULL: not there, cannot be read, or forgotten */
  size_t len;
  const char *error; /* why there is no text */
  uint64_t hash;     /* of the text; 0 without one */
};

/* Of names in the log: a tool may have written a thousand files. */
enum { NAMES_BYTES = 200 };

struct sources {
  pthread_mutex_t lock;
  struct map by_path;
  bool is_over;   /* the texts are forgotten */
  bool has_grown; /* since it was last asked */
};

/* False: `*error` says why. */
static bool read_file(const char *path, struct buf *out, const char **error) {
  /* A pipe is not waited for. */
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  struct stat about;
  if (fd < 0 || fstat(fd, &about) < 0) {
    *error = strerror(errno);
    if (fd >= 0) close(fd);
    return false;
  }
  *error = S_ISREG(about.st_mode) ? NULL : "is no file";
  ssize_t count = 1;
  while (*error == NULL && count != 0) {
    count = read(fd, buf_reserve(out, READ_BYTES), READ_BYTES);
    if (count > 0) out->len += (size_t)count;
    if (count < 0 && errno != EINTR) *error = strerror(errno);
    if (out->len >= SOURCE_BYTES) *error = "is too large";
  }
  close(fd);
  return *error == NULL;
}

static uint64_t hash_of(slice text) {
  uint64_t hash = map_hash(text);
  return hash != 0 ? hash : 1;
}

struct sources *sources_new(void) {
  struct sources *sources = mem_alloc_zero(sizeof *sources);
  pthread_mutex_init(&sources->lock, NULL);
  map_init(&sources->by_path);
  return sources;
}

void sources_free(struct sources *sources) {
  if (sources == NULL) return;
  struct map_entry *entry = map_next(&sources->by_path, NULL);
  while (entry != NULL) {
    struct source *source = MAP_OWNER(entry, struct source, entry);
    entry = map_next(&sources->by_path, entry);
    mem_free(source->path);
    mem_free(source->text);
    mem_free(source);
  }
  map_deinit(&sources->by_path);
  pthread_mutex_destroy(&sources->lock);
  mem_free(sources);
}

static struct source *find(struct sources *sources, slice path) {
  struct map_entry *entry = map_find(&sources->by_path, path);
  return entry != NULL ? MAP_OWNER(entry, struct source, entry) : NULL;
}

/* Under the lock, so that two workers do not read two versions. */
static struct source *add(struct sources *sources, slice path) {
  struct source *source = mem_alloc_zero(sizeof *source);
  source->path = mem_copy(path);
  struct buf text;
  buf_init(&text, 0);
  if (read_file(source->path, &text, &source->error)) {
    source->text = mem_copy(buf_peek(&text));
    source->len = text.len;
    source->hash = hash_of(buf_peek(&text));
  }
  buf_deinit(&text);
  map_insert(&sources->by_path, &source->entry, slice_of(source->path, path.len));
  sources->has_grown = true;
  return source;
}

static void forget_text(struct source *source) {
  mem_free(source->text);
  source->text = NULL;
}

bool sources_read(struct sources *sources, const char *path, struct buf *out, const char **error) {
  slice name = slice_of_string(path);
  pthread_mutex_lock(&sources->lock);
  struct source *source = find(sources, name);
  if (source == NULL) source = add(sources, name);
  bool is_known = !sources->is_over;
  bool is_there = source->text != NULL;
  *error = source->error;
  if (is_known && is_there && out != NULL) buf_append(out, slice_of(source->text, source->len));
  if (!is_known) forget_text(source);
  pthread_mutex_unlock(&sources->lock);
  if (is_known) return is_there;
  struct buf ignored;
  buf_init(&ignored, 0);
  is_there = read_file(path, out != NULL ? out : &ignored, error);
  buf_deinit(&ignored);
  return is_there;
}

void sources_forget_texts(struct sources *sources) {
  pthread_mutex_lock(&sources->lock);
  sources->is_over = true;
  for (struct map_entry *entry = map_next(&sources->by_path, NULL); entry != NULL;
       entry = map_next(&sources->by_path, entry)) {
    forget_text(MAP_OWNER(entry, struct source, entry));
  }
  pthread_mutex_unlock(&sources->lock);
}

static bool is_path(const struct source *source, slice path) {
  slice whole = slice_of_string(source->path);
  if (!slice_has_prefix(path, SLICE("..."))) return slice_is_equal(whole, path);
  slice tail = slice_skip(path, 3);
  return whole.len >= tail.len && slice_is_equal(slice_skip(whole, whole.len - tail.len), tail);
}

static slice line_of(const struct source *source, unsigned number) {
  slice none = {NULL, 0}, line = none;
  if (source->text == NULL) return none;
  slice rest = slice_of(source->text, source->len);
  for (; number > 0 && rest.data != NULL; number--) line = slice_split(&rest, '\n');
  return number == 0 ? line : none;
}

slice sources_line(struct sources *sources, slice path, unsigned number) {
  slice line = {NULL, 0};
  pthread_mutex_lock(&sources->lock);
  for (struct map_entry *entry = map_next(&sources->by_path, NULL);
       entry != NULL && line.data == NULL; entry = map_next(&sources->by_path, entry)) {
    const struct source *source = MAP_OWNER(entry, struct source, entry);
    if (is_path(source, path)) line = line_of(source, number);
  }
  pthread_mutex_unlock(&sources->lock);
  return line;
}

void sources_for_each(struct sources *sources, void (*visit)(void *context, const char *path),
                      void *context) {
  pthread_mutex_lock(&sources->lock);
  for (struct map_entry *entry = map_next(&sources->by_path, NULL); entry != NULL;
       entry = map_next(&sources->by_path, entry)) {
    visit(context, MAP_OWNER(entry, struct source, entry)->path);
  }
  pthread_mutex_unlock(&sources->lock);
}

bool sources_has_grown(struct sources *sources) {
  pthread_mutex_lock(&sources->lock);
  bool has_grown = sources->has_grown;
  sources->has_grown = false;
  pthread_mutex_unlock(&sources->lock);
  return has_grown;
}

static bool has_changed(const struct source *source) {
  struct buf text;
  const char *error;
  buf_init(&text, 0);
  bool is_there = read_file(source->path, &text, &error);
  uint64_t hash = is_there ? hash_of(buf_peek(&text)) : 0;
  buf_deinit(&text);
  return hash != source->hash;
}

static bool has(struct sources *sources, const char *path) {
  pthread_mutex_lock(&sources->lock);
  bool is_there = find(sources, slice_of_string(path)) != NULL;
  pthread_mutex_unlock(&sources->lock);
  return is_there;
}

size_t sources_changed(struct sources *sources, struct sources *others, struct buf *out,
                       size_t *unnamed) {
  size_t count = 0;
  pthread_mutex_lock(&sources->lock);
  for (struct map_entry *entry = map_next(&sources->by_path, NULL); entry != NULL;
       entry = map_next(&sources->by_path, entry)) {
    const struct source *source = MAP_OWNER(entry, struct source, entry);
    if ((others != NULL && has(others, source->path)) || !has_changed(source)) continue;
    count++;
    if (out->len > NAMES_BYTES) {
      (*unnamed)++;
      continue;
    }
    if (out->len > 0) buf_append(out, SLICE(", "));
    buf_append(out, slice_of_string(source->path));
  }
  pthread_mutex_unlock(&sources->lock);
  return count;
}
