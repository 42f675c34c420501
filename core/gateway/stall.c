#include "gateway/stall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/filter.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/gateway_internal.h"

#define NS_PER_MS UINT64_C(1000000)

enum {
  LOOK_MOST_MS = 1000,
  LOOKS_A_TIMEOUT = 4,
  MISSED_LOOKS = 2, /* after so many without a beat, new connections go elsewhere */
};

/* --- labels --- */

struct label {
  struct map_entry entry;
  char *text;
};

const char *stall_label(struct gateway *gateway, slice text) {
  struct stall_watch *watch = &gateway->stall;
  pthread_mutex_lock(&watch->lock);
  struct map_entry *entry = map_find(&watch->labels, text);
  struct label *label = NULL;
  if (entry != NULL) {
    label = MAP_OWNER(entry, struct label, entry);
  } else {
    label = mem_alloc_zero(sizeof *label);
    label->text = mem_copy(text);
    map_insert(&watch->labels, &label->entry, slice_of(label->text, text.len));
  }
  pthread_mutex_unlock(&watch->lock);
  return label->text;
}

static void free_labels(struct map *labels) {
  struct map_entry *entry = map_next(labels, NULL);
  while (entry != NULL) {
    struct label *label = MAP_OWNER(entry, struct label, entry);
    entry = map_next(labels, entry);
    mem_free(label->text);
    mem_free(label);
  }
  map_deinit(labels);
}

/* --- who gets new connections ---
 *
 * Of the sockets that share a port the kernel takes one by a hash, whether its worker listens or
 * not. A filter of ours may choose instead; it goes by the order in which the sockets began to
 * listen, which is that of the workers. shutdown() would take a socket out as well, but resets
 * whoever waits in its queue. */

#ifdef SO_ATTACH_REUSEPORT_CBPF

static struct sock_filter statement(unsigned code, unsigned operand) {
  return (struct sock_filter)BPF_STMT((unsigned short)code, operand);
}

static void choose_all(int group) {
#ifdef SO_DETACH_REUSEPORT_BPF
  int unused = 0;
  /* Fails where there is none, which is as well. */
  setsockopt(group, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof unused);
#else
  (void)group;
#endif
}

/* Any of these sockets, by chance. */
static int choose_among(int group, const unsigned *places, unsigned count) {
  struct sock_filter code[2 + 2 * CONFIG_WORKERS_MAX];
  unsigned short len = 0;
  code[len++] = statement(BPF_LD | BPF_W | BPF_ABS, (unsigned)(SKF_AD_OFF + SKF_AD_RANDOM));
  code[len++] = statement(BPF_ALU | BPF_MOD | BPF_K, count);
  for (unsigned i = 0; i + 1 < count; i++) {
    code[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, i, 0, 1);
    code[len++] = statement(BPF_RET | BPF_K, places[i]);
  }
  code[len++] = statement(BPF_RET | BPF_K, places[count - 1]);
  struct sock_fprog program = {len, code};
  int result = setsockopt(group, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
  return result < 0 ? -errno : 0;
}

static void steer(struct gateway *gateway, uint64_t avoided) {
  struct stall_watch *watch = &gateway->stall;
  if (avoided == watch->avoided) return;
  watch->avoided = avoided;
  unsigned places[CONFIG_WORKERS_MAX];
  unsigned count = 0;
  for (unsigned i = 0; i < gateway->worker_count; i++) {
    if ((avoided >> i & 1) == 0) places[count++] = i;
  }
  for (size_t i = 0; i < watch->group_count; i++) {
    if (count == 0 || count == gateway->worker_count) {
      choose_all(watch->groups[i]);
    } else if (choose_among(watch->groups[i], places, count) < 0) {
      log_debug("new connections cannot be kept from workers that are stuck");
    }
  }
}

static void join_groups(struct gateway *gateway) {
  struct stall_watch *watch = &gateway->stall;
  const struct listeners *listeners = &gateway->listeners;
  if (gateway->worker_count < 2 || gateway->config->stall_timeout_ms == 0) return;
  for (size_t i = 0; i < listeners_ordinary_count(listeners); i++) {
    if (listeners->addresses[i].is_unix) continue;
    int group = fcntl(listeners->addresses[i].sockets[0], F_DUPFD_CLOEXEC, 0);
    if (group < 0) continue;
    /* What a gateway that crashed has left, when these are its sockets. */
    choose_all(group);
    watch->groups[watch->group_count++] = group;
  }
}

#else

static void steer(struct gateway *gateway, uint64_t avoided) {
  gateway->stall.avoided = avoided;
}

static void join_groups(struct gateway *gateway) {
  (void)gateway;
}

#endif

static void leave_groups(struct stall_watch *watch) {
  for (size_t i = 0; i < watch->group_count; i++) close(watch->groups[i]);
  watch->group_count = 0;
}

/* --- the watch --- */

uint64_t stall_interval_ms(const struct config *config) {
  uint64_t interval_ms = config->stall_timeout_ms / LOOKS_A_TIMEOUT;
  if (interval_ms == 0 && config->stall_timeout_ms > 0) return 1;
  return interval_ms > 0 && interval_ms < LOOK_MOST_MS ? interval_ms : LOOK_MOST_MS;
}

void stall_init(struct gateway *gateway) {
  struct stall_watch *watch = &gateway->stall;
  pthread_mutex_init(&watch->lock, NULL);
  map_init(&watch->labels);
  watch->interval_ns = stall_interval_ms(gateway->config) * NS_PER_MS;
  join_groups(gateway);
}

void stall_deinit(struct gateway *gateway) {
  struct stall_watch *watch = &gateway->stall;
  leave_groups(watch);
  free_labels(&watch->labels);
  pthread_mutex_destroy(&watch->lock);
}

static void see(struct gateway *gateway, size_t index, uint64_t now_ns) {
  struct activity *activity = &gateway->workers[index].activity;
  stall_seen *seen = &gateway->stall.workers[index];
  seen->beat = atomic_load_explicit(&activity->beat, memory_order_relaxed);
  seen->since_ns = now_ns;
  seen->is_woken = false;
}

void stall_begin(struct gateway *gateway) {
  uint64_t now_ns = clock_real_ns();
  gateway->stall.looked_ns = now_ns;
  for (size_t i = 0; i < gateway->worker_count; i++) see(gateway, i, now_ns);
}

static void log_stuck(const struct gateway *gateway, size_t index, uint64_t silent_ns) {
  struct activity *activity = &gateway->workers[index].activity;
  const char *label = atomic_load_explicit(&activity->label, memory_order_acquire);
  uint64_t id = atomic_load_explicit(&activity->conn_id, memory_order_relaxed);
  char text[GATEWAY_CONN_ID_BYTES] = "";
  if (id != 0) gateway_format_conn_id(gateway, id, text);
  log_warn("worker %zu has been stuck for %.1f s %s%s%s%s", index + 1, (double)silent_ns / 1e9,
           label != NULL ? "in " : "outside of handlers", label != NULL ? label : "",
           id != 0 ? ", connection " : "", text);
}

/* No beat since the last look. */
static void judge_silence(struct gateway *gateway, size_t index, uint64_t now_ns) {
  struct worker *worker = &gateway->workers[index];
  stall_seen *seen = &gateway->stall.workers[index];
  uint64_t silent_ns = now_ns - seen->since_ns;
  uint64_t timeout_ns = gateway->config->stall_timeout_ms * NS_PER_MS;
  bool is_in_handler = atomic_load_explicit(&worker->activity.label, memory_order_relaxed) != NULL;
  if (is_in_handler || seen->is_woken) {
    if (silent_ns < timeout_ns || seen->is_stuck) return;
    seen->is_stuck = true;
    log_stuck(gateway, index, silent_ns);
  } else if (silent_ns >= timeout_ns / 2 && !gateway->is_stopping) {
    /* Idle, as it seems. The time counts from here on. */
    seen->is_woken = true;
    seen->since_ns = now_ns;
    worker_wake(worker);
  }
}

static void look_at(struct gateway *gateway, size_t index, uint64_t now_ns) {
  struct activity *activity = &gateway->workers[index].activity;
  stall_seen *seen = &gateway->stall.workers[index];
  if (atomic_load_explicit(&activity->beat, memory_order_relaxed) == seen->beat) {
    judge_silence(gateway, index, now_ns);
    return;
  }
  if (seen->is_stuck) {
    seen->is_stuck = false;
    log_info("worker %zu goes on after %.1f s", index + 1, (double)(now_ns - seen->since_ns) / 1e9);
  }
  see(gateway, index, now_ns);
}

static bool is_to_be_avoided(struct gateway *gateway, size_t index, uint64_t now_ns) {
  struct activity *activity = &gateway->workers[index].activity;
  const stall_seen *seen = &gateway->stall.workers[index];
  if (seen->is_stuck) return true;
  return atomic_load_explicit(&activity->label, memory_order_relaxed) != NULL &&
         now_ns - seen->since_ns >= MISSED_LOOKS * gateway->stall.interval_ns;
}

bool stall_look(struct gateway *gateway) {
  struct stall_watch *watch = &gateway->stall;
  if (gateway->config->stall_timeout_ms == 0) return true;
  uint64_t now_ns = clock_real_ns();
  uint64_t held_up_ns = now_ns - watch->looked_ns;
  watch->looked_ns = now_ns;
  uint64_t avoided = 0;
  bool is_any_stuck = false;
  for (size_t i = 0; i < gateway->worker_count; i++) {
    /* When the machine gave this thread no time, the workers may have had none either. */
    if (held_up_ns > 2 * watch->interval_ns && !watch->workers[i].is_stuck) {
      watch->workers[i].since_ns += held_up_ns - watch->interval_ns;
    }
    look_at(gateway, i, now_ns);
    if (watch->workers[i].is_stuck) is_any_stuck = true;
    if (is_to_be_avoided(gateway, i, now_ns)) avoided |= UINT64_C(1) << i;
  }
  if (!gateway->is_stopping) steer(gateway, avoided);
  return !is_any_stuck;
}

void stall_stop(struct gateway *gateway) {
  leave_groups(&gateway->stall);
}
