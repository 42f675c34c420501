/* Digests and base64, over OpenSSL. Pure functions; any thread. */
#ifndef PERIGEE_BASE_DIGEST_H
#define PERIGEE_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum { DIGEST_SHA1_BYTES = 20, DIGEST_SHA256_BYTES = 32 };

void digest_sha1(slice data, uint8_t out[DIGEST_SHA1_BYTES]);
void digest_sha256(slice data, uint8_t out[DIGEST_SHA256_BYTES]);
/* HMAC-SHA256 (RFC 2104). Any key length. */
void digest_hmac_sha256(slice key, slice data, uint8_t out[DIGEST_SHA256_BYTES]);

/* Characters of the padded form, without a NUL. */
static inline size_t digest_base64_size(size_t bytes) {
  return (bytes + 2) / 3 * 4;
}
/* RFC 4648 section 4, padded; with `url_safe` section 5, without padding. Returns the characters
 * written, at most digest_base64_size(data.len); no NUL behind them. */
size_t digest_base64_encode(slice data, bool url_safe, char *out);
/* Reads both alphabets, padded or not; `out` has room for text.len / 4 * 3 + 3 bytes. Returns the
 * bytes written, or -1 for text that is neither. */
long digest_base64_decode(slice text, char *out);

/* Compares without telling by its duration where they differ. Lengths are no secret. */
bool digest_is_equal(slice a, slice b);

#endif
