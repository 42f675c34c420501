/* Every limit of the gateway: one table with name, default, unit, range and help.
 *
 * The table makes the struct, the command-line options (`--limit-<name>`), their environment
 * variables (`PERIGEE_LIMIT_<NAME>`) and `perigee help limits`. A route's own options (max_message
 * and so on) may go up to the limit here, never beyond it. */
#ifndef PERIGEE_GATEWAY_LIMITS_H
#define PERIGEE_GATEWAY_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* LIMIT(name, default, unit, smallest, largest, help) */
#define LIMITS(LIMIT)                                                                             \
  LIMIT(connections, 100000, "connections", 1, 10000000,                                          \
        "connections of all kinds in all; kept below the process's file descriptors; more: 503")  \
  LIMIT(connections_per_address, 20000, "connections", 1, 10000000,                               \
        "connections from one remote address; more: 503")                                         \
  LIMIT(header_bytes, 16 * KIB, "bytes", 1 * KIB, 1 * MIB,                                        \
        "request line and headers together; more: 431")                                           \
  LIMIT(headers, 100, "headers", 10, 1000, "header lines of a request; more: 431")                \
  LIMIT(url_bytes, 8 * KIB, "bytes", 128, 64 * KIB, "request target; more: 414")                  \
  LIMIT(body_bytes, 64 * MIB, "bytes", 0, 1 * GIB,                                                \
        "largest max_body that a route may ask for; more than the route's: 413")                  \
  LIMIT(message_bytes, 16 * MIB, "bytes", 1 * KIB, 1 * GIB,                                       \
        "largest max_message that a route may ask for; more than the route's: 1009")              \
  LIMIT(fragments, 131072, "fragments", 1, 10000000,                                              \
        "fragments of one WebSocket message; more: 1009")                                         \
  LIMIT(topics_per_connection, 1000, "topics", 1, 100000,                                         \
        "largest max_topics that a route may ask for; more: subscribe gives \"limit\"")           \
  LIMIT(outbox_bytes, 64 * MIB, "bytes", 1 * KIB, 1 * GIB,                                        \
        "largest max_outbox that a route may ask for; more than the route's: 1013")               \
  LIMIT(outbox_soft_bytes, 256 * KIB, "bytes", 1 * KIB, 64 * MIB,                                 \
        "replays pause above it, on_drain is told below it again")                                \
  LIMIT(inbox_entries, 65536, "entries", 16, 10000000,                                            \
        "publications waiting for one worker; more: its subscriptions join again")                \
  LIMIT(inbox_bytes, 256 * MIB, "bytes", 64 * KIB, 16 * GIB,                                      \
        "bytes of publications waiting for one worker")                                           \
  LIMIT(topics, 1000000, "topics", 1, 100000000, "topics in all; more: \"limit\"")                \
  LIMIT(history_bytes, 256 * MIB, "bytes", 64 * KIB, 64 * GIB,                                    \
        "history of all topics together; the least recently published give way")                  \
  LIMIT(shared_bytes, 64 * MIB, "bytes", 64 * KIB, 16 * GIB,                                      \
        "shared dictionaries together; more: \"full\"")                                           \
  LIMIT(suspended_events, 100, "events", 1, 100000,                                               \
        "messages and signals waiting behind a suspended handler; more: reading pauses, and "     \
        "signals are "                                                                            \
        "dropped")                                                                                \
  LIMIT(suspended_bytes, 1 * MIB, "bytes", 1 * KIB, 1 * GIB, "their bytes")                       \
  LIMIT(tasks, 100000, "tasks", 16, 10000000,                                                     \
        "handlers under way on one worker; more: 503, or the connection closes with 1013")        \
  LIMIT(timers, 100000, "timers", 16, 10000000, "perigee.after and perigee.spawn of one worker")  \
  LIMIT(json_depth, 128, "levels", 4, 1000, "nesting of JSON that is decoded")                    \
  LIMIT(header_timeout, 10, "seconds", 1, 3600,                                                   \
        "from connecting, or from a request's first byte, to the end of its headers; more: 408")  \
  LIMIT(body_timeout, 60, "seconds", 1, 3600, "for a request's body; more: 408")                  \
  LIMIT(keep_alive_timeout, 75, "seconds", 1, 3600, "an idle HTTP connection is closed after it") \
  LIMIT(close_timeout, 5, "seconds", 1, 60, "for the answer to our WebSocket close frame")        \
  LIMIT(linger_timeout, 1, "seconds", 1, 60, "for the peer's end of the connection after ours")   \
  LIMIT(user_timeout, 30, "seconds", 1, 3600,                                                     \
        "data that a peer does not take for so long ends its connection")

struct limits {
#define LIMIT(name, initial, unit, smallest, largest, help) uint64_t name;
  LIMITS(LIMIT)
#undef LIMIT
};

typedef struct {
  const char *name;
  uint64_t initial;
  const char *unit;
  uint64_t smallest;
  uint64_t largest;
  const char *help;
  size_t offset; /* of the uint64_t in struct limits */
} limit_info;

enum {
#define LIMIT(name, initial, unit, smallest, largest, help) LIMIT_##name,
  LIMITS(LIMIT)
#undef LIMIT
      LIMIT_COUNT
};

extern const limit_info limit_infos[LIMIT_COUNT];

void limits_init(struct limits *limits);

#endif
