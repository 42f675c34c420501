/* send(2) and recv(2) on a socket that does not block: bytes, or a negative errno.
 *
 * This is where a gateway spends most of its time. The C library's functions take some sixty
 * instructions around the call: in a program with threads each is a point at which a thread may be
 * cancelled, and none of ours ever is. Where it is worth it the call is made here. */
#ifndef PERIGEE_NET_SOCKET_CALL_H
#define PERIGEE_NET_SOCKET_CALL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>

/* sendto and recvfrom without an address. */
static inline ssize_t socket_call(long number, int fd, const void *data, size_t len, int flags) {
  register long r10 __asm__("r10") = flags;
  register long r8 __asm__("r8") = 0;
  register long r9 __asm__("r9") = 0;
  ssize_t result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"((long)fd), "S"(data), "d"(len), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static inline ssize_t socket_send(int fd, const void *data, size_t len) {
  return socket_call(SYS_sendto, fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline ssize_t socket_receive(int fd, void *data, size_t len) {
  return socket_call(SYS_recvfrom, fd, data, len, MSG_DONTWAIT);
}

#else

static inline ssize_t socket_send(int fd, const void *data, size_t len) {
  ssize_t result = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  return result < 0 ? -errno : result;
}

static inline ssize_t socket_receive(int fd, void *data, size_t len) {
  ssize_t result = recv(fd, data, len, MSG_DONTWAIT);
  return result < 0 ? -errno : result;
}

#endif

/* Whether a negative result means: not now. What does not wait is not interrupted either, but a
 * later try would do. */
static inline bool socket_is_busy(ssize_t result) {
  return result == -EAGAIN || result == -EWOULDBLOCK || result == -ENOBUFS || result == -EINTR;
}

#endif
