// SPDX-License-Identifier: MIT
// Latency histograms in nanoseconds: one bucket a power of two, updated without a lock. Bucket b
// counts the values of b significant bits: 0; 1; 2-3; 4-7; ...
#ifndef GODWIT_BASE_HISTOGRAM_H
#define GODWIT_BASE_HISTOGRAM_H

#include "base/compiler.h"

#include <stdatomic.h>

#define HISTOGRAM_BUCKETS 65

struct histogram {
	_Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
	_Atomic uint64_t sum;
	_Atomic uint64_t largest;
};

void histogram_reset(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);
uint64_t histogram_count(const struct histogram *h);
uint64_t histogram_sum(const struct histogram *h);
uint64_t histogram_max(const struct histogram *h);
// permille 500 is the median, 999 the 99.9th percentile, 1000 the maximum: interpolated inside of
// its bucket, so right within a factor of two; 0 when empty.
uint64_t histogram_percentile(const struct histogram *h, unsigned permille);
// Smallest value of a bucket.
static inline uint64_t histogram_bucket_floor(unsigned bucket)
{
	return bucket ? 1ULL << (bucket - 1) : 0;
}

#endif
