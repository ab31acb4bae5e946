// SPDX-License-Identifier: MIT
// Copying the contents of folios, through the engine's own view of the frames (mmu->peek) and the
// machine's copier.
//
//   folios_copy()   as many pages as are consecutive on both sides, in one copy
//
// The source's writers are blocked, so the copy is of one moment. A damaged page (HWPOISON) is
// -EHWPOISON and nothing may be relied on in the destination: the move of this folio is given up,
// never the source. No lock is needed beyond the folio locks of the callers.
#include "base/fault_inject.h"
#include "machine/copier.h"
#include "migrate/batch.h"

#include <errno.h>

static bool poisoned(struct folio *src, unsigned nr_pages)
{
	for (unsigned i = 0; i < nr_pages; i++)
		if (unlikely(frame_test_hwpoison(&src->page + i)))
			return true;
	return fault_should_fail(FI_COPY);
}

// Bytes of consecutive frames, if they are consecutive too; else those of the first only.
static char *view(struct mmu *mmu, struct pfn pfn, unsigned nr, bool *ret_whole)
{
	char *first = mmu->ops->peek(mmu, pfn);
	char *last = mmu->ops->peek(mmu, pfn_add(pfn, nr - 1));

	*ret_whole = first && last == first + (nr - 1) * PAGE_SIZE;
	return first;
}

static int copy_pages(struct mm_core *mm, struct pfn dst, struct pfn src, unsigned nr)
{
	bool whole_dst, whole_src;
	char *to = view(mm->mmu, dst, nr, &whole_dst);
	char *from = view(mm->mmu, src, nr, &whole_src);

	if (whole_dst && whole_src) {
		copier_copy(mm->copier, to, from, nr);
		return 0;
	}
	for (unsigned i = 0; i < nr; i++) {
		to = mm->mmu->ops->peek(mm->mmu, pfn_add(dst, i));
		from = mm->mmu->ops->peek(mm->mmu, pfn_add(src, i));
		if (!to || !from)
			return -EOPNOTSUPP; // no direct map here
		copier_copy(mm->copier, to, from, 1);
	}
	return 0;
}

// Of gigantic folios each 2 MiB may be seen elsewhere (machine/arena_hugetlb.h).
int folios_copy(struct mm_core *mm, struct folio *dst, struct folio *src, unsigned nr_pages)
{
	int err = 0;

	if (poisoned(src, nr_pages))
		return -EHWPOISON;
	for (unsigned i = 0, nr; !err && i < nr_pages; i += nr) {
		nr = min(nr_pages - i, (unsigned)PTRS_PER_TABLE);
		err = copy_pages(mm, pfn_add(folio_pfn(dst), i), pfn_add(folio_pfn(src), i), nr);
	}
	return err;
}
