// SPDX-License-Identifier: MIT
// What both blockers of the rewire backend share: arena bytes appear at application addresses by
// mmap(MAP_FIXED), or by moving the host's page tables.
#ifndef GODWIT_MACHINE_REWIRE_H
#define GODWIT_MACHINE_REWIRE_H

#include "machine/arena.h"
#include "machine/vma_budget.h"

// From this many pages on, moving host page tables is cheaper than rebuilding them
// (bench/mmu_bench.c).
#define REWIRE_TABLES_MIN 8

struct uffd_pool;

struct rewire {
	struct mmu mmu; // first
	struct fork_guarded guard;
	struct mutex lock; // rank MMU: page states, and the host calls that change them
	struct mmu_counters counters;
	// userfaultfd only
	int uffd;
	int void_fd;	 // what an address without a frame maps: never backed
	uintptr_t stage; // where a mapping is built before it is moved over its place; under lock
	bool stage_gone; // nothing is reserved there: the mapping moved as a whole
	struct uffd_pool *pool;
	struct list_head refusals; // for want of memory, being delivered (uffd_refuse.c); lock
};

// One call on a range, between rewire_enter() and rewire_leave().
struct rewire_call {
	struct rewire *rw;
	struct window *window;
	uintptr_t at;
	size_t page; // of the window
	unsigned nr;
	size_t size;
};

static inline struct rewire *rewire_of(struct mmu *mmu)
{
	return container_of(mmu, struct rewire, mmu);
}

void rewire_init(struct rewire *rw, const struct mmu_ops *ops, mmu_fault_fn *fault);
// The stage, which fork() keeps from the child. -ENOMEM.
must_check int rewire_open_stage(struct rewire *rw);
// Under the lock: its mapping went away as a whole; and it is reserved again, at another place if
// somebody took that one. -ENOMEM.
void rewire_lose_stage(struct rewire *rw);
must_check int rewire_mend_stage(struct rewire *rw);
void rewire_destroy(struct rewire *rw);

// 0 with fork() held and the lock taken; -EOWNERDEAD, or -EFAULT outside of a window.
must_check int rewire_enter(struct rewire_call *call, struct mmu *mmu, uintptr_t at, unsigned nr);
// Where the host maps a page of hugetlbfs the place is changed as a whole: a call on part of such a
// place becomes one on all of it.
void rewire_widen(struct rewire_call *call);
// The frames that the call is to map there can be: on hugetlbfs all 512 of a page, else -EINVAL.
must_check int rewire_check_frames(const struct rewire_call *call, struct pfn first);
void rewire_unlock(struct rewire_call *call); // the lock only
void rewire_leave(struct rewire_call *call);  // and let fork() go on, after rewire_unlock()

// How a page state says what is mapped for the frames: PAGE_FRAME, and whether of hugetlbfs; and
// the file that one says. (A frame that was cleared may have changed its file since.)
uint64_t rewire_file_state(struct pfn first);
int rewire_file_of(uint64_t state);
// The frames at the place, readable and writable, not watched; `state` is noted. By moved page
// tables when they are ready; ret_filled says so, else the caller populates.
// An error leaves the place as it was, or with a hole (rewire_has_hole()).
must_check int rewire_place(struct rewire_call *call, struct pfn first, bool *ret_filled);
// After a place that was not filled, so that nobody has to fault for it. Where accesses may sleep
// (userfaultfd) before the lock is dropped: somebody may clear the place at once, and this thread
// would wait for itself.
void rewire_populate(const struct rewire_call *call, struct pfn first);
// The host's page tables of the place go to where the frames' tables are parked; the place is
// mapped as before, with empty tables. False when that is not possible or not worth it.
bool rewire_park(struct rewire_call *call, struct pfn first);
bool rewire_is_parked(const struct rewire_call *call, struct pfn first);
bool rewire_has_hole(const struct rewire_call *call);
// The windows of the machine that lie in a row with this one, from the first to the last; `end` is
// where the row ends. The host may map pages of two of them by one mapping, so only the whole row
// can be changed without a spare one. NULL behind the last. None goes while the call lasts.
struct window *rewire_row_first(const struct window *w, uintptr_t *ret_end);
struct window *rewire_row_next(const struct window *w);
// The next part of the call, from page `skip` of it on, that shows the frames the engine means;
// false when there is none. A page that shows nothing, or another frame it was cleared of, must not
// come to show that by a change of permission.
bool rewire_next_shown(const struct rewire_call *call, struct pfn first, unsigned skip,
	struct rewire_call *ret_part);

// Opens a window; `init`, under host_fork_lock for writing, makes all its pages absent on the host.
must_check int rewire_window_open(struct mmu *mmu, size_t size, size_t align, void *hint,
	void *owner, int (*init)(struct rewire *, struct window *), struct mmu_window **ret_window);
void rewire_window_close(struct mmu *mmu, struct mmu_window *window);
void *rewire_peek(struct mmu *mmu, struct pfn pfn);

extern const struct mmu_ops rewire_signal_ops, rewire_uffd_ops;
must_check int rewire_signal_open(mmu_fault_fn *fault, struct mmu **ret_mmu);
must_check int rewire_uffd_open(
	unsigned threads, bool user_mode_only, mmu_fault_fn *fault, struct mmu **ret_mmu);

#endif
