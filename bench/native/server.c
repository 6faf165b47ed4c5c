/* The servers behind the proxies: one process that listens on any number of addresses.

   server [--announce SECONDS] ADDRESS:PORT...

   GET or POST .../b/N      200 with N bytes of the pattern; a body has to be the pattern's bytes
   POST .../b/N/u/M         the same, and the body has to have M bytes
   GET .../head             200 with the head of the request as its body
   Upgrade: websocket       101, then each frame comes back

   A body that is wrong or has another length is answered with 422. Prints `listening` when it does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "pattern.h"
#include "websocket.h"

#define BUFFER (256 * 1024)
#define FRAMES 4096

struct client {
    int fd;
    bool listening, tunnel, wants_head;
    struct message in;
    uint64_t wanted_body; /* UINT64_MAX: any */
    uint64_t answer;      /* bytes of the pattern to answer with */
    char out[MAX_HEAD + 512];
    size_t out_at, out_size;
    uint64_t body_at, body_size;
    char *frames;
    size_t frames_size;
    char accept[ACCEPT_SIZE];
};

static int epoll_fd, announce;
static char date[64];

/* The head of the last ordinary answer of this second; size 0: there is none. */
static struct {
    uint64_t answer;
    size_t size;
    char text[256];
} usual;

static char buffer[BUFFER];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void drop(struct client *client) {
    close(client->fd);
    free(client->in.head);
    free(client->frames);
    free(client);
}

static void watch(struct client *client) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = client};
    if (client->listening) event.events = EPOLLIN;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) < 0) die("epoll_ctl");
}

/* `name/N` in the target, or `otherwise`. */
static uint64_t number_after(const char *target, size_t length, const char *name, uint64_t otherwise) {
    const char *found = memmem(target, length, name, strlen(name));
    return found ? strtoull(found + strlen(name), NULL, 10) : otherwise;
}

static void on_head(void *owner, const char *head, size_t length) {
    struct client *client = owner;
    const char *target = memchr(head, ' ', length);
    const char *end = target ? memchr(target + 1, ' ', length - (size_t)(target - head) - 1) : NULL;
    if (!end) {
        client->in.error = "no target";
        return;
    }
    size_t size = (size_t)(end - target), key_size;
    client->answer = number_after(target, size, "/b/", 12);
    client->wanted_body = number_after(target, size, "/u/", UINT64_MAX);
    client->wants_head = size >= 5 && memcmp(end - 5, "/head", 5) == 0;
    const char *key = client->in.upgrade ? head_field(head, length, "sec-websocket-key", &key_size) : NULL;
    client->accept[0] = 0;
    if (key) websocket_accept(key, key_size, client->accept);
    if (client->wants_head) {
        client->out_size = (size_t)snprintf(
            client->out, sizeof client->out,
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%.*s", length,
            (int)length, head);
    }
}

/* Most are like the one before, and it is the time of the load's core that printing them takes. */
static void copy_head(struct client *client) {
    if (!usual.size || usual.answer != client->answer) {
        char keep[64] = "";
        if (announce) snprintf(keep, sizeof keep, "Keep-Alive: timeout=%d\r\n", announce);
        usual.answer = client->answer;
        usual.size = (size_t)snprintf(
            usual.text, sizeof usual.text,
            "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: %s\r\nContent-Type: text/plain\r\n"
            "Content-Length: %llu\r\n%s\r\n",
            date, (unsigned long long)client->answer, keep);
    }
    memcpy(client->out, usual.text, usual.size);
    client->out_size = usual.size;
    client->body_size = client->answer;
}

static void prepare_answer(struct client *client) {
    bool refused = client->in.error || (client->wanted_body != UINT64_MAX && client->in.body != client->wanted_body);
    client->out_at = client->body_at = client->body_size = 0;
    if (client->accept[0]) {
        client->tunnel = true;
        client->out_size = (size_t)snprintf(
            client->out, sizeof client->out,
            "HTTP/1.1 101 Switching Protocols\r\n%s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
            "Upgrade: websocket\r\nConnection: Upgrade", client->accept);
    } else if (refused) {
        client->out_size = (size_t)snprintf(client->out, sizeof client->out,
                                            "HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n");
    } else if (!client->wants_head) {
        copy_head(client);
    }
}

/* Writes what it may; false when the client is gone. */
static bool flush(struct client *client) {
    while (client->out_at < client->out_size || client->body_at < client->body_size) {
        uint64_t left = client->body_size - client->body_at;
        struct iovec parts[2] = {
            {client->out + client->out_at, client->out_size - client->out_at},
            {(char *)pattern_at(client->body_at), left < PATTERN_RUN ? (size_t)left : PATTERN_RUN},
        };
        ssize_t sent = writev(client->fd, parts, 2);
        if (sent < 0) return errno == EAGAIN;
        size_t of_head = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
        client->out_at += of_head;
        client->body_at += (size_t)sent - of_head;
    }
    client->out_size = client->out_at = 0;
    return true;
}

static bool echo(struct client *client, const char *data, size_t length) {
    if (!client->frames) client->frames = malloc(FRAMES);
    if (client->frames_size + length > FRAMES) return false;
    memcpy(client->frames + client->frames_size, data, length);
    client->frames_size += length;
    char *payload, frame[FRAMES + MAX_FRAME_HEAD];
    size_t size, at = 0, whole;
    while ((whole = frame_read(client->frames + at, client->frames_size - at, &payload, &size)) != 0) {
        size_t out = frame_write(frame, payload, size, 0);
        if (write(client->fd, frame, out) != (ssize_t)out) return false;
        at += whole;
    }
    memmove(client->frames, client->frames + at, client->frames_size - at);
    client->frames_size -= at;
    return true;
}

static bool take(struct client *client, const char *data, size_t length) {
    while (length) {
        if (client->tunnel) return echo(client, data, length);
        if (client->in.phase == DONE) message_reset(&client->in, false);
        size_t taken = message_feed(&client->in, data, length, on_head, client);
        if (client->in.error) client->in.phase = DONE;
        data += taken;
        length -= taken;
        if (client->in.phase != DONE) continue;
        prepare_answer(client);
        if (!flush(client) || client->in.error) return false;
    }
    return true;
}

/* A short read means that there is no more, unless the client has said that nothing follows: then its end does. */
static bool serve(struct client *client, bool ends) {
    if (!flush(client)) return false;
    for (;;) {
        ssize_t got = read(client->fd, buffer, sizeof buffer);
        if (got < 0) return errno == EAGAIN;
        if (got == 0 || !take(client, buffer, (size_t)got)) return false;
        if (client->in.phase == DONE && client->in.close && !client->tunnel && !client->out_size) return false;
        if ((size_t)got < sizeof buffer && !ends) return true;
    }
}

static void accept_all(int listening) {
    int fd, on = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct client *client = calloc(1, sizeof *client);
        client->fd = fd;
        watch(client);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static void listen_on(const char *text) {
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "not an address: %s\n", text);
        exit(2);
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die(host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) die(text);
    struct client *client = calloc(1, sizeof *client);
    client->fd = fd;
    client->listening = true;
    watch(client);
}

static void update_date(void) {
    static time_t told;
    time_t now = time(NULL);
    struct tm parts;
    if (now == told) return;
    told = now;
    usual.size = 0;
    gmtime_r(&now, &parts);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    pattern_init();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int first = 1;
    if (count > 2 && strcmp(arguments[1], "--announce") == 0) {
        announce = atoi(arguments[2]);
        first = 3;
    }
    for (int i = first; i < count; i++) listen_on(arguments[i]);
    puts("listening");
    fflush(stdout);
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 256, 1000);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        update_date();
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client->listening) accept_all(client->fd);
            else if (!serve(client, events[i].events & EPOLLRDHUP)) drop(client);
        }
    }
}
