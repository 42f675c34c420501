#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>

#include "base/mem.h"

/* Looked up among OpenSSL's providers once: EVP_sha1() would have each digest do it again, which
 * costs more than a WebSocket's digest itself. They live as long as the process. */
static EVP_MD *sha1;
static EVP_MD *sha256;
/* A thread's context for SHA-1: a handshake with one of its own would pay for three allocations. */
static pthread_key_t sha1_context;

static void free_context(void *context) {
  EVP_MD_CTX_free(context);
}

static void fetch(void) {
  sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
  sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
  REQUIRE(sha1 != NULL && sha256 != NULL);
  REQUIRE(pthread_key_create(&sha1_context, free_context) == 0);
}

static void fetch_once(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, fetch);
}

static EVP_MD_CTX *context_for_sha1(void) {
  fetch_once();
  EVP_MD_CTX *context = pthread_getspecific(sha1_context);
  if (context != NULL) return context;
  context = EVP_MD_CTX_new();
  REQUIRE(context != NULL && pthread_setspecific(sha1_context, context) == 0);
  return context;
}

void digest_sha1(slice data, uint8_t out[DIGEST_SHA1_BYTES]) {
  EVP_MD_CTX *context = context_for_sha1();
  REQUIRE(EVP_DigestInit_ex(context, sha1, NULL) == 1);
  REQUIRE(EVP_DigestUpdate(context, data.data, data.len) == 1);
  REQUIRE(EVP_DigestFinal_ex(context, out, NULL) == 1);
}

void digest_sha256(slice data, uint8_t out[DIGEST_SHA256_BYTES]) {
  fetch_once();
  REQUIRE(EVP_Digest(data.data, data.len, out, NULL, sha256, NULL) == 1);
}

void digest_hmac_sha256(slice key, slice data, uint8_t out[DIGEST_SHA256_BYTES]) {
  /* HMAC takes a NULL key for "the key of last time", and an int for its length: a key longer than
   * a block is replaced by its digest in any case (RFC 2104 section 2), so that is done here. */
  uint8_t short_key[DIGEST_SHA256_BYTES];
  const void *key_data = key.len > 0 ? key.data : "";
  if (key.len > SHA256_CBLOCK) {
    digest_sha256(key, short_key);
    key_data = short_key;
    key.len = sizeof short_key;
  }
  const unsigned char *bytes = (const unsigned char *)(data.len > 0 ? data.data : "");
  fetch_once();
  REQUIRE(HMAC(sha256, key_data, (int)key.len, bytes, data.len, out, NULL) != NULL);
  OPENSSL_cleanse(short_key, sizeof short_key);
}

static const char STANDARD_ALPHABET[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char URL_ALPHABET[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t digest_base64_encode(slice data, bool url_safe, char *out) {
  const char *alphabet = url_safe ? URL_ALPHABET : STANDARD_ALPHABET;
  const uint8_t *in = (const uint8_t *)data.data;
  char *at = out;
  size_t left = data.len;
  for (; left >= 3; left -= 3, in += 3) {
    uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
    *at++ = alphabet[bits >> 18];
    *at++ = alphabet[bits >> 12 & 63];
    *at++ = alphabet[bits >> 6 & 63];
    *at++ = alphabet[bits & 63];
  }
  if (left > 0) {
    uint32_t bits = (uint32_t)in[0] << 16 | (left == 2 ? (uint32_t)in[1] << 8 : 0);
    *at++ = alphabet[bits >> 18];
    *at++ = alphabet[bits >> 12 & 63];
    if (left == 2) *at++ = alphabet[bits >> 6 & 63];
    for (size_t missing = 3 - left; !url_safe && missing > 0; missing--) *at++ = '=';
  }
  return (size_t)(at - out);
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

/* Takes the padding off; false where there is some that does not complete a group of four. */
static bool strip_padding(slice *text) {
  size_t len = text->len;
  while (len > 0 && text->len - len < 2 && text->data[len - 1] == '=') len--;
  bool is_right = len == text->len || text->len % 4 == 0;
  text->len = len;
  return is_right;
}

long digest_base64_decode(slice text, char *out) {
  if (!strip_padding(&text) || text.len % 4 == 1) return -1;
  uint32_t bits = 0;
  unsigned bit_count = 0;
  char *at = out;
  for (size_t i = 0; i < text.len; i++) {
    int value = base64_value(text.data[i]);
    if (value < 0) return -1;
    bits = (bits << 6 | (uint32_t)value) & 0xffff;
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    *at++ = (char)(bits >> bit_count & 0xff);
  }
  /* RFC 4648 section 3.5: the bits that fill the last character are zero, so that one run of bytes
   * has one text only; a token must not pass in two spellings. */
  if ((bits & ((1u << bit_count) - 1)) != 0) return -1;
  return (long)(at - out);
}

bool digest_is_equal(slice a, slice b) {
  if (a.len != b.len) return false;
  return a.len == 0 || CRYPTO_memcmp(a.data, b.data, a.len) == 0;
}
