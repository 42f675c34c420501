#define _GNU_SOURCE
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

enum { NS_PER_MS = 1000000 };

static _Atomic uint64_t advanced_ns;
static _Atomic uint64_t peers_advanced_ns; /* advanced_ns but for what they were held for */
static _Atomic bool is_holding_peers;
static _Atomic uint64_t frozen_now_ns; /* zero while the clock runs */
static _Atomic uint64_t frozen_wall_ns;

static uint64_t read_clock(clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

uint64_t clock_real_ns(void) {
  return read_clock(CLOCK_MONOTONIC);
}

static uint64_t load(const _Atomic uint64_t *ns) {
  return atomic_load_explicit(ns, memory_order_relaxed);
}

uint64_t clock_now_ns(void) {
  uint64_t frozen = load(&frozen_now_ns);
  return (frozen > 0 ? frozen : clock_real_ns()) + load(&advanced_ns);
}

uint64_t clock_peers_ms(void) {
  return clock_peers_ms_at(clock_real_ns());
}

uint64_t clock_peers_ms_at(uint64_t real_ns) {
  uint64_t frozen = load(&frozen_now_ns);
  return ((frozen > 0 ? frozen : real_ns) + load(&peers_advanced_ns)) / NS_PER_MS;
}

uint64_t clock_peers_due_ms(uint64_t peers_ms) {
  if (peers_ms == UINT64_MAX || atomic_load(&is_holding_peers)) return UINT64_MAX;
  return peers_ms + load(&advanced_ns) / NS_PER_MS - load(&peers_advanced_ns) / NS_PER_MS;
}

uint64_t clock_now_ms(void) {
  return clock_now_ns() / NS_PER_MS;
}

uint64_t clock_wall_ms(void) {
  uint64_t frozen = load(&frozen_wall_ns);
  return ((frozen > 0 ? frozen : read_clock(CLOCK_REALTIME)) + load(&advanced_ns)) / NS_PER_MS;
}

void clock_freeze(void) {
  if (clock_is_frozen()) return;
  atomic_store(&frozen_wall_ns, read_clock(CLOCK_REALTIME));
  atomic_store(&frozen_now_ns, clock_real_ns());
}

bool clock_is_frozen(void) {
  return atomic_load(&frozen_now_ns) > 0;
}

clock_state clock_swap(clock_state state) {
  return (clock_state){atomic_exchange(&advanced_ns, state.advanced_ns),
                       atomic_exchange(&peers_advanced_ns, state.peers_advanced_ns),
                       atomic_exchange(&frozen_now_ns, state.frozen_now_ns),
                       atomic_exchange(&frozen_wall_ns, state.frozen_wall_ns),
                       atomic_exchange(&is_holding_peers, state.is_holding_peers)};
}

void clock_advance(uint64_t ms) {
  /* Peers' first: who asks clock_peers_due_ms in between is early and asks again, never late. */
  if (!atomic_load(&is_holding_peers)) atomic_fetch_add(&peers_advanced_ns, ms * NS_PER_MS);
  atomic_fetch_add(&advanced_ns, ms * NS_PER_MS);
}

void clock_hold_peers(bool is_held) {
  atomic_store(&is_holding_peers, is_held);
}

static struct tm broken_down(uint64_t wall_ms) {
  time_t seconds = (time_t)(wall_ms / 1000);
  struct tm parts;
  gmtime_r(&seconds, &parts);
  return parts;
}

size_t clock_format_iso(uint64_t wall_ms, char out[CLOCK_ISO_BYTES]) {
  struct tm t = broken_down(wall_ms);
  int len = snprintf(out, CLOCK_ISO_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                     (t.tm_year + 1900) % 10000, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min,
                     t.tm_sec, (int)(wall_ms % 1000));
  return (size_t)len;
}

size_t clock_format_http(uint64_t wall_ms, char out[CLOCK_HTTP_BYTES]) {
  struct tm t = broken_down(wall_ms);
  int len = snprintf(out, CLOCK_HTTP_BYTES, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday],
                     t.tm_mday, months[t.tm_mon], (t.tm_year + 1900) % 10000, t.tm_hour, t.tm_min,
                     t.tm_sec);
  return (size_t)len;
}

bool clock_parse_http(const char *text, size_t len, uint64_t *wall_ms) {
  char copy[CLOCK_HTTP_BYTES];
  if (len != 29) return false;
  memcpy(copy, text, len);
  copy[len] = '\0';
  char month[4];
  struct tm t = {0};
  int end = 0;
  if (sscanf(copy + 3, ", %2d %3s %4d %2d:%2d:%2d GMT%n", &t.tm_mday, month, &t.tm_year, &t.tm_hour,
             &t.tm_min, &t.tm_sec, &end) != 6 ||
      end != 26) {
    return false;
  }
  for (t.tm_mon = 0; t.tm_mon < 12; t.tm_mon++) {
    if (strcmp(month, months[t.tm_mon]) == 0) break;
  }
  if (t.tm_mon == 12 || t.tm_year < 1970) return false;
  t.tm_year -= 1900;
  *wall_ms = (uint64_t)timegm(&t) * 1000;
  /* sscanf and timegm take much that is no date; what is one has exactly one spelling. */
  char again[CLOCK_HTTP_BYTES];
  return clock_format_http(*wall_ms, again) == len && memcmp(again, text, len) == 0;
}
