#include "channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct channel *channel = SSL_get_app_data(ssl);
    if (channel->session) SSL_SESSION_free(channel->session);
    channel->session = session;
    return 1;
}

SSL_CTX *channel_tls(bool resume) {
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    /* Left to choose, some proxies would take AES-128 and others AES-256. */
    SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    long cache = resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF;
    SSL_CTX_set_session_cache_mode(tls, cache);
    if (resume) SSL_CTX_sess_set_new_cb(tls, keep_session);
    return tls;
}

static void begin_tls(struct channel *channel, const struct channel_target *target) {
    channel->ssl = SSL_new(target->tls);
    SSL_set_app_data(channel->ssl, channel);
    SSL_set_fd(channel->ssl, channel->fd);
    SSL_set_tlsext_host_name(channel->ssl, "localhost");
    if (channel->session) SSL_set_session(channel->ssl, channel->session);
    SSL_set_connect_state(channel->ssl);
    channel->state = SHAKING;
}

void channel_open(struct channel *channel, const struct channel_target *target, int source) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100u + (unsigned)source)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target->port)};
    int on = 1;
    inet_pton(AF_INET, target->address, &to.sin_addr);
    channel->error = NULL;
    channel->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    channel->state = CONNECTING;
    if (channel->fd < 0) {
        channel->error = "no descriptor is left";
        return;
    }
    setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* The port is then chosen at connect, where it need be unique only to the proxy's address. */
    setsockopt(channel->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(channel->fd, (struct sockaddr *)&from, sizeof from) < 0) channel->error = "cannot bind a source address";
    else if (connect(channel->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        channel->error = errno == EADDRNOTAVAIL ? "no local port is left" : "the proxy refuses connections";
}

static void shake(struct channel *channel, const struct channel_target *target) {
    int result = SSL_do_handshake(channel->ssl);
    if (result != 1) {
        int why = SSL_get_error(channel->ssl, result);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) channel->error = "the TLS handshake failed";
        return;
    }
    channel->state = OPEN;
    bool offered = target->resume && channel->session;
    if (SSL_session_reused(channel->ssl) != offered) channel->error = "a TLS session was not resumed, or unasked";
}

bool channel_advance(struct channel *channel, const struct channel_target *target) {
    if (channel->state == CONNECTING) {
        int failure = 0;
        socklen_t size = sizeof failure;
        struct sockaddr_in peer;
        socklen_t peer_size = sizeof peer;
        getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure) channel->error = "cannot connect to the proxy";
        else if (getpeername(channel->fd, (struct sockaddr *)&peer, &peer_size) < 0) return false;
        else if (target->tls) begin_tls(channel, target);
        else channel->state = OPEN;
    }
    if (channel->state == SHAKING) shake(channel, target);
    return channel->state == OPEN;
}

static ssize_t tls_result(struct channel *channel, int result) {
    if (result > 0) return result;
    switch (SSL_get_error(channel->ssl, result)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE: return LATER;
        case SSL_ERROR_ZERO_RETURN: return 0;
        default: return -1;
    }
}

ssize_t channel_read(struct channel *channel, char *to, size_t size) {
    if (channel->ssl) return tls_result(channel, SSL_read(channel->ssl, to, (int)size));
    ssize_t got = read(channel->fd, to, size);
    return got < 0 && errno == EAGAIN ? LATER : got;
}

ssize_t channel_write(struct channel *channel, const char *from, size_t size) {
    if (channel->ssl) return tls_result(channel, SSL_write(channel->ssl, from, (int)size));
    ssize_t sent = write(channel->fd, from, size);
    return sent < 0 && errno == EAGAIN ? LATER : sent;
}

void channel_close(struct channel *channel) {
    if (channel->ssl) {
        /* Without this OpenSSL would not let the session be resumed. */
        if (channel->state == OPEN) SSL_shutdown(channel->ssl);
        SSL_free(channel->ssl);
        channel->ssl = NULL;
    }
    if (channel->fd >= 0) close(channel->fd);
    channel->fd = -1;
    channel->state = CLOSED;
}
