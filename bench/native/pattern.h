/* The bytes of every body: what stands at an offset is known to all, so that each end can compare without a copy. */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most that pattern_at gives in one piece. */
#define PATTERN_RUN (1024 * 1024)

void pattern_init(void);

/* The bytes from `offset` on, PATTERN_RUN of them. */
const char *pattern_at(uint64_t offset);

bool pattern_matches(uint64_t offset, const char *data, size_t length);

#endif
