#include "histogram.h"

static unsigned bucket_of(uint64_t ns) {
    if (ns < (1u << SUB_BITS)) return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (unsigned)((ns >> shift) - (1u << SUB_BITS));
}

static uint64_t upper_end(unsigned bucket) {
    if (bucket < (1u << SUB_BITS)) return bucket;
    unsigned shift = (bucket >> SUB_BITS) - 1;
    return ((uint64_t)((bucket & ((1u << SUB_BITS) - 1)) + (1u << SUB_BITS) + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns) {
    histogram->counts[bucket_of(ns)]++;
    histogram->total++;
    if (ns > histogram->largest) histogram->largest = ns;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->total), seen = 0;
    if (wanted >= histogram->total) return histogram->largest;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > wanted) return upper_end(bucket) < histogram->largest ? upper_end(bucket) : histogram->largest;
    }
    return histogram->largest;
}
