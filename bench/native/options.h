/* What a load is to be, from the command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    const char *bytes;
    size_t size;
};

struct options {
    const char *address;
    int port;
    int sources;             /* addresses 127.0.1.1, 127.0.1.2, ... to connect from */
    int connections;
    double seconds;          /* how long, or */
    uint64_t count;          /* how many requests; with both, whatever is later */
    double rate;             /* requests per second on a schedule; 0: each connection as fast as it goes */
    int status;              /* wanted */
    uint64_t size;           /* wanted bytes of the body */
    uint64_t upload;         /* bytes of the pattern sent after each head */
    uint64_t frame;          /* payload of each WebSocket message; 0: HTTP */
    bool close;              /* a connection per request */
    bool tls, resume;
    double timeout;          /* seconds without a byte, then it has failed */
    struct request *requests; /* in turn */
    size_t request_count;
};

/* Ends the program with a message if something is wrong with them. */
void options_parse(struct options *options, int count, char **arguments);

#endif
