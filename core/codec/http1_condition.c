#include "codec/http1_condition.h"

#include "base/clock.h"

static bool is_weak(slice etag) {
  return slice_has_prefix(etag, SLICE("W/"));
}

static bool is_same_etag(slice a, slice b, bool is_strong) {
  if (is_strong && (is_weak(a) || is_weak(b))) return false;
  if (is_weak(a)) a = slice_skip(a, 2);
  if (is_weak(b)) b = slice_skip(b, 2);
  return slice_is_equal(a, b);
}

/* Takes the next entity tag off a list; commas may stand within its quotes. False at the end. */
static bool take_etag(slice *rest, slice *etag) {
  slice at = slice_trim(*rest);
  while (slice_has_prefix(at, SLICE(","))) at = slice_trim(slice_skip(at, 1));
  size_t open = is_weak(at) ? 2 : 0;
  if (at.len <= open || at.data[open] != '"') return false;
  const char *close = memchr(at.data + open + 1, '"', at.len - open - 1);
  if (close == NULL) return false;
  *etag = slice_of(at.data, (size_t)(close - at.data) + 1);
  *rest = slice_skip(at, etag->len);
  return true;
}

bool http1_etag_list_has(slice list, slice etag, bool is_strong) {
  if (slice_is_equal(slice_trim(list), SLICE("*"))) return true;
  slice listed;
  while (take_etag(&list, &listed)) {
    if (is_same_etag(listed, etag, is_strong)) return true;
  }
  return false;
}

/* Over all headers of this name, since a list may come in several. `*is_present` tells whether
 * there is one. */
static bool headers_have_etag(const struct http1_head *head, slice header, slice etag,
                              bool is_strong, bool *is_present) {
  slice name, value;
  *is_present = false;
  for (size_t i = 0; http1_head_field(head, i, &name, &value); i++) {
    if (!slice_is_equal_nocase(name, header)) continue;
    *is_present = true;
    if (http1_etag_list_has(value, etag, is_strong)) return true;
  }
  return false;
}

static bool find_date(const struct http1_head *head, slice name, uint64_t *seconds) {
  slice value;
  uint64_t wall_ms;
  if (!http1_head_find(head, name, &value)) return false;
  if (!clock_parse_http(value.data, value.len, &wall_ms)) return false;
  *seconds = wall_ms / 1000;
  return true;
}

http1_condition http1_condition_judge(const struct http1_head *head, slice etag,
                                      uint64_t modified_seconds) {
  bool is_present;
  uint64_t seconds;
  bool is_match = headers_have_etag(head, SLICE("if-match"), etag, true, &is_present);
  if (is_present) {
    if (!is_match) return HTTP1_CONDITION_FAILED;
  } else if (find_date(head, SLICE("if-unmodified-since"), &seconds)) {
    if (modified_seconds > seconds) return HTTP1_CONDITION_FAILED;
  }
  is_match = headers_have_etag(head, SLICE("if-none-match"), etag, false, &is_present);
  if (is_present) return is_match ? HTTP1_CONDITION_NOT_MODIFIED : HTTP1_CONDITION_HOLDS;
  if (find_date(head, SLICE("if-modified-since"), &seconds) && modified_seconds <= seconds) {
    return HTTP1_CONDITION_NOT_MODIFIED;
  }
  return HTTP1_CONDITION_HOLDS;
}

bool http1_condition_allows_range(const struct http1_head *head, slice etag,
                                  uint64_t modified_seconds, uint64_t now_seconds) {
  slice value;
  uint64_t seconds;
  if (!http1_head_find(head, SLICE("if-range"), &value)) return true;
  if (is_weak(value) || slice_has_prefix(value, SLICE("\""))) {
    return is_same_etag(value, etag, true);
  }
  return find_date(head, SLICE("if-range"), &seconds) && seconds == modified_seconds &&
         now_seconds > modified_seconds;
}
