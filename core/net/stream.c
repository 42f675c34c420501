#define _GNU_SOURCE /* accept4 */
#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/poller.h"
#include "net/socket_call.h"

enum { EVENTS_A_POLL = 256 };

struct stream_ready {
  poller_event events[EVENTS_A_POLL]; /* events[next .. count) */
  int next;
  int count;
};

/* What a full socket has left of a write, until it is taken. */
struct rest {
  char *data;
  size_t len;
  size_t at; /* written */
};

/* A plain stream. */
struct plain {
  struct stream stream;
  struct stream_loop *loop;
  union {
    struct rest *rest;   /* NULL: none */
    struct stream *next; /* once it is closed: in loop->closed */
  } link;
  int fd;
  uint8_t watched;  /* what the poller is asked for: POLLER_READ, POLLER_WRITE */
  bool can_write;   /* nothing is under way and it is not closed */
  bool is_reading;  /* its owner wants to be told what arrives */
  bool has_ended;   /* the peer sends no more */
  bool is_closed;   /* the descriptor is gone, or somebody else's */
  bool is_shutting; /* our side ends when the rest is written */
  bool has_input;   /* accepted a moment ago, and its first bytes should be there */
};

static struct plain *plain_of(struct stream *stream) {
  return CONTAINER_OF(stream, struct plain, stream);
}

/* --- watching --- */

static bool has_rest(const struct plain *plain) {
  return !plain->is_closed && plain->link.rest != NULL;
}

static unsigned wanted_of(const struct plain *plain) {
  return (plain->is_reading && !plain->has_ended ? (unsigned)POLLER_READ : 0u) |
         (has_rest(plain) ? (unsigned)POLLER_WRITE : 0u);
}

/* Watches what is wanted and no more. The end of a connection and its errors are told in any case,
 * so a stream that wants nothing is not watched at all. */
static void watch(struct plain *plain) {
  unsigned wanted = wanted_of(plain);
  REQUIRE(poller_watch(plain->loop->poller, plain->fd, plain->watched, wanted, plain));
  plain->watched = (uint8_t)wanted;
}

static void end(struct plain *plain, int error) {
  plain->has_ended = true;
  watch(plain);
  plain->stream.events->on_end(plain->stream.owner, error);
}

/* Inline: once an event. */
static inline __attribute__((always_inline)) void read_some(struct plain *plain) {
  struct stream_loop *loop = plain->loop;
  ssize_t len = socket_receive(plain->fd, loop->read_buffer, loop->read_bytes);
  if (len > 0) {
    plain->stream.events->on_read(plain->stream.owner, loop->read_buffer, (size_t)len);
  } else if (len == 0) {
    end(plain, 0);
  } else if (!socket_is_busy(len)) {
    end(plain, uv_translate_sys_error((int)-len));
  }
}

static void drop_rest(struct plain *plain) {
  mem_free(plain->link.rest->data);
  mem_free(plain->link.rest);
  plain->link.rest = NULL;
}

/* What the kernel said of a write: bytes taken, 0 when it takes none for now, or an error. */
static int judge_write(ssize_t taken) {
  if (__builtin_expect(taken >= 0, 1)) return (int)taken;
  return socket_is_busy(taken) ? 0 : uv_translate_sys_error((int)-taken);
}

static void write_rest(struct plain *plain) {
  struct rest *rest = plain->link.rest;
  int taken = judge_write(socket_send(plain->fd, rest->data + rest->at, rest->len - rest->at));
  if (taken >= 0) {
    rest->at += (size_t)taken;
    if (rest->at < rest->len) return;
  }
  drop_rest(plain);
  plain->can_write = true;
  watch(plain);
  if (plain->is_shutting) shutdown(plain->fd, SHUT_WR);
  plain->stream.events->on_writable(plain->stream.owner, taken < 0 ? taken : 0);
}

/* A stream that was closed meanwhile is still there: it goes in stream_loop_sweep. An event that
 * had to wait may be over: then there is nothing to read, or no place to write to. */
static void on_event(const poller_event *event) {
  struct plain *plain = poller_owner(event);
  bool is_over = poller_is_over(event);
  if (has_rest(plain) && (is_over || poller_can_write(event))) write_rest(plain);
  if (plain->is_closed) return;
  if (!plain->is_reading || plain->has_ended) {
    /* Reading was paused: only now does that cost a system call. */
    watch(plain);
  } else if (is_over || poller_can_read(event)) {
    read_some(plain);
  }
}

static void on_ready(uv_poll_t *poll, int status, int events) {
  (void)status;
  (void)events;
  struct stream_loop *loop = poll->data;
  struct stream_ready *ready = loop->ready;
  stream_loop_event(loop);
  loop->is_poll_due = false;
  /* What the poll before had no time for comes first: nobody waits behind those who always have
   * something to say. */
  if (ready->next == ready->count) {
    ready->count = poller_take(loop->poller, ready->events, EVENTS_A_POLL);
    ready->next = 0;
  }
  int next = ready->next;
  while (next < ready->count && !loop->is_poll_due) on_event(&ready->events[next++]);
  ready->next = next;
}

/* A stream goes: what was told of it and still waits is nobody's. */
static void forget_events(struct stream_ready *ready, const struct plain *plain) {
  static struct plain gone = {.is_closed = true};
  for (int i = ready->next; i < ready->count; i++) {
    if (poller_owner(&ready->events[i]) == plain) poller_set_owner(&ready->events[i], &gone);
  }
}

/* --- what a stream does --- */

static int plain_write(struct stream *stream, const char *data, size_t len) {
  struct plain *plain = plain_of(stream);
  return plain->can_write ? judge_write(socket_send(plain->fd, data, len)) : 0;
}

/* uv_buf_t is laid out as struct iovec (libuv says so for Unix). */
static int plain_write_slices(struct stream *stream, const uv_buf_t *slices, unsigned count) {
  struct plain *plain = plain_of(stream);
  if (!plain->can_write) return 0;
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
  ssize_t taken = sendmsg(plain->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  return judge_write(taken < 0 ? -errno : taken);
}

static void plain_push_rest(struct stream *stream, char *data, size_t len) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closed) {
    mem_free(data);
    return;
  }
  REQUIRE(plain->link.rest == NULL);
  plain->link.rest = mem_alloc(sizeof *plain->link.rest);
  *plain->link.rest = (struct rest){.data = data, .len = len};
  plain->can_write = false;
  watch(plain);
}

static void plain_set_reading(struct stream *stream, bool is_reading) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closed) return;
  plain->is_reading = is_reading;
  /* To stop costs nothing unless something arrives (on_event). */
  if (!is_reading) return;
  /* Read before it is watched: the poller has nothing to tell then. */
  bool has_input = plain->has_input;
  plain->has_input = false;
  if (has_input) read_some(plain);
  if (!plain->is_closed) watch(plain);
}

static void plain_shutdown(struct stream *stream) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closed) return;
  plain->is_shutting = true;
  if (!has_rest(plain)) shutdown(plain->fd, SHUT_WR);
}

static void plain_close(struct stream *stream, bool is_reset) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closed) return;
  if (has_rest(plain)) drop_rest(plain);
  if (is_reset) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(plain->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  if (plain->loop->has_children) {
    poller_watch(plain->loop->poller, plain->fd, plain->watched, 0, NULL);
  }
  close(plain->fd);
  plain->is_closed = true;
  plain->can_write = false;
  plain->link.next = plain->loop->closed;
  plain->loop->closed = stream;
}

static const struct stream_ops plain_ops = {
    .write = plain_write,
    .write_slices = plain_write_slices,
    .push_rest = plain_push_rest,
    .set_reading = plain_set_reading,
    .shutdown = plain_shutdown,
    .close = plain_close,
};

/* As inet_ntop, which takes two thousand instructions for it: once a connection. */
static void format_ipv4(const struct sockaddr_in *address, char *out) {
  const uint8_t *octets = (const uint8_t *)&address->sin_addr;
  for (int i = 0; i < 4; i++) {
    unsigned octet = octets[i];
    if (octet >= 100) *out++ = (char)('0' + octet / 100);
    if (octet >= 10) *out++ = (char)('0' + octet / 10 % 10);
    *out++ = (char)('0' + octet % 10);
    *out++ = i < 3 ? '.' : '\0';
  }
}

static void format_address(const struct sockaddr_storage *address, char out[STREAM_ADDRESS_BYTES]) {
  int error = UV_EAFNOSUPPORT;
  if (address->ss_family == AF_INET6) {
    error = uv_ip6_name((const struct sockaddr_in6 *)address, out, STREAM_ADDRESS_BYTES);
  } else if (address->ss_family == AF_INET) {
    format_ipv4((const struct sockaddr_in *)address, out);
    error = 0;
  }
  if (error < 0) snprintf(out, STREAM_ADDRESS_BYTES, "unix");
}

struct stream *stream_accept(struct stream_loop *loop, int listener, bool has_input,
                             char address[STREAM_ADDRESS_BYTES], int *error) {
  struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
  socklen_t len = sizeof peer;
  int fd;
  do {
    fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) {
    *error = errno == EWOULDBLOCK ? UV_EAGAIN : uv_translate_sys_error(errno);
    return NULL;
  }
  format_address(&peer, address);
  struct plain *plain = mem_alloc(sizeof *plain);
  *plain = (struct plain){
      .stream = {.ops = &plain_ops},
      .loop = loop,
      .fd = fd,
      .can_write = true,
      .has_input = has_input,
  };
  return &plain->stream;
}

/* --- the loop --- */

void stream_loop_open(struct stream_loop *loop, uv_loop_t *uv_loop, size_t read_bytes) {
  *loop = (struct stream_loop){.read_buffer = mem_alloc(read_bytes), .read_bytes = read_bytes};
  loop->ready = mem_alloc_zero(sizeof *loop->ready);
  loop->poller = poller_open();
  REQUIRE(loop->poller >= 0);
  REQUIRE(uv_poll_init(uv_loop, &loop->poll, loop->poller) == 0);
  loop->poll.data = loop;
  REQUIRE(uv_poll_start(&loop->poll, UV_READABLE, on_ready) == 0);
}

void stream_loop_close(struct stream_loop *loop) {
  REQUIRE(loop->closed == NULL);
  uv_close((uv_handle_t *)&loop->poll, NULL);
  close(loop->poller);
  mem_free(loop->ready);
  mem_free(loop->read_buffer);
}

void stream_loop_sweep(struct stream_loop *loop) {
  while (loop->closed != NULL) {
    struct plain *plain = plain_of(loop->closed);
    loop->closed = plain->link.next;
    forget_events(loop->ready, plain);
    plain->stream.events->on_closed(plain->stream.owner);
    mem_free(plain);
  }
}
