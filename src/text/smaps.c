// SPDX-License-Identifier: MIT
// proc/PID/smaps: a block a vma, saying how much of it is in memory and with whom it is shared.
//
// A page's share (Pss) is its size divided by how often it is mapped. Sharing is judged by
// mapcounts page by page; a folio with a single reference is mapped once, whatever its size. A page
// on the move is counted too: as shared, for its mapcount is not to be known, and with all of its
// size in Pss. The zero page counts nowhere. Pages of hugetlb count only in their own two lines.
// Pss is summed with 12 bits behind the point, as in the kernel, so that the rounding is the same.
//
// THPeligible is for the subsystem of huge pages to say (mm->up.thp_eligible); there is no swap.
// Locks: mmap_lock for reading, then one page table at a time. What can fail: memory for the text;
// a pid that is nobody's is -ENOENT.
#include "base/text_buf.h"
#include "text/files.h"
#include "text/leaves.h"
#include "virt/object.h"
#include "virt/task.h"

#include <errno.h>
#include <stdio.h>

#define PSS_SHIFT 12
#define DEVICE 1 // of every object

struct smaps { // bytes; pss* with PSS_SHIFT bits behind the point
	uint64_t resident, referenced, anonymous, ksm, lazyfree;
	uint64_t shared_clean, shared_dirty, private_clean, private_dirty;
	uint64_t anon_huge, shmem_huge, file_huge;
	uint64_t shared_hugetlb, private_hugetlb;
	uint64_t pss, pss_dirty, pss_locked;
};

// ---- Counting

static void add_pages(struct smaps *s, struct folio *folio, const struct leaf *leaf, uint64_t size,
	uint64_t pss, bool private)
{
	bool dirty = leaf->entry.v & PTE_DIRTY || folio_test_dirty(folio);

	s->pss += pss;
	if (leaf->vma->flags & VM_LOCKED)
		s->pss_locked += pss;
	if (dirty)
		s->pss_dirty += pss;
	if (private)
		*(dirty ? &s->private_dirty : &s->private_clean) += size;
	else
		*(dirty ? &s->shared_dirty : &s->shared_clean) += size;
}

static void add_huge(struct smaps *s, const struct folio *folio)
{
	if (folio_test_anon(folio))
		s->anon_huge += PMD_SIZE;
	else if (folio_test_swapbacked(folio))
		s->shmem_huge += PMD_SIZE;
	else
		s->file_huge += PMD_SIZE;
}

// What depends only on the folio's kind and size.
static void add_folio(struct smaps *s, const struct folio *folio, struct pte entry, uint64_t size)
{
	s->resident += size;
	if (folio_test_anon(folio)) {
		s->anonymous += size;
		if (!folio_test_swapbacked(folio) && !(entry.v & PTE_DIRTY) &&
			!folio_test_dirty(folio))
			s->lazyfree += size;
	}
	if (folio_test_ksm(folio))
		s->ksm += size;
	if (entry.v & PTE_YOUNG || folio_test_young(folio) || folio_test_referenced(folio))
		s->referenced += size;
}

static void add_hugetlb(struct smaps *s, const struct folio *folio, bool present)
{
	if (!present || folio_likely_mapped_shared(folio))
		s->shared_hugetlb += PMD_SIZE;
	else
		s->private_hugetlb += PMD_SIZE;
}

static void count_leaf(const struct leaf *leaf, void *arg)
{
	struct smaps *s = arg;
	const bool present = pte_present(leaf->entry) || pte_kind(leaf->entry) == PTE_DEVICE;
	const unsigned nr = leaf_pages(leaf);

	if (pte_zero_page(leaf->entry))
		return;

	struct frame *frame = pfn_frame(pte_pfn(leaf->entry));
	struct folio *folio = frame_folio(frame);

	if (leaf->vma->flags & VM_HUGETLB) {
		add_hugetlb(s, folio, present);
		return;
	}
	if (pte_huge(leaf->entry))
		add_huge(s, folio);
	add_folio(s, folio, leaf->entry, nr * PAGE_SIZE);
	if (!present || folio_ref_count(folio) == 1) {
		add_pages(s, folio, leaf, nr * PAGE_SIZE, nr * PAGE_SIZE << PSS_SHIFT, present);
		return;
	}
	for (unsigned i = 0; i < nr; i++) {
		int mapcount = frame_mapcount(frame + i);
		uint64_t pss = PAGE_SIZE << PSS_SHIFT;

		if (mapcount >= 2)
			pss /= (unsigned)mapcount;
		add_pages(s, folio, leaf, PAGE_SIZE, pss, mapcount < 2);
	}
}

// ---- Printing

// "rw-p 00001000 00:01 12   /disk/file", as a line of maps. Device and inode of a file are not the
// host's: a seeded run prints the same on every host.
static void print_head(struct text_buf *text, const struct vma *vma)
{
	const struct object *object = vma->object;
	const unsigned flags = vma->flags;
	char name[VMA_NAME_MAX];
	size_t begin = text->length;

	text_printf(text, "%08lx-%08lx %c%c%c%c %08lx 00:%02x %u ", vma->start, vma->end,
		flags & VM_READ ? 'r' : '-', flags & VM_WRITE ? 'w' : '-',
		flags & VM_EXEC ? 'x' : '-', flags & VM_SHARED ? 's' : 'p',
		object || flags & VM_HUGETLB ? vma->pgoff << PAGE_SHIFT : 0, object ? DEVICE : 0,
		object ? object->id : 0);
	if (!vma_file_name(vma, name, sizeof name))
		snprintf(name, sizeof name, "%s", flags & VM_HEAP ? "[heap]"
				: flags & VM_STACK	  ? "[stack]"
							  : "");
	if (*name) {
		text_pad(text, 73 - (int)(text->length - begin));
		print_escaped(text, name, "\n");
	}
	text_putc(text, '\n');
}

static void line(struct text_buf *text, const char *label, uint64_t bytes)
{
	text_printf(text, "%-15s %8lu kB\n", label, bytes >> 10);
}

static void print_sizes(struct text_buf *text, const struct vma *vma, const struct smaps *s)
{
	line(text, "Size:", vma->end - vma->start);
	line(text, "KernelPageSize:", vma_page_size(vma));
	line(text, "MMUPageSize:", vma_page_size(vma));
	line(text, "Rss:", s->resident);
	line(text, "Pss:", s->pss >> PSS_SHIFT);
	line(text, "Pss_Dirty:", s->pss_dirty >> PSS_SHIFT);
	line(text, "Shared_Clean:", s->shared_clean);
	line(text, "Shared_Dirty:", s->shared_dirty);
	line(text, "Private_Clean:", s->private_clean);
	line(text, "Private_Dirty:", s->private_dirty);
	line(text, "Referenced:", s->referenced);
	line(text, "Anonymous:", s->anonymous);
	line(text, "KSM:", s->ksm);
	line(text, "LazyFree:", s->lazyfree);
	line(text, "AnonHugePages:", s->anon_huge);
	line(text, "ShmemPmdMapped:", s->shmem_huge);
	line(text, "FilePmdMapped:", s->file_huge);
	line(text, "Shared_Hugetlb:", s->shared_hugetlb);
	text_printf(text, "Private_Hugetlb: %7lu kB\n", s->private_hugetlb >> 10);
	line(text, "Swap:", 0);
	line(text, "SwapPss:", 0);
	line(text, "Locked:", s->pss_locked >> PSS_SHIFT);
}

static void print_flags(struct text_buf *text, const struct vma *vma)
{
	const unsigned flags = vma->flags;
	const struct {
		const char *name;
		bool set;
	} shown[] = {
		{"rd", flags & VM_READ},
		{"wr", flags & VM_WRITE},
		{"ex", flags & VM_EXEC},
		{"sh", flags & VM_SHARED},
		{"mr", true},
		{"mw", flags & VM_MAYWRITE},
		{"me", true},
		{"ms", flags & VM_SHARED},
		{"gd", flags & VM_STACK},
		{"pf", flags & VM_PFNMAP},
		{"lo", flags & VM_LOCKED},
		{"io", flags & VM_IO},
		{"sr", flags & VM_SEQ_READ},
		{"rr", flags & VM_RAND_READ},
		{"dc", flags & VM_DONTFORK},
		{"de", flags & (VM_DONTEXPAND | VM_HUGETLB)},
		{"ac", flags & VM_ACCOUNT},
		{"ht", flags & VM_HUGETLB},
		{"sd", !(flags & VM_STACK)}, // nobody clears soft-dirty here
		{"hg", flags & VM_HUGEPAGE},
		{"nh", flags & VM_NOHUGEPAGE},
		{"mg", flags & VM_MERGEABLE},
	};

	text_puts(text, "VmFlags: ");
	for (unsigned i = 0; i < ARRAY_SIZE(shown); i++)
		if (shown[i].set)
			text_printf(text, "%s ", shown[i].name);
	text_putc(text, '\n');
}

static void print_vma(struct vma *vma, struct text_buf *text, void *arg maybe_unused)
{
	const struct mm_core *mm = vma->space->mm;
	struct smaps s = {0};

	vma_leaves(vma, vma->start, vma->end, count_leaf, &s);
	print_head(text, vma);
	print_sizes(text, vma, &s);
	text_printf(text, "THPeligible:    %8u\n",
		mm->up.thp_eligible ? mm->up.thp_eligible(vma) : false);
	print_flags(text, vma);
}

void task_smaps(struct task *task, uint64_t start, uint64_t end, struct text_buf *text)
{
	struct space *space = task_space_get(task);

	if (!space)
		return;
	space_vmas(space, start, end, print_vma, text, NULL);
	space_put(space);
}

int file_smaps(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	struct task *task = task_find(&machine->mm, (int)index[0]);

	if (!task)
		return -ENOENT;
	task_smaps(task, 0, UINT64_MAX, text);
	task_put(task);
	return 0;
}
