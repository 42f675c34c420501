#define _GNU_SOURCE
#include "gateway/static_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/url.h"
#include "codec/http1_condition.h"
#include "codec/http1_range.h"
#include "gateway/block.h"
#include "gateway/dev.h"
#include "gateway/gateway.h"
#include "gateway/media_type.h"
#include "gateway/outbox.h"
#include "gateway/worker.h"

enum {
  /* Not blocking, so that a FIFO hangs nobody; it is turned away once it is open. */
  FILE_FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
  /* A path of the longest kind, all of it escaped. */
  PATH_BYTES = 3 * PATH_MAX,
  /* openat2 gives EAGAIN when something above the file is renamed meanwhile. */
  OPEN_ATTEMPTS = 8,
};

/* --- the path --- */

/* Appends one segment to the file's name; false if there can be no such file to be seen. */
static bool append_segment(struct buf *name, slice segment, bool is_encoded) {
  if (name->len > 0 && !buf_append_char(name, '/')) return false;
  size_t begin = name->len;
  bool is_appended = is_encoded ? url_decode(segment, false, name) : buf_append(name, segment);
  slice plain = slice_skip(buf_peek(name), begin);
  if (!is_appended || plain.len == 0) return false;
  if (memchr(plain.data, '\0', plain.len) != NULL) return false;
  if (!is_encoded) {
    return !slice_is_equal(plain, SLICE(".")) && !slice_is_equal(plain, SLICE(".."));
  }
  return plain.data[0] != '.' && memchr(plain.data, '/', plain.len) == NULL &&
         memchr(plain.data, '\\', plain.len) == NULL;
}

static bool append_path(struct buf *name, slice path, bool is_encoded) {
  slice rest = path;
  do {
    if (!append_segment(name, slice_split(&rest, '/'), is_encoded)) return false;
  } while (rest.data != NULL);
  return true;
}

static bool has_slash_last(slice path) {
  return path.len > 0 && path.data[path.len - 1] == '/';
}

/* The file's name for a path of a URL; "." for the directory itself. */
static bool append_url_path(struct buf *name, slice path, bool is_directory) {
  slice segments = path;
  if (has_slash_last(path)) segments.len--;
  if (path.len > 0 && !append_path(name, segments, true)) return false;
  if (is_directory) return append_segment(name, SLICE("index.html"), true);
  return name->len > 0 || buf_append_char(name, '.');
}

/* --- opening --- */

/* Opens `name` below a directory one segment after the other, following no symbolic link. A
 * descriptor or a negative errno. */
static int walk_below(int directory, char *name) {
  int at = directory;
  for (;;) {
    char *slash = strchr(name, '/');
    if (slash != NULL) *slash = '\0';
    int flags = slash != NULL ? O_PATH | O_DIRECTORY | O_CLOEXEC : FILE_FLAGS;
    int next = openat(at, name, flags | O_NOFOLLOW);
    int result = next < 0 ? -errno : next;
    if (slash != NULL) *slash = '/';
    if (at != directory) close(at);
    if (slash == NULL || result < 0) return result;
    at = next;
    name = slash + 1;
  }
}

static int open_below(int directory, char *name) {
  struct open_how how = {.flags = FILE_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  for (int attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
    long file = syscall(SYS_openat2, directory, name, &how, sizeof how);
    if (file >= 0) return (int)file;
    if (errno != EAGAIN && errno != EINTR) break;
  }
  /* EPERM: a sandbox that does not know the call. */
  return errno == ENOSYS || errno == EPERM ? walk_below(directory, name) : -errno;
}

static int open_directory(slice path) {
  char *name = mem_copy(path);
  int directory = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int result = directory < 0 ? -errno : directory;
  mem_free(name);
  return result;
}

/* A descriptor of a regular file or a directory, or a negative errno. */
static int open_file(slice directory_path, char *name, struct stat *info) {
  int directory = open_directory(directory_path);
  if (directory < 0) return directory;
  int file = open_below(directory, name);
  close(directory);
  if (file < 0) return file;
  int error = fstat(file, info) < 0 ? -errno : 0;
  if (error == 0 && !S_ISREG(info->st_mode) && !S_ISDIR(info->st_mode)) error = -ENOENT;
  if (error == 0) return file;
  close(file);
  return error;
}

/* --- the bytes --- */

struct file_source {
  struct source source;
  struct block_pool *pool;
  struct block *first; /* what was read when it was found, or NULL */
  struct block *tail;  /* what follows the file: --dev's script tag, or NULL */
  int file;            /* -1 when all is read */
  uint64_t offset;     /* file[offset..end) is still to be read */
  uint64_t end;
  void (*on_short)(void *owner);
  void *owner;
};

static struct file_source *file_source_of(struct source *source) {
  return CONTAINER_OF(source, struct file_source, source);
}

/* The next bytes of the file; NULL at its end, and when it has no more than that. */
static struct block *read_block(struct file_source *source) {
  uint64_t left = source->end - source->offset;
  size_t wanted = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
  if (wanted == 0) return NULL;
  struct block *block = block_new(source->pool, wanted);
  size_t len = 0;
  while (len < wanted) {
    ssize_t count =
        pread(source->file, block->data + len, wanted - len, (off_t)(source->offset + len));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    len += (size_t)count;
  }
  if (len == 0) {
    block_release(block);
    return NULL;
  }
  block_commit(block, len, MARK_PRIVATE, NULL);
  source->offset += len;
  return block;
}

static struct block *file_source_pull(struct source *base) {
  struct file_source *source = file_source_of(base);
  struct block *block = source->first;
  source->first = NULL;
  if (block == NULL) block = read_block(source);
  if (block == NULL && source->offset < source->end && source->on_short != NULL) {
    log_warn("a file became shorter while it was sent; its connection is cut");
    void (*on_short)(void *owner) = source->on_short;
    source->on_short = NULL;
    on_short(source->owner);
  }
  if (block == NULL && source->offset == source->end) {
    block = source->tail;
    source->tail = NULL;
  }
  return block;
}

static bool file_source_peek_mark(struct source *source, block_mark *mark) {
  (void)source;
  (void)mark;
  return false;
}

static void file_source_free(struct source *base) {
  struct file_source *source = file_source_of(base);
  if (source->first != NULL) block_release(source->first);
  if (source->tail != NULL) block_release(source->tail);
  if (source->file >= 0) close(source->file);
  mem_free(source);
}

static const struct source_ops file_source_ops = {
    .pull = file_source_pull,
    .peek_mark = file_source_peek_mark,
    .free = file_source_free,
};

/* Takes over the descriptor and the tail. */
static struct source *file_source_new(struct block_pool *pool, int file, uint64_t offset,
                                      uint64_t len, struct block *tail) {
  struct file_source *source = mem_alloc(sizeof *source);
  *source = (struct file_source){.source = {&file_source_ops},
                                 .pool = pool,
                                 .tail = tail,
                                 .file = file,
                                 .offset = offset,
                                 .end = offset + len};
  /* What fits a block is read at once: most files hold no descriptor while they wait. */
  if (len <= BLOCK_BYTES) source->first = read_block(source);
  if (source->offset == source->end) {
    close(source->file);
    source->file = -1;
  }
  return &source->source;
}

void static_file_watch(struct source *source, void (*on_short)(void *owner), void *owner) {
  REQUIRE(source->ops == &file_source_ops);
  file_source_of(source)->on_short = on_short;
  file_source_of(source)->owner = owner;
}

/* --- the answer --- */

static void answer_status(static_file_answer *out, int status) {
  out->status = status;
  out->header_count = 0;
  out->text_len = 0;
  out->has_content = false;
  out->content_length = 0;
  out->source = NULL;
}

static void add_header(static_file_answer *out, slice name, slice value) {
  REQUIRE(out->header_count < STATIC_FILE_HEADERS);
  out->headers[out->header_count++] = (response_header){name, value};
}

/* Writes a value to the answer's text; its data is NULL if there is no room. */
__attribute__((format(printf, 2, 3))) static slice put_text(static_file_answer *out,
                                                            const char *format, ...) {
  char *at = out->text + out->text_len;
  size_t room = sizeof out->text - out->text_len;
  va_list arguments;
  va_start(arguments, format);
  int len = vsnprintf(at, room, format, arguments);
  va_end(arguments);
  if (len < 0 || (size_t)len >= room) return slice_of(NULL, 0);
  out->text_len += (size_t)len;
  return slice_of(at, (size_t)len);
}

static void answer_error(static_file_answer *out, int error, slice name) {
  bool is_ours = error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EIO;
  if (is_ours) log_warn("cannot open %.*s: %s", (int)name.len, name.data, strerror(-error));
  answer_status(out, is_ours ? 503 : 404);
}

/* To the same path with a "/". Relative to the last segment, so that no "//host" can come of it;
 * behind "./", so that a colon in it makes no scheme. */
static void answer_redirect(static_file_answer *out, const struct request *request) {
  slice path = request_path(request), query = request_query(request);
  size_t begin = path.len;
  while (begin > 0 && path.data[begin - 1] != '/') begin--;
  slice last = slice_skip(path, begin);
  answer_status(out, 301);
  slice location = put_text(out, "./%.*s/%s%.*s", (int)last.len, last.data,
                            query.len > 0 ? "?" : "", (int)query.len, query.data);
  if (location.data == NULL) {
    answer_status(out, 404);
  } else {
    add_header(out, SLICE("Location"), location);
  }
}

typedef struct {
  slice etag; /* in the answer's text */
  uint64_t modified_seconds;
  uint64_t now_seconds;
} validators;

/* The tag is strong: a change of the content changes size or time, or with a rename the inode. */
static validators put_validators(static_file_answer *out, const struct stat *info) {
  validators v = {.now_seconds = clock_wall_ms() / 1000};
  v.modified_seconds = info->st_mtim.tv_sec > 0 ? (uint64_t)info->st_mtim.tv_sec : 0;
  /* Never later than the answer itself (RFC 9110 section 8.8.2.1). */
  if (v.modified_seconds > v.now_seconds) v.modified_seconds = v.now_seconds;
  uint64_t modified_ns =
      (uint64_t)info->st_mtim.tv_sec * 1000000000 + (uint64_t)info->st_mtim.tv_nsec;
  v.etag = put_text(out, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"", modified_ns,
                    (uint64_t)info->st_size, (uint64_t)info->st_ino);
  char modified[CLOCK_HTTP_BYTES];
  clock_format_http(v.modified_seconds * 1000, modified);
  add_header(out, SLICE("ETag"), v.etag);
  add_header(out, SLICE("Last-Modified"), put_text(out, "%s", modified));
  /* May be kept, but is asked for anew each time: a file that was saved is seen at once. */
  add_header(out, SLICE("Cache-Control"), SLICE("no-cache"));
  return v;
}

/* 206 or 416 where a range asks for it. */
static void answer_range(static_file_answer *out, const struct http1_head *head, uint64_t size,
                         uint64_t *offset, uint64_t *len) {
  slice value;
  if (!http1_head_find(head, SLICE("range"), &value)) return;
  http1_range_result result = http1_range_decode(value, size, offset, len);
  if (result == HTTP1_RANGE_WHOLE) return;
  bool is_part = result == HTTP1_RANGE_PART;
  if (!is_part) answer_status(out, 416);
  if (is_part) out->status = 206;
  char text[HTTP1_CONTENT_RANGE_BYTES];
  http1_range_encode(*offset, is_part ? *len : 0, size, text);
  add_header(out, SLICE("Content-Range"), put_text(out, "%s", text));
}

/* What a plain 200 becomes by the request's conditions and range. */
static void answer_conditions(static_file_answer *out, const struct http1_head *head,
                              const struct stat *info, uint64_t *offset, uint64_t *len) {
  bool is_get = head != NULL && head->method == HTTP1_METHOD_GET;
  bool is_head = head != NULL && head->method == HTTP1_METHOD_HEAD;
  validators v = put_validators(out, info);
  if (!is_get && !is_head) return;
  switch (http1_condition_judge(head, v.etag, v.modified_seconds)) {
    case HTTP1_CONDITION_NOT_MODIFIED:
      out->status = 304;
      return;
    case HTTP1_CONDITION_FAILED:
      answer_status(out, 412);
      return;
    case HTTP1_CONDITION_HOLDS:
      break;
  }
  add_header(out, SLICE("Accept-Ranges"), SLICE("bytes"));
  /* Section 14.2: ranges are defined for GET alone. */
  if (is_get && http1_condition_allows_range(head, v.etag, v.modified_seconds, v.now_seconds)) {
    answer_range(out, head, (uint64_t)info->st_size, offset, len);
  }
}

/* With --dev: a page that is to be shown anew when it changes. */
static bool is_dev_page(const struct worker *worker, const struct request *request, slice type) {
  return gateway_config(worker->gateway)->is_dev && slice_has_prefix(type, SLICE("text/html")) &&
         dev_is_page(request);
}

/* It goes with a tag at its end, and nobody keeps it. */
static struct block *add_tail(static_file_answer *out, struct worker *worker) {
  struct buf tag;
  buf_init(&tag, 0);
  dev_append_tag(worker->gateway, &tag);
  struct block *tail = block_new(&worker->blocks.pool, tag.len);
  memcpy(tail->data, tag.data, tag.len);
  block_commit(tail, tag.len, MARK_PRIVATE, NULL);
  add_header(out, SLICE("Cache-Control"), SLICE("no-store"));
  out->content_length += tag.len;
  buf_deinit(&tag);
  return tail;
}

/* Takes over the descriptor. */
static void answer_file(static_file_answer *out, struct worker *worker,
                        const struct request *request, int file, const struct stat *info,
                        slice name, int status) {
  uint64_t offset = 0, len = (uint64_t)info->st_size;
  const struct http1_head *head = request_head(request);
  slice type = media_type_find(name);
  bool is_dev = is_dev_page(worker, request, type);
  answer_status(out, status);
  if (status == 200 && !is_dev) answer_conditions(out, head, info, &offset, &len);
  out->has_content = out->status == status || out->status == 206;
  if (out->has_content) {
    add_header(out, SLICE("Content-Type"), type);
    add_header(out, SLICE("X-Content-Type-Options"), SLICE("nosniff"));
    out->content_length = len;
  }
  struct block *tail = is_dev ? add_tail(out, worker) : NULL;
  bool is_head = head != NULL && head->method == HTTP1_METHOD_HEAD;
  if (out->has_content && !is_head && out->content_length > 0) {
    out->source = file_source_new(&worker->blocks.pool, file, offset, len, tail);
  } else {
    close(file);
    if (tail != NULL) block_release(tail);
  }
}

/* Answers with the file of this name, 404 where there is none. Whether it is a directory. */
static bool answer_name(static_file_answer *out, struct worker *worker,
                        const struct request *request, slice directory, struct buf *name,
                        int status) {
  size_t len = name->len;
  answer_status(out, 404);
  if (!buf_append_char(name, '\0')) return false;
  struct stat info;
  int file = open_file(directory, name->data, &info);
  if (file < 0) {
    answer_error(out, file, slice_of(name->data, len));
    return false;
  }
  if (S_ISDIR(info.st_mode)) {
    close(file);
    return true;
  }
  answer_file(out, worker, request, file, &info, slice_of(name->data, len), status);
  return false;
}

void static_file_find(struct worker *worker, const struct request *request, slice directory,
                      slice path, int status, static_file_answer *out) {
  bool wants_directory = has_slash_last(path.len > 0 ? path : request_path(request));
  struct buf name;
  buf_init(&name, PATH_BYTES);
  if (!append_url_path(&name, path, wants_directory)) {
    answer_status(out, 404);
  } else if (answer_name(out, worker, request, directory, &name, status) && !wants_directory) {
    answer_redirect(out, request);
  }
  buf_deinit(&name);
}

void static_file_find_named(struct worker *worker, const struct request *request, slice directory,
                            slice path, int status, static_file_answer *out) {
  struct buf name;
  buf_init(&name, PATH_BYTES);
  if (!append_path(&name, path, false)) {
    answer_status(out, 404);
  } else {
    answer_name(out, worker, request, directory, &name, status);
  }
  buf_deinit(&name);
}
