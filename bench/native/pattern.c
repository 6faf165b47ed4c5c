#include "pattern.h"

#include <string.h>

/* A prime: a body that is off by a chunk, a page or a buffer does not fit. */
#define PERIOD 65521

static char bytes[PERIOD + PATTERN_RUN];

void pattern_init(void) {
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < sizeof bytes; i++) {
        if (i >= PERIOD) {
            bytes[i] = bytes[i - PERIOD];
            continue;
        }
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (char)(state >> 8);
    }
}

const char *pattern_at(uint64_t offset) { return bytes + offset % PERIOD; }

bool pattern_matches(uint64_t offset, const char *data, size_t length) {
    while (length) {
        size_t run = length < PATTERN_RUN ? length : PATTERN_RUN;
        if (memcmp(pattern_at(offset), data, run) != 0) return false;
        offset += run;
        data += run;
        length -= run;
    }
    return true;
}
