// SPDX-License-Identifier: MIT
// An arena: the bytes of a node.
//
// It is a file in memory (a memfd, or a file the user names), so that the same byte can be mapped
// at several places: at the application's address, wherever that is (the mmu backends), and in the
// direct map, where the engine copies and clears. Its pages are mapped one by one wherever the
// application has small ones: so the host's huge pages may be behind them where they are
// transparent (THP), never those of a hugetlb pool (docs/decisions/0007). Only 2 MiB that will not
// be mapped in pieces may have their bytes in a second file, on such pages (arena_hugetlb.c).
//
// Frame numbers: the process has one number space in slots of 1 GiB; an arena takes as many
// consecutive slots as it needs, and a table of slots leads from a number to its arena. Slot 0 is
// never given out, so that frame 0 is no frame.
//
// Backing: bytes are backed in chunks of 2 MiB before a frame is handed out, because touching a
// hole when the host is out of memory is SIGBUS, while fallocate() says ENOSPC. Where huge pages
// come only through a mapping that asks for them (shmem_enabled=advise), a chunk is backed by
// populating the direct map instead, which fails just as politely. Backing a chunk also fills the
// host's page tables of the direct map, and of the parking area:
//
// Parking area: a second mapping of everything, touched by nobody. A move of many pages takes the
// filled page tables from the parking place of the new frames and leaves those of the old frames
// at theirs, instead of tearing down 512 entries and faulting 512 in (docs/decisions/0003).
//
// States of a chunk: hole -> backed (arena_back) -> hole (arena_release). On hugetlbfs it counts as
// backed.
// Locks: arena->lock for backing; host_fork_lock for writing to open and close.
// What can fail: see arena_open() and arena_back(). arena_release() does not fail: a chunk that the
// host cannot punch stays backed.
#include "machine/arena.h"

#include "base/bitmap.h"
#include "base/mark.h"
#include "base/meta.h"
#include "machine/arena_files.h"
#include "machine/arena_hugetlb.h"
#include "machine/host_calls.h"
#include "machine/probe_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct arena *_Atomic arena_slots[ARENA_SLOTS];

static uint64_t slots_of(const struct arena *a)
{
	return DIV_ROUND_UP(a->nr_pages, 1ul << ARENA_PFN_ALIGN_SHIFT);
}

static size_t bytes_of(const struct arena *a)
{
	return a->nr_pages << PAGE_SHIFT;
}

static size_t chunks_of(const struct arena *a)
{
	return DIV_ROUND_UP(a->nr_pages, ARENA_CHUNK_PAGES);
}

static size_t parked_words(const struct arena *a)
{
	return DIV_ROUND_UP(a->nr_pages, 64);
}

// First fit, so that a run repeats its frame numbers.
static int take_slots(struct arena *a) REQUIRES(host_fork_lock)
{
	uint64_t need = slots_of(a), run = 0, slot;

	for (slot = 1; slot < ARENA_SLOTS && run < need; slot++)
		run = atomic_load(&arena_slots[slot]) ? 0 : run + 1;
	if (run < need)
		return -ENOSPC;
	a->first = (slot - need) << ARENA_PFN_ALIGN_SHIFT;
	for (uint64_t i = slot - need; i < slot; i++)
		atomic_store(&arena_slots[i], a);
	return 0;
}

static void give_slots(struct arena *a) REQUIRES(host_fork_lock)
{
	uint64_t slot = a->first >> ARENA_PFN_ALIGN_SHIFT;

	for (uint64_t i = slot; i < slot + slots_of(a); i++)
		if (atomic_load(&arena_slots[i]) == a)
			atomic_store(&arena_slots[i], NULL);
}

static void arena_in_child(struct fork_guarded *g)
{
	struct arena *a = container_of(g, struct arena, guard);

	close(a->fd);
	a->fd = -1;
	a->direct = NULL;
	a->tables = 0;
	arena_hugetlb_in_child(a);
}

static int map_all(struct arena *a, const struct arena_config *c, uintptr_t *ret_start)
{
	uintptr_t start;
	int err = host_reserve(bytes_of(a), PMD_SIZE, NULL, &start);

	if (err)
		return err;
	err = host_map_file(start, bytes_of(a), HOST_RW, a->fd, 0);
	if (!err && c->host_node >= 0)
		err = host_bind(start, bytes_of(a), c->host_node);
	if (err) {
		host_unmap(start, bytes_of(a));
		return err;
	}
	*ret_start = start;
	return 0;
}

static int map_direct(struct arena *a, const struct arena_config *c)
{
	uintptr_t start;
	int err = map_all(a, c, &start);

	if (err)
		return err;
	err = host_advise(start, bytes_of(a), MADV_DONTFORK);
	if (!err && c->keep_tables)
		err = map_all(a, c, &a->tables);
	if (err) {
		host_unmap(start, bytes_of(a));
		return err;
	}
	a->direct = (uint8_t *)start;
	if (c->huge && a->kind == ARENA_MEMFD)
		(void)!host_advise(start, bytes_of(a), MADV_HUGEPAGE);
	if (host_advise(start, bytes_of(a), MADV_DONTDUMP) ||
		(a->tables && host_advise(a->tables, bytes_of(a), MADV_DONTDUMP)))
		MARK(arena_in_core_dumps);
	return 0;
}

static void unmap_all(struct arena *a)
{
	if (a->direct)
		host_unmap((uintptr_t)a->direct, bytes_of(a));
	if (a->tables)
		host_unmap(a->tables, bytes_of(a));
	a->direct = NULL;
	a->tables = 0;
	a->guard.size = 0;
}

static int alloc_maps(struct arena *a)
{
	a->backed = meta_alloc(BITMAP_BYTES(chunks_of(a)));
	a->parked = meta_alloc(parked_words(a) * sizeof(*a->parked));
	return a->backed && a->parked ? 0 : -ENOMEM;
}

static void arena_free(struct arena *a)
{
	unmap_all(a);
	arena_hugetlb_close(a);
	if (a->fd >= 0)
		arena_file_close(a->fd);
	if (a->backed)
		meta_free(a->backed, BITMAP_BYTES(chunks_of(a)));
	if (a->parked)
		meta_free((void *)a->parked, parked_words(a) * sizeof(*a->parked));
	mutex_destroy(&a->lock);
	meta_delete(a);
}

// What page size the host really gives is seen from a first chunk, not from its settings.
static int find_page_size(struct arena *a, const struct arena_config *c)
{
	struct pfn first = {a->first};
	int err;

	if (a->kind != ARENA_MEMFD)
		return 0;
	(void)probe_shmem_huge(a->shmem_huge, sizeof(a->shmem_huge));
	if (a->nr_pages < ARENA_CHUNK_PAGES || (!c->huge && !shmem_is_huge_unasked(a->shmem_huge)))
		return 0;
	a->by_populate = true;
	err = arena_back(a, first, 1);
	if (err)
		return err;
	if (arena_file_is_huge((uintptr_t)a->direct))
		a->page_shift = PMD_SHIFT;
	else
		a->by_populate = false;
	arena_release(a, first, ARENA_CHUNK_PAGES);
	return 0;
}

// A child of fork() gets the mappings at no time, nor keeps the file (and its lock) open.
static int arena_register(struct arena *a, const struct arena_config *c)
{
	int err;

	write_lock(&host_fork_lock);
	err = arena_file_open(c, bytes_of(a), &a->fd, &a->uffd_able);
	if (!err)
		err = map_direct(a, c);
	if (!err)
		err = take_slots(a);
	if (!err && c->hugetlb && a->kind == ARENA_MEMFD)
		arena_hugetlb_open(a, c->host_node);
	if (!err) {
		a->guard.start = a->tables;
		a->guard.size = a->tables ? bytes_of(a) : 0;
		a->guard.in_child = arena_in_child;
		fork_guard_add(&a->guard);
	} else {
		unmap_all(a);
	}
	write_unlock(&host_fork_lock);
	return err;
}

int arena_open(const struct arena_config *c, struct arena **ret_arena)
{
	struct arena *a;
	int err;

	if (!c->bytes || c->bytes > ARENA_BYTES_MAX || (c->kind == ARENA_FILE && !c->path))
		return -EINVAL;
	a = meta_new(struct arena);
	if (!a)
		return -ENOMEM;
	a->node = c->node;
	a->kind = c->kind;
	a->nr_pages = ALIGN_UP(c->bytes, PAGE_SIZE) >> PAGE_SHIFT;
	a->page_shift = PAGE_SHIFT;
	a->huge_asked = c->huge;
	a->fd = a->hugetlb.fd = -1;
	mutex_init(&a->lock, RANK_ARENA);
	err = alloc_maps(a);
	if (!err)
		err = arena_register(a, c);
	if (err) {
		arena_free(a);
		return err;
	}
	err = find_page_size(a, c);
	if (err) {
		arena_close(a);
		return err;
	}
	*ret_arena = a;
	return 0;
}

void arena_close(struct arena *a)
{
	if (!fork_guard_enter(&a->guard)) {
		unmap_all(a);
		fork_guard_leave();
	}
	write_lock(&host_fork_lock);
	give_slots(a);
	arena_hugetlb_close(a);
	fork_guard_remove(&a->guard);
	write_unlock(&host_fork_lock);
	arena_free(a);
}

static bool chunk_is_backed(const struct arena *a, size_t chunk)
{
	unsigned long word = __atomic_load_n(&a->backed[chunk / BITS_PER_LONG], __ATOMIC_ACQUIRE);

	return word >> (chunk % BITS_PER_LONG) & 1;
}

static void chunk_set_backed(struct arena *a, size_t chunk, bool backed)
{
	unsigned long bit = 1ul << (chunk % BITS_PER_LONG);
	unsigned long *word = &a->backed[chunk / BITS_PER_LONG];

	if (backed)
		__atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE);
}

static struct pfn chunk_pfn(const struct arena *a, size_t chunk)
{
	return pfn_of(a->first + chunk * ARENA_CHUNK_PAGES);
}

static unsigned chunk_pages(const struct arena *a, size_t chunk)
{
	uint64_t left = a->nr_pages - chunk * ARENA_CHUNK_PAGES;

	return left < ARENA_CHUNK_PAGES ? (unsigned)left : ARENA_CHUNK_PAGES;
}

static int allocate_chunk(struct arena *a, size_t chunk)
{
	uint64_t offset = chunk * PMD_SIZE;
	size_t size = (size_t)chunk_pages(a, chunk) << PAGE_SHIFT;
	int err = -EINVAL;

	if (a->by_populate) {
		err = host_advise((uintptr_t)a->direct + offset, size, MADV_POPULATE_WRITE);
		if (err == -EFAULT) // how a shared file says that it has no space
			err = -ENOMEM;
	}
	if (err == -EINVAL) // not asked for, or a kernel before 5.14
		err = host_fallocate(a->fd, 0, offset, size);
	if (err)
		return -ENOMEM;
	host_populate((uintptr_t)a->direct + offset, size);
	if (a->tables) {
		if (a->page_shift == PAGE_SHIFT)
			host_populate_around(a->tables + offset, size);
		else
			host_populate(a->tables + offset, size);
		arena_tables_mark(a, chunk_pfn(a, chunk), chunk_pages(a, chunk), true);
	}
	return 0;
}

static int back_chunk(struct arena *a, size_t chunk)
{
	int err = 0;

	if (likely(chunk_is_backed(a, chunk)))
		return 0;
	mutex_lock(&a->lock);
	if (!chunk_is_backed(a, chunk)) {
		err = allocate_chunk(a, chunk);
		if (!err) {
			chunk_set_backed(a, chunk, true);
			atomic_fetch_add(&a->nr_backed, chunk_pages(a, chunk));
		}
	}
	mutex_unlock(&a->lock);
	return err;
}

int arena_back(struct arena *a, struct pfn pfn, uint64_t nr)
{
	size_t chunk = (pfn.n - a->first) / ARENA_CHUNK_PAGES;
	size_t last = (pfn.n + nr - 1 - a->first) / ARENA_CHUNK_PAGES;
	int err;

	assert_that(
		arena_has(a, pfn, nr), "frames %lu+%lu of node %u", (long)pfn.n, (long)nr, a->node);
	if (fork_guard_is_dead(&a->guard))
		return -EOWNERDEAD;
	while (chunk <= last && chunk_is_backed(a, chunk))
		chunk++;
	if (chunk > last)
		return 0;
	err = fork_guard_enter(&a->guard);
	if (err)
		return err;
	for (; !err && chunk <= last; chunk++)
		err = back_chunk(a, chunk);
	fork_guard_leave();
	return err;
}

bool arena_is_backed(const struct arena *a, struct pfn pfn)
{
	return chunk_is_backed(a, (pfn.n - a->first) / ARENA_CHUNK_PAGES);
}

void arena_chunk_gone(struct arena *a, size_t chunk)
{
	chunk_set_backed(a, chunk, false);
	atomic_fetch_sub(&a->nr_backed, chunk_pages(a, chunk));
}

static size_t release_chunk(struct arena *a, size_t chunk)
{
	size_t size = (size_t)chunk_pages(a, chunk) << PAGE_SHIFT;
	bool gone = false;

	mutex_lock(&a->lock);
	if (chunk_is_backed(a, chunk)) {
		arena_tables_mark(a, chunk_pfn(a, chunk), chunk_pages(a, chunk), false);
		gone = !host_fallocate(
			a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, chunk * PMD_SIZE, size);
	}
	if (gone)
		arena_chunk_gone(a, chunk);
	mutex_unlock(&a->lock);
	return gone ? size : 0;
}

size_t arena_release(struct arena *a, struct pfn pfn, uint64_t nr)
{
	uint64_t from = pfn.n - a->first, to = from + nr;
	size_t freed = 0;

	if (fork_guard_enter(&a->guard))
		return 0;
	for (size_t chunk = DIV_ROUND_UP(from, ARENA_CHUNK_PAGES);
		chunk < chunks_of(a) && chunk * ARENA_CHUNK_PAGES + chunk_pages(a, chunk) <= to;
		chunk++)
		freed += release_chunk(a, chunk);
	fork_guard_leave();
	return freed;
}

void arena_stats(struct arena *a, struct arena_stats *ret_stats)
{
	ret_stats->bytes = bytes_of(a);
	ret_stats->backed_bytes = atomic_load(&a->nr_backed) << PAGE_SHIFT;
	ret_stats->hugetlb_bytes = atomic_load(&a->hugetlb.nr) << PMD_SHIFT;
	ret_stats->host_page_size = 1ul << a->page_shift;
}

// The bits of [from, from + nr) that fall into its first word.
static uint64_t word_mask(uint64_t from, uint64_t nr)
{
	unsigned shift = from % 64;
	uint64_t fit = 64 - shift;

	return (nr >= fit ? ~0ull : (1ull << nr) - 1) << shift;
}

bool arena_tables_ready(const struct arena *a, struct pfn pfn, unsigned nr)
{
	uint64_t from = pfn.n - a->first, to = from + nr;

	if (!a->tables)
		return false;
	for (; from < to; from = (from | 63) + 1) {
		uint64_t mask = word_mask(from, to - from);

		if ((atomic_load_explicit(&a->parked[from / 64], memory_order_relaxed) & mask) !=
			mask)
			return false;
	}
	return true;
}

void arena_tables_mark(struct arena *a, struct pfn pfn, unsigned nr, bool parked)
{
	uint64_t from = pfn.n - a->first, to = from + nr;

	for (; a->tables && from < to; from = (from | 63) + 1) {
		uint64_t mask = word_mask(from, to - from);

		if (parked)
			atomic_fetch_or_explicit(&a->parked[from / 64], mask, memory_order_relaxed);
		else
			atomic_fetch_and_explicit(
				&a->parked[from / 64], ~mask, memory_order_relaxed);
	}
}
