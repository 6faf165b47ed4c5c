#include "websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
static const unsigned char MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

void websocket_accept(const char *key, size_t length, char accept[ACCEPT_SIZE]) {
    char text[64 + sizeof GUID];
    unsigned char digest[SHA_DIGEST_LENGTH];
    if (length > 64) length = 64;
    memcpy(text, key, length);
    memcpy(text + length, GUID, sizeof GUID - 1);
    SHA1((unsigned char *)text, length + sizeof GUID - 1, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, SHA_DIGEST_LENGTH);
}

static void apply_mask(char *data, size_t length, const unsigned char *mask) {
    for (size_t i = 0; i < length; i++) data[i] = (char)(data[i] ^ mask[i % 4]);
}

size_t frame_write(char *to, const char *payload, size_t length, int masked) {
    char flag = (char)(masked ? 0x80 : 0);
    size_t at = 0;
    to[at++] = (char)0x82;
    if (length < 126) {
        to[at++] = (char)(flag | (char)length);
    } else {
        to[at++] = (char)(flag | 126);
        to[at++] = (char)(length >> 8);
        to[at++] = (char)length;
    }
    if (masked) {
        memcpy(to + at, MASK, 4);
        at += 4;
    }
    memmove(to + at, payload, length);
    if (masked) apply_mask(to + at, length, MASK);
    return at + length;
}

size_t frame_read(char *data, size_t available, char **payload, size_t *length) {
    if (available < 2) return 0;
    size_t size = data[1] & 0x7f, at = 2;
    if (size == 126) {
        if (available < 4) return 0;
        size = (size_t)(unsigned char)data[2] << 8 | (unsigned char)data[3];
        at = 4;
    }
    int masked = data[1] & 0x80;
    size_t whole = at + (masked ? 4 : 0) + size;
    if (available < whole) return 0;
    if (masked) {
        unsigned char mask[4];
        memcpy(mask, data + at, 4);
        at += 4;
        apply_mask(data + at, size, mask);
    }
    *payload = data + at;
    *length = size;
    return whole;
}
