// SPDX-License-Identifier: MIT
// Reading a space without changing it: no page is touched, no table made, no huge entry split, and
// nothing is allocated (what the callers print goes to the engine's own memory).
//
// Locks: mmap_lock for reading over a whole space, the page-table lock of one table at a time. An
// entry may be a table at one look and huge at the next, as faults go on meanwhile: it is looked at
// again then. Nothing can fail.
#include "text/leaves.h"

#include "base/text_buf.h"
#include "virt/object.h"

#include <stdio.h>
#include <string.h>

// The entry of the PMD level at this moment; a leaf there is shown to the caller.
static struct pte see_pmd(struct vma *vma, uint64_t addr, see_leaf_fn *see, void *arg,
	bool *ret_no_table)
{
	struct page_table *pmd = pmd_table_lock(vma->space, vaddr_of(addr));
	struct leaf leaf = {vma, addr & PMD_MASK, {0}};

	*ret_no_table = !pmd;
	if (!pmd)
		return leaf.entry;
	leaf.entry = table_entry(pmd, pmd_index(vaddr_of(addr)));
	if (pte_huge(leaf.entry) && leaf.addr == addr)
		see(&leaf, arg);
	page_table_unlock(pmd);
	return leaf.entry;
}

// false: there is no table any more.
static bool see_pages(struct vma *vma, uint64_t addr, uint64_t end, see_leaf_fn *see, void *arg)
{
	struct page_table *table = pte_table_lock(vma->space, vaddr_of(addr));

	if (!table)
		return false;
	for (; addr < end; addr += PAGE_SIZE) {
		struct leaf leaf = {vma, addr, table_entry(table, pte_index(vaddr_of(addr)))};

		if (!pte_none(leaf.entry))
			see(&leaf, arg);
	}
	page_table_unlock(table);
	return true;
}

void vma_leaves(struct vma *vma, uint64_t start, uint64_t end, see_leaf_fn *see, void *arg)
{
	uint64_t next;

	for (uint64_t addr = start; addr < end; addr = next) {
		bool no_table;
		struct pte entry = see_pmd(vma, addr, see, arg, &no_table);

		next = no_table ? ALIGN_DOWN(addr, PUD_SIZE) + PUD_SIZE
				: (addr & PMD_MASK) + PMD_SIZE;
		if (!pmd_entry_table(entry))
			continue;
		if (!see_pages(vma, addr, min(next, end), see, arg))
			next = addr;
	}
}

void space_vmas(struct space *space, uint64_t start, uint64_t end, see_vma_fn *see,
	struct text_buf *text, void *arg)
{
	struct vma *vma;

	read_lock(&space->mmap_lock);
	for (vma = vma_find(space, start); vma && vma->start < end; vma = vma_next(vma))
		if (vma->start >= start)
			see(vma, text, arg);
	read_unlock(&space->mmap_lock);
}

bool vma_file_name(const struct vma *vma, char *buf, size_t size)
{
	const struct object *object = vma->object;

	if (vma->flags & VM_HUGETLB && !(object && object->name)) {
		snprintf(buf, size, "/anon_hugepage (deleted)");
		return true;
	}
	if (!object)
		return false;
	if (object->ops->kind == OBJECT_FILE)
		snprintf(buf, size, "%s", object->name ? object->name : "");
	else if (object->name)
		snprintf(buf, size, "/memfd:%s (deleted)", object->name);
	else
		snprintf(buf, size, "/dev/zero (deleted)");
	return true;
}

void print_escaped(struct text_buf *text, const char *name, const char *which)
{
	for (; *name; name++) {
		if (strchr(which, *name))
			text_printf(text, "\\%03o", *name);
		else
			text_putc(text, *name);
	}
}
