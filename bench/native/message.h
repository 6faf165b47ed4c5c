/* Reads one HTTP/1.1 message and compares its body with the pattern, in whatever pieces it comes. */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_HEAD 32768

enum phase { HEAD, LENGTH_BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE, DONE };

struct message {
    bool is_response;
    enum phase phase;
    int status;              /* of a response */
    bool chunked, close, upgrade;
    uint64_t left;           /* of the body or of the chunk */
    uint64_t body;           /* bytes of the body so far */
    const char *error;       /* what is wrong with it, or NULL */
    char line[64];           /* a chunk's size line, in pieces */
    size_t line_length;
    char *head;              /* a head that came in pieces; the owner frees it */
    size_t head_length;
};

void message_reset(struct message *message, bool is_response);

/* Takes bytes until the message is whole or wrong; returns how many. `on_head`, if given, sees the head at its end. */
typedef void head_seen(void *owner, const char *head, size_t length);
size_t message_feed(struct message *message, const char *data, size_t length, head_seen *on_head, void *owner);

/* The peer has closed: whether that was the message's proper end. */
bool message_closed(struct message *message);

/* The value of a field in a head, or NULL; `*length` is set. */
const char *head_field(const char *head, size_t head_length, const char *name, size_t *length);

#endif
