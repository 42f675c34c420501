#include "loadgen/gate.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/options.h"
#include "loadgen/workload.h"

const char gate_tag;

static char line[64];
static size_t len;
static bool is_open;

void gate_init(void) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = (void *)&gate_tag};
  if (options.is_gated) epoll_ctl(pool_epoll(), EPOLL_CTL_ADD, STDIN_FILENO, &event);
}

static void take_line(void) {
  if (strncmp(line, "live ", 5) != 0) {
    is_open = true;
  } else if (workload->on_live != NULL) {
    workload->on_live((uint32_t)strtoul(line + 5, NULL, 10), base_now_ns());
  }
}

void gate_read(void) {
  ssize_t got = read(STDIN_FILENO, line + len, sizeof line - 1 - len);
  if (got <= 0) base_fail("nobody opens the gate");
  len += (size_t)got;
  for (char *end; (end = memchr(line, '\n', len)) != NULL;) {
    *end = '\0';
    take_line();
    len -= (size_t)(end + 1 - line);
    memmove(line, end + 1, len);
  }
}

void gate_pass(const char *word) {
  if (!options.is_gated) return;
  puts(word);
  fflush(stdout);
  for (is_open = false; !is_open;) gate_read();
}
