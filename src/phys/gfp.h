// SPDX-License-Identifier: MIT
// How hard, and from where, an allocation may look for frames. One table; composed masks below are
// the kernel's.
#ifndef GODWIT_PHYS_GFP_H
#define GODWIT_PHYS_GFP_H

#include <stdint.h>

// X(NAME, accessor, meaning)
#define GFP_BITS(X)                                                                                \
	X(MOVABLE, "can be migrated: MOVABLE pageblocks, ZONE_MOVABLE, CMA")                       \
	X(RECLAIMABLE, "can be reclaimed: RECLAIMABLE pageblocks")                                 \
	X(HIGHMEM, "may come from ZONE_MOVABLE together with MOVABLE")                             \
	X(IO, "reclaim may start transfers")                                                       \
	X(FS, "reclaim may call into objects")                                                     \
	X(DIRECT_RECLAIM, "the caller may reclaim and compact, that is: wait")                     \
	X(KSWAPD_RECLAIM, "wake the background reclaim of nodes that are low")                     \
	X(NORETRY, "one attempt at reclaim and compaction")                                        \
	X(RETRY_MAYFAIL, "try hard, but fail in the end")                                          \
	X(NOWARN, "a failure is expected")                                                         \
	X(THISNODE, "no other node, and no other node's fallback")                                 \
	X(HARDWALL, "user memory: only nodes of the cpuset (the caller's mask)")                   \
	X(COMP, "order > 0 becomes one large folio")                                               \
	X(ZERO, "bytes are zeroed")                                                                \
	X(HIGH, "may use half of the minimum reserve, and HIGHATOMIC pageblocks")                  \
	X(NOMEMALLOC, "never below the minimum reserve")                                           \
	X(MEMALLOC, "all of the reserve: the caller frees memory")                                 \
	X(PIN, "will be pinned for long: not CMA, not ZONE_MOVABLE")

enum gfp_bit {
#define X(name, doc) GFP_BIT_##name,
	GFP_BITS(X)
#undef X
		GFP_BIT_COUNT
};

typedef uint32_t gfp_t;

enum gfp {
#define X(name, doc) GFP_##name = 1 << GFP_BIT_##name,
	GFP_BITS(X)
#undef X
};

#define GFP_RECLAIM (GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM)
#define GFP_NOWAIT (GFP_KSWAPD_RECLAIM | GFP_NOWARN)
#define GFP_ATOMIC (GFP_HIGH | GFP_KSWAPD_RECLAIM)
#define GFP_KERNEL (GFP_RECLAIM | GFP_IO | GFP_FS)
#define GFP_USER (GFP_KERNEL | GFP_HARDWALL)
#define GFP_HIGHUSER (GFP_USER | GFP_HIGHMEM)
#define GFP_HIGHUSER_MOVABLE (GFP_HIGHUSER | GFP_MOVABLE)
#define GFP_TRANSHUGE_LIGHT                                                                        \
	((GFP_HIGHUSER_MOVABLE | GFP_COMP | GFP_NOMEMALLOC | GFP_NOWARN) & ~GFP_RECLAIM)
#define GFP_TRANSHUGE (GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM)

// Names of the bits, "MOVABLE|ZERO"; snprintf's contract.
int gfp_text(gfp_t gfp, char *buf, unsigned long size);

#endif
