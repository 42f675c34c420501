/* The control socket: a Unix socket on which whoever runs the gateway speaks to it.
 *
 *   reload    -> "done TEXT" or "failed TEXT": how it ended; then the connection is closed
 *
 * Its file is readable and writable by its owner alone, which is all the access control there is.
 * The main thread's. What a test asks on standard input is control.h's. */
#ifndef PERIGEE_GATEWAY_CONTROL_SOCKET_H
#define PERIGEE_GATEWAY_CONTROL_SOCKET_H

#include <stddef.h>

struct control_socket;
struct gateway;

/* Listens at `path` on the gateway's loop. NULL, with a line of text in `error`, when that fails: a
 * living gateway has the path, say. */
struct control_socket *control_socket_open(struct gateway *gateway, const char *path, char *error,
                                           size_t error_bytes);
/* Closes what is open, so that the loop can end, and removes the file; NULL is allowed. */
void control_socket_close(struct control_socket *control);
/* After the loop has ended. */
void control_socket_free(struct control_socket *control);

#endif
