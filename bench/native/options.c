#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void refuse(const char *why) {
    fprintf(stderr, "load: %s\n", why);
    exit(2);
}

static char *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) refuse("cannot read the file of requests");
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) refuse("cannot read the file of requests");
    fclose(file);
    return bytes;
}

/* Records of a length, four bytes with the highest first, and as many bytes. */
static void read_requests(struct options *options, const char *path) {
    size_t size, at = 0, room = 16;
    char *bytes = read_all(path, &size);
    options->requests = malloc(room * sizeof *options->requests);
    while (at + 4 <= size) {
        const unsigned char *length = (unsigned char *)bytes + at;
        size_t record = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3];
        at += 4;
        if (!record || at + record > size) refuse("a broken record in the file of requests");
        if (options->request_count == room) {
            room *= 2;
            options->requests = realloc(options->requests, room * sizeof *options->requests);
        }
        options->requests[options->request_count++] = (struct request){bytes + at, record};
        at += record;
    }
    if (!options->request_count) refuse("no request in the file");
}

static const struct option NAMES[] = {
    {"address", required_argument, NULL, 'a'}, {"port", required_argument, NULL, 'p'},
    {"sources", required_argument, NULL, 'o'}, {"connections", required_argument, NULL, 'c'},
    {"seconds", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'n'},
    {"rate", required_argument, NULL, 'r'},    {"status", required_argument, NULL, 'S'},
    {"size", required_argument, NULL, 'z'},    {"upload", required_argument, NULL, 'u'},
    {"frame", required_argument, NULL, 'f'},   {"timeout", required_argument, NULL, 't'},
    {"requests", required_argument, NULL, 'q'}, {"close", no_argument, NULL, 'C'},
    {"tls", no_argument, NULL, 'T'},           {"resume", no_argument, NULL, 'R'},
    {NULL, 0, NULL, 0},
};

static void set(struct options *options, int name, char *value) {
    switch (name) {
        case 'a': options->address = value; break;
        case 'p': options->port = atoi(value); break;
        case 'o': options->sources = atoi(value); break;
        case 'c': options->connections = atoi(value); break;
        case 's': options->seconds = atof(value); break;
        case 'n': options->count = strtoull(value, NULL, 10); break;
        case 'r': options->rate = atof(value); break;
        case 'S': options->status = atoi(value); break;
        case 'z': options->size = strtoull(value, NULL, 10); break;
        case 'u': options->upload = strtoull(value, NULL, 10); break;
        case 'f': options->frame = strtoull(value, NULL, 10); break;
        case 't': options->timeout = atof(value); break;
        case 'q': read_requests(options, value); break;
        case 'C': options->close = true; break;
        case 'T': options->tls = true; break;
        case 'R': options->resume = true; break;
        default: exit(2);
    }
}

void options_parse(struct options *options, int count, char **arguments) {
    int name;
    *options = (struct options){.address = "127.0.0.1", .sources = 1, .connections = 1, .status = 200, .timeout = 10};
    while ((name = getopt_long(count, arguments, "", NAMES, NULL)) != -1) set(options, name, optarg);
    if (!options->request_count) refuse("--requests is missing");
    if (options->connections < 1 || options->sources < 1 || options->sources > 250) refuse("connections or sources");
    if (options->frame > 4000) refuse("--frame is at most 4000");
    if (options->resume && !(options->tls && options->close)) refuse("--resume needs --tls and --close");
    if (options->rate > 0 && (options->close || options->frame)) refuse("--rate is for requests on kept connections");
}
