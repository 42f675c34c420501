#include "loadgen/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen/base.h"
#include "loadgen/workload.h"

struct options options = {
    .host = "127.0.0.1",
    .port = 9001,
    .path = "/",
    .header = "",
    .conns = 64,
    .opening = 128,
    .inflight = 1,
    .size = 64,
    .seconds = 5,
    .warmup_seconds = 1,
    .settle_seconds = 0.5,
    .publishers = 1,
    .publication = "{stamp}{pad}",
    .every = 1,
    .broadcast = "{stamp}{pad}",
    .processes = 1,
};

static const char help[] =
    "loadgen MODE [options]\n"
    "modes: ws-echo ws-fanout sse-fanout steady http idle churn\n"
    "  --host A --port N --path P   where (127.0.0.1 9001 /)\n"
    "  --pid N[,N...]               server processes, for their CPU and memory\n"
    "  --conns N                    connections or subscribers (64)\n"
    "  --opening N                  connections being opened at once (128)\n"
    "  --source-addresses N         from 127.0.0.2 on (one to each 20,000 connections)\n"
    "  --inflight N                 requests under way on each connection, or publications of "
    "each\n"
    "                               publisher (1)\n"
    "  --size N                     payload bytes (64)\n"
    "  --binary                     binary messages, not text\n"
    "  --header 'K: V'              one further request header\n"
    "  --seconds S --warmup S --settle S\n"
    "                               measured, unmeasured before it, quiet before that (5 1 0.5)\n"
    "  --rounds N --warmup-rounds N so many rounds in place of seconds: all send, and send again\n"
    "                               when all have been answered; the servers of --pid are stopped\n"
    "                               while a round is sent, so that they find all of it at once\n"
    "  --gate                       says \"ready\" before and \"done\" after what is measured, "
    "and\n"
    "                               waits for a line of standard input\n"
    "  --publishers K --publish-path P\n"
    "                               separate publishers, where they connect or POST (1, as "
    "--path)\n"
    "  --room                       every subscriber publishes too, in place of --publishers\n"
    "  --rate R                     each publisher sends R a second, answered or not; steady:\n"
    "                               all together\n"
    "  --join TEXT                  sent by each WebSocket once open; steady: with {id}\n"
    "  --publication TEXT           with {stamp}, and {pad} that fills it to --size\n"
    "  --broadcast TEXT --audience N --every S\n"
    "                               steady: with {stamp}, to the first N connections, each S (1)\n"
    "                               seconds\n"
    "  --dead N --dead-join TEXT    steady: connections that never read, what these send\n"
    "  --streams N --stream-path P  steady: event streams beside the WebSockets, P with {id}\n"
    "  --answer TEXT                steady: what only an answer has, not what is published\n"
    "  --generation TEXT            steady: what stands before the number of the code that spoke,\n"
    "                               which every message must have, and which never gets less;\n"
    "                               with --gate, a line \"live N\" says what it is at least\n"
    "  --sse                        idle: event streams, not WebSockets\n"
    "  --processes N                idle: share the connections among N processes\n"
    "  --warm-conns N               idle: opened first, and not counted\n"
    "  --abrupt                     churn: reset once open, no closing handshake\n"
    "  --json                       one line of JSON\n";

static _Noreturn void refuse(void) {
  fputs(help, stderr);
  exit(2);
}

typedef enum { NUMBER, REAL, TEXT, SWITCH, PIDS, HEADER } value_kind;

typedef struct {
  const char *name;
  value_kind kind;
  void *into;
} option_info;

static const option_info infos[] = {
    {"host", TEXT, &options.host},
    {"port", NUMBER, &options.port},
    {"path", TEXT, &options.path},
    {"pid", PIDS, NULL},
    {"conns", NUMBER, &options.conns},
    {"opening", NUMBER, &options.opening},
    {"source-addresses", NUMBER, &options.source_addresses},
    {"inflight", NUMBER, &options.inflight},
    {"size", NUMBER, &options.size},
    {"binary", SWITCH, &options.is_binary},
    {"header", HEADER, NULL},
    {"seconds", REAL, &options.seconds},
    {"warmup", REAL, &options.warmup_seconds},
    {"settle", REAL, &options.settle_seconds},
    {"rounds", NUMBER, &options.rounds},
    {"warmup-rounds", NUMBER, &options.warmup_rounds},
    {"gate", SWITCH, &options.is_gated},
    {"publishers", NUMBER, &options.publishers},
    {"publish-path", TEXT, &options.publish_path},
    {"room", SWITCH, &options.is_room},
    {"rate", REAL, &options.rate},
    {"join", TEXT, &options.join},
    {"publication", TEXT, &options.publication},
    {"audience", NUMBER, &options.audience},
    {"every", REAL, &options.every},
    {"broadcast", TEXT, &options.broadcast},
    {"dead", NUMBER, &options.dead},
    {"dead-join", TEXT, &options.dead_join},
    {"streams", NUMBER, &options.streams},
    {"stream-path", TEXT, &options.stream_path},
    {"answer", TEXT, &options.answer},
    {"generation", TEXT, &options.generation},
    {"sse", SWITCH, &options.is_sse},
    {"processes", NUMBER, &options.processes},
    {"warm-conns", NUMBER, &options.warm_conns},
    {"abrupt", SWITCH, &options.is_abrupt},
    {"json", SWITCH, &options.is_json},
};

enum { INFO_COUNT = sizeof infos / sizeof infos[0] };

static long to_number(const char *text, long max) {
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 0 || value > max) refuse();
  return value;
}

static void set_pids(char *text) {
  for (char *pid = strtok(text, ","); pid != NULL; pid = strtok(NULL, ",")) {
    if (options.pid_count == OPTIONS_MAX_PIDS) refuse();
    options.pids[options.pid_count++] = (pid_t)to_number(pid, 1 << 30);
  }
}

static void set_header(const char *text) {
  char *line = base_resize(NULL, strlen(text) + 3);
  sprintf(line, "%s\r\n", text);
  options.header = line;
}

static void set_option(const option_info *info, char *text) {
  char *end;
  switch (info->kind) {
    case NUMBER:
      *(int *)info->into = (int)to_number(text, 1 << 30);
      break;
    case REAL:
      *(double *)info->into = strtod(text, &end);
      if (end == text || *end != '\0') refuse();
      break;
    case TEXT:
      *(const char **)info->into = text;
      break;
    case SWITCH:
      *(bool *)info->into = true;
      break;
    case PIDS:
      set_pids(text);
      break;
    case HEADER:
      set_header(text);
      break;
  }
}

static void check(void) {
  const struct options *o = &options;
  if (o->conns < 1 || o->inflight < 1 || o->opening < 1 || o->processes < 1) refuse();
  if (o->publishers < 1 || o->publishers > 0xffff) refuse();
  if (o->port < 1 || o->port > 0xffff) refuse();
  if (o->every <= 0 || o->audience > o->conns || o->dead > o->conns) refuse();
}

void options_parse(int count, char **arguments) {
  struct option known[INFO_COUNT + 1] = {0};
  for (int i = 0; i < INFO_COUNT; i++) {
    known[i].name = infos[i].name;
    known[i].has_arg = infos[i].kind == SWITCH ? no_argument : required_argument;
  }
  if (count < 2 || workload_find(arguments[1]) == NULL) refuse();
  options.mode = arguments[1];
  optind = 2;
  int index;
  int result;
  while ((result = getopt_long(count, arguments, "", known, &index)) == 0) {
    set_option(&infos[index], optarg);
  }
  if (result != -1 || optind != count) refuse();
  check();
  if (options.publish_path == NULL) options.publish_path = options.path;
  if (options.source_addresses == 0) {
    /* Churn leaves the server's ports in TIME_WAIT; others need 28,000 ephemeral ports an address.
     */
    options.source_addresses =
        strcmp(options.mode, "churn") == 0 ? 64 : 1 + (options.conns + options.streams) / 20000;
  }
}
