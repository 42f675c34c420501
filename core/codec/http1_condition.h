/* Conditional requests (RFC 9110 section 13): whether a representation is sent, by its validators.
 *
 * Pure. Validators are an entity tag, quotes and W/ included, and the time of the last change in
 * whole seconds of Unix time, so that they compare as they are sent. Dates that are not IMF-fixdate
 * count as absent, which costs at most an answer that the client had already. */
#ifndef PERIGEE_CODEC_HTTP1_CONDITION_H
#define PERIGEE_CODEC_HTTP1_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "codec/http1_head.h"

typedef enum {
  HTTP1_CONDITION_HOLDS,        /* answer as if there were no condition */
  HTTP1_CONDITION_NOT_MODIFIED, /* 304 */
  HTTP1_CONDITION_FAILED,       /* 412 */
} http1_condition;

/* Judges If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since in the order of section
 * 13.2.2. For GET and HEAD of a representation that exists. */
http1_condition http1_condition_judge(const struct http1_head *head, slice etag,
                                      uint64_t modified_seconds);

/* Whether Range may be followed: without If-Range, or when it names this very version. A date does
 * only if the last change is at least a second old at `now_seconds`: younger ones may stand for two
 * versions (section 13.1.5). */
bool http1_condition_allows_range(const struct http1_head *head, slice etag,
                                  uint64_t modified_seconds, uint64_t now_seconds);

/* Whether a list of entity tags (the value of If-Match or If-None-Match) has this one or is "*".
 * The strong comparison matches no weak tag; the weak one ignores W/. A malformed list ends where
 * it stops making sense. */
bool http1_etag_list_has(slice list, slice etag, bool is_strong);

#endif
