/* Durations in buckets that are at most 1/64 of their value wide. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define SUB_BITS 6
#define BUCKETS ((64 - SUB_BITS) << SUB_BITS)

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t largest; /* ns */
};

void histogram_add(struct histogram *histogram, uint64_t ns);

/* The upper end of the bucket in which the share lies, in ns; 0 if there is nothing. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

#endif
