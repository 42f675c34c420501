/* The configuration: command line and environment, parsed and checked.
 *
 * `--name value` or `--name=value` on the command line, or PERIGEE_NAME in the environment (the
 * command line wins; an empty variable counts as none). Limits are options too: --limit-<name>.
 * Variables that begin with PERIGEE_ and are not ours are left alone, but PERIGEE_LIMIT_ and a
 * name that no limit has is a mistake. Whether the script exists and an address can be bound is
 * the gateway's to find out. */
#ifndef PERIGEE_GATEWAY_CONFIG_H
#define PERIGEE_GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "gateway/limits.h"

enum { CONFIG_LISTENS = 16, CONFIG_WORKERS_MAX = 64 };

struct config {
  const char *script;                  /* path as given; default "main.lua" */
  const char *listens[CONFIG_LISTENS]; /* "host:port", "[::1]:port", "unix:/path"; none: defaults */
  size_t listen_count;
  size_t workers;
  const char *control; /* path of the control socket; NULL: none */
  log_level log_level;
  uint64_t drain_timeout_ms;
  uint64_t stall_timeout_ms;
  bool is_supervised; /* --supervise: the gateway is a child process, restarted when it fails */
  bool is_test;       /* --test: a listener per worker, commands on standard input */
  bool is_frozen;     /* --freeze: in test mode, time stands still from the start */
  bool is_check;      /* set by `perigee check`: the script is loaded, and nothing else happens */
  bool is_unwatched;  /* --no-watch: a saved script is not loaded by itself */
  bool is_dev;        /* --dev: for who writes an application, see dev.h */
  bool is_unsafe;     /* --unsafe: scripts get ffi, os.execute and the rest */
  struct limits limits;
  char *listen_variable; /* PERIGEE_LISTEN, split; NULL when `listens` are not from it; ours */
};

/* Defaults, then the environment, then the arguments of `serve` (without program and command).
 * False: `error` has one line, without a newline, that names the input and what it may be. The
 * config borrows the strings of arguments and environment; config_deinit is due either way. */
bool config_parse(struct config *config, int count, char **arguments, struct buf *error);
void config_deinit(struct config *config);

/* The texts of `perigee help serve` and `perigee help limits`. */
void config_help_serve(struct buf *out);
void config_help_limits(struct buf *out);

#endif
