#include "base/random.h"

#include <openssl/rand.h>

#include "base/mem.h"

void random_fill(void *out, size_t bytes) {
  REQUIRE(bytes <= INT32_MAX && RAND_bytes(out, (int)bytes) == 1);
}

uint64_t random_u64(void) {
  uint64_t value;
  random_fill(&value, sizeof value);
  return value;
}

void random_text(char *out, size_t len) {
  static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  size_t done = 0;
  while (done < len) {
    unsigned char bytes[32];
    random_fill(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes && done < len; i++) {
      /* 252 is the largest multiple of 36 below 256: larger bytes would favour the first digits. */
      if (bytes[i] < 252) out[done++] = digits[bytes[i] % 36];
    }
  }
}
