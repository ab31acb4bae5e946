// SPDX-License-Identifier: MIT
// Windows and the table that leads from an address to its window.
//
// The table is asked at each fault, in a signal handler or a fault thread, while others open and
// close windows. It is a sorted array that does not change: a change makes a new array, publishes
// it, and waits until no reader is left in the old one (a reader holds it for one binary search).
// But without memory for a new one a row loses its end in place: what ends where it begins is never
// found, and gone with the next change. The order of starts and of ends stays, so that whoever
// searches meanwhile finds every other window.
// A fault counts as a user of its window while it is served. That may take longer than the access:
// a message read from userfaultfd can be about an accessor that map() has woken since.
//
// Addresses: without a hint they are where the host's mmap() puts them, which every sanitizer
// accepts. The child of a fork() starts with an empty table (machine/fork_guard.c).
//
// Locks: `lock` (rank WINDOWS) orders the writers. window_find() takes none.
// What can fail: -ENOMEM, -EEXIST.
#include "machine/window.h"

#include "base/futex.h"
#include "base/mark.h"
#include "base/meta.h"
#include "base/wait.h"
#include "machine/host_calls.h"

#include <errno.h>

#define LOOK_NS 10000

struct window_table {
	size_t n, room;
	struct {
		uintptr_t start;
		_Atomic uintptr_t end;
		struct window_ref ref;
	} row[];
};

static struct mutex lock = MUTEX_INIT(WINDOWS);
static struct window_table *_Atomic table;
static _Atomic uint32_t readers;

static bool find(uintptr_t at, uint32_t get, struct window_ref *ret_ref)
{
	const struct window_table *t;
	size_t low = 0, high;
	bool found = false;

	atomic_fetch_add(&readers, 1);
	t = atomic_load(&table);
	high = t ? t->n : 0;
	while (low < high) { // the first row that ends beyond the address
		size_t mid = low + (high - low) / 2;

		if (t->row[mid].end <= at)
			low = mid + 1;
		else
			high = mid;
	}
	if (t && low < t->n && t->row[low].start <= at) {
		*ret_ref = t->row[low].ref;
		atomic_fetch_add(&ret_ref->window->users, get);
		found = true;
	}
	atomic_fetch_sub(&readers, 1);
	return found;
}

bool window_find(uintptr_t at, struct window_ref *ret_ref)
{
	return find(at, 0, ret_ref);
}

bool window_get(uintptr_t at, struct window_ref *ret_ref)
{
	return find(at, 1, ret_ref);
}

// The window may be freed as soon as it has no user; only its address is used after that.
void window_put(const struct window_ref *ref)
{
	if (atomic_fetch_sub(&ref->window->users, 1) == (WINDOW_CLOSING | 1))
		wake_all(ref->window);
}

static size_t table_size(size_t n)
{
	return sizeof(struct window_table) + n * sizeof(((struct window_table *)0)->row[0]);
}

// Whoever searches has done so. A moment asleep, not sched_yield(): that lets no reader of a lower
// real-time priority go on.
static void let_readers_out(void)
{
	uint32_t n;

	while ((n = atomic_load(&readers)))
		(void)futex_wait(&readers, n, wait_clock_ns() + LOOK_NS);
}

static void publish(struct window_table *next) REQUIRES(lock)
{
	struct window_table *old = atomic_exchange(&table, next);

	let_readers_out();
	if (old)
		meta_free(old, table_size(old->room));
}

static struct window_table *table_new(size_t room)
{
	struct window_table *t = meta_alloc(table_size(room));

	if (t)
		t->room = room;
	return t;
}

static void append(struct window_table *t, uintptr_t start, uintptr_t end,
	const struct window_ref *ref)
{
	t->row[t->n].start = start;
	t->row[t->n].end = end;
	t->row[t->n++].ref = *ref;
}

// The rows [first, last) but those that are empty.
static void append_rows(struct window_table *t, const struct window_table *old, size_t first,
	size_t last)
{
	for (size_t i = first; i < last; i++)
		if (old->row[i].end > old->row[i].start)
			append(t, old->row[i].start, old->row[i].end, &old->row[i].ref);
}

static int table_insert(struct window *w) REQUIRES(lock)
{
	const struct window_table *old = atomic_load(&table);
	const struct window_ref ref = {w, w->mmu, w->pub.owner};
	size_t n = old ? old->n : 0, i = 0;
	struct window_table *t = table_new(n + 1);

	if (!t)
		return -ENOMEM;
	while (i < n && old->row[i].start < w->pub.start)
		i++;
	append_rows(t, old, 0, i);
	append(t, w->pub.start, w->pub.start + w->pub.size, &ref);
	append_rows(t, old, i, n);
	publish(t);
	return 0;
}

static void table_remove(const struct window *w) REQUIRES(lock)
{
	struct window_table *old = atomic_load(&table);
	struct window_table *t = old->n > 1 ? table_new(old->n - 1) : NULL;
	size_t i = 0;

	while (old->row[i].ref.window != w || old->row[i].end == old->row[i].start)
		i++;
	if (old->n > 1 && !t) {
		MARK(window_row_emptied);
		atomic_store(&old->row[i].end, old->row[i].start);
		let_readers_out();
		return;
	}
	if (t) {
		append_rows(t, old, 0, i);
		append_rows(t, old, i + 1, old->n);
	}
	publish(t);
}

static void window_in_child(struct fork_guarded *g maybe_unused)
{
	atomic_store(&readers, 0); // threads that were searching do not exist here
	atomic_store(&table, NULL);
}

int window_reserve(struct mmu *mmu, size_t size, size_t align, void *hint, void *owner,
	struct window **ret_window)
{
	struct window *w;
	uintptr_t at;
	int err;

	if (!size || !IS_ALIGNED(size, PAGE_SIZE) || (align & (align - 1)) ||
		!IS_ALIGNED((uintptr_t)hint, PAGE_SIZE))
		return -EINVAL;
	w = meta_new(struct window);
	if (!w)
		return -ENOMEM;
	w->nr_pages = size >> PAGE_SHIFT;
	err = host_reserve(ALIGN_UP(w->nr_pages * sizeof(*w->state), PAGE_SIZE), 0, NULL, &at);
	if (err)
		goto free_window;
	w->state = (uint64_t *)at;
	err = host_protect(at, ALIGN_UP(w->nr_pages * sizeof(*w->state), PAGE_SIZE), HOST_RW);
	if (!err)
		err = host_reserve(size, align, hint, &w->pub.start);
	if (err)
		goto free_state;
	w->pub.size = size;
	w->pub.owner = owner;
	w->mmu = mmu;
	*ret_window = w;
	return 0;
free_state:
	host_unmap(at, ALIGN_UP(w->nr_pages * sizeof(*w->state), PAGE_SIZE));
free_window:
	meta_delete(w);
	return err;
}

int window_publish(struct window *w)
{
	int err;

	mutex_lock(&lock);
	err = table_insert(w);
	mutex_unlock(&lock);
	if (err)
		return err;
	w->guard.start = w->pub.start;
	w->guard.size = w->pub.size;
	w->guard.in_child = window_in_child;
	fork_guard_add(&w->guard);
	return 0;
}

void window_unpublish(struct window *w)
{
	if (fork_guard_is_dead(&w->guard))
		return;
	write_lock(&host_fork_lock);
	mutex_lock(&lock);
	table_remove(w);
	mutex_unlock(&lock);
	write_unlock(&host_fork_lock);
	atomic_fetch_or(&w->users, WINDOW_CLOSING);
	(void)!wait_until(w, atomic_load(&w->users) == WINDOW_CLOSING, WAIT_FOREVER);
}

void window_free(struct window *w)
{
	bool published = w->guard.generation != 0;

	if (!published) {
		host_unmap(w->pub.start, w->pub.size);
	} else if (!fork_guard_enter(&w->guard)) {
		host_unmap(w->pub.start, w->pub.size);
		w->guard.size = 0;
		fork_guard_leave();
		write_lock(&host_fork_lock);
		fork_guard_remove(&w->guard);
		write_unlock(&host_fork_lock);
	}
	host_unmap((uintptr_t)w->state, ALIGN_UP(w->nr_pages * sizeof(*w->state), PAGE_SIZE));
	meta_delete(w);
}
