/* Frames of a WebSocket: one payload per frame, of at most 65535 bytes. */
#ifndef BENCH_WEBSOCKET_H
#define BENCH_WEBSOCKET_H

#include <stddef.h>

#define MAX_FRAME_HEAD 8
#define ACCEPT_SIZE 29

/* The value of Sec-WebSocket-Accept for a key. */
void websocket_accept(const char *key, size_t length, char accept[ACCEPT_SIZE]);

/* Writes a binary frame with that payload; returns its size. Clients mask. */
size_t frame_write(char *to, const char *payload, size_t length, int masked);

/* The whole frame at the start of `data`: its size, 0 if there is more to come. The payload is unmasked in place. */
size_t frame_read(char *data, size_t available, char **payload, size_t *length);

#endif
