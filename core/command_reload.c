#include "command_reload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
  ANSWER_BYTES = 64 * 1024,
  PATIENCE_S = 30, /* a reload that is held up is given up after 5 s, but may have to wait */
};

static bool fail(struct buf *text, const char *what, const char *path) {
  buf_clear(text);
  buf_append_format(text, "%s at %s: %s", what, path, strerror(errno));
  return false;
}

static bool write_all(int fd, slice bytes) {
  while (bytes.len > 0) {
    ssize_t written = write(fd, bytes.data, bytes.len);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = slice_skip(bytes, (size_t)written);
  }
  return true;
}

/* Until the gateway closes. */
static bool read_all(int fd, struct buf *out) {
  for (;;) {
    char piece[4096];
    ssize_t count = read(fd, piece, sizeof piece);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count == 0;
    if (!buf_append(out, slice_of(piece, (size_t)count))) return true;
  }
}

static bool ask(int fd, const char *path, struct buf *text) {
  struct buf answer;
  buf_init(&answer, ANSWER_BYTES);
  bool is_answered = write_all(fd, SLICE("reload\n")) && read_all(fd, &answer);
  slice rest = buf_peek(&answer);
  slice word = slice_split(&rest, ' ');
  bool is_done = is_answered && slice_is_equal(word, SLICE("done"));
  if (!is_answered && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    buf_append_format(text, "the gateway at %s has not answered within %d s; its log may tell why",
                      path, PATIENCE_S);
  } else if (!is_answered) {
    fail(text, "no answer from the gateway", path);
  } else if (rest.data == NULL) {
    buf_append_format(text, "the gateway at %s ended before it answered", path);
  } else {
    while (rest.len > 0 && rest.data[rest.len - 1] == '\n') rest.len--;
    buf_append(text, rest);
  }
  buf_deinit(&answer);
  return is_done;
}

bool command_reload_run(const char *path, struct buf *text) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval patience = {.tv_sec = PATIENCE_S};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return fail(text, "there is no gateway", path);
  }
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return fail(text, "cannot ask the gateway", path);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  bool is_done = false;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    fail(text, "there is no gateway", path);
  } else {
    is_done = ask(fd, path, text);
  }
  close(fd);
  return is_done;
}

void command_reload_help(struct buf *out) {
  buf_append(out, SLICE("Usage: perigee reload [--control PATH]\n"
                        "\n"
                        "Has a gateway that runs load its script anew, and waits until that is live"
                        " in all\n"
                        "workers. Prints its generation; or the error, with exit code 1, and then"
                        " the gateway\n"
                        "goes on with the code that it had.\n"
                        "\n"
                        "  --control PATH   PERIGEE_CONTROL\n"
                        "      the control socket, as `perigee serve --control PATH` made it\n"
                        "\n"
                        "A gateway that watches its files needs no such command, and SIGHUP does"
                        " the same\n"
                        "without an answer.\n"));
}
