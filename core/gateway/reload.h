/* Reloading: the script's next generation, in every worker or in none.
 *
 * The main thread asks each worker to load the script beside the code that is live; when all have,
 * it hands the topic policies to the hub and asks each to swap, which cannot fail. When one has
 * not, or does not answer in time, all keep what they had; one that is late is waited for all the
 * same, and what was saved is then looked for again. The first load, at the gateway's start,
 * is the workers' own (worker.c); it uses the sources of this module.
 *
 * Who asks while a reload is under way waits for another one after it, together with all who do:
 * the files may have changed since they were read. The main thread's, but for what is said below.
 */
#ifndef PERIGEE_GATEWAY_RELOAD_H
#define PERIGEE_GATEWAY_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/timer.h"
#include "gateway/config.h"
#include "gateway/watch.h"

struct gateway;
struct reload_asker;
struct sources;
struct worker;

typedef enum {
  RELOAD_IDLE,
  RELOAD_LOADING,
  RELOAD_SWAPPING,
  RELOAD_STOPPED,
} reload_stage;

/* A worker's step, begun by a timer of its own: where it is posted to, publications are being
 * handed over, and no script may run. */
struct reload_part {
  struct timer timer;
  struct worker *worker;
  bool has_answered; /* under gateway->lock */
  bool is_loaded;    /* the same */
};

struct reload {
  struct reload_part parts[CONFIG_WORKERS_MAX];
  reload_stage stage;
  uint64_t generation; /* that is live */
  uint64_t failures;
  uint64_t began_ns;
  struct sources *live;             /* what the live generation was loaded from */
  struct sources *current;          /* of the load that is under way; NULL: none */
  struct sources *failed;           /* of the last one, if that failed */
  struct buf reason;                /* of the one that is under way: "rooms.lua changed" */
  struct buf next_reason;           /* of the next one */
  struct reload_asker *askers;      /* of the one that is under way */
  struct reload_asker *next_askers; /* of the next one */
  bool is_next_asked;
  bool is_given_up;  /* some worker has not answered in time; those who asked know */
  bool is_check_due; /* files may have changed since the load under way began */
  bool is_watching;
  struct watch watch;
  uv_async_t answered;
  uv_timer_t deadline;
};

/* Before the workers start. */
void reload_init(struct gateway *gateway);
/* All workers serve the first generation: files are watched from here on. */
void reload_begin(struct gateway *gateway);
/* To be called once a second: looks for files that were read late. */
void reload_tend(struct gateway *gateway);
/* The gateway stops: nothing is loaded any more, and whoever waits is told so. */
void reload_stop(struct gateway *gateway);
/* The loop's end, before its handles are closed; and when that is gone. */
void reload_close(struct gateway *gateway);
void reload_deinit(struct gateway *gateway);

/* The sources of the first load, for the workers. */
struct sources *reload_first_sources(struct gateway *gateway);

/* How it ended, in a line or more for people. */
typedef void (*reload_told)(void *context, bool is_live, slice text);
/* Asks for a reload. `reason` is for the log: "SIGHUP". `told` (may be NULL) is called once,
 * later. */
void reload_ask(struct gateway *gateway, const char *reason, reload_told told, void *context);
/* Whoever waits with this context is gone. */
void reload_forget_asker(struct gateway *gateway, const void *context);

#endif
