/* The process: configuration, hub, shared dictionaries, workers, listeners; start and stop.
 *
 * The main thread owns it. It serves signals, the clock of tests and the sweeping of histories;
 * connections and scripts are the workers'. */
#ifndef PERIGEE_GATEWAY_GATEWAY_H
#define PERIGEE_GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "gateway/config.h"
#include "gateway/hooks.h"
#include "gateway/worker.h"
#include "pubsub/hub.h"
#include "pubsub/shared.h"

struct gateway;

/* For the script layer: what the whole gateway shares. */
const struct config *gateway_config(const struct gateway *gateway);
/* The main script's directory, "." where its path has none; the caller frees it. */
char *gateway_script_directory(const struct gateway *gateway);
struct hub *gateway_hub(struct gateway *gateway);
struct shared_store *gateway_shared(struct gateway *gateway);
/* clock_now_ms when the gateway went live: the phase that app:every counts from. */
uint64_t gateway_started_ms(const struct gateway *gateway);
/* secrets_find. Valid for the gateway's life. */
slice gateway_secret(struct gateway *gateway, slice name, bool *is_made);
/* A number unique in the process: connection ids. Never 0. */
uint64_t gateway_next_id(struct gateway *gateway);
/* Such an id as scripts and logs show it: the memory log's epoch, then the number to the base 36.
 * Returns the length without the NUL. */
enum { GATEWAY_CONN_ID_BYTES = 6 + 13 + 1 };
size_t gateway_format_conn_id(const struct gateway *gateway, uint64_t id,
                              char out[GATEWAY_CONN_ID_BYTES]);

/* --- for transports: connections are counted, in all and by remote address --- */

struct address;
/* One connection more; `*is_welcome` is false, and it is not counted, when that would pass a limit.
 * The address is held until it is left. Any thread. */
struct address *gateway_enter(struct gateway *gateway, slice address, bool *is_welcome);
/* NULL is allowed. */
void gateway_leave(struct gateway *gateway, struct address *address, bool was_welcome);
/* Its text, valid until it is left. */
slice gateway_address_text(const struct address *address);

/* --- for workers --- */

/* The worker has loaded its script, or failed to (worker->load_error). Waits for all the others;
 * whether to go on. */
bool gateway_worker_loaded(struct gateway *gateway, bool is_loaded);
/* It serves. Waits until all do. */
void gateway_worker_ready(struct gateway *gateway);
/* It has ended: the main thread may join it. */
void gateway_worker_ended(struct gateway *gateway);
/* A test's command is carried out on this worker, whose next timer is due then. */
void gateway_acknowledge(struct gateway *gateway, uint64_t next_due_ms);

/* Runs until it has stopped; returns the process's exit code. One line on standard error when it
 * cannot start. With `is_check` it has stopped when the scripts are loaded: nothing listens, no
 * timer and no handler starts. */
int gateway_run(const struct config *given, const struct hooks *hooks);

#endif
