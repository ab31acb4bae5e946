// SPDX-License-Identifier: MIT
// Walks the engine makes for itself: find the page at an address, fault it in, read and write it
// through the frames. A page found here is held by a reference, so it does not go away, and a
// migration of it backs out.
#include "virt/fault.h"

#include "base/assert.h"
#include "virt/mm.h"
#include "virt/object.h"
#include "virt/pin.h"
#include "virt/space.h"

#include <errno.h>
#include <string.h>

// How a page is wanted: writable, or one's own (a pin's wish): no copy on write may come between
// the holder and the program later.
struct wish {
	bool own;
	bool write;
	bool shared; // the mapping is: an object's page is what the program sees, always
};

static bool ones_own(struct pte e, const struct folio *folio, const struct frame *frame,
	const struct wish *wish)
{
	if (!folio_test_anon(folio))
		return wish->shared;
	// A huge mapping is exclusive by its first page's mark.
	return frame_test(pte_huge(e) ? &folio->page : frame, PG_ANON_EXCLUSIVE);
}

static int take(struct pte e, unsigned subpage, const struct wish *wish, struct folio **ret_folio,
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
	if ((wish->write && !pte_writable(e)) || (wish->own && !ones_own(e, folio, frame, wish)))
		return -EMLINK; // present, but not as wanted
	if (!folio_try_get(folio))
		return -ENOENT;
	*ret_folio = folio;
	*ret_page = (unsigned)folio_frame_index(folio, frame);
	return 0;
}

// Under the lock of the entry, whichever level it is at. A leaf may become a table, and a table a
// leaf, between the two looks.
static int follow(struct space *space, uint64_t addr, const struct wish *wish,
	struct folio **ret_folio, unsigned *ret_page)
{
	struct vaddr v = vaddr_of(addr);

	for (;;) {
		struct page_table *table = pte_table_lock(space, v);
		int err = -ENOENT;

		if (table) {
			err = take(table_entry(table, pte_index(v)), 0, wish, ret_folio, ret_page);
			page_table_unlock(table);
			return err;
		}
		table = pmd_table_lock(space, v);
		if (!table)
			return err;
		struct pte e = table_entry(table, pmd_index(v));
		if (pte_huge(e))
			err = take(e, pte_index(v), wish, ret_folio, ret_page);
		page_table_unlock(table);
		if (!pmd_entry_table(e))
			return err;
	}
}

int follow_page(struct space *space, uint64_t addr, struct folio **ret_folio, unsigned *ret_page)
{
	const struct wish any = {0};

	return follow(space, addr, &any, ret_folio, ret_page);
}

// As follow(), under the mapping the address has now. A page of an area that nobody may touch is
// still in the page table, and is not for the taking: -EFAULT.
static int follow_mapped(struct space *space, uint64_t addr, unsigned flags,
	struct folio **ret_folio, unsigned *ret_page)
{
	int err = -EFAULT;

	read_lock(&space->mmap_lock);
	const struct vma *vma = vma_lookup(space, addr);
	if (vma && vma_accessible(vma)) {
		const struct wish wish = {
			.own = flags & (FAULT_WRITE | FAULT_UNSHARE),
			.write = flags & FAULT_WRITE,
			.shared = vma->flags & VM_SHARED,
		};

		err = follow(space, addr, &wish, ret_folio, ret_page);
	}
	read_unlock(&space->mmap_lock);
	return err;
}

int get_user_page(struct space *space, struct task *task, uint64_t addr, unsigned flags,
	struct folio **ret_folio, unsigned *ret_page)
{
	bool own = flags & (FAULT_WRITE | FAULT_UNSHARE);

	for (;;) {
		int err = follow_mapped(space, addr, flags, ret_folio, ret_page);

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
	return follow_mapped(space, addr, flags, ret_folio, ret_page);
}

void *folio_bytes(struct mm_core *mm, struct folio *folio, unsigned page)
{
	return mm->mmu->ops->peek(mm->mmu, pfn_add(folio_pfn(folio), page));
}

bool folio_page_is_zero(struct mm_core *mm, struct folio *folio, unsigned page)
{
	const char *bytes = folio_bytes(mm, folio, page);

	return !bytes[0] && !memcmp(bytes, bytes + 1, PAGE_SIZE - 1);
}

// ---- Reading and writing as the task itself would

// An access as the hardware makes it: it takes no reference, which would keep others from moving,
// collapsing or merging the page; and it runs under the entry's lock, so that a copy on write, a
// fork or a move that comes meanwhile is before it or after it. (With a reference the page could be
// copied for the other side of a fork between the look and a store.) `here` is the engine's: no
// fault may happen under the lock.
struct access {
	bool write;
	char *here;
	uint64_t at, n;
};

// -ENOENT: there is no entry that lets it. A writable entry is a dirty one, so nothing is to be
// marked.
static int access_through(struct mm_core *mm, struct pte e, unsigned subpage,
	const struct access *a)
{
	if (!pte_present(e) || (a->write && !pte_writable(e)))
		return -ENOENT;
	if (pte_zero_page(e)) {
		memset(a->here, 0, a->n);
		return 0;
	}
	char *bytes = mm->mmu->ops->peek(mm->mmu, pfn_add(pte_pfn(e), subpage));
	bytes += a->at & ~PAGE_MASK;
	if (a->write)
		memcpy(bytes, a->here, a->n);
	else
		memcpy(a->here, bytes, a->n);
	return 0;
}

static int access_entry(struct space *space, const struct access *a)
{
	struct vaddr v = vaddr_of(a->at);
	struct page_table *table = pte_table_lock(space, v);
	int err = -ENOENT;

	if (table) {
		err = access_through(space->mm, table_entry(table, pte_index(v)), 0, a);
		page_table_unlock(table);
		return err;
	}
	table = pmd_table_lock(space, v);
	if (table) {
		struct pte e = table_entry(table, pmd_index(v));

		if (pte_huge(e))
			err = access_through(space->mm, e, pte_index(v), a);
		page_table_unlock(table);
	}
	return err;
}

// A page of an area that nobody may touch is still in the page table: reading asks the area first.
static int load_once(struct space *space, const struct access *a)
{
	int err = -EFAULT;

	read_lock(&space->mmap_lock);
	const struct vma *vma = vma_lookup(space, a->at);
	if (vma && vma_accessible(vma))
		err = access_entry(space, a);
	read_unlock(&space->mmap_lock);
	return err;
}

static int load(struct space *space, struct task *task, uint64_t at, char *to, uint64_t n)
{
	char here[PAGE_SIZE];
	const struct access a = {.here = here, .at = at, .n = n};
	int err;

	// A fault that is served after a refusal: the mapping has come since.
	while ((err = load_once(space, &a))) {
		err = handle_fault(space, task, at, FAULT_REMOTE);
		if (err)
			return err;
	}
	memcpy(to, here, n);
	return 0;
}

static int store(struct space *space, struct task *task, uint64_t at, const char *from,
	uint64_t n)
{
	char here[PAGE_SIZE];
	const struct access a = {.write = true, .here = here, .at = at, .n = n};
	int err;

	memcpy(here, from, n);
	while ((err = access_entry(space, &a)) == -ENOENT) {
		err = handle_fault(space, task, at, FAULT_WRITE | FAULT_REMOTE);
		if (err)
			break;
	}
	return err;
}

static uint64_t piece(uint64_t at, uint64_t left)
{
	uint64_t room = PAGE_SIZE - (at & ~PAGE_MASK);

	return room < left ? room : left;
}

int64_t space_read(struct space *space, struct task *task, uint64_t addr, void *buf, uint64_t len)
{
	char *to = buf;

	for (uint64_t done = 0, n; done < len; done += n) {
		n = piece(addr + done, len - done);
		int err = load(space, task, addr + done, to + done, n);
		if (err)
			return done ? (int64_t)done : err;
	}
	return (int64_t)len;
}

int64_t space_write(struct space *space, struct task *task, uint64_t addr, const void *buf,
	uint64_t len)
{
	const char *from = buf;

	for (uint64_t done = 0, n; done < len; done += n) {
		n = piece(addr + done, len - done);
		int err = store(space, task, addr + done, from + done, n);
		if (err)
			return done ? (int64_t)done : err;
	}
	return (int64_t)len;
}
