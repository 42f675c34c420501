/* A walk over the directories below one, as far as what people write goes.
 *
 * Hidden files and directories and node_modules are left out, symbolic links to directories are
 * not followed, and it ends after FILE_TREE_DIRECTORIES and FILE_TREE_FILES: a project that is
 * larger has its pages elsewhere. Blocks: for the main thread. */
#ifndef PERIGEE_GATEWAY_FILE_TREE_H
#define PERIGEE_GATEWAY_FILE_TREE_H

#include <stdbool.h>
#include <sys/stat.h>

enum { FILE_TREE_DIRECTORIES = 500, FILE_TREE_FILES = 10000 };

/* A directory, the root first, or a regular file. `path` begins with the root's and is valid until
 * it returns. */
typedef void (*file_tree_visit)(void *context, const char *path, const struct stat *info);

/* Directories that are near come before those that are deep. False: there were more than it looks
 * at. */
bool file_tree_walk(const char *root, file_tree_visit visit, void *context);

#endif
