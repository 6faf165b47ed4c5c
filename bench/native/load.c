/* The load: sends requests or WebSocket messages, and compares every byte that comes back.

   All connections are opened and used once, then `ready` is printed. `go` on standard input begins the measurement;
   at its end everything has been answered, so that what the proxy did is whole, and one line of JSON says what was
   found. `stop` instead of `go` ends without one. The first thing that is wrong ends it too, as `"error"`. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "channel.h"
#include "histogram.h"
#include "message.h"
#include "options.h"
#include "pattern.h"
#include "websocket.h"

#define BUFFER (256 * 1024)
#define RAMP 64 /* connections that are being opened at once */
#define SECOND 1000000000ull

enum stage { WARMING, MEASURING, DRAINING };

struct slot {
    struct channel channel;
    bool busy, tunnel, warm, measured;
    struct message in;
    struct request out;
    size_t sent;
    uint64_t uploaded, upload, began, frame_at;
};

static struct options options;
static struct channel_target target;
static struct histogram histogram;
static enum stage stage;
static struct slot *slots;
static struct slot **idle; /* a stack */
static size_t idle_count;
static int epoll_fd, opened;
static uint64_t now, started, last_byte, issued, finished, bytes, reopened, scheduled, taken;
static const char *failure;
static char failure_text[160];
static char buffer[BUFFER], frame_out[4096], frame_in[4096];
static size_t frame_out_size, frame_in_size;

static uint64_t clock_now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * SECOND + (uint64_t)at.tv_nsec;
}

static void fail(const char *why) {
    if (!failure) failure = why;
}

static void open_slot(struct slot *slot) {
    channel_open(&slot->channel, &target, 1 + opened++ % options.sources);
    if (slot->channel.error) {
        fail(slot->channel.error);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = slot};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->channel.fd, &event) < 0) fail("epoll_ctl");
}

/* Sends what it may of the request and its body. */
static void flush(struct slot *slot) {
    while (slot->sent < slot->out.size || slot->uploaded < slot->upload) {
        bool of_head = slot->sent < slot->out.size;
        uint64_t left = slot->upload - slot->uploaded;
        const char *from = of_head ? slot->out.bytes + slot->sent : pattern_at(slot->uploaded);
        size_t size = of_head ? slot->out.size - slot->sent : left < PATTERN_RUN ? (size_t)left : PATTERN_RUN;
        ssize_t done = channel_write(&slot->channel, from, size);
        if (done == LATER) return;
        if (done <= 0) {
            fail("the proxy closed a connection on which a request was being sent");
            return;
        }
        last_byte = now;
        if (of_head) slot->sent += (size_t)done;
        else slot->uploaded += (uint64_t)done;
    }
}

static void begin(struct slot *slot, uint64_t when) {
    slot->began = when;
    slot->busy = true;
    slot->sent = slot->uploaded = slot->frame_at = 0;
    if (slot->tunnel) {
        slot->out = (struct request){frame_out, frame_out_size};
        slot->upload = 0;
    } else {
        message_reset(&slot->in, true);
        slot->out = options.requests[taken++ % options.request_count];
        slot->upload = options.upload;
    }
    flush(slot);
}

static bool may_issue(void) {
    if (stage != MEASURING) return false;
    /* What was due before the end is sent, however late: leaving it out would hide the worst latencies. */
    if (options.rate > 0) return (double)issued < options.rate * options.seconds;
    bool in_time = options.seconds > 0 && now - started < (uint64_t)(options.seconds * (double)SECOND);
    return in_time || issued < options.count;
}

static void next(struct slot *slot) {
    if (options.rate > 0) {
        idle[idle_count++] = slot;
        return;
    }
    if (!may_issue()) return;
    issued++;
    slot->measured = true;
    now = clock_now();
    if (!options.close) {
        begin(slot, now);
        return;
    }
    slot->began = now;
    open_slot(slot);
}

static void complete(struct slot *slot) {
    slot->busy = false;
    if (slot->tunnel || !options.frame) slot->warm = true;
    if (slot->measured) {
        finished++;
        histogram_add(&histogram, now - slot->began);
    }
    slot->measured = false;
    if (options.close) {
        channel_close(&slot->channel);
        next(slot);
    } else if (slot->in.close && !slot->tunnel) {
        /* It said so beforehand: proxies limit the requests of a connection. */
        channel_close(&slot->channel);
        reopened++;
        open_slot(slot);
    } else if (stage != WARMING) {
        next(slot);
    } else if (slot->tunnel && !finished && !slot->frame_at) {
        begin(slot, now);
    } else if (options.rate > 0) {
        idle[idle_count++] = slot;
    }
}

static bool has_wanted_status(struct slot *slot) {
    int wanted = options.frame ? 101 : options.status;
    if (slot->in.status == wanted) return true;
    snprintf(failure_text, sizeof failure_text, "the answer was %d instead of %d", slot->in.status, wanted);
    fail(failure_text);
    return false;
}

static void check_answer(struct slot *slot) {
    if (!options.frame && slot->in.body != options.size) {
        snprintf(failure_text, sizeof failure_text, "the body has %llu bytes instead of %llu",
                 (unsigned long long)slot->in.body, (unsigned long long)options.size);
        fail(failure_text);
    } else if (slot->sent < slot->out.size || slot->uploaded < slot->upload) {
        fail("the answer came before the whole request was sent");
    } else {
        slot->tunnel = options.frame > 0;
        complete(slot);
    }
}

static void take_frame(struct slot *slot, size_t got) {
    if (!slot->busy || slot->frame_at + got > frame_in_size) fail("more came back than one message");
    else if (memcmp(frame_in + slot->frame_at, buffer, got) != 0) fail("a wrong byte in a WebSocket message");
    else if ((slot->frame_at += got) == frame_in_size) complete(slot);
}

static void take_bytes(struct slot *slot, size_t got) {
    bytes += got;
    last_byte = now;
    if (slot->tunnel) {
        take_frame(slot, got);
        return;
    }
    if (!slot->busy) {
        fail("bytes came that nobody asked for");
        return;
    }
    size_t used = message_feed(&slot->in, buffer, got, NULL, NULL);
    /* Before its body, which is then another one. */
    if (slot->in.phase != HEAD && !has_wanted_status(slot)) return;
    if (slot->in.error) fail(slot->in.error);
    else if (used < got) fail("more came back than one answer");
    else if (slot->in.phase == DONE) check_answer(slot);
}

static void closed(struct slot *slot) {
    if (slot->busy && slot->in.phase != HEAD && message_closed(&slot->in)) check_answer(slot);
    else if (slot->busy && slot->in.phase == HEAD) fail("a connection was closed without an answer");
    else if (slot->busy) fail("an answer was cut short");
    else fail("a connection was closed while idle");
}

static void receive(struct slot *slot, bool ends) {
    while (!failure && slot->channel.state == OPEN) {
        int fd = slot->channel.fd;
        ssize_t got = channel_read(&slot->channel, buffer, sizeof buffer);
        if (got == LATER) return;
        if (got <= 0) {
            closed(slot);
            return;
        }
        take_bytes(slot, (size_t)got);
        /* A short read means that there is no more, but for TLS, which reads by records. */
        if (fd != slot->channel.fd || (!slot->channel.ssl && !ends && (size_t)got < sizeof buffer)) return;
    }
}

static void established(struct slot *slot) {
    if (options.close) {
        uint64_t when = stage == WARMING ? now : slot->began;
        begin(slot, when);
    } else if (stage != WARMING) {
        next(slot);
    } else if (!slot->warm) {
        begin(slot, now);
    }
}

static void on_event(struct slot *slot, bool ends) {
    if (slot->channel.state == CLOSED) return;
    if (slot->channel.state != OPEN) {
        bool open = channel_advance(&slot->channel, &target);
        if (slot->channel.error) fail(slot->channel.error);
        if (!open || failure) return;
        established(slot);
    } else {
        flush(slot);
    }
    if (!failure) receive(slot, ends);
}

/* Requests whose time has come, on the connections that are free; the others wait, and their time runs. */
static void issue_scheduled(void) {
    if (options.rate <= 0 || stage != MEASURING) return;
    double interval = (double)SECOND / options.rate;
    while (idle_count && may_issue()) {
        uint64_t due = started + (uint64_t)((double)scheduled * interval);
        if (due > now) return;
        scheduled++;
        issued++;
        idle[--idle_count]->measured = true;
        begin(idle[idle_count], due);
    }
}

static void wait_for_events(uint64_t longest) {
    struct epoll_event events[256];
    uint64_t wait = longest;
    if (options.rate > 0 && stage == MEASURING && idle_count) {
        uint64_t due = started + (uint64_t)((double)scheduled * (double)SECOND / options.rate);
        uint64_t until = due > now ? due - now : 0;
        wait = until < wait ? until : wait;
    }
    struct timespec time = {.tv_sec = (time_t)(wait / SECOND), .tv_nsec = (long)(wait % SECOND)};
    int ready = epoll_pwait2(epoll_fd, events, 256, &time, NULL);
    if (ready < 0 && errno != EINTR) fail("epoll_pwait2");
    now = clock_now();
    for (int i = 0; i < ready && !failure; i++) on_event(events[i].data.ptr, events[i].events & EPOLLRDHUP);
    if (ready <= 0 && now - last_byte > (uint64_t)(options.timeout * (double)SECOND)) fail("no answer in time");
}

static void warm_up(void) {
    bool needed = !options.close || options.resume;
    int first_open = 0, warm = 0;
    last_byte = now = clock_now();
    while (needed && warm < options.connections && !failure) {
        while (first_open < options.connections && first_open - warm < RAMP) open_slot(&slots[first_open++]);
        wait_for_events(SECOND / 10);
        while (warm < first_open && slots[warm].warm && !slots[warm].busy) warm++;
    }
}

static void measure(void) {
    stage = MEASURING;
    opened = 0;
    started = last_byte = now = clock_now();
    idle_count = 0;
    for (int i = 0; i < options.connections && !failure; i++) {
        /* Those that are being opened again begin when they are open. */
        bool ready = slots[i].channel.state == OPEN && !slots[i].busy;
        if (options.close || ready) next(&slots[i]);
    }
    while (!failure && may_issue()) {
        issue_scheduled();
        wait_for_events(SECOND / 100);
    }
    stage = DRAINING;
    while (!failure && issued > finished) wait_for_events(SECOND / 100);
}

/* After `stop`: what has come on connections that should be silent. */
static void look_once(void) {
    stage = DRAINING;
    last_byte = clock_now();
    wait_for_events(0);
}

static double us(double share) { return (double)histogram_quantile(&histogram, share) / 1000; }

static void print_result(double seconds) {
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"bytes\": %llu, \"reopened\": %llu", (unsigned long long)finished,
           seconds, (unsigned long long)bytes, (unsigned long long)reopened);
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f", us(0.5), us(0.99), us(0.999),
           (double)histogram.largest / 1000);
    printf(", \"error\": \"%s\"}\n", failure ? failure : "");
}

static void prepare(void) {
    slots = calloc((size_t)options.connections, sizeof *slots);
    idle = calloc((size_t)options.connections, sizeof *idle);
    for (int i = 0; i < options.connections; i++) slots[i].channel.fd = -1;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    target = (struct channel_target){options.address, options.port, NULL, options.resume};
    if (options.tls) target.tls = channel_tls(options.resume);
    frame_out_size = frame_write(frame_out, pattern_at(0), options.frame, 1);
    frame_in_size = frame_write(frame_in, pattern_at(0), options.frame, 0);
}

int main(int count, char **arguments) {
    char order[16] = "";
    signal(SIGPIPE, SIG_IGN);
    pattern_init();
    options_parse(&options, count, arguments);
    prepare();
    warm_up();
    if (!failure) {
        puts("ready");
        fflush(stdout);
        if (!fgets(order, sizeof order, stdin)) return 1;
    }
    started = clock_now();
    if (!failure && strncmp(order, "go", 2) == 0) measure();
    else if (!failure) look_once();
    print_result((double)(clock_now() - started) / (double)SECOND);
    return 0;
}
