#include "gateway/acceptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timer.h"
#include "gateway/http_conn.h"
#include "gateway/worker.h"
#include "net/listener.h"

enum {
  ACCEPT_PAUSE_MS = 100,
  ACCEPTS_A_POLL = 64, /* so that a rush of new connections does not starve those that are open */
};

struct acceptor {
  uv_poll_t poll;
  struct worker *worker;
  struct timer retry; /* while the process has no descriptor left */
  int socket;
  bool is_deferred; /* who is accepted should have said something */
};

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_retry(struct timer *timer) {
  struct acceptor *acceptor = CONTAINER_OF(timer, struct acceptor, retry);
  uv_poll_start(&acceptor->poll, UV_READABLE, on_connection);
}

/* Nobody is accepted for a moment: what waits would keep the loop busy. */
static void pause_accepting(struct acceptor *acceptor, int error) {
  log_warn("cannot accept a connection: %s", uv_strerror(error));
  uv_poll_stop(&acceptor->poll);
  timer_start(&acceptor->worker->timers, &acceptor->retry, clock_now_ms() + ACCEPT_PAUSE_MS);
}

/* Those that are too many wait for the next poll. */
static void on_connection(uv_poll_t *poll, int status, int events) {
  struct acceptor *acceptor = poll->data;
  struct worker *worker = acceptor->worker;
  (void)status; /* accepting tells */
  (void)events;
  stream_loop_event(&worker->streams);
  worker->streams.is_poll_due = false;
  for (int count = 0; count < ACCEPTS_A_POLL && !worker->streams.is_poll_due; count++) {
    char address[STREAM_ADDRESS_BYTES];
    int error;
    struct stream *stream =
        stream_accept(&worker->streams, acceptor->socket, acceptor->is_deferred, address, &error);
    if (stream == NULL) {
      if (error != UV_EAGAIN) pause_accepting(acceptor, error);
      return;
    }
    http_conn_open(worker, stream, slice_of_string(address));
    worker_after_event(worker);
  }
}

void acceptors_open(struct worker *worker, const int *sockets, size_t count) {
  worker->acceptors = mem_alloc_zero(count * sizeof *worker->acceptors);
  worker->acceptor_count = count;
  for (size_t i = 0; i < count; i++) {
    struct acceptor *acceptor = &worker->acceptors[i];
    acceptor->worker = worker;
    acceptor->socket = sockets[i];
    acceptor->is_deferred = listener_is_deferred(sockets[i]);
    timer_init(&acceptor->retry, on_retry);
    REQUIRE(uv_poll_init(&worker->loop, &acceptor->poll, sockets[i]) == 0);
    acceptor->poll.data = acceptor;
  }
}

void acceptors_start(struct worker *worker) {
  for (size_t i = 0; i < worker->acceptor_count; i++) {
    struct acceptor *acceptor = &worker->acceptors[i];
    if (listen(acceptor->socket, LISTENER_BACKLOG) < 0) {
      log_error("cannot listen: %s", strerror(errno));
    }
    uv_poll_start(&acceptor->poll, UV_READABLE, on_connection);
  }
}

void acceptors_close(struct worker *worker) {
  for (size_t i = 0; i < worker->acceptor_count; i++) {
    struct acceptor *acceptor = &worker->acceptors[i];
    if (uv_is_closing((uv_handle_t *)&acceptor->poll)) continue;
    timer_stop(&worker->timers, &acceptor->retry);
    uv_close((uv_handle_t *)&acceptor->poll, NULL);
    close(acceptor->socket);
  }
}

void acceptors_free(struct worker *worker) {
  mem_free(worker->acceptors);
}
