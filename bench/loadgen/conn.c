#include "loadgen/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen/base.h"
#include "loadgen/options.h"
#include "loadgen/tally.h"

/* Descriptors for the standard streams, epoll, the timer and /proc. */
enum { OTHER_DESCRIPTORS = 16 };

enum { DEAD_BUFFER_BYTES = 4096 }; /* so that it is the server that has to keep what is not read */

enum { MAX_FAILED = 1000 }; /* a server that refuses so many refuses all */

struct pool pool;

static struct sockaddr_in target = {.sin_family = AF_INET};
static int epoll;

void bytes_append(bytes *to, const char *data, size_t len) {
  if (to->len + len > to->capacity) {
    to->capacity = (to->len + len) * 2;
    to->data = base_resize(to->data, to->capacity);
  }
  memcpy(to->data + to->len, data, len);
  to->len += len;
}

void pool_init(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  target.sin_port = htons((uint16_t)options.port);
  if (inet_pton(AF_INET, options.host, &target.sin_addr) != 1) {
    base_fail("--host takes an IPv4 address");
  }
  /* Loopback source addresses reach only loopback. */
  if (ntohl(target.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET) options.source_addresses = 1;
  epoll = epoll_create1(EPOLL_CLOEXEC);
}

const struct sockaddr_in *pool_target(void) {
  return &target;
}

int pool_epoll(void) {
  return epoll;
}

void pool_prepare(int count) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  if ((rlim_t)count + OTHER_DESCRIPTORS > limit.rlim_cur) {
    base_fail("%d connections, but RLIMIT_NOFILE is %lu", count, (unsigned long)limit.rlim_cur);
  }
  pool.conns = base_zeroed((size_t)count, sizeof *pool.conns);
  pool.count = count;
  for (int i = 0; i < count; i++) pool.conns[i].id = (uint32_t)i;
}

void pool_open_some(void) {
  while (pool.next < pool.count && pool.opening < options.opening) {
    conn_open(&pool.conns[pool.next++]);
  }
}

static void bind_source(const struct conn *conn) {
  int on = 1;
  struct sockaddr_in source = {.sin_family = AF_INET};
  uint32_t address = INADDR_LOOPBACK + 1 + conn->id % (uint32_t)options.source_addresses;
  source.sin_addr.s_addr = htonl(address);
  setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(conn->fd, (const struct sockaddr *)&source, sizeof source) != 0) {
    base_fail("bind: %s", strerror(errno));
  }
}

void conn_open(struct conn *conn) {
  int on = 1;
  conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (conn->fd < 0) base_fail("socket: %s (%d are open)", strerror(errno), pool.open);
  setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (conn->is_dead) {
    int buffer_bytes = DEAD_BUFFER_BYTES;
    setsockopt(conn->fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
  }
  if (options.source_addresses > 1) bind_source(conn);
  conn->opened_at_ns = base_now_ns();
  conn->state = CONN_CONNECTING;
  conn->wants_write = true;
  conn->frame = (frame_state){0};
  conn->chunk = (chunk_state){0};
  conn->kept.len = 0;
  conn->pending.len = 0;
  pool.opening++;
  if (connect(conn->fd, (const struct sockaddr *)&target, sizeof target) != 0 &&
      errno != EINPROGRESS) {
    conn_fail(conn, strerror(errno));
    return;
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = conn};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
    base_fail("epoll_ctl: %s", strerror(errno));
  }
}

void conn_close(struct conn *conn) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(conn->fd);
  conn->fd = -1;
}

void conn_fail(struct conn *conn, const char *why) {
  if (conn->state == CONN_CONNECTING || conn->state == CONN_GREETING) {
    pool.opening--;
    if (tally.failed++ == 0) fprintf(stderr, "loadgen: connection %u failed: %s\n", conn->id, why);
    if (tally.failed > MAX_FAILED) base_fail("too many connections failed");
  } else {
    pool.open--;
    if (tally.disconnects++ == 0) {
      fprintf(stderr, "loadgen: connection %u lost: %s\n", conn->id, why);
    }
  }
  conn_close(conn);
  conn->state = CONN_DEAD;
  pool.dead++;
}

void conn_opened(struct conn *conn) {
  conn->state = CONN_OPEN;
  pool.opening--;
  pool.open++;
}

void conn_ignore(struct conn *conn) {
  epoll_ctl(epoll, EPOLL_CTL_DEL, conn->fd, NULL);
}

void conn_want_write(struct conn *conn, bool wants) {
  if (conn->wants_write == wants) return;
  conn->wants_write = wants;
  struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0u), .data.ptr = conn};
  epoll_ctl(epoll, EPOLL_CTL_MOD, conn->fd, &event);
}

void conn_send(struct conn *conn, const char *data, size_t len) {
  if (conn->pending.len == 0) {
    ssize_t sent = send(conn->fd, data, len, MSG_NOSIGNAL);
    if (sent > 0) {
      data += sent;
      len -= (size_t)sent;
    }
    if (len == 0) return;
  }
  bytes_append(&conn->pending, data, len);
  conn_want_write(conn, true);
}

void conn_flush(struct conn *conn) {
  bytes *pending = &conn->pending;
  ssize_t sent = send(conn->fd, pending->data, pending->len, MSG_NOSIGNAL);
  if (sent > 0) {
    pending->len -= (size_t)sent;
    memmove(pending->data, pending->data + sent, pending->len);
  }
  if (pending->len == 0 && conn->owed == 0) conn_want_write(conn, false);
}
