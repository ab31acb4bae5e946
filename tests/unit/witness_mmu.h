// SPDX-License-Identifier: MIT
// An mmu backend that remembers: what the host would translate, page by page, so that a test can
// ask whether it agrees with the engine's page tables. Windows are the soft backend's. Any call
// that may fail can be told to: number n from now on (map, protect, block, window_open).
// Calls may come from several threads; what a test asks it may not ask meanwhile.
#ifndef GODWIT_TESTS_WITNESS_MMU_H
#define GODWIT_TESTS_WITNESS_MMU_H

#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/interval_tree.h"
#include "virt/region.h"
#include "virt/vma.h"

#include <errno.h>

#define WITNESS_SLOTS (1u << 16)

struct witness_page {
	uintptr_t at; // 0: free slot, never used again for another page
	struct pfn pfn;
	enum mmu_prot prot;
	bool mapped, blocked, readers_blocked;
};

struct witness {
	struct mmu mmu; // first
	struct mmu *soft;
	pthread_mutex_t lock;
	struct witness_page page[WITNESS_SLOTS];
	unsigned nr_slots;
	// calls so far, since witness_reset()
	unsigned nr_map, nr_protect, nr_clear, nr_block, nr_unblock, nr_open, nr_close;
	unsigned pages_mapped, pages_cleared;
	long fail_at; // calls until one fails; -1: never
	bool failed;
	void *place; // where the next window goes that may go anywhere
	bool absent_protect; // a protect came for a page without translation
};

static inline struct witness *witness_of(struct mmu *mmu)
{
	return (struct witness *)mmu;
}

static inline struct witness_page *witness_slot(struct witness *w, uintptr_t at, bool create)
{
	unsigned i = (unsigned)((at >> PAGE_SHIFT) * 0x9e3779b1u) % WITNESS_SLOTS;

	while (w->page[i].at && w->page[i].at != at)
		i = (i + 1) % WITNESS_SLOTS;
	if (!w->page[i].at && !create)
		return NULL;
	if (!w->page[i].at) {
		assert_true(++w->nr_slots < WITNESS_SLOTS);
		w->page[i].at = at;
	}
	return &w->page[i];
}

static inline bool witness_fails(struct witness *w)
{
	if (w->fail_at < 0 || w->fail_at-- > 0)
		return false;
	w->failed = true;
	return true;
}

// Calls never cross 2 MiB.
static inline void witness_range(uintptr_t at, unsigned nr)
{
	assert_true(nr > 0 && !(at & ~PAGE_MASK));
	assert_true((at & ~PMD_MASK) + nr * PAGE_SIZE <= PMD_SIZE);
}

static inline int note_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret)
{
	struct witness *w = witness_of(mmu);

	w->nr_open++;
	if (witness_fails(w))
		return -ENOMEM;
	if (!hint) {
		hint = w->place;
		w->place = NULL;
	}
	return w->soft->ops->window_open(w->soft, size, align, hint, owner, ret);
}

static inline void note_close(struct mmu *mmu, struct mmu_window *window)
{
	struct witness *w = witness_of(mmu);

	w->nr_close++;
	for (unsigned i = 0; i < WITNESS_SLOTS; i++)
		if (w->page[i].mapped && w->page[i].at - window->start < window->size)
			fail_msg("window closes over a translation at %#lx",
				(unsigned long)w->page[i].at);
	w->soft->ops->window_close(w->soft, window);
}

static inline int note_map(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct witness *w = witness_of(mmu);

	witness_range(at, nr);
	w->nr_map++;
	if (witness_fails(w))
		return -ENOMEM;
	w->pages_mapped += nr;
	for (unsigned i = 0; i < nr; i++) {
		struct witness_page *p = witness_slot(w, at + i * PAGE_SIZE, true);
		*p = (struct witness_page){.at = p->at,
			.pfn = pfn_add(first, i),
			.prot = prot,
			.mapped = true};
	}
	return 0;
}

static inline int note_protect(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct witness *w = witness_of(mmu);

	witness_range(at, nr);
	w->nr_protect++;
	if (witness_fails(w))
		return -ENOMEM;
	for (unsigned i = 0; i < nr; i++) {
		struct witness_page *p = witness_slot(w, at + i * PAGE_SIZE, false);
		if (!p || !p->mapped) {
			w->absent_protect = true;
			continue;
		}
		assert_false(p->blocked);
		assert_int_equal(p->pfn.n, first.n + i);
		p->prot = prot;
	}
	return 0;
}

static inline void note_clear(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct witness *w = witness_of(mmu);

	witness_range(at, nr);
	w->nr_clear++;
	w->pages_cleared += nr;
	for (unsigned i = 0; i < nr; i++) {
		struct witness_page *p = witness_slot(w, at + i * PAGE_SIZE, false);
		if (p)
			*p = (struct witness_page){.at = p->at};
	}
}

static inline int note_block(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	bool readers)
{
	struct witness *w = witness_of(mmu);

	witness_range(at, nr);
	w->nr_block++;
	if (witness_fails(w))
		return -ENOMEM;
	for (unsigned i = 0; i < nr; i++) {
		struct witness_page *p = witness_slot(w, at + i * PAGE_SIZE, true);
		p->pfn = pfn_add(first, i);
		p->blocked = true;
		p->readers_blocked = readers;
	}
	return 0;
}

static inline void note_unblock(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct witness *w = witness_of(mmu);

	witness_range(at, nr);
	w->nr_unblock++;
	for (unsigned i = 0; i < nr; i++) {
		struct witness_page *p = witness_slot(w, at + i * PAGE_SIZE, true);
		*p = (struct witness_page){.at = p->at,
			.pfn = pfn_add(first, i),
			.prot = prot,
			.mapped = true};
	}
}

static inline void witness_wake(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	(void)mmu;
	witness_range(at, nr);
}

static inline void *witness_peek(struct mmu *mmu, struct pfn pfn)
{
	struct witness *w = witness_of(mmu);

	return w->soft->ops->peek(w->soft, pfn);
}

static inline void witness_end(struct mmu *mmu)
{
	struct witness *w = witness_of(mmu);

	w->soft->ops->close(w->soft);
	free(w);
}

// ---- The same, one at a time

static inline int witness_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	int err = note_open(mmu, size, align, hint, owner, ret);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
	return err;
}

static inline void witness_close(struct mmu *mmu, struct mmu_window *window)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	note_close(mmu, window);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
}

static inline int witness_map(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	int err = note_map(mmu, at, first, nr, prot);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
	return err;
}

static inline int witness_protect(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	int err = note_protect(mmu, at, first, nr, prot);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
	return err;
}

static inline void witness_clear(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	note_clear(mmu, at, nr);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
}

static inline int witness_block(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	bool readers)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	int err = note_block(mmu, at, first, nr, readers);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
	return err;
}

static inline void witness_unblock(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	pthread_mutex_lock(&witness_of(mmu)->lock);
	note_unblock(mmu, at, first, nr, prot);
	pthread_mutex_unlock(&witness_of(mmu)->lock);
}

static const struct mmu_ops witness_ops = {
	.name = "witness",
	.blocker = "none",
	.window_open = witness_open,
	.window_close = witness_close,
	.map = witness_map,
	.protect = witness_protect,
	.clear = witness_clear,
	.block = witness_block,
	.unblock = witness_unblock,
	.wake = witness_wake,
	.peek = witness_peek,
	.close = witness_end,
};

// Put a witness before the soft backend of a machine that has no space yet.
static inline struct witness *witness_install(struct soft_machine *m)
{
	struct witness *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->soft = m->mm.mmu;
	pthread_mutex_init(&w->lock, NULL);
	w->mmu.ops = &witness_ops;
	w->mmu.caps = w->soft->caps;
	w->mmu.fault = w->soft->fault;
	w->fail_at = -1;
	m->mm.mmu = &w->mmu;
	return w;
}

static inline void witness_reset(struct witness *w)
{
	w->nr_map = w->nr_protect = w->nr_clear = w->nr_block = w->nr_unblock = 0;
	w->nr_open = w->nr_close = w->pages_mapped = w->pages_cleared = 0;
	w->failed = w->absent_protect = false;
	w->fail_at = -1;
}

static inline struct pte entry_at(struct space *space, uint64_t addr)
{
	struct page_table *table = pte_table_lock(space, vaddr_of(addr));
	struct pte e = {0};

	if (table) {
		e = table_entry(table, pte_index(vaddr_of(addr)));
		page_table_unlock(table);
		return e;
	}
	table = pmd_table_lock(space, vaddr_of(addr));
	if (table) {
		e = table_entry(table, pmd_index(vaddr_of(addr)));
		page_table_unlock(table);
	}
	return pte_huge(e) ? e : (struct pte){0};
}

static inline void set_entry_at(struct space *space, uint64_t addr, struct pte e)
{
	struct page_table *table = pte_table_lock(space, vaddr_of(addr));

	assert_non_null(table);
	table_set_entry(table, pte_index(vaddr_of(addr)), e);
	page_table_unlock(table);
}

// The frame behind an address, whichever level maps it.
static inline struct pfn pfn_at(struct space *space, uint64_t addr)
{
	struct pte e = entry_at(space, addr);

	return pfn_add(pte_pfn(e), pte_huge(e) ? pte_index(vaddr_of(addr)) : 0);
}

// One page the host translates: it must not permit more than the engine.
static inline void witness_check_page(struct mm_core *mm, const struct witness_page *p)
{
	struct space *space;

	list_for_each_entry(space, &mm->spaces, all) {
		uint64_t addr;
		if (space_addr_of_host(space, p->at, &addr))
			continue;
		struct vma *vma = vma_lookup(space, addr);
		struct pte e = entry_at(space, addr);
		if (pte_migration(e)) {
			assert_true(p->blocked);
			return;
		}
		assert_true(pte_present(e));
		assert_false(p->blocked);
		assert_int_equal(pfn_at(space, addr).n, p->pfn.n);
		assert_true(p->prot <= vma_pte_prot(vma, e));
		return;
	}
	fail_msg("the host translates %#lx, which no space has", (unsigned long)p->at);
}

static inline void witness_check(struct witness *w, struct mm_core *mm)
{
	for (unsigned i = 0; i < WITNESS_SLOTS; i++)
		if (w->page[i].mapped)
			witness_check_page(mm, &w->page[i]);
	mm_check(mm);
}

// What the host translates at an address; MMU_NONE and no pfn when nothing.
static inline const struct witness_page *witness_at(struct witness *w, struct space *space,
	uint64_t addr)
{
	static const struct witness_page nothing;
	uintptr_t host = (uintptr_t)space_pointer(space, addr);
	struct witness_page *p = host ? witness_slot(w, host, false) : NULL;

	return p ? p : &nothing;
}

// ---- A machine with a witness and a task, for cmocka

struct virt_test {
	struct soft_machine m;
	struct witness *w;
	struct task *task;
	struct space *space;
};

static inline int virt_setup(void **state)
{
	struct virt_test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	soft_machine_open(&t->m);
	t->w = witness_install(&t->m);
	assert_int_equal(task_create(&t->m.mm, 0, 0, &t->task), 0);
	t->space = t->task->space;
	*state = t;
	return 0;
}

static inline int virt_teardown(void **state)
{
	struct virt_test *t = *state;

	witness_reset(t->w);
	if (t->task)
		task_exit(t->task);
	witness_check(t->w, &t->m.mm);
	soft_machine_close(&t->m);
	free(t);
	return 0;
}

#define virt_unit_test(f) cmocka_unit_test_setup_teardown(f, virt_setup, virt_teardown)

// Run op(t) with allocation 0, 1, 2... of the engine's own data failing, then host call 0, 1, 2...,
// until it runs clean. The books must balance after each, and `undone` says what must hold after a
// failure. The last run of each succeeds.
static inline void virt_sweep(struct virt_test *t, int (*op)(struct virt_test *),
	void (*undo)(struct virt_test *), void (*undone)(struct virt_test *))
{
	for (int kind = 0; kind < 2; kind++) {
		for (uint64_t n = 0;; n++) {
			bool hit;
			int err;

			assert_true(n < 10000);
			if (kind == 0)
				fault_arm(FI_META, FI_THREAD, n, 1);
			else
				t->w->fail_at = (long)n;
			err = op(t);
			hit = kind == 0 ? fault_disarm(FI_META) : t->w->failed;
			t->w->fail_at = -1;
			t->w->failed = false;
			witness_check(t->w, &t->m.mm);
			if (err) {
				assert_true(hit);
				assert_int_equal(err, -ENOMEM);
				if (undone)
					undone(t);
			} else if (undo) {
				undo(t);
			}
			if (!hit)
				break;
		}
	}
}

#endif
