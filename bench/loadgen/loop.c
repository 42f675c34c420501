#include "loadgen/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loadgen/base.h"
#include "loadgen/conn.h"
#include "loadgen/gate.h"
#include "loadgen/greeting.h"
#include "loadgen/pipeline.h"
#include "loadgen/tally.h"
#include "loadgen/workload.h"

enum {
  MAX_EVENTS = 1024,
  EVENTS_A_TIME = 16,         /* the time is read anew after so many: a full batch takes a while */
  RECEIVE_BYTES = 512 * 1024, /* what a server sends in one turn arrives in one piece */
};

static int timer;
static char *received;

void loop_init(void) {
  received = base_resize(NULL, RECEIVE_BYTES);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(pool_epoll(), EPOLL_CTL_ADD, timer, &event);
}

void loop_wake_at(uint64_t at_ns) {
  struct itimerspec when = {0};
  when.it_value.tv_sec = (time_t)(at_ns / NS_PER_SECOND);
  when.it_value.tv_nsec = (long)(at_ns % NS_PER_SECOND);
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void on_connected(struct conn *conn, uint64_t now) {
  int error = 0;
  socklen_t len = sizeof error;
  getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len);
  if (error != 0) {
    conn_fail(conn, strerror(error));
  } else {
    greeting_start(conn, now);
  }
}

static void on_end(struct conn *conn, const char *why) {
  if (workload->on_end == NULL || !workload->on_end(conn)) conn_fail(conn, why);
}

static void on_readable(struct conn *conn, uint64_t now) {
  ssize_t len = recv(conn->fd, received, RECEIVE_BYTES, 0);
  if (len > 0) {
    if (tally.is_counting) tally.bytes += (uint64_t)len;
    if (conn->state == CONN_GREETING) {
      greeting_feed(conn, received, (size_t)len, now);
    } else {
      workload->on_bytes(conn, received, (size_t)len, now);
    }
  } else if (len == 0) {
    on_end(conn, "end of file");
  } else if (errno != EAGAIN && errno != EINTR) {
    on_end(conn, strerror(errno));
  }
}

static void handle(struct conn *conn, uint32_t events, uint64_t now) {
  if (conn->fd < 0) return; /* closed by an earlier event of this turn */
  if (conn->state == CONN_CONNECTING) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) on_connected(conn, now);
    return;
  }
  if ((events & EPOLLOUT) != 0) {
    if (conn->owed > 0) pipeline_flush(conn);
    if (conn->pending.len > 0) conn_flush(conn);
  }
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) on_readable(conn, now);
}

void loop_turn(int timeout_ms) {
  static struct epoll_event events[MAX_EVENTS];
  int count = epoll_wait(pool_epoll(), events, MAX_EVENTS, timeout_ms);
  uint64_t now = base_now_ns();
  for (int i = 0; i < count; i++) {
    if (i % EVENTS_A_TIME == EVENTS_A_TIME - 1) now = base_now_ns();
    if (events[i].data.ptr == &gate_tag) {
      gate_read();
    } else if (events[i].data.ptr != NULL) {
      handle(events[i].data.ptr, events[i].events, now);
    } else {
      uint64_t expirations;
      ssize_t len = read(timer, &expirations, sizeof expirations);
      (void)len; /* that it woke us is all */
    }
  }
}
