/* The servers of --pid, seen from outside: what they cost, and holding them still. */
#ifndef LOADGEN_SERVER_H
#define LOADGEN_SERVER_H

#include <stdint.h>

/* Sums over all servers. */
typedef struct {
  double cpu_s; /* user and system, from the scheduler's nanoseconds where it keeps them */
  double user_s;
  double system_s;
  uint64_t rss_bytes;
  uint64_t anonymous_bytes; /* what is no file's: heap and stacks */
} server_usage;

/* Fails when a server is gone. */
server_usage server_measure(void);

/* Stops the servers, and returns when they have stopped; lets them go on. */
void server_hold(void);
void server_release(void);

/* What the whole machine could still hand out, in bytes. */
uint64_t server_machine_available(void);

#endif
