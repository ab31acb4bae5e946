// SPDX-License-Identifier: MIT
// Latency histograms.
//
// A value goes to the bucket of its number of significant bits; the count is the sum of the
// buckets, so that a reader who races with writers still sees a consistent distribution. Updates
// are relaxed atomics and wait for nothing; `largest` is raised by compare-and-swap. A percentile
// assumes that the values of a bucket are spread evenly, and never exceeds the largest value.
#include "base/histogram.h"

#define load(p) atomic_load_explicit(p, memory_order_relaxed)
#define add(p, n) atomic_fetch_add_explicit(p, n, memory_order_relaxed)

static unsigned bucket_of(uint64_t ns)
{
	return ns ? 64 - (unsigned)__builtin_clzll(ns) : 0;
}

static void raise(struct histogram *h, uint64_t ns)
{
	uint64_t seen = load(&h->largest);

	while (seen < ns && !atomic_compare_exchange_weak_explicit(&h->largest, &seen, ns,
				    memory_order_relaxed, memory_order_relaxed))
		;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	add(&h->bucket[bucket_of(ns)], 1);
	add(&h->sum, ns);
	raise(h, ns);
}

void histogram_reset(struct histogram *h)
{
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		atomic_store_explicit(&h->bucket[b], 0, memory_order_relaxed);
	atomic_store_explicit(&h->sum, 0, memory_order_relaxed);
	atomic_store_explicit(&h->largest, 0, memory_order_relaxed);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		add(&into->bucket[b], load(&from->bucket[b]));
	add(&into->sum, load(&from->sum));
	raise(into, load(&from->largest));
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t count = 0;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		count += load(&h->bucket[b]);
	return count;
}

uint64_t histogram_sum(const struct histogram *h)
{
	return load(&h->sum);
}

uint64_t histogram_max(const struct histogram *h)
{
	return load(&h->largest);
}

uint64_t histogram_percentile(const struct histogram *h, unsigned permille)
{
	uint64_t count = histogram_count(h), below = 0, rank;

	if (count == 0)
		return 0;
	if (permille >= 1000)
		return histogram_max(h);
	// The rank-th smallest value, from 1.
	rank = max((uint64_t)((__uint128_t)count * permille / 1000), (uint64_t)1);
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		uint64_t n = load(&h->bucket[b]), floor = histogram_bucket_floor(b);

		if (below + n >= rank) {
			// A bucket [2^k, 2^(k+1)) is as wide as its floor.
			uint64_t into = (uint64_t)((__uint128_t)floor * (rank - below) / (n + 1));

			return min(floor + into, histogram_max(h));
		}
		below += n;
	}
	return histogram_max(h);
}
