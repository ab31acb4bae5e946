// SPDX-License-Identifier: MIT
// Reading a space: its vmas one by one, and what their page-table entries say; and what numa_maps
// and smaps have in common about a vma.
#ifndef GODWIT_TEXT_LEAVES_H
#define GODWIT_TEXT_LEAVES_H

#include "phys/folio.h"
#include "virt/space.h"

struct text_buf;

// An entry of a page table that is not none and leads to no other table.
struct leaf {
	struct vma *vma;
	uint64_t addr; // of its first page
	struct pte entry;
};

// The table is locked: nothing may be taken but locks that rank above it.
typedef void see_leaf_fn(const struct leaf *leaf, void *arg);
// All leaves that begin in [start, end), which lies in the vma. mmap_lock held.
void vma_leaves(struct vma *vma, uint64_t start, uint64_t end, see_leaf_fn *see, void *arg);

static inline unsigned leaf_pages(const struct leaf *leaf)
{
	return pte_huge(leaf->entry) ? PTRS_PER_TABLE : 1;
}

// The frame of a leaf that is present and maps memory of a node; NULL also for the zero page.
static inline struct frame *leaf_frame(const struct leaf *leaf)
{
	if (!pte_present(leaf->entry) || pte_zero_page(leaf->entry))
		return NULL;
	return pfn_frame(pte_pfn(leaf->entry));
}

// Calls see for each vma that begins in [start, end), under mmap_lock.
typedef void see_vma_fn(struct vma *vma, struct text_buf *text, void *arg);
void space_vmas(struct space *space, uint64_t start, uint64_t end, see_vma_fn *see,
	struct text_buf *text, void *arg);

#define VMA_NAME_MAX (4096 + 32)
// What Linux calls the file behind a vma: "/memfd:NAME (deleted)", a path; false: there is none.
bool vma_file_name(const struct vma *vma, char *buf, size_t size);
// Characters of `which` as \012 and the like.
void print_escaped(struct text_buf *text, const char *name, const char *which);

// The lines of the vmas that begin in [start, end); none of a task that has exited.
void task_numa_maps(struct task *task, uint64_t start, uint64_t end, struct text_buf *text);
void task_smaps(struct task *task, uint64_t start, uint64_t end, struct text_buf *text);

#endif
