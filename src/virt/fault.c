// SPDX-License-Identifier: MIT
// Serving an access that the host could not: the table of contents of everything that can happen.
//
// An access arrives from the host (mm_host_fault, in the accessor's own signal handler or in the
// userfaultfd thread) or from the engine (get_user_page). It holds mmap_lock for reading while it
// is served; the page-table lock is taken only to look at the entry and to change it:
//
//	entry seen			what is done				where
//	none, anonymous			zero page, or a new page by policy	fault_anon.c
//	none, object			map the cached page, copy it, dirty it	fault_object.c
//	migration entry			wait without lock or reference		migration_wait.c
//	poisoned			-EIO					here
//	device-private			ask whose memory it is			upcall
//	present, hint			tell balancing, restore			upcall
//	present, write not allowed	reuse or copy				cow.c
//	present and permitted		the host forgot: translate again	here
//	huge				the same for PMD leaves			here, upcalls
//
// The last two lines make the engine self-healing: wherever a host translation could not be put in
// place (the host's mapping limit), the entry alone is enough; the next access asks again.
// What can fail: -ENOMEM (no frame, or no host mapping), -EIO (file, poison), -EFAULT (not the
// task's to access).
#include "virt/fault_internal.h"

#include "base/assert.h"
#include "base/vmstat.h"
#include "base/wait.h"
#include "virt/gather.h"
#include "virt/object.h"
#include "virt/rmap.h"
#include "virt/vma.h"
#include "virt/task.h"

#include <errno.h>

static int fault_once(struct fault *f);
static int pmd_fault(struct fault *f, bool *ret_served);
static int pte_fault(struct fault *f);
static int hint_fault(struct fault *f, struct pte seen);

int handle_fault(struct space *space, struct task *task, uint64_t addr, unsigned flags)
{
	struct fault f = {
		.mm = space->mm,
		.space = space,
		.task = task,
		.addr = addr & PAGE_MASK,
		.flags = flags,
	};

	vm_event(f.mm->stat, VM_PGFAULT);
	for (;;) {
		int err = fault_once(&f);

		if (err == FAULT_MIGRATING) {
			if (flags & FAULT_NOWAIT)
				return -EAGAIN;
			migration_entry_wait(space, f.addr);
		} else if (err != FAULT_AGAIN) {
			return err;
		}
	}
}

static bool vma_permits(const struct vma *vma, unsigned flags)
{
	if (flags & FAULT_WRITE)
		return vma->flags & VM_WRITE;
	return vma->flags & (VM_READ | VM_WRITE | VM_EXEC);
}

bool fault_permitted(struct space *space, uint64_t addr, unsigned flags)
{
	read_lock(&space->mmap_lock);
	const struct vma *vma = vma_lookup(space, addr);
	bool permitted = vma && !(vma->flags & VM_HUGETLB) && vma_permits(vma, flags);
	read_unlock(&space->mmap_lock);
	return permitted;
}

static int fault_once(struct fault *f)
{
	int err;

	read_lock(&f->space->mmap_lock);
	f->vma = vma_lookup(f->space, f->addr);
	if (!f->vma || !vma_permits(f->vma, f->flags)) {
		err = -EFAULT;
	} else if (f->vma->flags & VM_HUGETLB) {
		err = f->mm->up.hugetlb_fault(f->vma, f->task, f->addr, f->flags);
	} else {
		bool served = false;

		err = pmd_fault(f, &served);
		if (!served && !err)
			err = pte_fault(f);
	}
	read_unlock(&f->space->mmap_lock);
	return err;
}

// Make the host agree with a present entry again. Page-table lock held.
static int translate_again(struct fault *f, struct pte e, uint64_t addr, unsigned nr)
{
	struct mmu *mmu = f->mm->mmu;

	return fault_host_said(f, mmu->ops->map(mmu, vma_host(f->vma, addr), pte_pfn(e), nr,
					  vma_pte_prot(f->vma, e)));
}

// The PMD level: *ret_served says that the access is done (or the error final); otherwise the
// small-page level decides.
static int pmd_fault(struct fault *f, bool *ret_served)
{
	struct page_table *pmd = pmd_table_lock(f->space, vaddr_of(f->addr));
	struct pte e = {0};
	int err = 0;

	if (pmd) {
		e = table_entry(pmd, pmd_index(vaddr_of(f->addr)));
		if (pte_present(e) && pte_huge(e) && !(e.v & PTE_HINT) &&
			(pte_writable(e) || !fault_wants_own_page(f))) {
			err = translate_again(f, e, f->addr & PMD_MASK, PTRS_PER_TABLE);
			*ret_served = true;
		}
		page_table_unlock(pmd);
	}
	if (*ret_served)
		return err;
	if (pte_huge(e) && pte_migration(e))
		return FAULT_MIGRATING;
	if (pte_huge(e) && e.v & PTE_HINT)
		return hint_fault(f, e);
	if (pte_huge(e) && pte_present(e)) {
		err = f->mm->up.huge_wp_fault(f->vma, f->task, f->addr);
		if (err > 0) // split: the small pages decide
			return FAULT_AGAIN;
		*ret_served = !err;
		return err;
	}
	if (pte_none(e) && f->mm->up.huge_fault) {
		err = f->mm->up.huge_fault(f->vma, f->task, f->addr, fault_write(f));
		*ret_served = err > 0;
		return err > 0 ? 0 : err;
	}
	return 0;
}

// The next access goes on, unless the upcall moved the page: then the entry is another already.
static void clear_hint(struct fault *f, struct pte seen)
{
	struct vaddr v = vaddr_of(f->addr);
	bool huge = pte_huge(seen);
	struct page_table *table = huge ? pmd_table_lock(f->space, v) : pte_table_lock(f->space, v);
	unsigned i = huge ? pmd_index(v) : pte_index(v);

	if (!table)
		return;
	if (table_entry(table, i).v == seen.v)
		table_set_entry(table, i, pte_clear(seen, PTE_HINT));
	page_table_unlock(table);
}

// A page, or a huge one by one entry, made to fault once to learn who uses it: the upcall decides.
static int hint_fault(struct fault *f, struct pte seen)
{
	struct folio *folio = pfn_folio(pte_pfn(seen));
	int err = 0;

	if (!folio_try_get(folio))
		return FAULT_AGAIN;
	if (f->mm->up.hint_fault)
		err = f->mm->up.hint_fault(f->vma, f->task, f->addr, folio);
	folio_put(folio);
	if (err < 0)
		return err;
	clear_hint(f, seen);
	return FAULT_AGAIN;
}

// An object's page is one's own in a shared mapping only: in a private one a write through another
// mapping would show.
static bool page_is_own(const struct fault *f, struct pte e)
{
	struct frame *frame = pfn_frame(pte_pfn(e));

	if (!folio_test_anon(frame_folio(frame)))
		return f->vma->flags & VM_SHARED;
	return frame_test(frame, PG_ANON_EXCLUSIVE);
}

static int pte_fault(struct fault *f)
{
	struct page_table *table = pte_table_lock(f->space, vaddr_of(f->addr));
	struct pte e = {0};
	int err = 0;

	if (table) {
		bool own = fault_wants_own_page(f);

		e = table_entry(table, pte_index(vaddr_of(f->addr)));
		// An unshare is content with a page of its own, writable or not.
		if (pte_present(e) && !(e.v & PTE_HINT) &&
			(!own || pte_writable(e) ||
				(!fault_write(f) && !pte_zero_page(e) && page_is_own(f, e)))) {
			err = translate_again(f, e, f->addr, 1);
			page_table_unlock(table);
			return err;
		}
		page_table_unlock(table);
	}
	if (pte_none(e))
		return f->vma->object ? fault_object(f) : fault_anonymous(f);
	if (pte_migration(e))
		return FAULT_MIGRATING;
	if (pte_kind(e) == PTE_DEVICE)
		return f->mm->up.device_fault(f->vma, f->task, f->addr, e);
	if (!pte_present(e))
		return -EIO;
	if (e.v & PTE_HINT)
		return hint_fault(f, e);
	return fault_write_protected(f, e);
}

int fault_install(struct fault *f, const struct fault_install *in)
{
	struct vaddr addr = vaddr_of(f->addr);
	struct mmu *mmu = f->mm->mmu;
	struct page_table *table;
	int err = 0;

	table = pte_table_alloc_lock(f->space, f->task, addr, &err);
	if (!table)
		return err == -EEXIST ? FAULT_AGAIN : err;
	if (table_entry(table, pte_index(addr)).v != in->seen.v) {
		page_table_unlock(table);
		return FAULT_AGAIN;
	}
	// Everything before the host's translation: with it the accessor runs, and what it does
	// next (ask for a move, say) must find the page complete.
	if (in->is_new_anon)
		fault_add_new_anon(f, in->folio);
	else if (in->folio && folio_test_anon(in->folio))
		folio_add_anon_rmap(in->folio, in->page, 1, in->exclusive);
	else if (in->folio)
		folio_add_file_rmap(in->folio, in->page, 1);
	table_set_entry(table, pte_index(addr), in->new);
	if (in->folio)
		atomic_fetch_add(space_rss(f->space, in->folio), 1);
	err = mmu->ops->map(mmu, vma_host(f->vma, f->addr), pte_pfn(in->new), 1,
		pte_writable(in->new) ? MMU_WRITE : MMU_READ);
	if (fault_host_said(f, err)) {
		table_set_entry(table, pte_index(addr), in->seen);
		if (in->folio) {
			atomic_fetch_sub(space_rss(f->space, in->folio), 1);
			folio_remove_rmap(in->folio, in->page, 1);
		}
	}
	page_table_unlock(table);
	return err;
}

// The host makes it true for the accessor, unless the permission has come meanwhile, or gone where
// only memory was missing. It may do so for one that is long gone (a message of userfaultfd read
// late), and then another access would meet the refusal: hence mmap_lock, for which every change of
// permission waits.
static bool refuse_host_fault(struct space *space, const struct mmu_fault *fault, unsigned flags,
	enum mmu_fault_result result)
{
	struct mmu *mmu = space->mm->mmu;
	const struct vma *vma = NULL;
	uint64_t addr;
	bool refused;

	read_lock(&space->mmap_lock);
	if (!space_addr_of_host(space, fault->at, &addr))
		vma = vma_lookup(space, addr);
	refused = (vma && vma_permits(vma, flags)) == (result == MMU_FAULT_BUS);
	if (refused)
		space_note_refusal(space, fault->at);
	if (refused && mmu->ops->refuse)
		mmu->ops->refuse(mmu, fault, result);
	read_unlock(&space->mmap_lock);
	return refused;
}

static enum mmu_fault_result handle_host_fault(
	struct space *space, struct task *task, const struct mmu_fault *fault)
{
	unsigned flags = fault->may_wait ? 0 : FAULT_NOWAIT;
	enum mmu_fault_result result;
	uint64_t addr;
	int err;

	if (fault->access == MMU_ACCESS_WRITE)
		flags |= FAULT_WRITE;
	do {
		read_lock(&space->mmap_lock);
		err = space_addr_of_host(space, fault->at, &addr);
		read_unlock(&space->mmap_lock);
		if (!err)
			err = handle_fault(space, task, addr, flags);
		if (!err)
			return MMU_FAULT_DONE;
		if (err == -EAGAIN)
			return MMU_FAULT_WAIT;
		result = err == -EFAULT ? MMU_FAULT_SEGV : MMU_FAULT_BUS;
	} while (!refuse_host_fault(space, fault, flags, result));
	return result;
}

static enum mmu_fault_result serve_host_fault(struct space *space, const struct mmu_fault *fault)
{
	struct task *task = task_of_access(space, fault->tid);
	enum mmu_fault_result result;

	lock_assert_none_held();
	if (!fault->may_wait)
		host_wait_begin(space->mm, fault->at);
	result = handle_host_fault(space, task, fault);
	task_put(task);
	if (!fault->may_wait && result != MMU_FAULT_WAIT)
		host_wait_cancel(space->mm, fault->at);
	return result;
}

static void end_host_fault(struct space *space)
{
	if (atomic_fetch_sub(&space->host_faults, 1) == 1)
		wake_all(&space->host_faults);
}

// Not while the machine's books are being balanced.
static void begin_host_fault(struct space *space)
{
	struct mm_core *mm = space->mm;

	atomic_fetch_add(&space->host_faults, 1);
	while (unlikely(atomic_load(&mm->checking))) {
		end_host_fault(space);
		(void)!wait_until(&mm->checking, !atomic_load(&mm->checking), WAIT_FOREVER);
		atomic_fetch_add(&space->host_faults, 1);
	}
}

// The accessor may run before this returns: when it is in a thread of the backend, the space must
// not go meanwhile.
enum mmu_fault_result mm_host_fault(void *owner, const struct mmu_fault *fault)
{
	struct space *space = owner;

	begin_host_fault(space);
	enum mmu_fault_result result = serve_host_fault(space, fault);
	end_host_fault(space);
	return result;
}
