/* Which of many descriptors have something to say: epoll, behind what streams need of it.
 *
 * Level-triggered: what is not read or written is told again. A poller's own descriptor is readable
 * while there is something to tell, so that a loop can watch it. The end of a connection and its
 * errors are told of every descriptor that is watched at all. Another system's equal (kqueue) goes
 * in here. */
#ifndef PERIGEE_NET_POLLER_H
#define PERIGEE_NET_POLLER_H

#ifndef __linux__
#error "core/net/poller.h knows epoll only"
#endif

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

enum { POLLER_READ = EPOLLIN, POLLER_WRITE = EPOLLOUT };

typedef struct epoll_event poller_event;

/* A new descriptor, to be closed by the caller; or a negative errno. */
static inline int poller_open(void) {
  int poller = epoll_create1(EPOLL_CLOEXEC);
  return poller >= 0 ? poller : -errno;
}

/* Watches for `wanted` instead of `watched`, both sets of POLLER_READ and POLLER_WRITE, 0 for not
 * at all. `owner` is what events will name. To be watched no more before it is closed: what keeps
 * the descriptor open elsewhere (a child process) keeps it watched. False where the system cannot.
 */
static inline bool poller_watch(int poller, int fd, unsigned watched, unsigned wanted,
                                void *owner) {
  if (watched == wanted) return true;
  int change = watched == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  struct epoll_event event = {.events = wanted, .data.ptr = owner};
  return epoll_ctl(poller, change, fd, &event) == 0;
}

/* What there is to tell now, at most `max`; returns how many. */
static inline int poller_take(int poller, poller_event *events, int max) {
  return epoll_wait(poller, events, max, 0);
}

static inline void *poller_owner(const poller_event *event) {
  return event->data.ptr;
}
static inline void poller_set_owner(poller_event *event, void *owner) {
  event->data.ptr = owner;
}
static inline bool poller_can_read(const poller_event *event) {
  return (event->events & EPOLLIN) != 0;
}
static inline bool poller_can_write(const poller_event *event) {
  return (event->events & EPOLLOUT) != 0;
}
/* The connection is broken, or ended on both sides. */
static inline bool poller_is_over(const poller_event *event) {
  return (event->events & (EPOLLHUP | EPOLLERR)) != 0;
}

#endif
