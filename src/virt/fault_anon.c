// SPDX-License-Identifier: MIT
// First touch of anonymous memory. A read gets the zero page, which costs nothing and is shared by
// everyone; a write gets a page of zeros of its own, from the node the policy names (the toucher's
// own, unless said otherwise).
//
// The zero page is a run of 512 frames where memory allows: at each address of a table another
// frame of the run stands, so that neighbours merge into one host mapping. To the engine they are
// one page: the entry carries PTE_ZERO, and there is neither a reference nor an rmap.
#include "virt/fault_internal.h"

#include "phys/lru.h"
#include "virt/mempolicy.h"
#include "virt/rmap.h"
#include "virt/task.h"

#include <errno.h>
#include <string.h>

struct pfn zero_pfn(struct mm_core *mm, uint64_t addr)
{
	struct pfn first = folio_pfn(mm->zero_page);

	return pfn_add(first, (addr >> PAGE_SHIFT) & (folio_nr(mm->zero_page) - 1));
}

struct folio *fault_alloc(struct fault *f, bool zeroed)
{
	struct folio *folio = fault_near_limit(f) ? fault_alloc_near(f) : NULL;

	if (folio)
		return folio;
	return folio_alloc_vma(GFP_HIGHUSER_MOVABLE | (zeroed ? GFP_ZERO : 0), 0, f->vma, f->addr,
		f->task);
}

// Under the page-table lock: who finds the entry finds a folio that is on the LRU and can be
// isolated.
void fault_add_new_anon(struct fault *f, struct folio *folio)
{
	folio_add_new_anon_rmap(folio, f->vma, f->addr);
	folio_set_uptodate(folio);
	if (f->vma->flags & VM_LOCKED)
		folio_add_lru_mlocked(folio);
	else
		folio_add_lru(folio);
}

// The holder of a pin may store meanwhile, as in Linux. ThreadSanitizer need not see that.
void copy_frame(struct mm_core *mm, struct pfn dst, struct pfn src)
{
	void *to = mm->mmu->ops->peek(mm->mmu, dst), *from = mm->mmu->ops->peek(mm->mmu, src);
	size_t n = PAGE_SIZE;

	if (HAVE_TSAN)
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	else
		memcpy(to, from, n);
}

static int map_zero_page(struct fault *f)
{
	struct fault_install in = {
		.new = pte_make(zero_pfn(f->mm, f->addr), PTE_PRESENT | PTE_ZERO | PTE_YOUNG),
	};

	return fault_install(f, &in);
}

int fault_anonymous(struct fault *f)
{
	uint64_t bits = PTE_PRESENT | PTE_DIRTY | PTE_YOUNG;
	struct fault_install in = {.is_new_anon = true};
	int err;

	if (!fault_wants_own_page(f))
		return map_zero_page(f);
	err = anon_vma_prepare(f->vma);
	if (err)
		return err;
	if (f->mm->up.large_fault) {
		err = f->mm->up.large_fault(f->vma, f->task, f->addr);
		if (err)
			return err > 0 ? 0 : err;
	}
	in.folio = fault_alloc(f, true);
	if (!in.folio)
		return -ENOMEM;
	if (f->vma->flags & VM_WRITE)
		bits |= PTE_WRITE;
	in.new = pte_make(folio_pfn(in.folio), bits);
	folio_set_swapbacked(in.folio);
	err = fault_install(f, &in);
	if (err)
		folio_put(in.folio);
	return err;
}
