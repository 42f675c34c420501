#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "base/slice.h"

typedef struct {
  char host[LISTENER_NAME_BYTES]; /* empty: all addresses */
  char port[8];
} host_port;

static const char unix_prefix[] = "unix:";

static bool is_unix(const char *where) {
  return strncmp(where, unix_prefix, sizeof unix_prefix - 1) == 0;
}

static bool parse(const char *where, host_port *out) {
  const char *colon = strrchr(where, ':');
  if (colon == NULL) return false;
  slice host = slice_of(where, (size_t)(colon - where));
  if (host.len >= 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
    host = slice_of(host.data + 1, host.len - 2);
  } else if (memchr(host.data, ':', host.len) != NULL) {
    return false;
  }
  char *end;
  errno = 0;
  unsigned long port = strtoul(colon + 1, &end, 10);
  if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535 || errno != 0) return false;
  if (host.len >= sizeof out->host) return false;
  snprintf(out->host, sizeof out->host, "%.*s", (int)host.len, host.data);
  snprintf(out->port, sizeof out->port, "%lu", port);
  return true;
}

bool listener_is_address(const char *where) {
  host_port ignored;
  if (is_unix(where)) {
    size_t len = strlen(where) - (sizeof unix_prefix - 1);
    return len > 0 && len < sizeof((struct sockaddr_un *)NULL)->sun_path;
  }
  return parse(where, &ignored);
}

static int set_option(int socket, int level, int name, int value) {
  return setsockopt(socket, level, name, &value, sizeof value);
}

static int open_socket(int family) {
  int fd = socket(family, SOCK_STREAM, 0);
  if (fd < 0) return -errno;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

/* Accepted connections inherit these on Linux, which saves two system calls each. */
static void set_inherited_options(int fd, unsigned user_timeout_s) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
#ifdef TCP_USER_TIMEOUT
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)user_timeout_s * 1000);
#else
  (void)user_timeout_s;
#endif
}

static int bind_tcp(const struct sockaddr *address, socklen_t len, bool is_sibling,
                    unsigned user_timeout_s) {
  int fd = open_socket(address->sa_family);
  if (fd < 0) return fd;
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr));
  }
#ifdef SO_REUSEPORT
  if (is_sibling) set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#endif
  set_inherited_options(fd, user_timeout_s);
  if (bind(fd, address, len) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
#ifdef SO_REUSEPORT
  set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#endif
  /* A bound socket that does not listen lets a second gateway bind with SO_REUSEADDR; listening at
   * once refuses it. */
  if (!is_sibling && listen(fd, LISTENER_BACKLOG) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

static void name_address(const struct sockaddr *address, listener_address *out) {
  char text[64] = "";
  int port;
  if (address->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    uv_ip6_name(in6, text, sizeof text);
    port = ntohs(in6->sin6_port);
    snprintf(out->name, sizeof out->name, "http://[%s]:%d", text, port);
  } else {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
    uv_ip4_name(in, text, sizeof text);
    port = ntohs(in->sin_port);
    snprintf(out->name, sizeof out->name, "http://%s:%d", text, port);
  }
}

static int bind_all_tcp(const struct addrinfo *info, size_t count, unsigned user_timeout_s,
                        listener_address *out) {
  struct sockaddr_storage address;
  socklen_t len = info->ai_addrlen;
  memcpy(&address, info->ai_addr, len);
  for (size_t i = 0; i < count; i++) {
    int fd = bind_tcp((struct sockaddr *)&address, len, i > 0, user_timeout_s);
    if (fd < 0) return fd;
    out->sockets[out->count++] = fd;
    /* Where port 0 was asked, the siblings need the one that the first got. */
    if (i == 0) getsockname(fd, (struct sockaddr *)&address, &len);
  }
  name_address((struct sockaddr *)&address, out);
  return 0;
}

/* A socket file that nobody listens on is left from a crash and may be replaced. */
static bool is_stale(const struct sockaddr_un *address) {
  int fd = open_socket(AF_UNIX);
  if (fd < 0) return false;
  bool is_refused =
      connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;
  close(fd);
  return is_refused;
}

static int bind_unix(const char *path, size_t count, listener_address *out) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = open_socket(AF_UNIX);
  if (fd < 0) return fd;
  out->sockets[out->count++] = fd;
  if (is_stale(&address)) unlink(path);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  snprintf(out->path, sizeof out->path, "%s", path);
  snprintf(out->name, sizeof out->name, "unix:%s", path);
  for (size_t i = 1; i < count; i++) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return -errno;
    out->sockets[out->count++] = copy;
  }
  return 0;
}

static int look_up_and_bind(const char *where, size_t count, unsigned user_timeout_s,
                            listener_address *out, char *error, size_t error_bytes) {
  host_port parsed;
  if (!parse(where, &parsed)) {
    snprintf(error, error_bytes, "cannot listen on %s: not host:port, [ipv6]:port or unix:/path",
             where);
    return UV_EINVAL;
  }
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
  struct addrinfo *info = NULL;
  /* All addresses: one IPv6 socket takes IPv4 too, where there is IPv6. */
  const char *host = parsed.host;
  if (host[0] == '\0') host = listener_has_ipv6() ? "::" : "0.0.0.0";
  int failed = getaddrinfo(host, parsed.port, &hints, &info);
  if (failed != 0) {
    snprintf(error, error_bytes, "cannot listen on %s: %s", where, gai_strerror(failed));
    return UV_EAI_NONAME;
  }
  int result = bind_all_tcp(info, count, user_timeout_s, out);
  freeaddrinfo(info);
  return result;
}

int listener_bind(const char *where, size_t count, unsigned user_timeout_s, listener_address *out,
                  char *error, size_t error_bytes) {
  *out = (listener_address){.sockets = mem_alloc(count * sizeof(int)), .is_unix = is_unix(where)};
  error[0] = '\0';
  int result = out->is_unix
                   ? bind_unix(where + sizeof unix_prefix - 1, count, out)
                   : look_up_and_bind(where, count, user_timeout_s, out, error, error_bytes);
  if (result >= 0) return 0;
  if (error[0] == '\0') {
    snprintf(error, error_bytes, "cannot listen on %s: %s", where, uv_strerror(result));
  }
  listener_close(out);
  return result;
}

void listener_defer(const listener_address *address) {
#ifdef TCP_DEFER_ACCEPT
  for (size_t i = 0; i < address->count; i++) {
    set_option(address->sockets[i], IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
  }
#else
  (void)address;
#endif
}

bool listener_is_deferred(int socket) {
#ifdef TCP_DEFER_ACCEPT
  int seconds = 0;
  socklen_t len = sizeof seconds;
  return getsockopt(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) == 0 && seconds > 0;
#else
  (void)socket;
  return false;
#endif
}

void listener_close(listener_address *address) {
  for (size_t i = 0; i < address->count; i++) {
    if (address->sockets[i] >= 0) close(address->sockets[i]);
  }
  mem_free(address->sockets);
  if (address->path[0] != '\0') unlink(address->path);
  *address = (listener_address){0};
}

bool listener_has_ipv6(void) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int fd = open_socket(AF_INET6);
  if (fd < 0) return false;
  bool has = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
  close(fd);
  return has;
}
