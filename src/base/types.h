// SPDX-License-Identifier: MIT
// Values that must not mix, each in its own one-word struct: same instructions as a bare integer,
// but a pfn passed where an address is meant does not compile.
#ifndef GODWIT_BASE_TYPES_H
#define GODWIT_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ul << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PMD_SHIFT 21
#define PMD_SIZE (1ul << PMD_SHIFT)
#define PMD_MASK (~(PMD_SIZE - 1))
#define PMD_ORDER 9
#define PUD_SHIFT 30
#define PUD_SIZE (1ul << PUD_SHIFT)
#define PUD_ORDER 18
#define PTRS_PER_TABLE 512

// A page frame number: one frame of one node of one machine of this process. The number space is
// shared by all machines of the process, so a pfn alone finds its frame. 0 is no frame.
struct pfn {
	uint64_t n;
};

// An address as a task of a machine sees it: a number. It equals the host pointer only in the
// process's own space; a forked space lives at other host pointers.
struct vaddr {
	uint64_t a;
};

static inline struct pfn pfn_of(uint64_t n)
{
	return (struct pfn){n};
}

static inline struct pfn pfn_add(struct pfn p, uint64_t n)
{
	return (struct pfn){p.n + n};
}

static inline struct vaddr vaddr_of(uint64_t a)
{
	return (struct vaddr){a};
}

static inline struct vaddr vaddr_add(struct vaddr v, uint64_t n)
{
	return (struct vaddr){v.a + n};
}

#endif
