// SPDX-License-Identifier: MIT
// Long-term pins. Each page is faulted in so that it will not be replaced under the holder (a
// private page: exclusive; writable where the mapping is), then its pin count is raised, and the
// address is looked at again: only if it still shows the page is the pin good. From then on
// unmapping for migration refuses it (an exclusive page that may be pinned cannot be shared), and
// so does the count of references.
//
// Pages that lie where nothing may stay for long (CMA, the movable zone) are moved out first by an
// upcall; the whole range is then tried again, as nobody may wait while holding half of it.
#include "virt/pin.h"

#include "base/mark.h"
#include "base/meta.h"
#include "base/vmstat.h"
#include "virt/fault.h"
#include "virt/mm.h"
#include "virt/object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIN_CHUNK 512
#define PIN_TRIES 8

struct pin_chunk {
	struct pin_chunk *next;
	unsigned nr;
	uint32_t pfn[PIN_CHUNK];
};

struct pin {
	struct list_head node; // in mm->pins, rank TASKS
	struct space *space;   // a reference
	uint64_t addr, len;
	struct pin_chunk *chunks;
	char holder[48];
};

static int pin_range(struct pin *pin, struct task *task);
static void drop_pages(struct pin *pin);

int pin_pages(struct space *space, struct task *task, uint64_t addr, uint64_t len,
	const char *holder, struct pin **ret_pin)
{
	struct mm_core *mm = space->mm;
	struct pin *pin;
	int tries, err = -EAGAIN;

	if (!len || addr + len < addr)
		return -EINVAL;
	pin = meta_new(struct pin);
	if (!pin)
		return -ENOMEM;
	pin->space = space;
	pin->addr = addr & PAGE_MASK;
	pin->len = ((addr + len + PAGE_SIZE - 1) & PAGE_MASK) - pin->addr;
	snprintf(pin->holder, sizeof pin->holder, "%s", holder ? holder : "");
	atomic_store(&space->has_pins, true);
	for (tries = 0; err == -EAGAIN && tries < PIN_TRIES; tries++)
		err = pin_range(pin, task);
	if (err) {
		meta_delete(pin);
		return err == -EAGAIN ? -ENOMEM : err;
	}
	space_get(space);
	atomic_fetch_add(&space->pinned_vm, (long)(pin->len >> PAGE_SHIFT));
	mutex_lock(&mm->tasks_lock);
	list_add_tail(&pin->node, &mm->pins);
	mutex_unlock(&mm->tasks_lock);
	*ret_pin = pin;
	return 0;
}

void unpin_pages(struct pin *pin)
{
	struct space *space = pin->space;

	mutex_lock(&space->mm->tasks_lock);
	list_del(&pin->node);
	mutex_unlock(&space->mm->tasks_lock);
	drop_pages(pin);
	atomic_fetch_sub(&space->pinned_vm, (long)(pin->len >> PAGE_SHIFT));
	meta_delete(pin);
	space_put(space);
}

static void drop_pages(struct pin *pin)
{
	struct mm_core *mm = pin->space->mm;
	struct pin_chunk *chunk;

	while ((chunk = pin->chunks)) {
		for (unsigned i = 0; i < chunk->nr; i++) {
			struct folio *folio = pfn_folio(pfn_of(chunk->pfn[i]));

			vmstat_add(mm->stat, folio_nid(folio), VM_NR_FOLL_PIN_RELEASED, 1);
			// Given up meanwhile (MADV_FREE), and perhaps written to since: it stays.
			if (folio_test_anon(folio) && !folio_test_swapbacked(folio))
				folio_mark_dirty(folio);
			folio_unpin(folio, 1);
		}
		pin->chunks = chunk->next;
		meta_delete(chunk);
	}
}

static int remember(struct pin *pin, struct folio *folio, unsigned page)
{
	struct pin_chunk *chunk = pin->chunks;

	if (!chunk || chunk->nr == PIN_CHUNK) {
		chunk = meta_new(struct pin_chunk);
		if (!chunk)
			return -ENOMEM;
		chunk->next = pin->chunks;
		pin->chunks = chunk;
	}
	chunk->pfn[chunk->nr++] = (uint32_t)(folio_pfn(folio).n + page);
	return 0;
}

// Writable where the mapping allows writing, else exclusive and readable.
static unsigned wanted_access(struct space *space, uint64_t addr)
{
	struct vma *vma;
	unsigned flags = FAULT_UNSHARE;

	read_lock(&space->mmap_lock);
	vma = vma_lookup(space, addr);
	if (vma && vma->flags & VM_WRITE)
		flags = FAULT_WRITE;
	read_unlock(&space->mmap_lock);
	return flags;
}

// Between the two looks the page may be unmapped, replaced, or shared by a fork; whoever tries
// after the second one sees the pin.
static int pin_one(struct pin *pin, struct task *task, uint64_t addr)
{
	struct space *space = pin->space;
	struct mm_core *mm = space->mm;

	for (;;) {
		unsigned flags = wanted_access(space, addr), page, again_page;
		struct folio *folio, *again;
		bool pinned, same;
		int err = get_user_page(space, task, addr, flags, &folio, &page);

		if (err == -EFAULT && fault_permitted(space, addr, 0))
			continue; // it was protected meanwhile: what is allowed now will do
		if (err)
			return err;
		pinned = folio_try_pin(folio, 1);
		folio_put(folio);
		if (!pinned) {
			MARK(pin_of_too_many);
			return -ENOMEM;
		}
		// Pinned now; still the page of this address, and still our own?
		err = look_user_page(space, addr, flags, &again, &again_page);
		same = !err && again == folio && again_page == page;
		if (!err)
			folio_put(again);
		if (!same) {
			folio_unpin(folio, 1);
			continue;
		}
		if (mm->up.unpinnable && mm->up.unpinnable(folio)) {
			folio_unpin(folio, 1);
			return -EAGAIN;
		}
		err = remember(pin, folio, page);
		if (err) {
			folio_unpin(folio, 1);
			return err;
		}
		vmstat_add(mm->stat, folio_nid(folio), VM_NR_FOLL_PIN_ACQUIRED, 1);
		return 0;
	}
}

static int pin_range(struct pin *pin, struct task *task)
{
	for (uint64_t addr = pin->addr; addr < pin->addr + pin->len; addr += PAGE_SIZE) {
		int err = pin_one(pin, task, addr);

		if (err) {
			drop_pages(pin);
			return err;
		}
	}
	return 0;
}

static bool pin_has(const struct pin *pin, const struct folio *folio)
{
	uint64_t first = folio_pfn(folio).n, nr = folio_nr(folio);

	for (const struct pin_chunk *c = pin->chunks; c; c = c->next)
		for (unsigned i = 0; i < c->nr; i++)
			if (c->pfn[i] - first < nr)
				return true;
	return false;
}

int pin_holder(struct mm_core *mm, struct folio *folio, char *buf, size_t size)
{
	struct pin *pin;
	int err = -ENOENT;

	mutex_lock(&mm->tasks_lock);
	list_for_each_entry(pin, &mm->pins, node) {
		if (!pin_has(pin, folio))
			continue;
		snprintf(buf, size, "%s", pin->holder);
		err = 0;
		if (*pin->holder) // of several, one with a name
			break;
	}
	mutex_unlock(&mm->tasks_lock);
	return err;
}
