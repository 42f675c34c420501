#include "net/stream.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* A plain stream. `rest` is the one uv_write that may be under way. */
struct plain {
  struct stream stream;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;
  struct rest *rest;
  int fd;
  bool has_ended;
  bool is_closing;
};

struct rest {
  uv_write_t request;
  struct plain *plain;
  char *data;
};

static struct plain *plain_of(struct stream *stream) {
  return CONTAINER_OF(stream, struct plain, stream);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
  (void)suggested;
  const struct stream_loop *shared = handle->loop->data;
  *out = uv_buf_init(shared->read_buffer, (unsigned)shared->read_bytes);
}

static void on_read(uv_stream_t *handle, ssize_t len, const uv_buf_t *buffer) {
  struct plain *plain = handle->data;
  if (len == 0 || plain->is_closing) return;
  if (len > 0) {
    plain->stream.events->on_read(plain->stream.owner, buffer->base, (size_t)len);
    return;
  }
  uv_read_stop(handle);
  if (plain->has_ended) return;
  plain->has_ended = true;
  plain->stream.events->on_end(plain->stream.owner, len == UV_EOF ? 0 : (int)len);
}

/* What the kernel said of a write: bytes taken, 0 when it takes none for now, or an error. */
static int judge_write(ssize_t taken) {
  if (taken >= 0) return (int)taken;
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS
             ? 0
             : uv_translate_sys_error(errno);
}

/* The system call itself: this is where a gateway spends most of its time. uv_try_write would add
 * a hundred instructions, and send() fifty: in a program with threads it is a point at which a
 * thread may be cancelled, and none of ours is. */
static int plain_write(struct stream *stream, const char *data, size_t len) {
  struct plain *plain = plain_of(stream);
  if (plain->rest != NULL || plain->is_closing) return 0;
  ssize_t taken;
  do {
#ifdef SYS_sendto
    taken = syscall(SYS_sendto, plain->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
#else
    taken = send(plain->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
#endif
  } while (__builtin_expect(taken < 0, 0) && errno == EINTR);
  return __builtin_expect(taken >= 0, 1) ? (int)taken : judge_write(taken);
}

/* uv_buf_t is laid out as struct iovec (libuv says so for Unix). */
static int plain_write_slices(struct stream *stream, const uv_buf_t *slices, unsigned count) {
  struct plain *plain = plain_of(stream);
  if (plain->rest != NULL || plain->is_closing) return 0;
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
  ssize_t taken;
  do {
    taken = sendmsg(plain->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (taken < 0 && errno == EINTR);
  return judge_write(taken);
}

static void on_rest_written(uv_write_t *request, int status) {
  struct rest *rest = CONTAINER_OF(request, struct rest, request);
  struct plain *plain = rest->plain;
  plain->rest = NULL;
  mem_free(rest->data);
  mem_free(rest);
  if (!plain->is_closing) plain->stream.events->on_writable(plain->stream.owner, status);
}

static void plain_push_rest(struct stream *stream, char *data, size_t len) {
  struct plain *plain = plain_of(stream);
  REQUIRE(plain->rest == NULL);
  struct rest *rest = mem_alloc(sizeof *rest);
  *rest = (struct rest){.plain = plain, .data = data};
  plain->rest = rest;
  uv_buf_t whole = uv_buf_init(data, (unsigned)len);
  int error = uv_write(&rest->request, &plain->uv.stream, &whole, 1, on_rest_written);
  /* It can only fail at once on a stream that is closing, and then nobody is told. */
  if (error < 0) {
    plain->rest = NULL;
    mem_free(data);
    mem_free(rest);
  }
}

static void plain_set_reading(struct stream *stream, bool is_reading) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closing || plain->has_ended) return;
  if (is_reading) {
    uv_read_start(&plain->uv.stream, on_alloc, on_read);
  } else {
    uv_read_stop(&plain->uv.stream);
  }
}

static void on_shut_down(uv_shutdown_t *request, int status) {
  (void)status;
  mem_free(request);
}

static void plain_shutdown(struct stream *stream) {
  struct plain *plain = plain_of(stream);
  uv_shutdown_t *request = mem_alloc(sizeof *request);
  if (uv_shutdown(request, &plain->uv.stream, on_shut_down) < 0) mem_free(request);
}

static void on_closed(uv_handle_t *handle) {
  struct plain *plain = handle->data;
  plain->stream.events->on_closed(plain->stream.owner);
  mem_free(plain);
}

static void plain_close(struct stream *stream, bool is_reset) {
  struct plain *plain = plain_of(stream);
  if (plain->is_closing) return;
  plain->is_closing = true;
  if (is_reset && plain->uv.handle.type == UV_TCP &&
      uv_tcp_close_reset(&plain->uv.tcp, on_closed) == 0) {
    return;
  }
  uv_close(&plain->uv.handle, on_closed);
}

static const struct stream_ops plain_ops = {
    .write = plain_write,
    .write_slices = plain_write_slices,
    .push_rest = plain_push_rest,
    .set_reading = plain_set_reading,
    .shutdown = plain_shutdown,
    .close = plain_close,
};

static void on_refused_closed(uv_handle_t *handle) {
  mem_free(handle->data);
}

struct stream *stream_accept(uv_stream_t *listener, const struct stream_events *events, void *owner,
                             int *error) {
  struct plain *plain = mem_alloc(sizeof *plain);
  *plain = (struct plain){.stream = {.ops = &plain_ops, .events = events, .owner = owner}};
  if (listener->type == UV_TCP) {
    uv_tcp_init(listener->loop, &plain->uv.tcp);
  } else {
    uv_pipe_init(listener->loop, &plain->uv.pipe, 0);
  }
  plain->uv.handle.data = plain;
  *error = uv_accept(listener, &plain->uv.stream);
  if (*error < 0) {
    uv_close(&plain->uv.handle, on_refused_closed);
    return NULL;
  }
  uv_os_fd_t fd;
  REQUIRE(uv_fileno(&plain->uv.handle, &fd) == 0);
  plain->fd = fd;
  return &plain->stream;
}

size_t stream_remote_address(struct stream *stream, char out[STREAM_ADDRESS_BYTES]) {
  struct plain *plain = plain_of(stream);
  struct sockaddr_storage address;
  int len = (int)sizeof address;
  if (plain->uv.handle.type == UV_TCP &&
      uv_tcp_getpeername(&plain->uv.tcp, (struct sockaddr *)&address, &len) == 0) {
    int error = address.ss_family == AF_INET6
                    ? uv_ip6_name((struct sockaddr_in6 *)&address, out, STREAM_ADDRESS_BYTES)
                    : uv_ip4_name((struct sockaddr_in *)&address, out, STREAM_ADDRESS_BYTES);
    if (error == 0) return strlen(out);
  }
  return (size_t)snprintf(out, STREAM_ADDRESS_BYTES, "%s",
                          plain->uv.handle.type == UV_TCP ? "unknown" : "unix");
}
