// SPDX-License-Identifier: MIT
// proc/PID/numa_maps: a line a vma, with its policy, what is behind it, and on which nodes its
// pages are.
//
//	200000000000 interleave:0-1 anon=8 dirty=8 active=0 N0=4 N1=4 kernelpagesize_kB=4
//
// Counted are the pages that are present: not those on the move (their entries are migration
// entries), and not the zero page. A page counts by its folio's state; `mapmax` is the largest
// count of mappings of one page; a transparent huge entry counts as 512 pages, one of hugetlb as
// one page of its size. `mapped` is left out when `anon` or `dirty` says the same, `active` when
// all are.
//
// Locks: mmap_lock for reading, then one page table at a time. What can fail: memory for the text;
// a pid that is nobody's is -ENOENT. A task that has exited has no lines.
#include "base/assert.h"
#include "base/text_buf.h"
#include "text/files.h"
#include "text/leaves.h"
#include "virt/mempolicy.h"
#include "virt/task.h"

#include <errno.h>

build_assert(POLICY_TEXT_MAX <= VMA_NAME_MAX, "one buffer for both");

struct numa_count {
	unsigned long pages, anon, dirty, active, writeback;
	int mapcount_max;
	unsigned long node[MAX_NODES];
};

static void count_leaf(const struct leaf *leaf, void *arg)
{
	struct numa_count *nc = arg;
	struct frame *frame = leaf_frame(leaf);
	unsigned long nr = leaf_pages(leaf);

	if (!frame)
		return;

	struct folio *folio = frame_folio(frame);
	int mapcount = frame_mapcount(frame);

	if (leaf->vma->flags & VM_HUGETLB) {
		// The entries of a page beyond 2 MiB count as one.
		if (leaf->addr & (folio_size(folio) - 1))
			return;
		nr = 1;
	}
	nc->pages += nr;
	if (leaf->entry.v & PTE_DIRTY || folio_test_dirty(folio))
		nc->dirty += nr;
	if (folio_test_active(folio) || folio_test_unevictable(folio))
		nc->active += nr;
	if (folio_test_writeback(folio))
		nc->writeback += nr;
	if (folio_test_anon(folio))
		nc->anon += nr;
	nc->mapcount_max = max(nc->mapcount_max, mapcount);
	nc->node[folio_nid(folio)] += nr;
}

static void print_head(struct text_buf *text, struct vma *vma, const struct mempolicy *task_policy)
{
	struct mempolicy *policy = vma_own_policy_get(vma, vma->start);
	char buf[VMA_NAME_MAX];

	mempolicy_format(policy ? policy : task_policy, buf, sizeof buf);
	mempolicy_put(policy);
	text_printf(text, "%08lx %s", vma->start, buf);
	if (vma_file_name(vma, buf, sizeof buf)) {
		text_puts(text, " file=");
		print_escaped(text, buf, "\n\t= ");
	} else if (vma->flags & VM_HEAP) {
		text_puts(text, " heap");
	} else if (vma->flags & VM_STACK) {
		text_puts(text, " stack");
	}
	if (vma->flags & VM_HUGETLB)
		text_puts(text, " huge");
}

static void print_counts(struct text_buf *text, const struct vma *vma, const struct numa_count *nc)
{
	if (nc->anon)
		text_printf(text, " anon=%lu", nc->anon);
	if (nc->dirty)
		text_printf(text, " dirty=%lu", nc->dirty);
	if (nc->pages != nc->anon && nc->pages != nc->dirty)
		text_printf(text, " mapped=%lu", nc->pages);
	if (nc->mapcount_max > 1)
		text_printf(text, " mapmax=%d", nc->mapcount_max);
	if (nc->active < nc->pages && !(vma->flags & VM_HUGETLB))
		text_printf(text, " active=%lu", nc->active);
	if (nc->writeback)
		text_printf(text, " writeback=%lu", nc->writeback);
	for (unsigned nid = 0; nid < MAX_NODES; nid++)
		if (nc->node[nid])
			text_printf(text, " N%u=%lu", nid, nc->node[nid]);
	text_printf(text, " kernelpagesize_kB=%lu", vma_page_size(vma) >> 10);
}

static void print_vma(struct vma *vma, struct text_buf *text, void *task_policy)
{
	struct numa_count nc = {0};

	vma_leaves(vma, vma->start, vma->end, count_leaf, &nc);
	print_head(text, vma, task_policy);
	if (nc.pages)
		print_counts(text, vma, &nc);
	text_putc(text, '\n');
}

void task_numa_maps(struct task *task, uint64_t start, uint64_t end, struct text_buf *text)
{
	struct space *space = task_space_get(task);
	struct mempolicy *policy;

	if (!space)
		return;
	policy = task_policy_get(task);
	space_vmas(space, start, end, print_vma, text, policy);
	mempolicy_put(policy);
	space_put(space);
}

int file_numa_maps(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	struct task *task = task_find(&machine->mm, (int)index[0]);

	if (!task)
		return -ENOENT;
	task_numa_maps(task, 0, UINT64_MAX, text);
	task_put(task);
	return 0;
}
