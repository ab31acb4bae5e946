// SPDX-License-Identifier: MIT
// Pages of the host's hugetlb pool behind parts of an arena.
#ifndef GODWIT_MACHINE_ARENA_HUGETLB_H
#define GODWIT_MACHINE_ARENA_HUGETLB_H

#include "machine/arena.h"

// For a new arena: the second file and its mapping. Without them the arena works as well
// (arena->hugetlb.error).
void arena_hugetlb_open(struct arena *arena, int host_node) REQUIRES(host_fork_lock);
// Its pages go back to the host; once more does nothing.
void arena_hugetlb_close(struct arena *arena);
void arena_hugetlb_in_child(struct arena *arena);

// The frames, whole chunks, are nobody's but the caller's, are mapped nowhere and will be mapped,
// protected and watched by whole chunks only. Their bytes, which are lost, come to lie on pages of
// the host's pool, as long as it has free ones that nobody reserved; the other chunks stay as they
// are. Touching them cannot fail in either case.
void arena_hugetlb_enter(struct arena *arena, struct pfn pfn, uint64_t nr);
// And back, the frames being the caller's alone again: their pages are the host's, and they are
// holes that arena_back() fills. Cannot fail.
void arena_hugetlb_leave(struct arena *arena, struct pfn pfn, uint64_t nr);

// "6144 kB of its 8192 kB in hugetlb pools are on pages of the host's pool (...)", or nothing where
// nobody asked. pool_bytes: what the node has in the engine's pools.
void arena_hugetlb_describe(const struct arena *arena, uint64_t pool_bytes, struct text_buf *text);

#endif
