#define _GNU_SOURCE
#include "command_new.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command_library.h"

/* The template's names have no dot in front: `make install` and many tools leave such files out. */
static const struct {
  const char *from;
  const char *to;
  const char *what;
} files[] = {
    {"main.lua", "main.lua", "a chat over WebSocket, with history, and a health route"},
    {"public/index.html", "public/index.html", "its page"},
    {"spec/main_spec.lua", "spec/main_spec.lua", "its specs"},
    {"luarc.json", ".luarc.json", "where editors find Perigee's declarations"},
    {"README.md", "README.md", "what to type"},
    {"gitignore", ".gitignore", "what is not for Git"},
};

enum { FILE_COUNT = sizeof files / sizeof files[0], MAX_FILE_BYTES = 1024 * 1024 };

static bool fail(struct buf *error, const char *path) {
  buf_append_format(error, "%s: %s", path, strerror(errno));
  return false;
}

/* --- the directory --- */

static bool is_empty(DIR *directory) {
  const struct dirent *entry;
  while ((entry = readdir(directory)) != NULL) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) return false;
  }
  return true;
}

static bool enter(const char *path, struct buf *error) {
  if (mkdir(path, 0777) < 0 && errno != EEXIST) return fail(error, path);
  DIR *directory = opendir(path);
  if (directory == NULL) return fail(error, path);
  bool is_free = is_empty(directory);
  closedir(directory);
  if (!is_free) {
    buf_append_format(error, "%s is not empty: 'perigee new' needs a directory of its own", path);
    return false;
  }
  return chdir(path) == 0 || fail(error, path);
}

/* --- a file --- */

static bool read_file(const char *path, struct buf *out) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return false;
  size_t count = 1;
  while (count > 0) {
    char *place = buf_reserve(out, 4096);
    count = place != NULL ? fread(place, 1, 4096, file) : 0;
    out->len += count;
  }
  bool is_read = ferror(file) == 0;
  fclose(file);
  return is_read;
}

/* As it stands between the quotes of JSON, which is harmless in Markdown. */
static void append_escaped(struct buf *out, const char *text) {
  for (; *text != '\0'; text++) {
    unsigned char c = (unsigned char)*text;
    if (c < ' ') {
      buf_append_format(out, "\\u%04x", c);
    } else {
      if (c == '"' || c == '\\') buf_append_char(out, '\\');
      buf_append_char(out, *text);
    }
  }
}

/* What stands for what in the template's files. */
typedef struct {
  const char *mark;
  const char *value;
} blank;

static void fill_in(slice text, const blank *blanks, size_t count, struct buf *out) {
  while (text.len > 0) {
    size_t i = 0;
    while (i < count && !slice_has_prefix(text, slice_of_string(blanks[i].mark))) i++;
    if (i < count) {
      append_escaped(out, blanks[i].value);
      text = slice_skip(text, strlen(blanks[i].mark));
    } else {
      buf_append_char(out, text.data[0]);
      text = slice_skip(text, 1);
    }
  }
}

static bool write_file(const char *path, slice text, struct buf *error) {
  const char *slash = strchr(path, '/');
  if (slash != NULL) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    if (mkdir(folder, 0777) < 0 && errno != EEXIST) return fail(error, folder);
  }
  FILE *file = fopen(path, "wbx");
  if (file == NULL) return fail(error, path);
  bool is_written = fwrite(text.data, 1, text.len, file) == text.len;
  return (fclose(file) == 0 && is_written) || fail(error, path);
}

static bool make_file(size_t i, const blank *blanks, size_t count, struct buf *error) {
  char path[PATH_MAX + 64];
  struct buf text;
  struct buf filled;
  snprintf(path, sizeof path, "%s/perigee/template/%s", blanks[0].value, files[i].from);
  buf_init(&text, MAX_FILE_BYTES);
  buf_init(&filled, 0);
  bool is_made = read_file(path, &text) || fail(error, path);
  if (is_made) {
    fill_in(buf_peek(&text), blanks, count, &filled);
    is_made = write_file(files[i].to, buf_peek(&filled), error);
  }
  buf_deinit(&text);
  buf_deinit(&filled);
  return is_made;
}

/* --- what is said --- */

/* As a shell reads it. */
static void append_word(struct buf *out, const char *word) {
  static const char plain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  if (word[0] != '\0' && strspn(word, plain) == strlen(word)) {
    buf_append(out, slice_of_string(word));
    return;
  }
  buf_append_char(out, '\'');
  for (; *word != '\0'; word++) {
    if (*word == '\'') {
      buf_append(out, SLICE("'\\''"));
    } else {
      buf_append_char(out, (unsigned char)*word < ' ' ? '?' : *word);
    }
  }
  buf_append_char(out, '\'');
}

static bool print_made(const char *directory, const char *binary) {
  /* Whoever has typed a path to the binary needs one again, from another directory. */
  bool has_path = strchr(program_invocation_name, '/') != NULL;
  struct buf text;
  buf_init(&text, 0);
  buf_append(&text, SLICE("Made in "));
  append_word(&text, directory);
  buf_append(&text, SLICE(":\n"));
  for (size_t i = 0; i < FILE_COUNT; i++) {
    buf_append_format(&text, "  %-20s%s\n", files[i].to, files[i].what);
  }
  buf_append(&text, SLICE("\nNext:\n  cd "));
  append_word(&text, directory);
  static const char *const commands[] = {"test", "serve"};
  for (size_t i = 0; i < 2; i++) {
    buf_append(&text, SLICE("\n  "));
    append_word(&text, has_path ? binary : "perigee");
    buf_append_format(&text, " %s", commands[i]);
  }
  buf_append(&text, SLICE("\n\nThen open http://localhost:3000/ in two windows.\n"));
  bool is_written = fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
  buf_deinit(&text);
  return is_written;
}

bool command_new_run(const char *directory, struct buf *error) {
  command_places places;
  char here[PATH_MAX];
  if (!command_find_places(&places, error)) return false;
  if (!enter(directory, error)) return false;
  if (getcwd(here, sizeof here) == NULL) return fail(error, directory);
  const blank blanks[] = {{"@LIBRARY@", places.library}, {"@NAME@", strrchr(here, '/') + 1}};
  for (size_t i = 0; i < FILE_COUNT; i++) {
    if (!make_file(i, blanks, sizeof blanks / sizeof blanks[0], error)) return false;
  }
  return print_made(directory, places.binary) || fail(error, "standard output");
}

void command_new_help(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee new <directory>\n"
                        "\n"
                        "Makes a small application to begin with, in a directory that is new or"
                        " empty:\n"
                        "\n"));
  for (size_t i = 0; i < FILE_COUNT; i++) {
    buf_append_format(out, "  %-20s%s\n", files[i].to, files[i].what);
  }
  buf_append(out, SLICE("\n"
                        "  perigee new chat && cd chat && perigee test && perigee serve\n"));
}
