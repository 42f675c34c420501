#include "gateway/dev.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/file_tree.h"
#include "gateway/gateway_internal.h"
#include "gateway/media_type.h"
#include "gateway/watch.h"
#include "pubsub/hub.h"
#include "pubsub/log_memory.h"

enum { FAILURE_BYTES = 16 * 1024 };

/* The topic that dev.lua subscribes its connections to. */
static const char topic[] = ".perigee/changes";

struct dev {
  _Atomic uint64_t version;
  pthread_mutex_t lock;
  struct buf failure; /* under the lock; empty: the last load has succeeded */
  struct watch watch;
  bool is_watching;
  uint64_t files; /* a sum over all files that pages are made of: another when one has changed */
};

/* --- telling --- */

/* The workers ask for what is new themselves. */
static void tell(struct gateway *gateway) {
  hub_receipt receipt;
  struct message *message = message_new(SLICE(""), SLICE(""), MESSAGE_SIGNAL);
  hub_publish(gateway->hub, HUB_WORKERS, slice_of_string(topic), message, &receipt);
  message_release(message);
}

static void note_change(struct gateway *gateway) {
  atomic_fetch_add(&gateway->dev->version, 1);
  tell(gateway);
}

static void set_failure(struct dev *dev, slice text) {
  pthread_mutex_lock(&dev->lock);
  buf_clear(&dev->failure);
  buf_append(&dev->failure, text);
  if (!utf8_is_valid(text)) {
    for (size_t i = 0; i < dev->failure.len; i++) {
      if ((unsigned char)dev->failure.data[i] >= 0x80) dev->failure.data[i] = '?';
    }
  }
  pthread_mutex_unlock(&dev->lock);
}

/* --- files --- */

static uint64_t hash_of(const char *path, const struct stat *info) {
  struct {
    uint64_t path, seconds, nanoseconds, size, inode;
  } facts = {map_hash(slice_of_string(path)), (uint64_t)info->st_mtim.tv_sec,
             (uint64_t)info->st_mtim.tv_nsec, (uint64_t)info->st_size, (uint64_t)info->st_ino};
  return map_hash(slice_of(&facts, sizeof facts));
}

/* What browsers know counts; a log or a database that the script writes does not. */
static void add_file(void *context, const char *path, const struct stat *info) {
  slice type = media_type_find(slice_of_string(path));
  if (S_ISREG(info->st_mode) && !slice_is_equal(type, SLICE("application/octet-stream"))) {
    *(uint64_t *)context += hash_of(path, info);
  }
}

static uint64_t sum_files(const struct watch *watch) {
  uint64_t sum = 0;
  for (size_t i = 0; i < watch->tree_count; i++) file_tree_walk(watch->trees[i], add_file, &sum);
  return sum;
}

static void on_change(void *context) {
  struct gateway *gateway = context;
  struct dev *dev = gateway->dev;
  uint64_t files = sum_files(&dev->watch);
  if (files == dev->files) return;
  dev->files = files;
  log_info("pages have changed");
  note_change(gateway);
}

static void add_tree(void *context, const char *directory) {
  watch_add_tree(context, directory);
}

/* The script's directory and those of the live generation's static routes. */
static void watch_pages(struct gateway *gateway) {
  struct dev *dev = gateway->dev;
  if (!dev->is_watching) return;
  char *root = gateway_script_directory(gateway);
  watch_forget(&dev->watch);
  watch_add_tree(&dev->watch, root);
  mem_free(root);
  /* They are held until the next swap, which this thread asks for. */
  routes_for_each_directory(gateway->workers[0].routes, add_tree, &dev->watch);
  watch_look(&dev->watch);
  dev->files = sum_files(&dev->watch);
}

/* --- life --- */

void dev_init(struct gateway *gateway) {
  struct dev *dev = mem_alloc_zero(sizeof *dev);
  atomic_init(&dev->version, 1);
  pthread_mutex_init(&dev->lock, NULL);
  buf_init(&dev->failure, FAILURE_BYTES);
  gateway->dev = dev;
}

void dev_begin(struct gateway *gateway) {
  struct dev *dev = gateway->dev;
  if (!gateway->config->is_unwatched) {
    char *root = gateway_script_directory(gateway);
    watch_init(&dev->watch, &gateway->loop, root, on_change, gateway);
    mem_free(root);
    dev->is_watching = true;
    watch_pages(gateway);
    /* What was sent since the workers listen may have changed before it was watched. */
    note_change(gateway);
  }
  log_info("--dev: errors show the script's source to whoever asks, and pages reload themselves");
}

void dev_note_live(struct gateway *gateway) {
  set_failure(gateway->dev, SLICE(""));
  watch_pages(gateway);
  note_change(gateway);
}

void dev_note_failure(struct gateway *gateway, slice text) {
  set_failure(gateway->dev, text);
  tell(gateway);
}

void dev_stop(struct gateway *gateway) {
  if (gateway->dev->is_watching) watch_stop(&gateway->dev->watch);
}

void dev_deinit(struct gateway *gateway) {
  struct dev *dev = gateway->dev;
  if (dev->is_watching) watch_deinit(&dev->watch);
  buf_deinit(&dev->failure);
  pthread_mutex_destroy(&dev->lock);
  mem_free(dev);
}

/* --- for workers --- */

void dev_append_version(struct gateway *gateway, struct buf *out) {
  buf_append_format(out, "%.*s.%llu", LOG_EPOCH_CHARS, hub_epoch(gateway->hub),
                    (unsigned long long)atomic_load(&gateway->dev->version));
}

bool dev_append_failure(struct gateway *gateway, struct buf *out) {
  struct dev *dev = gateway->dev;
  pthread_mutex_lock(&dev->lock);
  bool has_failed = dev->failure.len > 0;
  buf_append(out, buf_peek(&dev->failure));
  pthread_mutex_unlock(&dev->lock);
  return has_failed;
}

bool dev_is_page(const struct request *request) {
  if (!slice_is_equal(request_method(request), SLICE("GET")) &&
      !slice_is_equal(request_method(request), SLICE("HEAD"))) {
    return false;
  }
  slice purpose = request_find_header(request, SLICE("sec-fetch-dest"));
  return purpose.data == NULL || slice_is_equal(purpose, SLICE("document")) ||
         slice_is_equal(purpose, SLICE("iframe")) || slice_is_equal(purpose, SLICE("frame"));
}

void dev_append_tag(struct gateway *gateway, struct buf *out) {
  buf_append(out, SLICE("\n<script src=\"/.perigee/dev.js\" data-version=\""));
  dev_append_version(gateway, out);
  buf_append(out, SLICE("\"></script>\n"));
}
