// SPDX-License-Identifier: MIT
// Pages of the host's hugetlb pool behind parts of an arena (docs/decisions/0010).
//
// No arena as a whole can lie on hugetlbfs: the host maps such a page whole or not at all, and any
// page of the engine may be small at any time (docs/decisions/0007). But a folio in one of the
// engine's own hugetlb pools is never split, and whoever maps, protects or watches it does so by
// 2 MiB. So an arena may have a second file, on hugetlbfs, of the same length and the same offsets,
// and a chunk has its bytes in one of the two:
//
//   chunk         arena's file   hugetlbfs file
//   hole          hole           hole              nobody has the frames
//   backed        allocated      hole
//   on hugetlbfs  hole           allocated         arena_hugetlb_enter(); counts as backed
//
// arena_fd() says which, and arena_direct() leads to the right one of two direct maps; each maps
// all of its file once and for all, so that neither entering nor leaving has a mapping to change
// that could be refused. A chunk enters when it is a fresh page of a pool, and leaves, as a hole,
// before it is an ordinary free block.
//
// The host's pages are somebody's: they are used for a machine that asked (GW_MACHINE_HUGETLB), one
// by one as its pools grow, none that is reserved, and go back as the pools shrink. (Where its
// nr_overcommit_hugepages allows it the host may make some.) A page is allocated before its chunk
// enters: no access to it fails.
//
// Locks: arena->lock; the bits are read without it, by those who have the frames. host_fork_lock.
// What can fail: each host call. Then the chunk stays where it was; a page that the host does not
// take back stays in the file, for the next time or until the end.
#include "machine/arena_hugetlb.h"

#include "base/meta.h"
#include "machine/arena_files.h"
#include "machine/host_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static size_t file_bytes(const struct arena *a)
{
	return ALIGN_UP(a->nr_pages << PAGE_SHIFT, PMD_SIZE);
}

static size_t bits_bytes(const struct arena *a)
{
	return DIV_ROUND_UP(file_bytes(a) / PMD_SIZE, 64) * sizeof(uint64_t);
}

static int map_direct(struct arena *a, int fd, int host_node, uintptr_t *ret_start)
{
	size_t size = file_bytes(a);
	uintptr_t start;
	int err = host_reserve(size, PMD_SIZE, NULL, &start);

	if (err)
		return err;
	// Without access at first: a program that locks all its memory to come (mlockall()) has the
	// host fill what can be accessed, which would be every free page of its pool.
	err = host_map_file(start, size, PROT_NONE, fd, 0);
	if (!err)
		err = host_protect(start, size, HOST_RW);
	if (!err && host_node >= 0)
		err = host_bind(start, size, host_node);
	if (!err)
		err = host_advise(start, size, MADV_DONTFORK);
	if (err) {
		host_unmap(start, size);
		return err;
	}
	(void)!host_advise(start, size, MADV_DONTDUMP);
	*ret_start = start;
	return 0;
}

void arena_hugetlb_open(struct arena *a, int host_node)
{
	struct arena_hugetlb *h = &a->hugetlb;
	uintptr_t start;
	int fd;

	h->asked = true;
	h->bound = host_node >= 0;
	h->error = arena_file_open_hugetlb(file_bytes(a), &fd);
	if (h->error)
		return;
	h->error = map_direct(a, fd, host_node, &start);
	if (!h->error) {
		h->chunks = meta_alloc(bits_bytes(a));
		h->error = h->chunks ? 0 : -ENOMEM;
		if (h->error)
			host_unmap(start, file_bytes(a));
	}
	if (h->error) {
		close(fd);
		return;
	}
	h->fd = fd;
	h->direct = (uint8_t *)start;
}

static void punch(const struct arena *a, uint64_t offset, size_t size)
{
	(void)!host_fallocate(a->hugetlb.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
		size);
}

// Emptied first: a child made by raw clone() or vfork() may still have the descriptor.
void arena_hugetlb_close(struct arena *a)
{
	struct arena_hugetlb *h = &a->hugetlb;

	if (h->direct)
		host_unmap((uintptr_t)h->direct, file_bytes(a));
	if (h->fd >= 0) {
		punch(a, 0, file_bytes(a));
		close(h->fd);
	}
	if (h->chunks)
		meta_free((void *)h->chunks, bits_bytes(a));
	*h = (struct arena_hugetlb){.fd = -1};
}

void arena_hugetlb_in_child(struct arena *a)
{
	if (a->hugetlb.fd >= 0)
		close(a->hugetlb.fd);
	a->hugetlb.fd = -1;
	a->hugetlb.direct = NULL;
}

// A policy of hugetlbfs is its mapping's, not its file's: on the right node a page is had by a
// fault alone, made for us, which fails as politely (Linux 5.14).
static int take_page(const struct arena_hugetlb *h, uint64_t offset)
{
	if (h->bound)
		return host_advise((uintptr_t)h->direct + offset, PMD_SIZE, MADV_POPULATE_WRITE);
	return host_fallocate(h->fd, 0, offset, PMD_SIZE);
}

static bool enter_chunk(struct arena *a, size_t chunk) REQUIRES(a->lock)
{
	struct arena_hugetlb *h = &a->hugetlb;
	const uint64_t offset = chunk * PMD_SIZE;

	if (take_page(h, offset))
		return false;
	if (host_fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, PMD_SIZE)) {
		punch(a, offset, PMD_SIZE);
		return false;
	}
	arena_tables_mark(a, pfn_of(a->first + chunk * ARENA_CHUNK_PAGES), ARENA_CHUNK_PAGES,
		false);
	host_populate((uintptr_t)h->direct + offset, PMD_SIZE);
	atomic_fetch_or_explicit(
		&h->chunks[chunk / 64], 1ull << chunk % 64, memory_order_release);
	atomic_fetch_add_explicit(&h->nr, 1, memory_order_relaxed);
	return true;
}

void arena_hugetlb_enter(struct arena *a, struct pfn pfn, uint64_t nr)
{
	size_t chunk = (pfn.n - a->first) / ARENA_CHUNK_PAGES, end = chunk + nr / ARENA_CHUNK_PAGES;
	bool more = true;

	if (!a->hugetlb.chunks || fork_guard_enter(&a->guard))
		return;
	mutex_lock(&a->lock);
	for (; more && chunk < end; chunk++)
		more = enter_chunk(a, chunk);
	mutex_unlock(&a->lock);
	fork_guard_leave();
}

static void leave_chunk(struct arena *a, size_t chunk) REQUIRES(a->lock)
{
	struct arena_hugetlb *h = &a->hugetlb;

	atomic_fetch_and_explicit(
		&h->chunks[chunk / 64], ~(1ull << chunk % 64), memory_order_release);
	atomic_fetch_sub_explicit(&h->nr, 1, memory_order_relaxed);
	arena_chunk_gone(a, chunk);
	punch(a, chunk * PMD_SIZE, PMD_SIZE);
}

void arena_hugetlb_leave(struct arena *a, struct pfn pfn, uint64_t nr)
{
	if (!a->hugetlb.chunks || fork_guard_enter(&a->guard))
		return;
	mutex_lock(&a->lock);
	for (uint64_t i = 0; i < nr; i += ARENA_CHUNK_PAGES)
		if (arena_on_hugetlb(a, pfn_add(pfn, i)))
			leave_chunk(a, (pfn.n + i - a->first) / ARENA_CHUNK_PAGES);
	mutex_unlock(&a->lock);
	fork_guard_leave();
}

void arena_hugetlb_describe(const struct arena *a, uint64_t pool_bytes, struct text_buf *text)
{
	const struct arena_hugetlb *h = &a->hugetlb;
	uint64_t bytes = (uint64_t)atomic_load(&h->nr) << PMD_SHIFT;

	if (!h->asked || (!pool_bytes && !h->error))
		return;
	text_printf(text,
		"; %llu kB of its %llu kB in hugetlb pools are on pages of the host's pool",
		(unsigned long long)bytes >> 10, (unsigned long long)pool_bytes >> 10);
	if (h->error)
		text_printf(text, " (hugetlbfs: %s)", strerror(-h->error));
	else if (bytes < pool_bytes)
		text_printf(text, " (the host gave no more that nobody reserved)");
}
