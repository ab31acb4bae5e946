// SPDX-License-Identifier: MIT
// Walks the engine makes for itself: find the page at an address, fault it in, read and write it
// through the frames. A page found here is held by a reference, so it does not go away, and a
// migration of it backs out.
#include "virt/fault.h"

#include "base/assert.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/pin.h"

#include <errno.h>
#include <string.h>

static int take(struct pte e, unsigned subpage, bool own, bool write, struct folio **ret_folio,
	unsigned *ret_page)
{
	struct frame *frame;
	struct folio *folio;

	if (pte_none(e) || pte_migration(e) || !pte_present(e))
		return pte_kind(e) == PTE_HWPOISON ? -EIO : -ENOENT;
	if (pte_zero_page(e))
		return -EFAULT;
	frame = pfn_frame(pfn_add(pte_pfn(e), subpage));
	folio = frame_folio(frame);
	if (write && !pte_writable(e))
		return -EMLINK; // present, but not as wanted
	// What a leaf maps is exclusive as a whole, and the first frame says so.
	if (own && folio_test_anon(folio) &&
		!frame_test(pte_huge(e) ? &folio->page : frame, PG_ANON_EXCLUSIVE))
		return -EMLINK;
	if (!folio_try_get(folio))
		return -ENOENT;
	*ret_folio = folio;
	*ret_page = (unsigned)folio_frame_index(folio, frame);
	return 0;
}

// Under the lock of the entry, whichever level it is at. A leaf may become a table, and a table a
// leaf, between the two looks.
static int follow(struct space *space, uint64_t addr, bool own, bool write, struct folio **ret_folio,
	unsigned *ret_page)
{
	struct vaddr v = vaddr_of(addr);

	for (;;) {
		struct page_table *table = pte_table_lock(space, v);
		int err = -ENOENT;

		if (table) {
			err = take(table_entry(table, pte_index(v)), 0, own, write, ret_folio,
				ret_page);
			page_table_unlock(table);
			return err;
		}
		table = pmd_table_lock(space, v);
		if (!table)
			return err;
		struct pte e = table_entry(table, pmd_index(v));
		if (pte_huge(e))
			err = take(e, pte_index(v), own, write, ret_folio, ret_page);
		page_table_unlock(table);
		if (!pmd_entry_table(e))
			return err;
	}
}

int follow_page(struct space *space, uint64_t addr, struct folio **ret_folio, unsigned *ret_page)
{
	return follow(space, addr, false, false, ret_folio, ret_page);
}

int get_user_page(struct space *space, struct task *task, uint64_t addr, unsigned flags,
	struct folio **ret_folio, unsigned *ret_page)
{
	bool write = flags & FAULT_WRITE;
	bool own = flags & (FAULT_WRITE | FAULT_UNSHARE);

	for (;;) {
		int err = follow(space, addr, own, write, ret_folio, ret_page);

		if (!err)
			return 0;
		if (err == -EFAULT && !own) // the zero page, to read
			return err;
		err = handle_fault(space, task, addr, flags | FAULT_REMOTE);
		if (err)
			return err;
	}
}

int look_user_page(struct space *space, uint64_t addr, unsigned flags, struct folio **ret_folio,
	unsigned *ret_page)
{
	return follow(space, addr, flags & (FAULT_WRITE | FAULT_UNSHARE), flags & FAULT_WRITE,
		ret_folio, ret_page);
}

void *folio_bytes(struct mm_core *mm, struct folio *folio, unsigned page)
{
	return mm->mmu->ops->peek(mm->mmu, pfn_add(folio_pfn(folio), page));
}

// The entry may have been cleaned and the page written out since it was looked up: what is stored
// now is dirty again. The lock keeps the object.
static void write_bytes(struct folio *folio, char *to, const char *from, uint64_t n)
{
	memcpy(to, from, n);
	if (folio_test_anon(folio))
		return;
	folio_lock(folio);
	folio_mark_dirty(folio);
	folio_unlock(folio);
}

static int64_t transfer(struct space *space, struct task *task, uint64_t addr, char *buf, uint64_t len,
	bool write)
{
	uint64_t done = 0;

	while (done < len) {
		uint64_t at = addr + done, offset = at & (PAGE_SIZE - 1);
		uint64_t n = PAGE_SIZE - offset < len - done ? PAGE_SIZE - offset : len - done;
		struct folio *folio;
		unsigned page;
		char *bytes;
		int err = get_user_page(space, task, at, write ? FAULT_WRITE : 0, &folio, &page);

		if (err == -EFAULT && !write) { // zeros, or not ours to read
			err = handle_fault(space, task, at, FAULT_REMOTE);
			if (!err) {
				memset(buf + done, 0, n);
				done += n;
				continue;
			}
		}
		if (err)
			return done ? (int64_t)done : err;
		bytes = folio_bytes(space->mm, folio, page);
		if (write)
			write_bytes(folio, bytes + offset, buf + done, n);
		else
			memcpy(buf + done, bytes + offset, n);
		folio_put(folio);
		done += n;
	}
	return (int64_t)done;
}

int64_t space_read(struct space *space, struct task *task, uint64_t addr, void *buf, uint64_t len)
{
	return transfer(space, task, addr, buf, len, false);
}

int64_t space_write(struct space *space, struct task *task, uint64_t addr, const void *buf,
	uint64_t len)
{
	return transfer(space, task, addr, (char *)(uintptr_t)buf, len, true);
}
