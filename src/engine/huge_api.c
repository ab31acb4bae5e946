// SPDX-License-Identifier: MIT
// include/godwit/huge.h: which addresses are on huge pages; the daemons that make them, by hand.
//
// A query walks the page table under mmap_lock, a look at a time, and joins neighbours that say the
// same. A range may change while it is asked about; each stretch was true when it was looked at.
// What can fail: see the header.
#include <godwit/huge.h>

#include "engine/engine.h"
#include "virt/vma.h"

#include <errno.h>

// What was a leaf at one look may be a table at the next.
static struct pte look(struct space *space, uint64_t addr, bool *ret_pmd)
{
	struct vaddr v = vaddr_of(addr);
	struct pte e;

	do {
		struct page_table *table = pte_table_lock(space, v);

		*ret_pmd = !table;
		if (!table)
			table = pmd_table_lock(space, v);
		if (!table)
			return (struct pte){0};
		e = table_entry(table, *ret_pmd ? pmd_index(v) : pte_index(v));
		page_table_unlock(table);
	} while (*ret_pmd && pmd_entry_table(e));
	return e;
}

static void describe_folio(struct gw_huge_info *info, struct pte e, bool pmd, uint64_t addr)
{
	struct folio *folio = folio_try_get_frame(pfn_frame(pte_pfn(e)));

	if (!folio) {
		info->mapping = GW_HUGE_MOVING;
		return;
	}
	uint64_t page = pte_pfn(e).n - folio_pfn(folio).n;
	if (pmd)
		page += (addr & ~PMD_MASK) >> PAGE_SHIFT;
	info->page_size = folio_size(folio);
	info->page_address = (addr & PAGE_MASK) - page * PAGE_SIZE;
	info->node = (int)folio_nid(folio);
	info->mapping = folio_test_hugetlb(folio) ? GW_HUGE_HUGETLB
			: pmd			  ? GW_HUGE_LEAF
			: folio_large(folio)	  ? GW_HUGE_ENTRIES
						  : GW_HUGE_SMALL;
	folio_put(folio);
}

// One page of some size, or a page without anything.
static struct gw_huge_info describe(struct space *space, uint64_t addr, uint64_t end)
{
	struct gw_huge_info info = {.address = addr, .node = -1, .mapping = GW_HUGE_ABSENT};
	uint64_t next = (addr & PAGE_MASK) + PAGE_SIZE;
	struct vma *vma = vma_find(space, addr);
	bool pmd = false;

	if (!vma || vma->start > addr) {
		info.mapping = GW_HUGE_UNMAPPED;
		next = vma ? vma->start : end;
	} else {
		struct pte e = look(space, addr, &pmd);

		pmd = pmd && pte_huge(e);
		if (pmd)
			next = (addr & PMD_MASK) + PMD_SIZE;
		if (pte_present(e) && pte_zero_page(e)) {
			info.mapping = pmd ? GW_HUGE_ZERO : GW_HUGE_SMALL;
			info.page_size = pmd ? PMD_SIZE : PAGE_SIZE;
			info.page_address = pmd ? addr & PMD_MASK : addr & PAGE_MASK;
		} else if (pte_present(e)) {
			describe_folio(&info, e, pmd, addr);
		} else if (pte_kind(e)) {
			info.mapping = GW_HUGE_MOVING;
		}
	}
	info.length = min(next, end) - addr;
	return info;
}

static bool joins(const struct gw_huge_info *a, const struct gw_huge_info *b)
{
	if (a->mapping != b->mapping || a->node != b->node || a->page_size != b->page_size)
		return false;
	return a->page_size <= PAGE_SIZE || a->page_address == b->page_address;
}

long gw_huge_query(struct gw_task *handle, uint64_t address, uint64_t length,
	struct gw_huge_info *out, unsigned long n)
{
	uint64_t end = address + length;
	unsigned long count = 0;

	if (task_refused(handle))
		return task_refused(handle);
	if (!n || end < address)
		return -EINVAL;
	if (!out)
		return -EFAULT;
	struct space *space = task_space_get(task_of(handle));
	if (!space)
		return -ESRCH;
	read_lock(&space->mmap_lock);
	while (address < end) {
		struct gw_huge_info info = describe(space, address, end);

		address += info.length;
		if (count && joins(&out[count - 1], &info)) {
			out[count - 1].length += info.length;
			continue;
		}
		if (count == n)
			break;
		out[count++] = info;
	}
	read_unlock(&space->mmap_lock);
	space_put(space);
	return (long)count;
}

void gw_khugepaged_scan(struct gw_machine *machine, unsigned full_scans)
{
	if (machine_refused(machine))
		return;
	khugepaged_scan_full(&machine->thp, full_scans);
}

int gw_kcompactd_run(struct gw_machine *machine)
{
	int nr = 0;

	if (machine_refused(machine))
		return machine_refused(machine);
	for (unsigned nid = 0; nid < machine->phys.nr_nodes; nid++)
		nr += kcompactd_run(&machine->compaction, nid);
	return nr;
}

int gw_thp_disable(struct gw_task *handle, int disable)
{
	if (task_refused(handle))
		return task_refused(handle);
	struct space *space = task_space_get(task_of(handle));

	if (!space)
		return -ESRCH;
	task_of(handle)->thp_disabled = disable;
	atomic_store(&space->thp_disabled, disable != 0);
	space_put(space);
	return 0;
}
