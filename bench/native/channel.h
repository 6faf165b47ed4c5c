/* A connection to the proxy, plain or TLS, that never blocks. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

enum channel_state { CLOSED, CONNECTING, SHAKING, OPEN };

struct channel {
    enum channel_state state;
    int fd;
    SSL *ssl;
    SSL_SESSION *session; /* of an earlier connection, to resume */
    const char *error;
};

/* What read and write say when they cannot go on now; 0 is the end, -1 an error. */
#define LATER (-2)

struct channel_target {
    const char *address;
    int port;
    SSL_CTX *tls; /* NULL: plain */
    bool resume;
};

/* TLS for all channels. The certificate is not verified: that would be most of the load's own work. */
SSL_CTX *channel_tls(bool resume);

/* Begins to connect, from 127.0.1.`source`. */
void channel_open(struct channel *channel, const struct channel_target *target, int source);

/* Goes on with connecting and the handshake as far as it can; true once open, when `error` may also be set. */
bool channel_advance(struct channel *channel, const struct channel_target *target);

ssize_t channel_read(struct channel *channel, char *to, size_t size);
ssize_t channel_write(struct channel *channel, const char *from, size_t size);
void channel_close(struct channel *channel);

#endif
