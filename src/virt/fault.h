// SPDX-License-Identifier: MIT
// Serving an access: first touch, copy on write, the zero page, fault-around, waiting for a page
// that is being moved, and the walks that the engine itself makes (get_user_pages).
#ifndef GODWIT_VIRT_FAULT_H
#define GODWIT_VIRT_FAULT_H

#include "machine/mmu.h"
#include "virt/space.h"

struct task;
struct folio;

enum fault_flags {
	FAULT_WRITE = 1 << 0,
	FAULT_NOWAIT = 1 << 1,	// do not sleep for a migration entry: -EAGAIN, somebody will wake
	FAULT_UNSHARE = 1 << 2, // give an exclusive page without making it writable (pins)
	FAULT_REMOTE = 1 << 3,	// the engine asks, not an accessor
};

// Serve one access to addr by task. 0: retry the access, it will succeed unless things change
// again. -EFAULT: no vma or not permitted. -ENOMEM: no frame (SIGBUS on a host access).
// -EIO: the file could not be read, or the page is poisoned (SIGBUS). -EAGAIN: see FAULT_NOWAIT.
int handle_fault(struct space *, struct task *, uint64_t addr, unsigned flags);
// Whether the access is permitted now. Who chose it by the vma asks after -EFAULT: the vma may have
// been another at that moment. (hugetlb: never, its -EFAULT means SIGBUS.)
bool fault_permitted(struct space *, uint64_t addr, unsigned flags);

// mmu->fault of every machine: owner is the struct space of the window.
enum mmu_fault_result mm_host_fault(void *owner, const struct mmu_fault *);

// The folio (and page of it) mapped at addr, with a reference, faulted in as asked (FAULT_WRITE,
// or 0 to read). mmap_lock is taken inside. -EFAULT, -ENOMEM...
int get_user_page(struct space *, struct task *, uint64_t addr, unsigned flags,
	struct folio **ret_folio, unsigned *ret_page);
// Look only: -ENOENT when nothing is there (as FOLL_GET|FOLL_DUMP): also for the zero page -EFAULT.
int follow_page(struct space *, uint64_t addr, struct folio **ret_folio, unsigned *ret_page);

// get_user_page() without faulting: -ENOENT or -EMLINK when it is not there as wanted.
int look_user_page(struct space *, uint64_t addr, unsigned flags, struct folio **ret_folio,
	unsigned *ret_page);
// The bytes of a page of a folio through the direct map.
void *folio_bytes(struct mm_core *, struct folio *, unsigned page);
// Nothing but zeros in it? A guess, unless writers are stopped.
bool folio_page_is_zero(struct mm_core *, struct folio *, unsigned page);
// The pfn that stands for zeros at this address.
struct pfn zero_pfn(struct mm_core *, uint64_t addr);

// Copy between a space and the engine's caller through the frames, faulting as the task would:
// works on every backend, also on addresses that are blocked. Returns bytes copied, or the errno
// of the first.
int64_t space_read(struct space *, struct task *, uint64_t addr, void *buf, uint64_t len);
int64_t space_write(struct space *, struct task *, uint64_t addr, const void *buf, uint64_t len);

// Sleep until the migration entry seen at addr is gone; no reference is held on the folio.
void migration_entry_wait(struct space *, uint64_t addr);

// Unmap pages of a range (munmap, DONTNEED, truncation). mmap_lock held.
void zap_range(struct vma *, uint64_t start, uint64_t end);

// fork: copy of the space with copy on write. The child's addresses are the parent's numbers at
// other host pointers.
int space_fork(struct space *parent, struct task *parent_task, struct space **ret_child);

#endif
