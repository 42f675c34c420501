#include "gateway/conn_events.h"

#include "base/mem.h"
#include "gateway/conn.h"
#include "gateway/relay.h"
#include "gateway/worker.h"

struct conn_event {
  struct conn_event *next;
  conn_event_kind kind;
  bool is_binary;
  slice data;
  slice topic;
  char bytes[];
};

static bool has_handler(const struct conn *conn, conn_event_kind kind) {
  static const unsigned handlers[] = {
      [EVENT_OPEN] = HANDLER_OPEN,     [EVENT_MESSAGE] = HANDLER_MESSAGE,
      [EVENT_SIGNAL] = HANDLER_SIGNAL, [EVENT_DRAIN] = HANDLER_DRAIN,
      [EVENT_TICK] = HANDLER_TICK,
  };
  return (conn->route->handlers & handlers[kind]) != 0;
}

/* Whether anybody is to be told, the script or, of messages, the topics that the client's go to. */
static bool has_listener(const struct conn *conn, conn_event_kind kind) {
  return has_handler(conn, kind) || (kind == EVENT_MESSAGE && conn->is_relaying);
}

static hook_result tell_script(struct conn *conn, slice data, bool is_binary) {
  if (!has_handler(conn, EVENT_MESSAGE)) return HOOK_DONE;
  return conn->worker->hooks->on_message(conn, data, is_binary);
}

/* Not inlined: the script's way needs no frame. */
__attribute__((noinline)) static hook_result relay_or_tell(struct conn *conn, slice data,
                                                           bool is_binary) {
  return relay_message(conn, data, is_binary) ? HOOK_DONE : tell_script(conn, data, is_binary);
}

static hook_result tell_message(struct conn *conn, slice data, bool is_binary) {
  return conn->is_relaying ? relay_or_tell(conn, data, is_binary)
                           : tell_script(conn, data, is_binary);
}

static hook_result tell(struct conn *conn, conn_event_kind kind, slice data, bool is_binary,
                        slice topic) {
  const struct hooks *hooks = conn->worker->hooks;
  switch (kind) {
    case EVENT_OPEN:
      return hooks->on_open(conn);
    case EVENT_MESSAGE:
      return tell_message(conn, data, is_binary);
    case EVENT_SIGNAL:
      return hooks->on_signal(conn, data, is_binary, topic);
    case EVENT_DRAIN:
      return hooks->on_drain(conn);
    case EVENT_TICK:
      return hooks->on_tick(conn);
  }
  return HOOK_DONE;
}

/* After on_open: what was published meanwhile is queued, headers go. */
static void after(struct conn *conn, conn_event_kind kind) {
  if (kind == EVENT_OPEN) conn_opened(conn);
}

static void append(struct conn *conn, struct conn_event *event) {
  event->next = NULL;
  struct conn_events *waiting = conn->waiting;
  if (waiting != NULL) {
    waiting->last->next = event;
  } else {
    waiting = conn->waiting = mem_alloc(sizeof *waiting);
    *waiting = (struct conn_events){.first = event};
  }
  waiting->last = event;
  waiting->count++;
  waiting->bytes += (uint32_t)(event->data.len + event->topic.len);
}

void conn_events_queue(struct conn *conn, conn_event_kind kind, slice data, bool is_binary,
                       slice topic) {
  if (!has_listener(conn, kind)) return;
  struct conn_event *event = mem_alloc(sizeof *event + data.len + topic.len);
  *event = (struct conn_event){.kind = kind, .is_binary = is_binary};
  if (data.len > 0) memcpy(event->bytes, data.data, data.len);
  if (topic.len > 0) memcpy(event->bytes + data.len, topic.data, topic.len);
  event->data = slice_of(event->bytes, data.len);
  event->topic = slice_of(event->bytes + data.len, topic.len);
  append(conn, event);
}

void conn_events_push(struct conn *conn, conn_event_kind kind, slice data, bool is_binary,
                      slice topic) {
  if (conn->is_busy || conn->waiting != NULL) {
    conn_events_queue(conn, kind, data, is_binary, topic);
    return;
  }
  if (has_handler(conn, kind)) {
    conn->is_busy = true;
    if (tell(conn, kind, data, is_binary, topic) == HOOK_SUSPENDED) return;
    conn->is_busy = false;
  }
  after(conn, kind);
}

void conn_events_push_message(struct conn *conn, slice data, bool is_binary) {
  if (conn->is_busy || conn->waiting != NULL) {
    conn_events_queue(conn, EVENT_MESSAGE, data, is_binary, SLICE(""));
    return;
  }
  conn->is_busy = true;
  if (tell_message(conn, data, is_binary) == HOOK_DONE) conn->is_busy = false;
}

static struct conn_event *take(struct conn *conn) {
  struct conn_events *waiting = conn->waiting;
  struct conn_event *event = waiting->first;
  waiting->first = event->next;
  waiting->count--;
  waiting->bytes -= (uint32_t)(event->data.len + event->topic.len);
  if (waiting->first == NULL) {
    mem_free(waiting);
    conn->waiting = NULL;
  }
  return event;
}

static void tell_close(struct conn *conn) {
  conn->is_told_close = true;
  if (conn->is_told_open && (conn->route->handlers & HANDLER_CLOSE) != 0) {
    slice reason = conn->close_reason != NULL ? slice_of_string(conn->close_reason) : SLICE("");
    conn->is_busy = true;
    if (conn->worker->hooks->on_close(conn, conn->close_code, reason) == HOOK_SUSPENDED) return;
    conn->is_busy = false;
  }
  conn_finish(conn);
}

void conn_events_pump(struct conn *conn) {
  conn_retain(conn);
  while (!conn->is_busy && conn->waiting != NULL) {
    struct conn_event *event = take(conn);
    conn->is_busy = true;
    hook_result result = HOOK_DONE;
    /* A reload may have come since it was queued, and the newer code may have no such handler. */
    if (has_listener(conn, event->kind)) {
      result = tell(conn, event->kind, event->data, event->is_binary, event->topic);
    }
    if (result == HOOK_DONE) {
      conn->is_busy = false;
      after(conn, event->kind);
    }
    mem_free(event);
  }
  if (!conn->is_busy && conn->state == CONN_GONE) {
    if (!conn->is_told_close) {
      tell_close(conn);
    } else if (!conn->is_finished) {
      conn_finish(conn); /* on_close had suspended */
    }
  }
  conn_release(conn);
}

void conn_events_relay(struct conn *conn) {
  if (!conn->is_relaying || conn->waiting == NULL) return;
  for (size_t left = conn->waiting->count; left > 0; left--) {
    struct conn_event *event = take(conn);
    if (event->kind == EVENT_MESSAGE && relay_message(conn, event->data, event->is_binary)) {
      mem_free(event);
    } else {
      append(conn, event);
    }
  }
}

void conn_events_clear(struct conn *conn) {
  while (conn->waiting != NULL) mem_free(take(conn));
}
