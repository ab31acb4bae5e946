// SPDX-License-Identifier: MIT
// Numbers of each size of large folios, as sys/kernel/mm/transparent_hugepage/hugepages-*kB/stats/
// shows them. Most only grow; the last two are how many there are: they follow a folio from where
// it becomes anonymous, or loses its first mappings, until it is moved, split or freed.
//
// Pages of a pool are not counted, nor is a single page (order 0). No lock: sums of single events.
#ifndef GODWIT_PHYS_SIZE_STAT_H
#define GODWIT_PHYS_SIZE_STAT_H

#include "phys/frame.h"

// X(name, file, the least order that has the file)
#define SIZE_STATS(X)                                                                              \
	X(ANON_FAULT_ALLOC, anon_fault_alloc, 2)                                                   \
	X(ANON_FAULT_FALLBACK, anon_fault_fallback, 2)                                             \
	X(ANON_FAULT_FALLBACK_CHARGE, anon_fault_fallback_charge, 2)                               \
	X(SWPOUT, swpout, 1)                                                                       \
	X(SWPOUT_FALLBACK, swpout_fallback, 1)                                                     \
	X(SHMEM_ALLOC, shmem_alloc, 1)                                                             \
	X(SHMEM_FALLBACK, shmem_fallback, 1)                                                       \
	X(SHMEM_FALLBACK_CHARGE, shmem_fallback_charge, 1)                                         \
	X(SPLIT, split, 1)                                                                         \
	X(SPLIT_FAILED, split_failed, 1)                                                           \
	X(SPLIT_DEFERRED, split_deferred, 2)                                                       \
	X(NR_ANON, nr_anon, 2)                                                                     \
	X(NR_ANON_PARTIALLY_MAPPED, nr_anon_partially_mapped, 2)

enum size_stat {
#define X(name, file, least) STAT_##name,
	SIZE_STATS(X)
#undef X
		SIZE_STAT_COUNT
};

struct size_stats {
	_Atomic long nr[PMD_ORDER + 1][SIZE_STAT_COUNT];
};

static inline void size_stat_add(struct size_stats *stats, unsigned order, enum size_stat which,
	long delta)
{
	if (order && order <= PMD_ORDER)
		atomic_fetch_add_explicit(&stats->nr[order][which], delta, memory_order_relaxed);
}

static inline long size_stat(const struct size_stats *stats, unsigned order, enum size_stat which)
{
	return atomic_load_explicit(&stats->nr[order][which], memory_order_relaxed);
}

#endif
