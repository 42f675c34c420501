/* `perigee serve --dev`: what the pages of an application are told while it is written.
 *
 * A page that was sent carries a script tag with the version of all that pages are made of. The
 * version changes when a new generation is live and when a file below the script's directory or
 * that of a static route has changed; then the workers' scripts are signalled, and tell the pages
 * (lua/perigee/dev.lua). So they do when a load has failed, for as long as none has succeeded.
 *
 * The functions of the first part are the main thread's, called by reload.c alone. */
#ifndef PERIGEE_GATEWAY_DEV_H
#define PERIGEE_GATEWAY_DEV_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

struct gateway;
struct request;

/* Makes gateway->dev. Before the workers start. */
void dev_init(struct gateway *gateway);
/* All workers serve the first generation: files are watched from here on. */
void dev_begin(struct gateway *gateway);
/* A new generation is live in all workers. */
void dev_note_live(struct gateway *gateway);
/* A load has failed; the text is for people. */
void dev_note_failure(struct gateway *gateway, slice text);
void dev_stop(struct gateway *gateway);
void dev_deinit(struct gateway *gateway);

/* --- for workers; only with config.is_dev --- */

/* Appends "k3v9ax.12". */
void dev_append_version(struct gateway *gateway, struct buf *out);
/* Appends why the last load has failed, in UTF-8; false, and nothing, when it has not. */
bool dev_append_failure(struct gateway *gateway, struct buf *out);

/* Whether HTML that answers this request gets the tag: a page that is shown by a GET. What a page
 * fetches to put it into itself has one already, and a form is not sent again by a reload. */
bool dev_is_page(const struct request *request);
/* Appends the tag, to stand at a page's end. */
void dev_append_tag(struct gateway *gateway, struct buf *out);

#endif
