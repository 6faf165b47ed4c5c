#define _GNU_SOURCE
#include "message.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pattern.h"

void message_reset(struct message *message, bool is_response) {
    char *head = message->head;
    memset(message, 0, sizeof *message);
    message->head = head;
    message->is_response = is_response;
}

static bool value_has(const char *value, size_t length, const char *word) {
    size_t size = strlen(word);
    for (size_t i = 0; i + size <= length; i++)
        if (strncasecmp(value + i, word, size) == 0) return true;
    return false;
}

const char *head_field(const char *head, size_t head_length, const char *name, size_t *length) {
    const char *end = head + head_length, *line = head;
    size_t size = strlen(name);
    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline) return NULL;
        if ((size_t)(newline - line) > size && line[size] == ':' && strncasecmp(line, name, size) == 0) {
            const char *value = line + size + 1, *stop = newline;
            while (value < stop && *value == ' ') value++;
            while (stop > value && (stop[-1] == '\r' || stop[-1] == ' ')) stop--;
            *length = (size_t)(stop - value);
            return value;
        }
        line = newline + 1;
    }
    return NULL;
}

static void parse_framing(struct message *m, const char *head, size_t length) {
    size_t size;
    const char *value = head_field(head, length, "connection", &size);
    if (value) {
        m->close = value_has(value, size, "close");
        m->upgrade = value_has(value, size, "upgrade");
    }
    value = head_field(head, length, "transfer-encoding", &size);
    if (value) {
        m->chunked = true;
        m->phase = CHUNK_SIZE;
        return;
    }
    value = head_field(head, length, "content-length", &size);
    if (value) {
        m->left = strtoull(value, NULL, 10);
        m->phase = m->left ? LENGTH_BODY : DONE;
        return;
    }
    m->phase = m->is_response && m->status != 101 && m->status != 204 ? UNTIL_CLOSE : DONE;
}

static void parse_head(struct message *m, const char *head, size_t length, head_seen *on_head, void *owner) {
    if (m->is_response) {
        if (length < 12 || memcmp(head, "HTTP/1.1 ", 9) != 0) {
            m->error = "the answer does not begin with HTTP/1.1";
            return;
        }
        m->status = atoi(head + 9);
    }
    parse_framing(m, head, length);
    if (on_head) on_head(owner, head, length);
}

static size_t feed_head(struct message *m, const char *data, size_t length, head_seen *on_head, void *owner) {
    if (!m->head_length) {
        const char *end = memmem(data, length, "\r\n\r\n", 4);
        if (end) {
            size_t size = (size_t)(end - data) + 4;
            parse_head(m, data, size, on_head, owner);
            return size;
        }
    }
    if (!m->head) m->head = malloc(MAX_HEAD);
    size_t before = m->head_length;
    size_t taken = length < MAX_HEAD - before ? length : MAX_HEAD - before;
    memcpy(m->head + before, data, taken);
    m->head_length += taken;
    const char *end = memmem(m->head, m->head_length, "\r\n\r\n", 4);
    if (!end) {
        if (m->head_length == MAX_HEAD) m->error = "a head without an end";
        return taken;
    }
    size_t size = (size_t)(end - m->head) + 4;
    parse_head(m, m->head, size, on_head, owner);
    return size - before;
}

static size_t feed_bytes(struct message *m, const char *data, size_t length, enum phase next) {
    size_t taken = m->left < length ? (size_t)m->left : length;
    if (!pattern_matches(m->body, data, taken)) {
        m->error = "a wrong byte in the body";
        return taken;
    }
    m->body += taken;
    m->left -= taken;
    if (!m->left) m->phase = next;
    return taken;
}

/* One line of the chunked framing; its meaning depends on the phase. */
static void end_line(struct message *m) {
    if (m->phase == CHUNK_SIZE) {
        char *end;
        m->left = strtoull(m->line, &end, 16);
        if (end == m->line) m->error = "a chunk without a size";
        m->phase = m->left ? CHUNK_DATA : TRAILER;
    } else if (m->phase == CHUNK_END) {
        if (m->line_length) m->error = "a chunk longer than its size";
        m->phase = CHUNK_SIZE;
    } else if (!m->line_length) {
        m->phase = DONE;
    }
    m->line_length = 0;
}

static size_t feed_line(struct message *m, const char *data, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '\n') {
            m->line[m->line_length] = 0;
            end_line(m);
            return i + 1;
        }
        if (data[i] == '\r') continue;
        if (m->line_length + 1 >= sizeof m->line) {
            m->error = "a line too long in the chunked framing";
            return i;
        }
        m->line[m->line_length++] = data[i];
    }
    return length;
}

static size_t feed_until_close(struct message *m, const char *data, size_t length) {
    m->left = length;
    return feed_bytes(m, data, length, UNTIL_CLOSE);
}

size_t message_feed(struct message *m, const char *data, size_t length, head_seen *on_head, void *owner) {
    size_t taken = 0;
    while (taken < length && m->phase != DONE && !m->error) {
        const char *rest = data + taken;
        size_t size = length - taken;
        switch (m->phase) {
            case HEAD: taken += feed_head(m, rest, size, on_head, owner); break;
            case LENGTH_BODY: taken += feed_bytes(m, rest, size, DONE); break;
            case CHUNK_DATA: taken += feed_bytes(m, rest, size, CHUNK_END); break;
            case UNTIL_CLOSE: taken += feed_until_close(m, rest, size); break;
            default: taken += feed_line(m, rest, size);
        }
    }
    return taken;
}

bool message_closed(struct message *m) {
    if (m->phase == UNTIL_CLOSE) m->phase = DONE;
    return m->phase == DONE;
}
