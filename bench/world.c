// SPDX-License-Identifier: MIT
// A machine of two nodes with one area of memory, moved to and fro.
//
// The area is touched on node 0 by its first task. A round moves pages to the other node in calls
// of a given size, in a row or in a random order, and between the calls copies as many bytes with
// memcpy: in one piece where the call's pages are neighbours, page by page where they are not.
// The machine is as it comes: trace events are recorded.
//
// The first word of each page is its number, so that every row also checks that no page was lost
// or mixed up.
#include "bench/world.h"

#include "engine/engine.h"

#include <godwit/stats.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int open_machine(struct world *w, char *why, size_t size)
{
	// Free memory stays with the engine up to a quarter of a node (see DESIGN of backing):
	// nodes this large never give back what the next round needs.
	uint64_t bytes = 4 * w->spec.bytes + (256ul << 20);
	const uint64_t node_bytes[2] = {bytes, bytes};
	struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 2,
		.node_bytes = node_bytes,
		.backend = GW_BACKEND_REWIRE,
		.blocker = w->spec.blocker,
		.copy_threads = w->spec.copy_threads,
		.host_node = w->spec.against_host ? w->spec.host_node : NULL,
		.flags = w->spec.huge	     ? GW_MACHINE_HUGE
			 : w->spec.hugetlbfs ? GW_MACHINE_HUGETLB
					     : 0,
	};
	int err = gw_machine_create(&config, &w->machine);

	if (err) {
		snprintf(why, size, "%s", gw_machine_error());
		return err;
	}
	if (w->spec.huge && w->machine->arena[0]->page_shift == PAGE_SHIFT) {
		snprintf(why, size, "the host gives shared memory no huge pages");
		return -EOPNOTSUPP;
	}
	for (unsigned i = 0; !err && i < w->spec.spaces; i++)
		err = gw_task_create(w->machine, NULL, &w->task[i]);
	return err ? err : gw_task_attach(w->task[0]);
}

static int map_area(struct world *w, unsigned task, uint64_t *ret_area)
{
	struct gw_mapping mapping = {
		.size = sizeof mapping,
		.length = w->spec.bytes,
		.prot = GW_PROT_READ | GW_PROT_WRITE,
		.flags = (w->object ? GW_MAP_SHARED : 0) |
			 (w->spec.hugetlb ? GW_MAP_HUGETLB : 0),
		.object = w->object,
	};

	return gw_map(w->task[task], &mapping, ret_area);
}

// The other space writes to every page too: then each has two mappings of the same kind.
static int map_second(struct world *w)
{
	const char byte = 1;
	uint64_t area;
	int err = map_area(w, 1, &area);

	for (unsigned long i = 0; !err && i < w->pages; i++)
		if (gw_write(w->task[1], area + i * GW_PAGE_SIZE + 128, &byte, 1) != 1)
			err = -EFAULT;
	return err;
}

// Such a row needs them for both nodes and for both files of the plain copy.
static int no_host_pages(const struct world *w, char *why, size_t size)
{
	snprintf(why, size, "the host's hugetlb pool has not %llu free pages",
		(unsigned long long)w->spec.bytes >> 19);
	return -EOPNOTSUPP;
}

// Pages for the area on both nodes: a move takes a free one, as the kernel's does.
static int fill_pools(struct world *w, char *why, size_t size)
{
	char path[96], value[24];
	int err = 0;

	snprintf(value, sizeof value, "%llu", (unsigned long long)(w->spec.bytes >> 21));
	for (unsigned nid = 0; !err && nid < 2; nid++) {
		snprintf(path, sizeof path,
			"sys/devices/system/node/node%u/hugepages/hugepages-2048kB/nr_hugepages",
			nid);
		err = gw_tunable_set(w->machine, path, value);
		if (!err && w->spec.hugetlbfs &&
			w->machine->arena[nid]->hugetlb.nr < w->spec.bytes >> 21)
			err = no_host_pages(w, why, size);
	}
	return err;
}

static int ask_for_thp(struct world *w, char *why, size_t size)
{
	if (!w->spec.thp)
		return 0;
	if (!gw_tunable_set(w->machine, "sys/kernel/mm/transparent_hugepage/enabled", "madvise") &&
		!gw_advise(w->task[0], w->area, w->spec.bytes, MADV_HUGEPAGE))
		return 0;
	snprintf(why, size, "this build has no transparent huge pages");
	return -EOPNOTSUPP;
}

static int check_thp(struct world *w, char *why, size_t size)
{
	int64_t faults = 0;

	if (!w->spec.thp)
		return 0;
	if (!gw_vmstat(w->machine, "thp_fault_alloc", &faults) &&
		faults == (int64_t)(w->pages / 512))
		return 0;
	snprintf(why, size, "this build gave %lld huge folios of %lu: no 2 MiB folio to move",
		(long long)faults, w->pages / 512);
	return -EOPNOTSUPP;
}

static int open_area(struct world *w, char *why, size_t size)
{
	int err = 0;

	if (w->spec.spaces > 1)
		err = gw_object_create(w->machine, "bench", w->spec.bytes, &w->object);
	if (!err && w->spec.hugetlb)
		err = fill_pools(w, why, size);
	if (!err)
		err = map_area(w, 0, &w->area);
	if (!err)
		err = ask_for_thp(w, why, size);
	if (err)
		return err;
	w->bytes = gw_pointer(w->task[0], w->area);
	world_stamp(w);
	err = check_thp(w, why, size);
	return err || w->spec.spaces < 2 ? err : map_second(w);
}

static int open_lists(struct world *w)
{
	w->pages = w->spec.bytes / GW_PAGE_SIZE;
	w->unit = w->spec.thp || w->spec.hugetlb ? 512 : 1;
	w->entries = w->pages / w->unit;
	w->order = calloc(w->pages, sizeof(*w->order));
	w->address = calloc(w->pages, sizeof(*w->address));
	w->node = calloc(w->pages, sizeof(*w->node));
	w->status = calloc(w->pages, sizeof(*w->status));
	w->ours = calloc(w->pages, sizeof(*w->ours));
	w->copy = calloc(w->pages, sizeof(*w->copy));
	return w->order && w->address && w->node && w->status && w->ours && w->copy ? 0 : -ENOMEM;
}

static void list_addresses(struct world *w)
{
	for (unsigned long i = 0; i < w->entries; i++)
		w->address[i] = w->area + w->order[i] * GW_PAGE_SIZE;
}

// What the world is measured against.
static int open_other(struct world *w, char *why, size_t size)
{
	if (w->spec.against_host)
		return host_area_open(&w->host, w->spec.host_node, w->spec.bytes,
			w->spec.host_pages, why, size);
	int err = plain_open(&w->plain, w->spec.bytes,
		w->spec.hugetlbfs ? PLAIN_OF_POOL
		: w->spec.huge	  ? PLAIN_HUGE
				  : PLAIN_USUAL);
	return err == -ENOMEM && w->spec.hugetlbfs ? no_host_pages(w, why, size) : err;
}

int world_open(struct world *w, const struct world_spec *spec, char *why, size_t size)
{
	int err;

	*w = (struct world){.spec = *spec, .plain = {.fd = {-1, -1}}};
	why[0] = '\0';
	err = open_lists(w);
	for (unsigned long i = 0; !err && i < w->entries; i++)
		w->order[i] = (uint32_t)(i * w->unit);
	if (!err)
		err = open_machine(w, why, size);
	if (!err)
		err = open_other(w, why, size);
	if (!err)
		err = open_area(w, why, size);
	if (err) {
		if (!why[0])
			snprintf(why, size, "%s", strerror(-err));
		world_close(w);
		return err;
	}
	list_addresses(w);
	return 0;
}

void world_close(struct world *w)
{
	if (gw_task_attach(NULL))
		return; // cannot be: detaching takes nothing
	for (unsigned i = 0; i < 2; i++)
		if (w->task[i])
			gw_task_exit(w->task[i]);
	if (w->object)
		gw_object_put(w->object);
	gw_machine_destroy(w->machine);
	plain_close(&w->plain);
	host_area_close(&w->host);
	free(w->order);
	free(w->address);
	free(w->node);
	free(w->status);
	free(w->ours);
	free(w->copy);
	*w = (struct world){0};
}

void world_shuffle(struct world *w)
{
	uint64_t seed = 88172645463325252ull;

	for (unsigned long i = w->entries - 1; i > 0; i--) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		unsigned long j = seed % (i + 1);
		uint32_t page = w->order[i];
		w->order[i] = w->order[j];
		w->order[j] = page;
	}
	list_addresses(w);
}

// ---- A round

// What memcpy would have to copy for the calls on [first, first + nr) of the order.
static void plain_turn(struct world *w, unsigned long first, unsigned long nr, unsigned long call)
{
	char *to = w->plain.side[!w->side], *from = w->plain.side[w->side];

	for (unsigned long i = first, end = first + nr, run; i < end; i += run) {
		unsigned long most = call - (i - first) % call;
		size_t at = w->order[i] * GW_PAGE_SIZE;

		for (run = 1; run < most && i + run < end; run++)
			if (w->order[i + run] != w->order[i] + run * w->unit)
				break;
		memcpy(to + at, from + at, run * w->unit * GW_PAGE_SIZE);
	}
}

// The same calls to the kernel, for its own pages.
static int host_turn(struct world *w, unsigned long first, unsigned long nr, unsigned long call)
{
	int err = 0;

	for (unsigned long i = first, n; !err && i < first + nr; i += n) {
		n = call < first + nr - i ? call : first + nr - i;
		err = host_area_move(&w->host, w->order + i, n, !w->side);
	}
	return err;
}

static int other_turn(struct world *w, unsigned long first, unsigned long nr, unsigned long call)
{
	if (w->spec.against_host)
		return host_turn(w, first, nr, call);
	plain_turn(w, first, nr, call);
	return 0;
}

static int move_turn(struct world *w, const struct move_plan *p, unsigned long first,
	unsigned long nr, uint64_t *ret_stayed)
{
	struct gw_move_options options = {
		.size = sizeof options,
		.pause_budget_us = p->pause_budget_us,
	};

	for (unsigned long i = first, n; i < first + nr; i += n) {
		n = p->per_call < first + nr - i ? p->per_call : first + nr - i;
		long left = gw_move_pages_explained(w->task[0], 0, n, w->address + i, w->node + i,
			w->status + i, p->flags, &options);

		if (left < 0)
			return (int)left;
		*ret_stayed += (uint64_t)left;
	}
	return 0;
}

int world_round(struct world *w, const struct move_plan *p, double *ret_ours_ns,
	double *ret_copy_ns, uint64_t *ret_stayed)
{
	unsigned long turns = 0;

	for (unsigned long i = 0; i < p->entries; i++)
		w->node[i] = !w->side;
	for (unsigned long i = 0, n; i < p->entries; i += n, turns++) {
		n = p->per_turn < p->entries - i ? p->per_turn : p->entries - i;
		double start = p->now();
		int err = other_turn(w, i, n, p->per_call);
		double middle = p->now();
		if (!err)
			err = move_turn(w, p, i, n, ret_stayed);
		if (err)
			return err;
		w->ours[turns] = (p->now() - middle) / (double)n;
		w->copy[turns] = (middle - start) / (double)n;
	}
	w->side = !w->side;
	*ret_ours_ns = percentile_of(w->ours, turns, 0.5) * (double)p->entries;
	*ret_copy_ns = percentile_of(w->copy, turns, 0.5) * (double)p->entries;
	return 0;
}

long world_elsewhere(const struct world *w)
{
	return host_pages_elsewhere(w->bytes, w->pages, w->spec.host_node[w->side]);
}

// ---- Contents

void world_stamp(struct world *w)
{
	for (unsigned long i = 0; i < w->pages; i++)
		*(volatile uint64_t *)(w->bytes + i * GW_PAGE_SIZE) = i + 1;
}

bool world_check(const struct world *w)
{
	for (unsigned long i = 0; i < w->pages; i++)
		if (*(volatile uint64_t *)(w->bytes + i * GW_PAGE_SIZE) != i + 1)
			return false;
	return true;
}
