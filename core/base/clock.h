/* The only place that reads the time.
 *
 * One clock for the whole process. A test can freeze it and move it forward; then every timer,
 * age and limit follows, in all workers. */
#ifndef PERIGEE_BASE_CLOCK_H
#define PERIGEE_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic, in milliseconds / nanoseconds, from an arbitrary origin; moved by a test. */
uint64_t clock_now_ms(void);
uint64_t clock_now_ns(void);

/* The clock of peers, by which their silence is measured: it goes as clock_now_ms does, but stands
 * still where a test moves time and holds it. */
uint64_t clock_peers_ms(void);
/* The same as it was when clock_real_ns said this, but for what a test has moved since: for those
 * who share one look at the clock. */
uint64_t clock_peers_ms_at(uint64_t real_ns);
/* When it will be `peers_ms`, on clock_now_ms's scale. UINT64_MAX: never, as a `peers_ms` of
 * UINT64_MAX, and while it is held. */
uint64_t clock_peers_due_ms(uint64_t peers_ms);

/* Unix time in milliseconds, moved by a test. */
uint64_t clock_wall_ms(void);

/* Real monotonic nanoseconds, which no test moves: for budgets of a turn and for measuring. */
uint64_t clock_real_ns(void);

/* For tests: from now on time stands still but for clock_advance. Any thread. */
void clock_freeze(void);
bool clock_is_frozen(void);

/* What tests have done to the clock; all zero: nothing. */
typedef struct {
  uint64_t advanced_ns;
  uint64_t peers_advanced_ns;
  uint64_t frozen_now_ns;
  uint64_t frozen_wall_ns;
  bool is_holding_peers;
} clock_state;
/* For gateways that take turns on one thread, each with a clock of its own: sets another state and
 * returns what it was. */
clock_state clock_swap(clock_state state);
/* For tests: moves all clocks forward. Any thread; waking those who wait is the caller's affair. */
void clock_advance(uint64_t ms);
/* For tests: from now on clock_advance leaves the clock of peers where it is, or moves it again.
 * Who has asked clock_peers_due_ms before has to ask again. Any thread. */
void clock_hold_peers(bool is_held);

/* Room for clock_format_iso's and clock_format_http's text, with the NUL. */
enum { CLOCK_ISO_BYTES = 32, CLOCK_HTTP_BYTES = 32 };

/* "2026-01-31T23:59:59.123Z", ISO 8601 in UTC. Returns the length without the NUL. */
size_t clock_format_iso(uint64_t wall_ms, char out[CLOCK_ISO_BYTES]);
/* "Sat, 31 Jan 2026 23:59:59 GMT", IMF-fixdate (RFC 9110 section 5.6.7). Returns the length. */
size_t clock_format_http(uint64_t wall_ms, char out[CLOCK_HTTP_BYTES]);
/* Reads IMF-fixdate; false for anything else (the obsolete forms too). */
bool clock_parse_http(const char *text, size_t len, uint64_t *wall_ms);

#endif
