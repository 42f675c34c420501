/* An intrusive, circular, doubly linked list: no allocation, removal in one step.
 *
 * A `struct list` is either a list's head or a link inside a member. A link that is on no list
 * points to itself, so that removing it twice does no harm. */
#ifndef PERIGEE_BASE_LIST_H
#define PERIGEE_BASE_LIST_H

#include <stdbool.h>

#include "base/mem.h"

struct list {
  struct list *next;
  struct list *prev;
};

static inline void list_init(struct list *list) {
  list->next = list;
  list->prev = list;
}

static inline bool list_is_empty(const struct list *list) {
  return list->next == list;
}

/* Before `at`: with a head, at the end of its list. The link must be on no list. */
static inline void list_insert(struct list *at, struct list *link) {
  link->next = at;
  link->prev = at->prev;
  at->prev->next = link;
  at->prev = link;
}

static inline void list_remove(struct list *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
  list_init(link);
}

/* Takes all members of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_move_all(struct list *to, struct list *from) {
  if (list_is_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  list_init(from);
}

/* The first member's link, or NULL. */
static inline struct list *list_peek(const struct list *list) {
  return list_is_empty(list) ? NULL : list->next;
}

#define LIST_OWNER(link, type, member) CONTAINER_OF(link, type, member)

#endif
