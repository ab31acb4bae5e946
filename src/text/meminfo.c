// SPDX-License-Identifier: MIT
// proc/meminfo and the meminfo of a node, from the counters.
//
// Lines about what an engine has nothing of (slabs, swap, the kernel's own memory) are 0, so that
// programs that parse the file find every line. "Total" is what the zones manage. The pools of huge
// pages belong to a subsystem of its own; they are read through the files it has for them.
// Values are moments of their own. Locks: none. What can fail: the index of a node.
#include "base/text_buf.h"
#include "phys/alloc.h"
#include "text/files.h"
#include "text/text.h"

#include <errno.h>
#include <stdio.h>

#define KB(pages) ((pages) << (PAGE_SHIFT - 10))
#define HUGE_KB (PMD_SIZE >> 10)
#define VMALLOC_KB 34359738367ul // all of it

// Whose numbers are printed: one node's, or (nid -1) the machine's.
struct meminfo {
	struct gw_machine *machine;
	struct text_buf *text;
	int nid;
};

static unsigned long counter(const struct meminfo *mi, enum vmstat_item item)
{
	return mi->nid < 0 ? vmstat_read(mi->machine->mm.stat, item)
			   : vmstat_node(mi->machine->mm.stat, (unsigned)mi->nid, item);
}

// "MemFree:          612828 kB", of a node "Node 0 MemFree:          122796 kB".
static void line(const struct meminfo *mi, const char *name, unsigned long kbytes)
{
	char label[32];

	snprintf(label, sizeof label, "%s:", name);
	if (mi->nid >= 0)
		text_printf(mi->text, "Node %d %-15s %8lu kB\n", mi->nid, label, kbytes);
	else
		text_printf(mi->text, "%-15s %8lu kB\n", label, kbytes);
}

static void counter_line(const struct meminfo *mi, const char *name, enum vmstat_item item)
{
	line(mi, name, KB(counter(mi, item)));
}

// Transparent huge pages are counted as such, not by their small pages.
static void huge_lines(const struct meminfo *mi)
{
	line(mi, "AnonHugePages", HUGE_KB * counter(mi, VM_NR_ANON_TRANSPARENT_HUGEPAGES));
	line(mi, "ShmemHugePages", HUGE_KB * counter(mi, VM_NR_SHMEM_HUGEPAGES));
	line(mi, "ShmemPmdMapped", HUGE_KB * counter(mi, VM_NR_SHMEM_PMDMAPPED));
	line(mi, "FileHugePages", HUGE_KB * counter(mi, VM_NR_FILE_HUGEPAGES));
	line(mi, "FilePmdMapped", HUGE_KB * counter(mi, VM_NR_FILE_PMDMAPPED));
}

static void lru_lines(const struct meminfo *mi)
{
	unsigned long active_anon = counter(mi, VM_NR_ACTIVE_ANON);
	unsigned long active_file = counter(mi, VM_NR_ACTIVE_FILE);
	unsigned long inactive_anon = counter(mi, VM_NR_INACTIVE_ANON);
	unsigned long inactive_file = counter(mi, VM_NR_INACTIVE_FILE);

	line(mi, "Active", KB(active_anon + active_file));
	line(mi, "Inactive", KB(inactive_anon + inactive_file));
	line(mi, "Active(anon)", KB(active_anon));
	line(mi, "Inactive(anon)", KB(inactive_anon));
	line(mi, "Active(file)", KB(active_file));
	line(mi, "Inactive(file)", KB(inactive_file));
	counter_line(mi, "Unevictable", VM_NR_UNEVICTABLE);
	counter_line(mi, "Mlocked", VM_NR_MLOCK);
}

static void slab_lines(const struct meminfo *mi)
{
	unsigned long reclaimable = counter(mi, VM_NR_SLAB_RECLAIMABLE);
	unsigned long unreclaimable = counter(mi, VM_NR_SLAB_UNRECLAIMABLE);

	line(mi, "KReclaimable", KB(reclaimable + counter(mi, VM_NR_KERNEL_MISC_RECLAIMABLE)));
	line(mi, "Slab", KB(reclaimable + unreclaimable));
	line(mi, "SReclaimable", KB(reclaimable));
	line(mi, "SUnreclaim", KB(unreclaimable));
}

static unsigned long read_or_0(struct gw_machine *machine, const char *path)
{
	unsigned long value;

	return text_read_number(machine, path, &value) ? 0 : value;
}

static unsigned long pool(struct gw_machine *machine, unsigned kbytes, const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "sys/kernel/mm/hugepages/hugepages-%ukB/%s", kbytes, name);
	return read_or_0(machine, path);
}

static unsigned long node_pool(struct gw_machine *machine, int nid, const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "sys/devices/system/node/node%d/hugepages/hugepages-%lukB/%s",
		nid, HUGE_KB, name);
	return read_or_0(machine, path);
}

static unsigned long managed_pages(const struct node *node)
{
	unsigned long pages = 0;

	for (unsigned i = 0; i < ZONES_PER_NODE; i++)
		pages += node->zone[i].nr_managed;
	return pages;
}

static unsigned long total_pages(const struct phys *phys)
{
	unsigned long pages = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		pages += managed_pages(phys_node(phys, nid));
	return pages;
}

// ---- Of a node

int file_node_meminfo(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index, struct text_buf *text)
{
	const struct meminfo mi = {machine, text, (int)index[0]};

	if (!index_is_node(machine, index[0]))
		return -ENOENT;

	const struct node *node = phys_node(machine->mm.phys, index[0]);
	unsigned long total = managed_pages(node), free = node_nr_free(node);

	line(&mi, "MemTotal", KB(total));
	line(&mi, "MemFree", KB(free));
	line(&mi, "MemUsed", KB(total - min(free, total)));
	line(&mi, "SwapCached", 0);
	lru_lines(&mi);
	counter_line(&mi, "Dirty", VM_NR_DIRTY);
	counter_line(&mi, "Writeback", VM_NR_WRITEBACK);
	counter_line(&mi, "FilePages", VM_NR_FILE_PAGES);
	counter_line(&mi, "Mapped", VM_NR_MAPPED);
	counter_line(&mi, "AnonPages", VM_NR_ANON_PAGES);
	counter_line(&mi, "Shmem", VM_NR_SHMEM);
	line(&mi, "KernelStack", counter(&mi, VM_NR_KERNEL_STACK));
	counter_line(&mi, "PageTables", VM_NR_PAGE_TABLE_PAGES);
	counter_line(&mi, "SecPageTables", VM_NR_SEC_PAGE_TABLE_PAGES);
	line(&mi, "NFS_Unstable", 0);
	line(&mi, "Bounce", 0);
	line(&mi, "WritebackTmp", 0);
	slab_lines(&mi);
	huge_lines(&mi);
	line(&mi, "Unaccepted", 0);
	text_printf(text, "Node %d HugePages_Total: %5lu\n", mi.nid,
		node_pool(machine, mi.nid, "nr_hugepages"));
	text_printf(text, "Node %d HugePages_Free:  %5lu\n", mi.nid,
		node_pool(machine, mi.nid, "free_hugepages"));
	text_printf(text, "Node %d HugePages_Surp:  %5lu\n", mi.nid,
		node_pool(machine, mi.nid, "surplus_hugepages"));
	return 0;
}

// ---- Of the machine

// What could be had without hurting: free memory above the reserves, and half of the page cache
// (all of it above the low watermarks).
static unsigned long available_pages(const struct phys *phys, const struct vmstat *stat)
{
	unsigned long free = phys_nr_free(phys), reserve = 0, low = 0;
	unsigned long cache = vmstat_read(stat, VM_NR_ACTIVE_FILE) +
		vmstat_read(stat, VM_NR_INACTIVE_FILE);

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++) {
		for (unsigned i = 0; i < ZONES_PER_NODE; i++) {
			const struct zone *zone = &phys_node(phys, nid)->zone[i];
			unsigned long most = zone->lowmem_reserve[ZONE_MOVABLE - ZONE_NORMAL] +
				zone->watermark[WMARK_HIGH];

			reserve += min(most, (unsigned long)zone->nr_managed);
			low += zone->watermark[WMARK_LOW];
		}
	}
	return free - min(free, reserve) + cache - min(cache / 2, low);
}

static void commit_lines(const struct meminfo *mi, unsigned long total)
{
	line(mi, "CommitLimit", KB(total / 2));
	line(mi, "Committed_AS", KB(counter(mi, VM_NR_ANON_PAGES) + counter(mi, VM_NR_SHMEM)));
	line(mi, "VmallocTotal", VMALLOC_KB);
	line(mi, "VmallocUsed", 0);
	line(mi, "VmallocChunk", 0);
	line(mi, "Percpu", 0);
}

static void hugetlb_lines(const struct meminfo *mi)
{
	static const struct {
		const char *label, *file;
	} lines[] = {
		{"HugePages_Total:", "nr_hugepages"},
		{"HugePages_Free:", "free_hugepages"},
		{"HugePages_Rsvd:", "resv_hugepages"},
		{"HugePages_Surp:", "surplus_hugepages"},
	};
	const unsigned gigantic_kb = PUD_SIZE >> 10;

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		text_printf(mi->text, "%-16s %7lu\n", lines[i].label,
			pool(mi->machine, HUGE_KB, lines[i].file));
	line(mi, "Hugepagesize", HUGE_KB);
	line(mi, "Hugetlb", pool(mi->machine, HUGE_KB, "nr_hugepages") * HUGE_KB +
		pool(mi->machine, gigantic_kb, "nr_hugepages") * gigantic_kb);
}

static void add_cma_pages(struct zone *zone, void *arg)
{
	unsigned long *pages = arg;

	*pages += zone_cma_pages(zone);
}

static void cma_lines(const struct meminfo *mi)
{
	unsigned long pages = 0;

	each_zone(mi->machine->mm.phys, add_cma_pages, &pages);
	if (!pages)
		return;
	line(mi, "CmaTotal", KB(pages));
	counter_line(mi, "CmaFree", VM_NR_FREE_CMA);
}

static void poisoned_line(const struct meminfo *mi)
{
	const struct phys *phys = mi->machine->mm.phys;
	unsigned long pages = 0;

	for (unsigned nid = 0; nid < phys->nr_nodes; nid++)
		pages += phys_node(phys, nid)->nr_poisoned;
	text_printf(mi->text, "HardwareCorrupted: %5lu kB\n", KB(pages));
}

int file_meminfo(struct gw_machine *machine, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	const struct meminfo mi = {machine, text, -1};
	const struct phys *phys = machine->mm.phys;
	const unsigned long total = total_pages(phys);

	line(&mi, "MemTotal", KB(total));
	line(&mi, "MemFree", KB(phys_nr_free(phys)));
	line(&mi, "MemAvailable", KB(available_pages(phys, machine->mm.stat)));
	line(&mi, "Buffers", 0);
	counter_line(&mi, "Cached", VM_NR_FILE_PAGES);
	line(&mi, "SwapCached", 0);
	lru_lines(&mi);
	line(&mi, "SwapTotal", 0);
	line(&mi, "SwapFree", 0);
	line(&mi, "Zswap", 0);
	line(&mi, "Zswapped", 0);
	counter_line(&mi, "Dirty", VM_NR_DIRTY);
	counter_line(&mi, "Writeback", VM_NR_WRITEBACK);
	counter_line(&mi, "AnonPages", VM_NR_ANON_PAGES);
	counter_line(&mi, "Mapped", VM_NR_MAPPED);
	counter_line(&mi, "Shmem", VM_NR_SHMEM);
	slab_lines(&mi);
	line(&mi, "KernelStack", counter(&mi, VM_NR_KERNEL_STACK));
	counter_line(&mi, "PageTables", VM_NR_PAGE_TABLE_PAGES);
	counter_line(&mi, "SecPageTables", VM_NR_SEC_PAGE_TABLE_PAGES);
	line(&mi, "NFS_Unstable", 0);
	line(&mi, "Bounce", 0);
	line(&mi, "WritebackTmp", 0);
	commit_lines(&mi, total);
	poisoned_line(&mi);
	huge_lines(&mi);
	cma_lines(&mi);
	line(&mi, "Unaccepted", 0);
	hugetlb_lines(&mi);
	line(&mi, "DirectMap4k", KB(total));
	line(&mi, "DirectMap2M", 0);
	line(&mi, "DirectMap1G", 0);
	return 0;
}
