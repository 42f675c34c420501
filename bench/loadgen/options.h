/* The command line: what is asked of one run. */
#ifndef LOADGEN_OPTIONS_H
#define LOADGEN_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

enum { OPTIONS_MAX_PIDS = 16 };

struct options {
  const char *mode; /* the workload's name */
  const char *host; /* an IPv4 address */
  int port;
  const char *path;
  const char *publish_path;
  const char *header; /* one further request header with its CRLF, or "" */
  pid_t pids[OPTIONS_MAX_PIDS];
  int pid_count;

  int conns;
  int opening;          /* connections being opened at once */
  int source_addresses; /* from 127.0.0.2 on; 1: whatever the kernel takes */
  int inflight;
  int size; /* payload bytes */
  bool is_binary;

  double seconds;
  double warmup_seconds;
  double settle_seconds;
  int rounds; /* 0: by time */
  int warmup_rounds;
  bool is_gated;

  int publishers;
  bool is_room;            /* every subscriber publishes */
  double rate;             /* publications a second from each publisher; 0: closed loop */
  const char *join;        /* sent by each WebSocket once open, or NULL */
  const char *publication; /* with {stamp} and perhaps {pad} */

  /* steady; its join messages and stream_path may have {id} */
  int audience;          /* connections that get what is broadcast */
  double every;          /* seconds between broadcasts */
  const char *broadcast; /* with {stamp} */
  int dead;              /* connections that never read */
  const char *dead_join; /* what these send in place of `join` */
  int streams;           /* event streams beside the WebSockets */
  const char *stream_path;
  const char *answer;     /* what only an answer has, not what is published */
  const char *generation; /* what stands before the number of the code that spoke, or NULL */

  bool is_sse;    /* idle: event streams */
  int processes;  /* idle: that share the connections */
  int warm_conns; /* idle: opened first and not counted */
  bool is_abrupt; /* churn: reset instead of the closing handshake */
  bool is_json;
};

extern struct options options;

/* Fills in `options`; prints the help and exits with 2 when something is wrong. */
void options_parse(int count, char **arguments);

#endif
