#include "codec/ws_handshake.h"

#include "base/digest.h"

enum {
  KEY_BYTES = 24, /* 16 bytes in base64: 22 characters and two of padding */
  KEY_CHARACTERS = 22,
};

void ws_handshake_add(ws_handshake *handshake, slice name, slice value) {
  if (slice_is_equal_nocase(name, SLICE("upgrade"))) {
    if (ws_handshake_has_token(value, SLICE("websocket"))) handshake->has_upgrade = true;
  } else if (slice_is_equal_nocase(name, SLICE("connection"))) {
    if (ws_handshake_has_token(value, SLICE("upgrade"))) handshake->has_connection = true;
  } else if (slice_is_equal_nocase(name, SLICE("sec-websocket-key"))) {
    if (handshake->key_count == 0) handshake->key = slice_trim(value);
    if (handshake->key_count < UINT16_MAX) handshake->key_count++;
  } else if (slice_is_equal_nocase(name, SLICE("sec-websocket-version"))) {
    if (handshake->version_count == 0) handshake->version = slice_trim(value);
    if (handshake->version_count < UINT16_MAX) handshake->version_count++;
  }
}

static ws_handshake_result refuse(int status, const char *reason) {
  return (ws_handshake_result){status, reason};
}

ws_handshake_result ws_handshake_judge(const ws_handshake *handshake, slice method, int http_major,
                                       int http_minor) {
  if (!slice_is_equal(method, SLICE("GET"))) {
    return refuse(405, "A WebSocket handshake is a GET request");
  }
  if (http_major < 1 || (http_major == 1 && http_minor < 1)) {
    return refuse(400, "A WebSocket handshake needs HTTP/1.1");
  }
  if (!handshake->has_upgrade) return refuse(426, "This URL speaks WebSocket");
  if (!handshake->has_connection) return refuse(400, "Connection does not list Upgrade");

  /* The version before the key: a client of an early draft has no key, and should learn why. */
  if (handshake->version_count != 1) {
    return refuse(400, "Sec-WebSocket-Version must be given once");
  }
  if (!slice_is_equal(handshake->version, SLICE("13"))) {
    return refuse(426, "Sec-WebSocket-Version must be 13");
  }
  if (handshake->key_count != 1) return refuse(400, "Sec-WebSocket-Key must be given once");
  if (!ws_handshake_key_is_valid(handshake->key)) {
    return refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64");
  }
  return (ws_handshake_result){101, NULL};
}

void ws_handshake_accept(slice key, char out[WS_HANDSHAKE_ACCEPT_BYTES]) {
  /* Section 1.3. A valid key has 24 characters; a longer one is cut rather than trusted. */
  slice guid = SLICE("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  char text[KEY_BYTES + 36];
  size_t key_len = key.len < KEY_BYTES ? key.len : KEY_BYTES;
  if (key_len > 0) memcpy(text, key.data, key_len);
  memcpy(text + key_len, guid.data, guid.len);
  uint8_t digest[DIGEST_SHA1_BYTES];
  digest_sha1(slice_of(text, key_len + guid.len), digest);
  digest_base64_encode(slice_of(digest, sizeof(digest)), false, out);
}

static const bool is_base64[256] = {
    ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['0' ... '9'] = true, ['+'] = true, ['/'] = true,
};

bool ws_handshake_key_is_valid(slice key) {
  if (key.len != KEY_BYTES || key.data[22] != '=' || key.data[23] != '=') return false;
  for (size_t i = 0; i < KEY_CHARACTERS; i++) {
    if (!is_base64[(unsigned char)key.data[i]]) return false;
  }
  /* The last character carries two bits; that its other four are zero (RFC 4648 section 3.5) is not
   * asked for, since the key is never decoded and clients exist that write anything there. */
  return true;
}

bool ws_handshake_has_token(slice header_value, slice token) {
  slice rest = header_value;
  while (rest.data != NULL) {
    if (slice_is_equal_nocase(slice_trim(slice_split(&rest, ',')), token)) return true;
  }
  return false;
}

slice ws_handshake_choose_protocol(slice offered, const slice *ours, size_t count) {
  slice rest = offered;
  while (rest.data != NULL) {
    slice protocol = slice_trim(slice_split(&rest, ','));
    for (size_t i = 0; i < count; i++) {
      if (protocol.len > 0 && slice_is_equal(protocol, ours[i])) return ours[i];
    }
  }
  return (slice){NULL, 0};
}
