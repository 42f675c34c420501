/* Listening sockets: parsing where to listen, binding so that several workers share a port.
 *
 * The first socket of a port is bound without SO_REUSEPORT, so that a second gateway is refused;
 * then it gets the option and its siblings are bound to the port that it got. A Unix socket cannot
 * be bound twice: its descriptor is duplicated. */
#ifndef PERIGEE_NET_LISTENER_H
#define PERIGEE_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

enum { LISTENER_NAME_BYTES = 256, LISTENER_BACKLOG = 4096 };

/* Bound sockets of one address, one per worker; not yet listening. */
typedef struct {
  int *sockets;
  size_t count;
  bool is_unix;
  char name[LISTENER_NAME_BYTES]; /* "http://127.0.0.1:3000", "http://[::1]:3000", "unix:/path" */
  char path[LISTENER_NAME_BYTES]; /* of a Unix socket: removed by listener_close */
} listener_address;

/* Binds `count` sockets to "host:port", "[ipv6]:port", ":port" (all addresses) or "unix:/path".
 * `user_timeout_s` bounds unacknowledged data on accepted connections. 0 or a negative UV_E code,
 * with a line of text in `error`. A host name is looked up; its first address counts. */
int listener_bind(const char *where, size_t count, unsigned user_timeout_s, listener_address *out,
                  char *error, size_t error_bytes);

/* Before anyone is told where: who connects is told of with its first bytes, which saves an event
 * for each; who says nothing, after a second. No effect on Unix sockets, nor where the system
 * cannot. */
void listener_defer(const listener_address *address);
/* Whether that is so for this socket. */
bool listener_is_deferred(int socket);

/* Closes the sockets that are left (those given away are -1) and removes a Unix socket's file. */
void listener_close(listener_address *address);

/* Whether `where` can be parsed; nothing is looked up. */
bool listener_is_address(const char *where);

/* Whether this machine has the IPv6 loopback address. */
bool listener_has_ipv6(void);

#endif
