#include "gateway/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/dev.h"
#include "gateway/gateway_internal.h"
#include "gateway/sources.h"
#include "pubsub/hub.h"

enum {
  ANSWER_WITHIN_MS = 5000,
  TEXT_BYTES = 16 * 1024,
  ERROR_BYTES = 8 * 1024, /* a script may raise whatever it likes; the reason needs room too */
};

struct reload_asker {
  struct reload_asker *next;
  reload_told told;
  void *context;
};

/* --- who asked --- */

static void add_asker(struct reload_asker **list, reload_told told, void *context) {
  struct reload_asker *asker = mem_alloc(sizeof *asker);
  *asker = (struct reload_asker){NULL, told, context};
  while (*list != NULL) list = &(*list)->next;
  *list = asker;
}

static void tell_askers(struct reload_asker **list, bool is_live, slice text) {
  struct reload_asker *asker = *list;
  *list = NULL;
  while (asker != NULL) {
    struct reload_asker *next = asker->next;
    asker->told(asker->context, is_live, text);
    mem_free(asker);
    asker = next;
  }
}

static void forget(struct reload_asker **list, const void *context) {
  while (*list != NULL) {
    struct reload_asker *asker = *list;
    if (asker->context == context) {
      *list = asker->next;
      mem_free(asker);
    } else {
      list = &asker->next;
    }
  }
}

void reload_forget_asker(struct gateway *gateway, const void *context) {
  forget(&gateway->reload.askers, context);
  forget(&gateway->reload.next_askers, context);
}

/* --- a worker's part; on its thread --- */

static struct gateway *gateway_of(const struct reload_part *part) {
  return part->worker->gateway;
}

static void answer(struct reload_part *part, bool is_loaded) {
  struct gateway *gateway = gateway_of(part);
  uv_mutex_lock(&gateway->lock);
  part->has_answered = true;
  part->is_loaded = is_loaded;
  uv_mutex_unlock(&gateway->lock);
  uv_async_send(&gateway->reload.answered);
}

/* Not in a worker that is to stop: its handlers were told so, and newer ones would begin. */
static bool may_go_on(struct reload_part *part) {
  if (part->worker->stage == WORKER_SERVING) return true;
  answer(part, false);
  return false;
}

static void on_load_due(struct timer *timer) {
  struct reload_part *part = CONTAINER_OF(timer, struct reload_part, timer);
  struct worker *worker = part->worker;
  struct reload *reload = &gateway_of(part)->reload;
  if (!may_go_on(part)) return;
  buf_clear(&worker->load_error);
  answer(part,
         worker->hooks->load(worker, reload->generation + 1, reload->current, &worker->load_error));
}

static void on_swap_due(struct timer *timer) {
  struct reload_part *part = CONTAINER_OF(timer, struct reload_part, timer);
  if (!may_go_on(part)) return;
  part->worker->hooks->swap(part->worker);
  answer(part, true);
}

static void start_part(struct reload_part *part, timer_callback on_due) {
  struct worker *worker = part->worker;
  if (!may_go_on(part)) return;
  timer_init(&part->timer, on_due);
  timer_start(&worker->timers, &part->timer, clock_now_ms());
}

static void on_load_posted(void *context) {
  start_part(context, on_load_due);
}

static void on_swap_posted(void *context) {
  start_part(context, on_swap_due);
}

static void on_discard_posted(void *context) {
  struct reload_part *part = context;
  part->worker->hooks->discard(part->worker);
}

static void post_all(struct gateway *gateway, inbox_task task) {
  struct reload_part *parts = gateway->reload.parts;
  uv_mutex_lock(&gateway->lock);
  for (size_t i = 0; i < gateway->worker_count; i++) parts[i].has_answered = false;
  uv_mutex_unlock(&gateway->lock);
  for (size_t i = 0; i < gateway->worker_count; i++) {
    /* A worker that is gone has nothing to say. */
    if (!hub_post(gateway->hub, i, task, &parts[i])) answer(&parts[i], false);
  }
}

/* --- the steps --- */

static void begin(struct gateway *gateway);

static void look_at_files(struct gateway *gateway);

static void watch_path(void *context, const char *path) {
  watch_add(context, path);
}

/* The union of what the live generation and the last failed attempt were made of. */
static void watch_files(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  if (!reload->is_watching) return;
  watch_forget(&reload->watch);
  sources_for_each(reload->live, watch_path, &reload->watch);
  if (reload->failed != NULL) sources_for_each(reload->failed, watch_path, &reload->watch);
  watch_look(&reload->watch);
}

/* What is live keeps its texts for the pages that show errors in them (dev.h), and no others. */
static void forget_texts(struct gateway *gateway, struct sources *sources) {
  if (!gateway->config->is_dev) sources_forget_texts(sources);
}

/* On to whatever was asked for meanwhile. */
static void end_attempt(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->current = NULL;
  reload->is_given_up = false;
  uv_timer_stop(&reload->deadline);
  if (reload->stage == RELOAD_STOPPED) return;
  reload->stage = RELOAD_IDLE;
  watch_files(gateway);
  if (reload->is_next_asked) {
    begin(gateway);
  } else if (reload->is_check_due) {
    look_at_files(gateway);
  }
}

/* "\n    12 | local x = = 1" for an error that begins with "file:12: ". */
static void append_source_line(struct sources *sources, slice error, struct buf *out) {
  slice rest = error;
  slice path = slice_split(&rest, ':');
  char *end;
  if (rest.data == NULL) return;
  unsigned long number = strtoul(rest.data, &end, 10); /* the error ends with a NUL */
  if (end == rest.data || *end != ':' || number > 1000000000) return;
  slice line = sources_line(sources, path, (unsigned)number);
  if (line.data == NULL) return;
  buf_append_format(out, "\n%5lu | %.*s", number, (int)(line.len < 200 ? line.len : 200),
                    line.data);
}

/* At most ERROR_BYTES of it, in whole characters. */
static slice cut(slice text) {
  if (text.len <= ERROR_BYTES) return text;
  text.len = ERROR_BYTES;
  while (text.len > 0 && ((unsigned char)text.data[text.len] & 0xc0) == 0x80) text.len--;
  return text;
}

static void report_failure(struct gateway *gateway, slice whole) {
  struct reload *reload = &gateway->reload;
  slice error = cut(whole);
  struct buf text;
  buf_init(&text, TEXT_BYTES);
  reload->failures++;
  buf_append_format(&text, "generation %llu stays live (%.*s): %.*s",
                    (unsigned long long)reload->generation, (int)reload->reason.len,
                    reload->reason.data, (int)error.len, error.data);
  append_source_line(reload->current, whole, &text);
  log_write_text(LOG_ERROR, buf_peek(&text));
  if (gateway->dev != NULL) dev_note_failure(gateway, buf_peek(&text));
  tell_askers(&reload->askers, false, buf_peek(&text));
  buf_deinit(&text);
}

/* Nobody answers this: whatever is posted next comes after it. */
static void discard_all(struct gateway *gateway) {
  for (size_t i = 0; i < gateway->worker_count; i++) {
    hub_post(gateway->hub, i, on_discard_posted, &gateway->reload.parts[i]);
  }
}

static void fail(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  for (size_t i = 0; i < gateway->worker_count; i++) {
    struct buf *error = &gateway->workers[i].load_error;
    if (reload->parts[i].is_loaded || error->len == 0) continue;
    buf_append_char(error, '\0');
    report_failure(gateway, slice_of(error->data, error->len - 1));
    break;
  }
  discard_all(gateway);
  sources_forget_texts(reload->current);
  sources_free(reload->failed);
  reload->failed = reload->current;
  end_attempt(gateway);
}

/* The worker that was held up has come back. Nothing is known to be wrong with the files: what was
 * saved is found again. */
static void forget_given_up(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  discard_all(gateway);
  sources_free(reload->current);
  if (reload->is_watching) reload->is_check_due = true;
  end_attempt(gateway);
}

/* "12,345". */
static void append_number(struct buf *out, uint64_t number) {
  if (number >= 1000) {
    append_number(out, number / 1000);
    buf_append_format(out, ",%03u", (unsigned)(number % 1000));
  } else {
    buf_append_format(out, "%u", (unsigned)number);
  }
}

static void report_success(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  uint64_t kept = 0, orphaned = 0;
  for (size_t i = 0; i < gateway->worker_count; i++) {
    kept += gateway->workers[i].kept_count;
    orphaned += gateway->workers[i].orphaned_count;
  }
  struct buf text;
  buf_init(&text, TEXT_BYTES);
  buf_append_format(&text, "generation %llu live: %.*s, %.0f ms, ",
                    (unsigned long long)reload->generation, (int)reload->reason.len,
                    reload->reason.data, (double)(clock_real_ns() - reload->began_ns) / 1e6);
  append_number(&text, kept);
  buf_append_format(&text, " connection%s kept", kept == 1 ? "" : "s");
  if (orphaned > 0) {
    buf_append(&text, SLICE(", "));
    append_number(&text, orphaned);
    buf_append_format(&text, " closed with 1012: %s gone",
                      orphaned == 1 ? "its route is" : "their routes are");
  }
  log_write_text(LOG_INFO, buf_peek(&text));
  tell_askers(&reload->askers, true, buf_peek(&text));
  buf_deinit(&text);
}

static void finish(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->generation++;
  forget_texts(gateway, reload->current);
  sources_free(reload->live);
  reload->live = reload->current;
  sources_free(reload->failed);
  reload->failed = NULL;
  report_success(gateway);
  if (gateway->dev != NULL) dev_note_live(gateway);
  hub_sweep(gateway->hub); /* what changed policies no longer keep */
  end_attempt(gateway);
}

static void swap(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->stage = RELOAD_SWAPPING;
  uv_timer_stop(&reload->deadline);
  hub_set_policies(gateway->hub, gateway->hooks->take_policies(&gateway->workers[0]));
  post_all(gateway, on_swap_posted);
}

static void on_answered(uv_async_t *async) {
  struct gateway *gateway = async->data;
  struct reload *reload = &gateway->reload;
  if (reload->current == NULL) return;
  bool have_all = true, are_loaded = true;
  uv_mutex_lock(&gateway->lock);
  for (size_t i = 0; i < gateway->worker_count; i++) {
    if (!reload->parts[i].has_answered) have_all = false;
    if (!reload->parts[i].is_loaded) are_loaded = false;
  }
  uv_mutex_unlock(&gateway->lock);
  if (!have_all || reload->stage == RELOAD_STOPPED) return;
  if (reload->stage == RELOAD_SWAPPING) {
    finish(gateway);
  } else if (reload->is_given_up) {
    forget_given_up(gateway);
  } else if (are_loaded) {
    swap(gateway);
  } else {
    fail(gateway);
  }
}

/* Some worker is held up. It is waited for, since it reads what was given to it; those who asked
 * are not kept. */
static void on_deadline(uv_timer_t *timer) {
  struct gateway *gateway = timer->data;
  struct reload *reload = &gateway->reload;
  if (reload->stage != RELOAD_LOADING || reload->is_given_up) return;
  for (size_t i = 0; i < gateway->worker_count; i++) {
    uv_mutex_lock(&gateway->lock);
    bool has_answered = reload->parts[i].has_answered;
    uv_mutex_unlock(&gateway->lock);
    if (has_answered) continue;
    const char *label =
        atomic_load_explicit(&gateway->workers[i].activity.label, memory_order_acquire);
    char error[512];
    snprintf(error, sizeof error, "worker %zu has not loaded the script within %d s%s%s", i + 1,
             ANSWER_WITHIN_MS / 1000, label != NULL ? ": it is in " : "",
             label != NULL ? label : "");
    report_failure(gateway, slice_of_string(error));
    break;
  }
  reload->is_given_up = true;
}

static void begin(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->stage = RELOAD_LOADING;
  reload->is_next_asked = reload->is_check_due = false;
  reload->began_ns = clock_real_ns();
  reload->current = sources_new();
  struct buf reason = reload->reason;
  reload->reason = reload->next_reason;
  reload->next_reason = reason;
  buf_clear(&reload->next_reason);
  reload->askers = reload->next_askers;
  reload->next_askers = NULL;
  uv_timer_start(&reload->deadline, on_deadline, ANSWER_WITHIN_MS, 0);
  post_all(gateway, on_load_posted);
}

void reload_ask(struct gateway *gateway, const char *reason, reload_told told, void *context) {
  struct reload *reload = &gateway->reload;
  if (reload->stage == RELOAD_STOPPED) {
    if (told != NULL) told(context, false, SLICE("the gateway is stopping"));
    return;
  }
  if (reload->is_given_up && told != NULL) {
    told(context, false, SLICE("an earlier reload waits for a worker that is held up"));
    told = NULL;
  }
  if (told != NULL) add_asker(&reload->next_askers, told, context);
  if (!reload->is_next_asked) buf_append(&reload->next_reason, slice_of_string(reason));
  reload->is_next_asked = true;
  if (reload->stage == RELOAD_IDLE) begin(gateway);
}

/* --- files --- */

static void look_at_files(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->is_check_due = reload->stage != RELOAD_IDLE;
  if (reload->is_check_due) return;
  struct buf names;
  buf_init(&names, TEXT_BYTES);
  /* What the last attempt read is known; what it did not come to is as the live one has read it. */
  size_t unnamed = 0;
  size_t count = 0;
  if (reload->failed != NULL) count += sources_changed(reload->failed, NULL, &names, &unnamed);
  count += sources_changed(reload->live, reload->failed, &names, &unnamed);
  if (count > 0) {
    if (unnamed > 0) buf_append_format(&names, " and %zu more", unnamed);
    buf_append(&names, SLICE(" changed"));
    buf_append_char(&names, '\0');
    reload_ask(gateway, names.data, NULL, NULL);
  }
  buf_deinit(&names);
}

static void on_change(void *context) {
  look_at_files(context);
}

/* --- life --- */

void reload_init(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->live = sources_new();
  reload->generation = 1;
  buf_init(&reload->reason, TEXT_BYTES);
  buf_init(&reload->next_reason, TEXT_BYTES);
  uv_async_init(&gateway->loop, &reload->answered, on_answered);
  reload->answered.data = gateway;
  uv_timer_init(&gateway->loop, &reload->deadline);
  reload->deadline.data = gateway;
  if (gateway->config->is_dev) dev_init(gateway);
}

struct sources *reload_first_sources(struct gateway *gateway) {
  return gateway->reload.live;
}

void reload_begin(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  forget_texts(gateway, reload->live);
  for (size_t i = 0; i < gateway->worker_count; i++) {
    reload->parts[i].worker = &gateway->workers[i];
  }
  if (gateway->dev != NULL) dev_begin(gateway);
  if (gateway->config->is_unwatched) return;
  char *root = gateway_script_directory(gateway);
  watch_init(&reload->watch, &gateway->loop, root, on_change, gateway);
  mem_free(root);
  reload->is_watching = true;
  watch_files(gateway);
  /* What was saved while the workers loaded. */
  look_at_files(gateway);
}

void reload_tend(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  if (!reload->is_watching || reload->stage != RELOAD_IDLE) return;
  if (!sources_has_grown(reload->live)) return;
  watch_files(gateway);
  look_at_files(gateway); /* what was saved before it was watched */
}

void reload_stop(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  reload->stage = RELOAD_STOPPED;
  uv_timer_stop(&reload->deadline);
  if (reload->is_watching) watch_stop(&reload->watch);
  if (gateway->dev != NULL) dev_stop(gateway);
  tell_askers(&reload->askers, false, SLICE("the gateway is stopping"));
  tell_askers(&reload->next_askers, false, SLICE("the gateway is stopping"));
}

void reload_close(struct gateway *gateway) {
  if (gateway->reload.stage != RELOAD_STOPPED) reload_stop(gateway);
}

void reload_deinit(struct gateway *gateway) {
  struct reload *reload = &gateway->reload;
  if (reload->is_watching) watch_deinit(&reload->watch);
  if (gateway->dev != NULL) dev_deinit(gateway);
  if (reload->current != reload->live) sources_free(reload->current);
  sources_free(reload->failed);
  sources_free(reload->live);
  buf_deinit(&reload->reason);
  buf_deinit(&reload->next_reason);
}
