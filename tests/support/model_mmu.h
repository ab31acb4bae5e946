// SPDX-License-Identifier: MIT
// An mmu for tests: the soft backend's windows, and a model of what a host would show at each page
// of them. Loads and stores of the test go through the model and fault to the engine as those of a
// real host would; calls that break the seam's rules abort; map() and block() can be made to fail
// (refuse_*, FI_SYSCALL); calls are counted. As with userfaultfd, what was refused stays refused,
// and nobody is asked: also where a page is blocked that was not accessible.
#ifndef GODWIT_TESTS_MODEL_MMU_H
#define GODWIT_TESTS_MODEL_MMU_H

#include "base/assert.h"
#include "base/compiler.h"
#include "base/fault_inject.h"
#include "machine/mmu.h"
#include "machine/soft.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct model_page {
	struct pfn pfn; // 0: no translation
	enum mmu_prot prot;
	bool blocked, readers;
	bool no_store, no_access; // the host raises SIGSEGV by itself
};

struct model_window {
	struct mmu_window *window;
	struct model_page *page;
	struct model_window *next;
};

struct model_mmu {
	struct mmu mmu; // first
	struct mmu *soft;
	pthread_mutex_t lock;
	struct model_window *windows;
	unsigned long nr_map, nr_protect, nr_clear, nr_block, nr_unblock, nr_wake; // calls
	unsigned long nr_mapped, nr_blocked; // pages
	bool refuse_block, refuse_map;
	void (*on_block)(void *arg); // for tests that act while pages are blocked
	void *on_block_arg;
};

static struct model_mmu *model_of(struct mmu *mmu)
{
	return container_of(mmu, struct model_mmu, mmu);
}

static struct model_window *model_window_of(struct model_mmu *m, uintptr_t at)
{
	for (struct model_window *w = m->windows; w; w = w->next)
		if (at >= w->window->start && at < w->window->start + w->window->size)
			return w;
	return NULL;
}

static struct model_page *model_page(struct model_mmu *m, uintptr_t at)
{
	struct model_window *w = model_window_of(m, at);

	must_hold(w, "host address %#lx lies in no window", (unsigned long)at);
	return &w->page[(at - w->window->start) >> PAGE_SHIFT];
}

static int model_window_open(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct mmu_window **ret_window)
{
	struct model_mmu *m = model_of(mmu);
	struct model_window *w = calloc(1, sizeof(*w));
	int err = m->soft->ops->window_open(m->soft, size, align, hint, owner, &w->window);

	if (err) {
		free(w);
		return err;
	}
	w->page = calloc(w->window->size >> PAGE_SHIFT, sizeof(*w->page));
	pthread_mutex_lock(&m->lock);
	w->next = m->windows;
	m->windows = w;
	pthread_mutex_unlock(&m->lock);
	*ret_window = w->window;
	return 0;
}

static void model_window_close(struct mmu *mmu, struct mmu_window *window)
{
	struct model_mmu *m = model_of(mmu);
	struct model_window **at = &m->windows, *w;

	pthread_mutex_lock(&m->lock);
	while ((*at)->window != window)
		at = &(*at)->next;
	w = *at;
	*at = w->next;
	pthread_mutex_unlock(&m->lock);
	m->soft->ops->window_close(m->soft, window);
	free(w->page);
	free(w);
}

static void model_check_range(uintptr_t at, unsigned nr)
{
	must_hold(nr && !(at & (PAGE_SIZE - 1)), "%u pages at %#lx", nr, (unsigned long)at);
	must_hold((at & ~PMD_MASK) + nr * PAGE_SIZE <= PMD_SIZE, "%u pages at %#lx cross a table",
		nr, (unsigned long)at);
}

static void model_set(struct model_mmu *m, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	for (unsigned i = 0; i < nr; i++)
		*model_page(m, at + i * PAGE_SIZE) =
			(struct model_page){.pfn = pfn_add(first, i), .prot = prot,
				.no_access = prot == MMU_NONE};
}

static int model_map(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct model_mmu *m = model_of(mmu);

	model_check_range(at, nr);
	must_hold(first.n, "map of no frame at %#lx", (unsigned long)at);
	if (m->refuse_map || fault_should_fail(FI_SYSCALL))
		return -ENOMEM;
	pthread_mutex_lock(&m->lock);
	model_set(m, at, first, nr, prot);
	m->nr_map++;
	m->nr_mapped += nr;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int model_protect(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct model_mmu *m = model_of(mmu);

	model_check_range(at, nr);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < nr; i++) {
		struct model_page *p = model_page(m, at + i * PAGE_SIZE);

		must_hold(!p->pfn.n || p->pfn.n == first.n + i, "protect of other frames at %#lx",
			(unsigned long)at);
		must_hold(!p->blocked, "protect of a blocked page at %#lx", (unsigned long)at);
	}
	model_set(m, at, first, nr, prot);
	m->nr_protect++;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static void model_clear(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	struct model_mmu *m = model_of(mmu);

	model_check_range(at, nr);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < nr; i++)
		*model_page(m, at + i * PAGE_SIZE) = (struct model_page){.prot = MMU_NONE};
	m->nr_clear++;
	pthread_mutex_unlock(&m->lock);
}

static int model_block(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr, bool readers)
{
	struct model_mmu *m = model_of(mmu);

	model_check_range(at, nr);
	if (m->refuse_block || fault_should_fail(FI_SYSCALL))
		return -ENOMEM;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < nr; i++) {
		struct model_page *p = model_page(m, at + i * PAGE_SIZE);

		must_hold(!p->pfn.n || p->pfn.n == first.n + i, "block of other frames at %#lx",
			(unsigned long)at);
		must_hold(!p->blocked, "block of a blocked page at %#lx", (unsigned long)at);
		p->blocked = true;
		p->readers = readers;
	}
	m->nr_block++;
	m->nr_blocked += nr;
	pthread_mutex_unlock(&m->lock);
	if (m->on_block)
		m->on_block(m->on_block_arg);
	return 0;
}

static void model_unblock(struct mmu *mmu, uintptr_t at, struct pfn first, unsigned nr,
	enum mmu_prot prot)
{
	struct model_mmu *m = model_of(mmu);

	model_check_range(at, nr);
	pthread_mutex_lock(&m->lock);
	model_set(m, at, first, nr, prot);
	m->nr_unblock++;
	pthread_mutex_unlock(&m->lock);
}

static void model_wake(struct mmu *mmu, uintptr_t at, unsigned nr)
{
	model_check_range(at, nr);
	model_of(mmu)->nr_wake++;
}

// Lasting refusals only: this host's accessor hears of a lack of memory by the answer.
static void model_refuse(
	struct mmu *mmu, const struct mmu_fault *fault, enum mmu_fault_result result)
{
	struct model_mmu *m = model_of(mmu);
	struct model_page *p = NULL;
	bool write = fault->access == MMU_ACCESS_WRITE;

	pthread_mutex_lock(&m->lock);
	if (result == MMU_FAULT_SEGV && model_window_of(m, fault->at)) // it may be closed by now
		p = model_page(m, ALIGN_DOWN(fault->at, PAGE_SIZE));
	if (p && (!p->pfn.n || p->blocked || p->prot < (write ? MMU_WRITE : MMU_READ))) {
		p->no_store = true;
		p->no_access |= !write;
	}
	pthread_mutex_unlock(&m->lock);
}

static void *model_peek(struct mmu *mmu, struct pfn pfn)
{
	struct mmu *soft = model_of(mmu)->soft;

	return soft->ops->peek(soft, pfn);
}

static void model_close(struct mmu *mmu)
{
	struct model_mmu *m = model_of(mmu);

	must_hold(!m->windows, "a window is still open");
	m->soft->ops->close(m->soft);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static struct model_mmu *model_open(mmu_fault_fn *fault)
{
	static const struct mmu_ops ops = {
		.name = "model",
		.blocker = "model",
		.window_open = model_window_open,
		.window_close = model_window_close,
		.map = model_map,
		.protect = model_protect,
		.clear = model_clear,
		.block = model_block,
		.unblock = model_unblock,
		.wake = model_wake,
		.refuse = model_refuse,
		.peek = model_peek,
		.close = model_close,
	};
	struct model_mmu *m = calloc(1, sizeof(*m));

	must_hold(m && !soft_open(fault, &m->soft), "no soft backend");
	m->mmu.ops = &ops;
	m->mmu.caps = MMU_BLOCK_READ | MMU_ALIAS | MMU_NO_VMA_COST;
	m->mmu.fault = fault;
	pthread_mutex_init(&m->lock, NULL);
	return m;
}

// One access of one page, as the host would make it. 0, -EFAULT (SIGSEGV), -EIO (SIGBUS).
static int model_access(struct model_mmu *m, uintptr_t at, void *buf, size_t len, bool write)
{
	for (;;) {
		struct mmu_fault f = {at, write ? MMU_ACCESS_WRITE : MMU_ACCESS_READ, true, 0};
		struct model_window *w;
		struct model_page *p;
		void *owner;
		bool may, refused;

		pthread_mutex_lock(&m->lock);
		w = model_window_of(m, at);
		if (!w) {
			pthread_mutex_unlock(&m->lock);
			return -EFAULT;
		}
		p = &w->page[(at - w->window->start) >> PAGE_SHIFT];
		may = p->pfn.n && (write ? p->prot == MMU_WRITE && !p->blocked
					 : p->prot != MMU_NONE && !(p->blocked && p->readers));
		if (may) {
			char *bytes = (char *)model_peek(&m->mmu, p->pfn) + (at & (PAGE_SIZE - 1));
			memcpy(write ? (void *)bytes : buf, write ? buf : (void *)bytes, len);
		}
		refused = p->no_access || (write && p->no_store);
		owner = w->window->owner;
		pthread_mutex_unlock(&m->lock);
		if (may)
			return 0;
		if (refused)
			return -EFAULT;
		switch (m->mmu.fault(owner, &f)) {
		case MMU_FAULT_DONE:
		case MMU_FAULT_WAIT:
			continue;
		case MMU_FAULT_SEGV:
			return -EFAULT;
		case MMU_FAULT_BUS:
			return -EIO;
		}
	}
}

#endif
