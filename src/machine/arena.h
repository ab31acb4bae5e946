// SPDX-License-Identifier: MIT
// The bytes of one node: a file in memory, its range of frame numbers, and where the engine itself
// reaches them.
#ifndef GODWIT_MACHINE_ARENA_H
#define GODWIT_MACHINE_ARENA_H

#include "base/lock.h"
#include "base/text_buf.h"
#include "machine/fork_guard.h"

#define ARENA_PFN_ALIGN_SHIFT 18 // 1 GiB: a slot of the number space belongs to one arena
#define ARENA_SLOTS (1ul << 16)	 // 64 TiB of frames in the process
#define ARENA_BYTES_MAX (ARENA_SLOTS << (ARENA_PFN_ALIGN_SHIFT + PAGE_SHIFT))
#define ARENA_CHUNK_PAGES PTRS_PER_TABLE

enum arena_kind { ARENA_MEMFD, ARENA_FILE };

struct arena_config {
	unsigned node;
	size_t bytes; // rounded up to pages
	enum arena_kind kind;
	const char *path; // ARENA_FILE: created or grown, never truncated; one arena's
	int host_node;	  // bind the bytes to this node of the host; -1: do not
	bool huge;	  // ARENA_MEMFD: ask for transparent huge pages
	bool keep_tables; // a parking area for the host's page tables (rewire backends want it)
	bool hugetlb;	  // ARENA_MEMFD: pages of the host's pool for whom asks (arena_hugetlb.h)
};

// What is on pages of the host's hugetlb pool. None of it: chunks is NULL.
struct arena_hugetlb {
	int fd;			   // as long as the arena's file, nearly all of it holes
	uint8_t *direct;	   // all of it
	_Atomic uint64_t *chunks;  // bit a chunk: its bytes are here; written under arena->lock
	_Atomic unsigned long nr;  // chunks that are
	bool asked;
	bool bound; // to a node of the host
	int error; // why it is not there, though asked for
};

struct arena {
	struct fork_guarded guard; // of the parking area
	uint64_t first;		   // frames first .. first + nr_pages - 1
	uint64_t nr_pages;
	uint8_t *direct;  // all bytes, always readable and writable; not backed: do not touch
	uintptr_t tables; // the parking area, 0 if none
	int fd;
	unsigned node;
	unsigned page_shift; // what the host backs it with: 12, or 21 for huge pages
	bool by_populate;    // huge pages come only through a mapping that asks for them
	bool uffd_able;	     // the file system knows userfaultfd (tmpfs)
	enum arena_kind kind;
	bool huge_asked; // by its configuration
	struct arena_hugetlb hugetlb;
	char shmem_huge[16]; // ARENA_MEMFD: what the host's setting was
	struct mutex lock;
	unsigned long *backed;	    // bit a chunk; written under lock, read without
	_Atomic uint64_t nr_backed; // pages
	// Bit a page: its host page-table entry is in the parking area, ready to be moved to where
	// the page is mapped next. Only a hint: a lost entry costs a soft fault of the host.
	_Atomic uint64_t *parked;
};

struct arena_stats {
	size_t bytes;
	size_t backed_bytes;
	size_t hugetlb_bytes; // of these, on pages of the host's hugetlb pool
	size_t host_page_size;
};

extern struct arena *_Atomic arena_slots[ARENA_SLOTS];

// -ENOMEM, -ENOSPC (frame numbers), -EINVAL, -EOPNOTSUPP (a file of hugetlbfs: its pages cannot be
// mapped in pieces), -EBUSY (the file is another arena's, of this process or not: each holds
// flock() on its own), or the host's error for the path or the binding.
must_check int arena_open(const struct arena_config *config, struct arena **ret_arena);
// No frame of it is in use, and no window maps one.
void arena_close(struct arena *arena);

// The arena of a frame, or NULL. Fast, takes no lock.
static inline struct arena *arena_of(struct pfn pfn)
{
	uint64_t slot = pfn.n >> ARENA_PFN_ALIGN_SHIFT;

	if (unlikely(slot >= ARENA_SLOTS))
		return NULL;
	return atomic_load_explicit(&arena_slots[slot], memory_order_acquire);
}

static inline bool arena_has(const struct arena *arena, struct pfn pfn, uint64_t nr)
{
	return pfn.n >= arena->first && pfn.n + nr <= arena->first + arena->nr_pages;
}

static inline uint64_t arena_offset(const struct arena *arena, struct pfn pfn)
{
	return (pfn.n - arena->first) << PAGE_SHIFT;
}

// Whether its bytes are on a page of the host's hugetlb pool: such frames are mapped, protected and
// watched 512 at a time. True only of frames in a folio of the engine's pools.
static inline bool arena_on_hugetlb(const struct arena *arena, struct pfn pfn)
{
	uint64_t chunk = (pfn.n - arena->first) / ARENA_CHUNK_PAGES;

	if (likely(!arena->hugetlb.chunks))
		return false;
	return atomic_load_explicit(&arena->hugetlb.chunks[chunk / 64], memory_order_acquire) >>
		       chunk % 64 & 1;
}

// The file that backs the frame, at arena_offset().
static inline int arena_fd(const struct arena *arena, struct pfn pfn)
{
	return arena_on_hugetlb(arena, pfn) ? arena->hugetlb.fd : arena->fd;
}

// In a row within a chunk; beyond, only among frames of which none is on hugetlbfs.
static inline void *arena_direct(const struct arena *arena, struct pfn pfn)
{
	const bool hugetlb = arena_on_hugetlb(arena, pfn);

	return (hugetlb ? arena->hugetlb.direct : arena->direct) + arena_offset(arena, pfn);
}

// Backs whole chunks around the pages, zeroed: after it, touching them cannot fail. -ENOMEM;
// -EOWNERDEAD in a forked child. What was backed before a failure stays.
must_check int arena_back(struct arena *arena, struct pfn pfn, uint64_t nr);
bool arena_is_backed(const struct arena *arena, struct pfn pfn);
// The file has a hole there now, whoever made it: the next arena_back() fills it.
void arena_chunk_gone(struct arena *arena, size_t chunk) REQUIRES(arena->lock);
// Gives the bytes of the chunks that lie wholly in the range back to the host. Nothing maps,
// pins or waits for any of these frames any more. How many bytes went.
size_t arena_release(struct arena *arena, struct pfn pfn, uint64_t nr);
// What the host has behind it, and why nothing larger: "4 kB pages of shared memory (...)".
void arena_describe_backing(const struct arena *arena, struct text_buf *text);
void arena_stats(struct arena *arena, struct arena_stats *ret_stats);

// The parking area: whether all entries of the pages are there; and that they came or went.
bool arena_tables_ready(const struct arena *arena, struct pfn pfn, unsigned nr);
void arena_tables_mark(struct arena *arena, struct pfn pfn, unsigned nr, bool parked);
static inline uintptr_t arena_tables_at(const struct arena *arena, struct pfn pfn)
{
	return arena->tables + arena_offset(arena, pfn);
}

#endif
