// SPDX-License-Identifier: MIT
// The smallest engine that keeps the rules of machine/mmu.h: one page table behind one lock, frames
// that are never freed, copy on write, moves. For the tests of the backends.
#ifndef GODWIT_TEST_MINI_ENGINE_H
#define GODWIT_TEST_MINI_ENGINE_H

#include "base/fault_inject.h"
#include "base/wait.h"
#include "machine/arena.h"
#include "machine/mmu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// What the engine has at a page.
enum mini_kind { MINI_AREA, MINI_NOTHING, MINI_BROKEN };

struct mini_page {
	struct pfn pfn; // 0: absent
	enum mmu_prot prot;
	enum mini_kind kind;
	bool shared; // a store copies the page first
	atomic_bool moving;
};

struct mini {
	struct mmu *mmu;
	struct mmu_window *window;
	struct arena *arena[2];
	uint64_t used[2];
	struct mutex lock; // rank PAGE_TABLE
	size_t nr_pages;
	struct mini_page *page;
	atomic_ulong faults, waits, copies;
	// Whether there is no memory for this access. Where it is asked, a page that a read brings
	// is copied by the first store.
	bool (*no_memory)(const struct mmu_fault *, size_t page);
};

// GODWIT_TEST_HUGE=1: with transparent huge pages, where the host has them.
#define mini_huge (getenv("GODWIT_TEST_HUGE") != NULL)

static struct pfn mini_frames(struct mini *m, unsigned node, unsigned nr)
{
	struct pfn first;

	m->used[node] = ALIGN_UP(m->used[node], nr >= 512 ? 512ul : 1ul);
	if (m->used[node] + nr > m->arena[node]->nr_pages)
		m->used[node] = 0; // round and round: the tests move less than a node at a time
	first = pfn_of(m->arena[node]->first + m->used[node]);
	m->used[node] += nr;
	return arena_back(m->arena[node], first, nr) ? pfn_of(0) : first;
}

static uintptr_t mini_at(const struct mini *m, size_t page)
{
	return m->window->start + (page << PAGE_SHIFT);
}

static volatile uint8_t *mini_byte(const struct mini *m, size_t page)
{
	return (volatile uint8_t *)mini_at(m, page);
}

static enum mmu_fault_result mini_absent(struct mini *m, struct mini_page *p, size_t i)
{
	enum mmu_prot prot = m->no_memory ? MMU_READ : MMU_WRITE;
	struct pfn pfn = mini_frames(m, 0, 1);

	if (!pfn.n)
		return MMU_FAULT_BUS;
	memset(m->mmu->ops->peek(m->mmu, pfn), 0, PAGE_SIZE);
	if (m->mmu->ops->map(m->mmu, mini_at(m, i), pfn, 1, prot))
		return MMU_FAULT_BUS;
	p->pfn = pfn;
	p->prot = prot;
	p->shared = prot == MMU_READ;
	return MMU_FAULT_DONE;
}

static enum mmu_fault_result mini_copy(struct mini *m, struct mini_page *p, size_t i)
{
	struct pfn pfn = mini_frames(m, 0, 1);

	if (!pfn.n)
		return MMU_FAULT_BUS;
	memcpy(m->mmu->ops->peek(m->mmu, pfn), m->mmu->ops->peek(m->mmu, p->pfn), PAGE_SIZE);
	if (m->mmu->ops->map(m->mmu, mini_at(m, i), pfn, 1, MMU_WRITE))
		return MMU_FAULT_BUS;
	p->pfn = pfn;
	p->prot = MMU_WRITE;
	p->shared = false;
	m->copies++;
	return MMU_FAULT_DONE;
}

static enum mmu_fault_result mini_present(
	struct mini *m, struct mini_page *p, size_t i, const struct mmu_fault *f)
{
	if (p->prot == MMU_NONE ||
		(f->access == MMU_ACCESS_WRITE && p->prot == MMU_READ && !p->shared))
		return MMU_FAULT_SEGV;
	if (f->access == MMU_ACCESS_WRITE && p->shared)
		return mini_copy(m, p, i);
	return m->mmu->ops->map(m->mmu, mini_at(m, i), p->pfn, 1, p->prot) ? MMU_FAULT_BUS
									   : MMU_FAULT_DONE;
}

static enum mmu_fault_result mini_fault(void *owner, const struct mmu_fault *f)
{
	struct mini *m = owner;
	enum mmu_fault_result result;
	struct mini_page *p;
	size_t i;

	m->faults++;
	mutex_lock(&m->lock);
	i = (f->at - m->window->start) >> PAGE_SHIFT;
	p = &m->page[i];
	while (p->moving) {
		m->waits++;
		mutex_unlock(&m->lock);
		if (!f->may_wait)
			return MMU_FAULT_WAIT;
		(void)!wait_until(p, !p->moving, WAIT_FOREVER);
		mutex_lock(&m->lock);
	}
	if (p->kind == MINI_NOTHING)
		result = MMU_FAULT_SEGV;
	else if (p->kind == MINI_BROKEN || (m->no_memory && m->no_memory(f, i)))
		result = MMU_FAULT_BUS;
	else if (!p->pfn.n)
		result = mini_absent(m, p, i);
	else
		result = mini_present(m, p, i, f);
	if ((result == MMU_FAULT_SEGV || result == MMU_FAULT_BUS) && m->mmu->ops->refuse)
		m->mmu->ops->refuse(m->mmu, f, result);
	mutex_unlock(&m->lock);
	return result;
}

// -errno of the backend. The pages are present, with consecutive frames.
static int mini_block(struct mini *m, size_t page, unsigned nr, bool readers)
{
	int err;

	mutex_lock(&m->lock);
	err = m->mmu->ops->block(m->mmu, mini_at(m, page), m->page[page].pfn, nr, readers);
	for (unsigned i = 0; !err && i < nr; i++)
		m->page[page + i].moving = true;
	mutex_unlock(&m->lock);
	return err;
}

static void mini_moved(struct mini *m, size_t page, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		m->page[page + i].moving = false;
		wake_all(&m->page[page + i]);
	}
}

static int mini_finish(struct mini *m, size_t page, unsigned nr, struct pfn to)
{
	enum mmu_prot prot;
	int err;

	mutex_lock(&m->lock);
	prot = m->page[page].prot;
	err = m->mmu->ops->map(m->mmu, mini_at(m, page), to, nr, prot);
	if (err)
		m->mmu->ops->unblock(m->mmu, mini_at(m, page), m->page[page].pfn, nr, prot);
	for (unsigned i = 0; !err && i < nr; i++)
		m->page[page + i].pfn = pfn_add(to, i);
	mini_moved(m, page, nr);
	mutex_unlock(&m->lock);
	return err;
}

static int mini_move(struct mini *m, size_t page, unsigned nr, unsigned node, bool readers)
{
	struct pfn from, to;
	int err;

	mutex_lock(&m->lock);
	from = m->page[page].pfn;
	to = mini_frames(m, node, nr);
	mutex_unlock(&m->lock);
	err = to.n ? mini_block(m, page, nr, readers) : -ENOMEM;
	if (err)
		return err;
	memcpy(m->mmu->ops->peek(m->mmu, to), m->mmu->ops->peek(m->mmu, from),
		(size_t)nr << PAGE_SHIFT);
	return mini_finish(m, page, nr, to);
}

// nr pages of one prot, with consecutive frames of a node, each page filled with its number.
static void mini_fill(struct mini *m, size_t page, unsigned nr, unsigned node, enum mmu_prot prot)
{
	struct pfn to;

	mutex_lock(&m->lock);
	to = mini_frames(m, node, nr);
	for (unsigned i = 0; i < nr; i++) {
		memset(m->mmu->ops->peek(m->mmu, pfn_add(to, i)), (int)((page + i) & 0xff),
			PAGE_SIZE);
		m->page[page + i].pfn = pfn_add(to, i);
		m->page[page + i].prot = prot;
		m->page[page + i].kind = MINI_AREA;
		m->page[page + i].shared = prot == MMU_READ;
	}
	assert_int_equal(m->mmu->ops->map(m->mmu, mini_at(m, page), to, nr, prot), 0);
	mutex_unlock(&m->lock);
}

static int mini_protect(struct mini *m, size_t page, unsigned nr, enum mmu_prot prot, bool shared)
{
	int err;

	mutex_lock(&m->lock);
	err = m->mmu->ops->protect(m->mmu, mini_at(m, page), m->page[page].pfn, nr, prot);
	for (unsigned i = 0; !err && i < nr; i++) {
		m->page[page + i].prot = prot;
		m->page[page + i].shared = shared;
	}
	mutex_unlock(&m->lock);
	return err;
}

static void mini_clear(struct mini *m, size_t page, unsigned nr)
{
	mutex_lock(&m->lock);
	m->mmu->ops->clear(m->mmu, mini_at(m, page), nr);
	for (unsigned i = 0; i < nr; i++)
		m->page[page + i].pfn = pfn_of(0);
	mutex_unlock(&m->lock);
}

// -errno: the blocker is not to be had.
static int mini_open(struct mini *m, const struct mmu_config *config, size_t window_bytes)
{
	int err;

	memset(m, 0, sizeof(*m));
	err = mmu_open(config, mini_fault, &m->mmu);
	if (err)
		return err;
	mutex_init(&m->lock, RANK_PAGE_TABLE);
	for (unsigned node = 0; node < 2; node++) {
		struct arena_config a = {
			.node = node,
			.bytes = 32ul << 20,
			.host_node = -1,
			.keep_tables = true,
			.huge = mini_huge,
		};

		assert_int_equal(arena_open(&a, &m->arena[node]), 0);
	}
	m->nr_pages = window_bytes >> PAGE_SHIFT;
	m->page = calloc(m->nr_pages, sizeof(*m->page));
	mutex_lock(&m->lock);
	err = m->mmu->ops->window_open(m->mmu, window_bytes, PMD_SIZE, NULL, m, &m->window);
	mutex_unlock(&m->lock);
	assert_int_equal(err, 0);
	assert_int_equal(mmu_thread_enter(m->mmu), 0);
	return 0;
}

static void mini_close(struct mini *m)
{
	mmu_thread_leave(m->mmu);
	m->mmu->ops->window_close(m->mmu, m->window);
	m->mmu->ops->close(m->mmu);
	for (unsigned node = 0; node < 2; node++)
		arena_close(m->arena[node]);
	mutex_destroy(&m->lock);
	free(m->page);
}

// Under the lock: a woken accessor may be here before its fault has been booked.
static struct pfn mini_pfn(struct mini *m, size_t page)
{
	struct pfn pfn;

	mutex_lock(&m->lock);
	pfn = m->page[page].pfn;
	mutex_unlock(&m->lock);
	return pfn;
}

static inline void mini_unused(void)
{
	(void)mini_move;
	(void)mini_fill;
	(void)mini_protect;
	(void)mini_clear;
	(void)mini_pfn;
	(void)mini_byte;
}

#endif
