#include "gateway/listeners.h"

#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"

/* In the order of the workers: the kernel numbers the sockets of a port as they begin to listen,
 * and stall.c goes by these numbers. */
static void listen_in_order(const listener_address *address) {
  for (size_t i = 0; i < address->count; i++) {
    listen(address->sockets[i], LISTENER_BACKLOG);
  }
}

static bool add_listener(struct listeners *listeners, const struct config *config,
                         const char *where, size_t sockets) {
  char error[512];
  listener_address *address = &listeners->addresses[listeners->count];
  unsigned user_timeout_s = (unsigned)config->limits.user_timeout;
  if (listener_bind(where, sockets, user_timeout_s, address, error, sizeof error) < 0) {
    fprintf(stderr, "perigee: %s\n", error);
    return false;
  }
  /* A worker's own is for tests, beside whose clock the kernel's would count. */
  if (listeners->test_count == 0) listener_defer(address);
  listen_in_order(address);
  listeners->count++;
  return true;
}

bool listeners_bind(struct listeners *listeners, const struct config *config) {
  size_t workers = config->workers;
  listeners->addresses =
      mem_alloc_zero((CONFIG_LISTENS + CONFIG_WORKERS_MAX) * sizeof *listeners->addresses);
  if (config->listen_count == 0) {
    if (!add_listener(listeners, config, "127.0.0.1:3000", workers)) return false;
    if (listener_has_ipv6() && !add_listener(listeners, config, "[::1]:3000", workers)) {
      return false;
    }
  }
  for (size_t i = 0; i < config->listen_count; i++) {
    if (!add_listener(listeners, config, config->listens[i], workers)) return false;
  }
  if (!config->is_test) return true;
  listeners->test_count = workers;
  for (size_t i = 0; i < workers; i++) {
    if (!add_listener(listeners, config, "127.0.0.1:0", 1)) return false;
  }
  return true;
}

void listeners_close(struct listeners *listeners) {
  for (size_t i = 0; i < listeners->count; i++) listener_close(&listeners->addresses[i]);
  mem_free(listeners->addresses);
  *listeners = (struct listeners){NULL, 0, 0};
}

size_t listeners_take(struct listeners *listeners, size_t worker, int sockets[LISTENERS_A_WORKER]) {
  size_t ordinary = listeners_ordinary_count(listeners);
  size_t count = 0;
  for (size_t i = 0; i < ordinary; i++) {
    sockets[count++] = listeners->addresses[i].sockets[worker];
    listeners->addresses[i].sockets[worker] = -1;
  }
  if (listeners->test_count > 0) {
    sockets[count++] = listeners->addresses[ordinary + worker].sockets[0];
    listeners->addresses[ordinary + worker].sockets[0] = -1;
  }
  return count;
}

void listeners_announce(const struct listeners *listeners) {
  size_t ordinary = listeners_ordinary_count(listeners);
  for (size_t i = 0; i < ordinary; i++) printf("listening on %s\n", listeners->addresses[i].name);
  for (size_t i = ordinary; i < listeners->count; i++) {
    printf("worker %zu listening on %s\n", i - ordinary + 1, listeners->addresses[i].name);
  }
  fflush(stdout);
}
