// SPDX-License-Identifier: MIT
// madvise: the words that belong to plain memory; all others go up.
//
//	DONTNEED	zap: private pages are gone, those of objects stay cached
//	DONTNEED_LOCKED	the same for locked memory, which stays locked for what comes
//	FREE, COLD, PAGEOUT, WILLNEED
//			virt/advise_pages.c
//	POPULATE_*	faults
//	NORMAL, RANDOM, SEQUENTIAL, DONTFORK, DOFORK, HUGEPAGE, NOHUGEPAGE, MERGEABLE, UNMERGEABLE
//			flags of vmas; then mm->up.advise hears of it, so that its scanners take up
//			the space. It answers -EINVAL for words it does not care about.
//
// Words that touch pages take mmap_lock for reading, flags for writing. Holes: what is mapped gets
// its treatment, and the answer is -ENOMEM.
// What can fail: -EINVAL (word, alignment, or not for this kind of memory), -ENOMEM (a hole, no
// page), -EAGAIN (a word of flags found no memory for a split).
#include "virt/advise_pages.h"

#include "virt/fault.h"
#include "virt/vma.h"

#include <errno.h>

enum advice { // Linux's numbers
	ADVISE_NORMAL = 0,
	ADVISE_RANDOM = 1,
	ADVISE_SEQUENTIAL = 2,
	ADVISE_WILLNEED = 3,
	ADVISE_DONTNEED = 4,
	ADVISE_FREE = 8,
	ADVISE_DONTFORK = 10,
	ADVISE_DOFORK = 11,
	ADVISE_MERGEABLE = 12,
	ADVISE_UNMERGEABLE = 13,
	ADVISE_HUGEPAGE = 14,
	ADVISE_NOHUGEPAGE = 15,
	ADVISE_COLD = 20,
	ADVISE_PAGEOUT = 21,
	ADVISE_POPULATE_READ = 22,
	ADVISE_POPULATE_WRITE = 23,
	ADVISE_DONTNEED_LOCKED = 24,
};

// ---- Pages

static int drop(struct vma *vma, uint64_t start, uint64_t end)
{
	if (vma->flags & VM_PFNMAP)
		return -EINVAL;
	// Who asks may not know of the larger pages: the last one goes only when all of it is
	// meant.
	if (start & (vma_page_size(vma) - 1))
		return -EINVAL;
	end = ALIGN_DOWN(end, vma_page_size(vma));
	return start < end ? zap_pages(vma, start, end) : 0;
}

static int dontneed(struct vma *vma, struct task *task maybe_unused, uint64_t start, uint64_t end)
{
	return vma->flags & VM_LOCKED ? -EINVAL : drop(vma, start, end);
}

static int dontneed_locked(struct vma *vma, struct task *task maybe_unused, uint64_t start,
	uint64_t end)
{
	bool locked = vma->flags & VM_LOCKED;
	int err;

	if (locked)
		munlock_vma_pages(vma, start, end);
	err = drop(vma, start, end);
	// What stayed, be it the rest of a huge page, is locked as before.
	if (locked)
		mlock_vma_pages(vma, max(start & PMD_MASK, vma->start),
			min(ALIGN_UP(end, PMD_SIZE), vma->end));
	return err;
}

static int advise_pages(struct space *space, struct task *task, uint64_t start, uint64_t end,
	page_advice_fn *one)
{
	int err = 0;

	read_lock(&space->mmap_lock);
	bool hole = !space_range_mapped(space, start, end);
	struct vma *vma = vma_find(space, start);
	for (; vma && vma->start < end && !err; vma = vma_next(vma))
		err = one(vma, task, max(vma->start, start), min(vma->end, end));
	read_unlock(&space->mmap_lock);
	return err ? err : hole ? -ENOMEM : 0;
}

static page_advice_fn *find_pages(int advice)
{
	switch (advice) {
	case ADVISE_WILLNEED:
		return advise_willneed;
	case ADVISE_DONTNEED:
		return dontneed;
	case ADVISE_DONTNEED_LOCKED:
		return dontneed_locked;
	case ADVISE_FREE:
		return advise_free;
	case ADVISE_COLD:
		return advise_cold;
	case ADVISE_PAGEOUT:
		return advise_pageout;
	default:
		return NULL;
	}
}

static int populate(struct space *space, struct task *task, uint64_t start, uint64_t end,
	enum populate how)
{
	int err = space_populate(space, task, start, end, how);

	return err == -EIO ? -EFAULT : err;
}

// ---- Flags

struct flag_advice {
	enum advice word;
	unsigned set, clear;
	unsigned refuse; // vmas with one of these: -EINVAL
	unsigned ignore; // vmas with one of these stay as they are
};

// Huge pages that are there by themselves (hugetlb) are told to be transparent ones or not, too: it
// does nothing, and smaps shows it.
static const struct flag_advice flag_table[] = {
	{ADVISE_NORMAL, 0, VM_SEQ_READ | VM_RAND_READ, 0, 0},
	{ADVISE_RANDOM, VM_RAND_READ, VM_SEQ_READ, 0, 0},
	{ADVISE_SEQUENTIAL, VM_SEQ_READ, VM_RAND_READ, 0, 0},
	{ADVISE_DONTFORK, VM_DONTFORK, 0, 0, 0},
	{ADVISE_DOFORK, 0, VM_DONTFORK, VM_IO, 0},
	{ADVISE_HUGEPAGE, VM_HUGEPAGE, VM_NOHUGEPAGE, 0, 0},
	{ADVISE_NOHUGEPAGE, VM_NOHUGEPAGE, VM_HUGEPAGE, 0, 0},
	{ADVISE_MERGEABLE, VM_MERGEABLE, 0, 0,
		VM_SHARED | VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_HUGETLB},
	{ADVISE_UNMERGEABLE, 0, VM_MERGEABLE, 0, 0},
};

static const struct flag_advice *find_flags(int advice)
{
	for (unsigned i = 0; i < ARRAY_SIZE(flag_table); i++)
		if (flag_table[i].word == (enum advice)advice)
			return &flag_table[i];
	return NULL;
}

static unsigned flags_after(const struct vma *vma, const struct flag_advice *f)
{
	return vma->flags & f->ignore ? vma->flags : (vma->flags & ~f->clear) | f->set;
}

static bool changes_flags(const struct vma *vma, const void *advice)
{
	return flags_after(vma, advice) != vma->flags;
}

// How far it can be done: up to a vma that refuses. Holes are told of, and passed over.
static int check_range(struct space *space, uint64_t start, uint64_t *end,
	const struct flag_advice *f)
{
	int err = space_range_mapped(space, start, *end) ? 0 : -ENOMEM;

	for (struct vma *vma = vma_find(space, start); vma && vma->start < *end;
		vma = vma_next(vma))
		if (vma->flags & f->refuse) {
			*end = max(vma->start, start);
			return -EINVAL;
		}
	return err;
}

static struct vma *change_flags(struct vma *vma, const struct flag_advice *f)
{
	if (!changes_flags(vma, f))
		return vma;
	vma->flags = flags_after(vma, f);
	return vma_merge_around(vma);
}

// A lack of memory passes; -ENOMEM is for holes.
static int try_again(int err)
{
	return err == -ENOMEM ? -EAGAIN : err;
}

static int set_flags(struct space *space, uint64_t start, uint64_t end, const struct flag_advice *f)
{
	int split = 0;

	write_lock(&space->mmap_lock);
	int err = check_range(space, start, &end, f);
	if (start < end)
		split = space_split_changing(space, start, end, changes_flags, f);
	if (!split) {
		for (struct vma *vma = vma_find(space, start); vma && vma->start < end;
			vma = vma_next(vma))
			vma = change_flags(vma, f);
	}
	space_write_unlock(space);
	return split ? try_again(split) : err;
}

static int advise_flags(struct space *space, struct task *task, uint64_t start, uint64_t end,
	const struct flag_advice *f)
{
	struct mm_core *mm = space->mm;
	int err = 0, heard = 0;

	// Before the flag goes: only marked vmas are searched.
	if (f->word == ADVISE_UNMERGEABLE)
		err = try_again(space_break_ksm(space, start, end));
	if (!err)
		err = set_flags(space, start, end, f);
	if (!err && mm->up.advise)
		heard = mm->up.advise(space, task, start, end - start, f->word);
	return heard == -EINVAL ? err : err ? err : heard;
}

// ----

int space_advise(struct space *space, struct task *task, uint64_t addr, uint64_t len, int advice)
{
	const struct flag_advice *flags = find_flags(advice);
	uint64_t end;
	int err = space_range(addr, len, &end);

	if (err || !len)
		return err;
	if (flags)
		return advise_flags(space, task, addr, end, flags);
	page_advice_fn *pages = find_pages(advice);
	if (pages)
		return advise_pages(space, task, addr, end, pages);
	switch (advice) {
	case ADVISE_POPULATE_READ:
		return populate(space, task, addr, end, POPULATE_READ);
	case ADVISE_POPULATE_WRITE:
		return populate(space, task, addr, end, POPULATE_WRITE);
	default:
		return space->mm->up.advise
			       ? space->mm->up.advise(space, task, addr, len, advice)
			       : -EINVAL;
	}
}
