#define _GNU_SOURCE
#include "gateway/file_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

struct walk {
  file_tree_visit visit;
  void *context;
  char *directories[FILE_TREE_DIRECTORIES]; /* found; those before `next` are done */
  size_t directory_count;
  size_t next;
  size_t file_count;
  bool is_cut; /* there was more */
};

static bool is_left_out(const char *name) {
  return name[0] == '.' || strcmp(name, "node_modules") == 0;
}

static void add_directory(struct walk *walk, slice path) {
  if (walk->directory_count == FILE_TREE_DIRECTORIES) {
    walk->is_cut = true;
    return;
  }
  walk->directories[walk->directory_count++] = mem_copy(path);
}

static void add_file(struct walk *walk, const char *path, const struct stat *info) {
  if (walk->file_count == FILE_TREE_FILES) {
    walk->is_cut = true;
    return;
  }
  walk->file_count++;
  walk->visit(walk->context, path, info);
}

static void add_entry(struct walk *walk, int directory, const char *directory_path,
                      const struct dirent *entry, struct buf *path) {
  struct stat info;
  bool is_link = entry->d_type == DT_LNK;
  if (is_left_out(entry->d_name) || fstatat(directory, entry->d_name, &info, 0) < 0) return;
  buf_clear(path);
  buf_append_format(path, "%s/%s", directory_path, entry->d_name);
  buf_append_char(path, '\0');
  if (S_ISREG(info.st_mode)) add_file(walk, path->data, &info);
  if (S_ISDIR(info.st_mode) && !is_link) add_directory(walk, slice_of(path->data, path->len - 1));
}

static void read_directory(struct walk *walk, const char *directory_path, struct buf *path) {
  struct stat info;
  DIR *directory = opendir(directory_path);
  if (directory == NULL) return;
  if (fstat(dirfd(directory), &info) == 0) walk->visit(walk->context, directory_path, &info);
  const struct dirent *entry;
  while ((entry = readdir(directory)) != NULL) {
    add_entry(walk, dirfd(directory), directory_path, entry, path);
  }
  closedir(directory);
}

bool file_tree_walk(const char *root, file_tree_visit visit, void *context) {
  struct walk walk = {.visit = visit, .context = context};
  struct buf path;
  buf_init(&path, 0);
  add_directory(&walk, slice_of_string(root));
  while (walk.next < walk.directory_count) {
    char *directory = walk.directories[walk.next++];
    read_directory(&walk, directory, &path);
    mem_free(directory);
  }
  buf_deinit(&path);
  return !walk.is_cut;
}
