#include "gateway/control_socket.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway_internal.h"

enum {
  MAX_PEERS = 16, /* who asks waits for a reload, and a reload answers all that wait */
  LINE_BYTES = 256,
  BACKLOG = 128,
};

struct control_socket {
  uv_pipe_t pipe;
  struct gateway *gateway;
  listener_address address;
  struct list peers;
  size_t peer_count;
};

/* One that has connected. */
struct peer {
  uv_pipe_t pipe;
  uv_write_t write;
  struct control_socket *control;
  struct list link;
  struct buf line;
  struct buf answer;
  bool has_asked;
};

/* --- a peer --- */

static void on_peer_closed(uv_handle_t *handle) {
  struct peer *peer = handle->data;
  buf_deinit(&peer->line);
  buf_deinit(&peer->answer);
  mem_free(peer);
}

static void close_peer(struct peer *peer) {
  if (uv_is_closing((uv_handle_t *)&peer->pipe)) return;
  reload_forget_asker(peer->control->gateway, peer);
  peer->control->peer_count--;
  list_remove(&peer->link);
  uv_close((uv_handle_t *)&peer->pipe, on_peer_closed);
}

static void on_written(uv_write_t *write, int status) {
  (void)status;
  if (status != UV_ECANCELED) close_peer(write->data);
}

static void answer(struct peer *peer, const char *word, slice text) {
  buf_append_format(&peer->answer, "%s %.*s\n", word, (int)text.len, text.data);
  uv_buf_t bytes = uv_buf_init(peer->answer.data, (unsigned)peer->answer.len);
  peer->write.data = peer;
  int error = uv_write(&peer->write, (uv_stream_t *)&peer->pipe, &bytes, 1, on_written);
  if (error < 0) close_peer(peer);
}

static void on_reloaded(void *context, bool is_live, slice text) {
  answer(context, is_live ? "done" : "failed", text);
}

static void obey(struct peer *peer, slice command) {
  peer->has_asked = true;
  if (slice_is_equal(command, SLICE("reload"))) {
    reload_ask(peer->control->gateway, "perigee reload", on_reloaded, peer);
  } else {
    answer(peer, "failed", SLICE("unknown command"));
  }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
  struct peer *peer = handle->data;
  (void)suggested;
  size_t room = peer->line.max_bytes - peer->line.len;
  *out = uv_buf_init(buf_reserve(&peer->line, room), (unsigned)room);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *bytes) {
  struct peer *peer = stream->data;
  (void)bytes;
  if (len < 0) { /* its end, or a line that is too long */
    close_peer(peer);
    return;
  }
  peer->line.len += (size_t)len;
  const char *end = memchr(peer->line.data, '\n', peer->line.len);
  if (peer->has_asked || end == NULL) return;
  obey(peer, slice_of(peer->line.data, (size_t)(end - peer->line.data)));
}

static void on_connection(uv_stream_t *stream, int status) {
  struct control_socket *control = stream->data;
  if (status < 0) return;
  struct peer *peer = mem_alloc_zero(sizeof *peer);
  uv_pipe_init(&control->gateway->loop, &peer->pipe, 0);
  peer->pipe.data = peer;
  peer->control = control;
  buf_init(&peer->line, LINE_BYTES);
  buf_init(&peer->answer, 0);
  list_init(&peer->link);
  list_insert(&control->peers, &peer->link);
  control->peer_count++;
  if (uv_accept(stream, (uv_stream_t *)&peer->pipe) < 0 || control->peer_count > MAX_PEERS) {
    close_peer(peer);
    return;
  }
  uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read);
}

/* --- life --- */

/* Nobody else can open the file at any moment. */
static int bind_privately(const char *path, listener_address *out, char *error,
                          size_t error_bytes) {
  char where[LISTENER_NAME_BYTES];
  snprintf(where, sizeof where, "unix:%s", path);
  mode_t before = umask(S_IRWXG | S_IRWXO | S_IXUSR);
  int result = listener_bind(where, 1, 0, out, error, error_bytes);
  umask(before);
  return result;
}

struct control_socket *control_socket_open(struct gateway *gateway, const char *path, char *error,
                                           size_t error_bytes) {
  listener_address address;
  if (bind_privately(path, &address, error, error_bytes) < 0) return NULL;
  struct control_socket *control = mem_alloc_zero(sizeof *control);
  control->gateway = gateway;
  control->address = address;
  list_init(&control->peers);
  uv_pipe_init(&gateway->loop, &control->pipe, 0);
  control->pipe.data = control;
  int result = uv_pipe_open(&control->pipe, address.sockets[0]);
  if (result == 0) {
    control->address.sockets[0] = -1; /* the pipe's now */
    result = uv_listen((uv_stream_t *)&control->pipe, BACKLOG, on_connection);
  }
  if (result < 0) log_error("no control socket: %s", uv_strerror(result));
  return control;
}

void control_socket_close(struct control_socket *control) {
  if (control == NULL) return;
  struct list *link;
  while ((link = list_peek(&control->peers)) != NULL) {
    close_peer(LIST_OWNER(link, struct peer, link));
  }
  uv_close((uv_handle_t *)&control->pipe, NULL);
  listener_close(&control->address);
}

void control_socket_free(struct control_socket *control) {
  mem_free(control);
}
