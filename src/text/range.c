// SPDX-License-Identifier: MIT
// What stories ask about a part of a space: its lines of numa_maps and smaps, the node of each
// page, and how many huge mappings it has.
//
// Looking changes nothing: no page is touched, no counter moves. Results are written to the
// caller's memory only while no lock is held, as that memory may itself be managed; so nodes are
// collected a chunk at a time, and a page that moves meanwhile is answered as of its own moment.
// Locks: mmap_lock for reading, then one page table at a time. What can fail: memory for a text.
#include "base/text_buf.h"
#include "text/leaves.h"
#include "text/text.h"
#include "virt/task.h"

#include <errno.h>
#include <string.h>

#define CHUNK PTRS_PER_TABLE

int range_text(struct task *task, enum range_text what, uint64_t addr, uint64_t length,
	char **ret_text)
{
	struct text_buf text = {0};

	if (what == RANGE_NUMA_MAPS)
		task_numa_maps(task, addr, addr + length, &text);
	else
		task_smaps(task, addr, addr + length, &text);
	return text_take(&text, ret_text);
}

// ---- Nodes

struct chunk {
	uint64_t start, end;
	int32_t node[CHUNK];
};

static int32_t leaf_node(const struct leaf *leaf)
{
	if (pte_zero_page(leaf->entry))
		return -EFAULT;
	if (!pte_present(leaf->entry))
		return -ENOENT;
	return (int32_t)frame_nid(pfn_frame(pte_pfn(leaf->entry)));
}

static void note_node(const struct leaf *leaf, void *arg)
{
	struct chunk *chunk = arg;
	uint64_t end = leaf->addr + leaf_pages(leaf) * PAGE_SIZE;

	for (uint64_t addr = max(leaf->addr, chunk->start); addr < min(end, chunk->end);
		addr += PAGE_SIZE)
		chunk->node[(addr - chunk->start) >> PAGE_SHIFT] = leaf_node(leaf);
}

static void note_vma(struct vma *vma, struct chunk *chunk)
{
	uint64_t start = max(vma->start, chunk->start), end = min(vma->end, chunk->end);

	for (uint64_t addr = start; addr < end; addr += PAGE_SIZE)
		chunk->node[(addr - chunk->start) >> PAGE_SHIFT] = -ENOENT;
	// A huge entry that begins before the chunk reaches into it.
	vma_leaves(vma, max(ALIGN_DOWN(start, PMD_SIZE), vma->start), end, note_node, chunk);
}

static void note_chunk(struct space *space, struct chunk *chunk)
{
	struct vma *vma;

	read_lock(&space->mmap_lock);
	for (vma = vma_find(space, chunk->start); vma && vma->start < chunk->end;
		vma = vma_next(vma))
		note_vma(vma, chunk);
	read_unlock(&space->mmap_lock);
}

void range_nodes(struct task *task, uint64_t addr, uint64_t nr_pages, int32_t *ret_nodes)
{
	struct space *space = task_space_get(task);
	struct chunk chunk;
	uint64_t nr;

	for (uint64_t done = 0; done < nr_pages; done += nr) {
		nr = min(nr_pages - done, (uint64_t)CHUNK);
		chunk.start = addr + done * PAGE_SIZE;
		chunk.end = chunk.start + nr * PAGE_SIZE;
		for (unsigned i = 0; i < nr; i++)
			chunk.node[i] = -EFAULT;
		if (space)
			note_chunk(space, &chunk);
		memcpy(ret_nodes + done, chunk.node, nr * sizeof *ret_nodes);
	}
	if (space)
		space_put(space);
}

// ---- Huge mappings

static void count_huge(const struct leaf *leaf, void *arg)
{
	uint64_t *count = arg;

	*count += pte_huge(leaf->entry);
}

uint64_t range_huge(struct task *task, uint64_t addr, uint64_t length)
{
	struct space *space = task_space_get(task);
	const uint64_t end = addr + length;
	uint64_t count = 0;

	if (!space)
		return 0;
	read_lock(&space->mmap_lock);
	for (struct vma *vma = vma_find(space, addr); vma && vma->start < end; vma = vma_next(vma))
		vma_leaves(vma, max(vma->start, addr), min(vma->end, end), count_huge, &count);
	read_unlock(&space->mmap_lock);
	space_put(space);
	return count;
}
