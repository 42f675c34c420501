/* What came of a run: counts, and how long things took.
 *
 * Messages, bytes and latencies count only in the measured part; what is wrong counts always. */
#ifndef LOADGEN_TALLY_H
#define LOADGEN_TALLY_H

#include <stdbool.h>
#include <stdint.h>

struct tally {
  bool is_counting; /* in the measured part */
  uint64_t messages;
  uint64_t bytes;
  uint64_t published;
  uint64_t bad;         /* damaged, or not what the protocol says */
  uint64_t lost;        /* gaps in a sequence */
  uint64_t reordered;   /* seen before, or late */
  uint64_t disconnects; /* of connections that were open */
  uint64_t failed;      /* connections that did not open */
  uint64_t other;       /* messages without a stamp: a greeting, an acknowledgement */
  uint64_t older;       /* spoken by older code than should have been */
  uint32_t generation;  /* the newest code that spoke */
  uint64_t broadcasts;  /* deliveries of what everybody gets, which are no `messages` */
  uint64_t broadcast_longest_ns;
  uint64_t own_late_ns; /* by how much the load generator itself was late at most, to send */
};

extern struct tally tally;

/* One message, so many nanoseconds under way; ignored outside the measured part. */
void tally_message(uint64_t latency_ns);

/* The same of a broadcast's delivery. */
void tally_broadcast(uint64_t latency_ns);

/* The latency in microseconds below which `percent` of the messages were; within 0.8 %. */
double tally_latency_us(double percent);
double tally_longest_us(void);

/* One connection's longest pause, which is a latency less the usual. */
void tally_pause(uint64_t pause_ns);
/* As of latencies, over the connections. */
double tally_pause_us(double percent);
double tally_longest_pause_us(void);

#endif
