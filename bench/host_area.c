// SPDX-License-Identifier: MIT
// The kernel's side of `godwit bench migrate --against host`: private memory of this process, and
// move_pages(2) on it.
//
// The area is bound to nothing: it is touched while the thread's policy prefers the first node, and
// then moved to and fro by address, as a program with a tiering policy does. Huge pages are asked
// for by madvise, those of the pool by MAP_HUGETLB; whether they came is read from smaps. A move of
// a huge page names its first address only, one entry for the page.
//
// What can fail: one node only; no huge pages; memory. The reason goes to the caller.
#include "bench/host_area.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
#define HUGE (2ul << 20)

int host_two_nodes(int ret_node[2])
{
	FILE *f = fopen("/sys/devices/system/node/has_memory", "re");
	char line[256] = "0";
	unsigned found = 0;

	if (f) {
		if (!fgets(line, sizeof line, f))
			line[0] = '\0';
		fclose(f);
	}
	for (char *at = line, *end; found < 2; at = end + 1) {
		long first = strtol(at, &end, 10), last = first;

		if (end == at)
			break;
		if (*end == '-')
			last = strtol(end + 1, &end, 10);
		for (; first <= last && found < 2; first++)
			ret_node[found++] = (int)first;
		if (*end != ',')
			break;
	}
	return found == 2 ? 0 : -ENODEV;
}

static int map_area(struct host_area *a, enum host_pages pages)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (pages == HOST_PAGES_HUGETLB)
		flags |= MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
	a->room_bytes = pages == HOST_PAGES_HUGETLB ? a->bytes : a->bytes + HUGE;
	a->room = mmap(NULL, a->room_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (a->room == MAP_FAILED) {
		a->room = NULL;
		return -errno;
	}
	a->at = (char *)(((uintptr_t)a->room + HUGE - 1) & ~(HUGE - 1));
	if (pages != HOST_PAGES_HUGETLB && madvise(a->at, a->bytes,
						   pages == HOST_PAGES_THP ? MADV_HUGEPAGE
									   : MADV_NOHUGEPAGE))
		return pages == HOST_PAGES_THP ? -errno : 0; // a kernel without huge pages
	return 0;
}

static void touch(struct host_area *a)
{
	unsigned long preferred = 1ul << a->node[0];

	(void)syscall(SYS_set_mempolicy, MPOL_PREFERRED, &preferred, 65);
	for (size_t at = 0; at < a->bytes; at += PAGE)
		*(volatile uint64_t *)(a->at + at) = at;
	(void)syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
}

// Bytes of the area on huge pages, as smaps says.
static uint64_t huge_bytes(const struct host_area *a)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[256];
	unsigned long from, to, kb;
	uint64_t sum = 0;
	int here = 0;

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from < (uintptr_t)a->at + a->bytes && to > (uintptr_t)a->at;
		else if (here && sscanf(line, "AnonHugePages: %lu", &kb) == 1)
			sum += (uint64_t)kb << 10;
	}
	if (f)
		fclose(f);
	return sum;
}

unsigned long host_number(const char *path)
{
	char full[160];
	unsigned long n = 0;
	FILE *f;

	snprintf(full, sizeof full, "/%s", path);
	f = fopen(full, "re");
	if (f && fscanf(f, "%lu", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

static unsigned long pool_free(int node)
{
	char path[120];

	snprintf(path, sizeof path,
		"sys/devices/system/node/node%d/hugepages/hugepages-2048kB/free_hugepages", node);
	return host_number(path);
}

// All of them on the first node: a page that is elsewhere would be no move, and cost nothing.
static int map_pool(struct host_area *a, char *why, size_t size)
{
	unsigned long wanted = a->bytes / HUGE, found = pool_free(a->node[0]);

	if (found >= wanted && !map_area(a, HOST_PAGES_HUGETLB))
		return 0;
	snprintf(why, size,
		"node %d has %lu free huge pages in its pool, not %lu; "
		"--allow-system-changes reserves them (as root)",
		a->node[0], found, wanted);
	return -EOPNOTSUPP;
}

static int fill(struct host_area *a, enum host_pages pages, char *why, size_t size)
{
	int err = pages == HOST_PAGES_HUGETLB ? map_pool(a, why, size) : map_area(a, pages);

	if (err)
		return err;
	touch(a);
	if (pages != HOST_PAGES_THP || huge_bytes(a) == a->bytes)
		return 0;
	snprintf(why, size, "the kernel gave huge pages for %llu of %zu bytes",
		(unsigned long long)huge_bytes(a), a->bytes);
	return -EOPNOTSUPP;
}

int host_area_open(struct host_area *a, const int node[2], size_t bytes, enum host_pages pages,
	char *why, size_t size)
{
	int err = 0;

	*a = (struct host_area){.node = {node[0], node[1]}, .bytes = bytes};
	why[0] = '\0';
	a->page = calloc(bytes / PAGE, sizeof *a->page);
	a->to = calloc(bytes / PAGE, sizeof *a->to);
	a->status = calloc(bytes / PAGE, sizeof *a->status);
	if (!a->page || !a->to || !a->status)
		err = -ENOMEM;
	if (!err)
		err = fill(a, pages, why, size);
	if (err) {
		if (!why[0])
			snprintf(why, size, "memory of the host: %s", strerror(-err));
		host_area_close(a);
	}
	return err;
}

void host_area_close(struct host_area *a)
{
	if (a->room)
		munmap(a->room, a->room_bytes);
	free(a->page);
	free(a->to);
	free(a->status);
	*a = (struct host_area){0};
}

int host_area_move(struct host_area *a, const uint32_t *order, unsigned long nr, unsigned side)
{
	for (unsigned long i = 0; i < nr; i++) {
		a->page[i] = a->at + order[i] * PAGE;
		a->to[i] = a->node[side];
	}
	if (syscall(SYS_move_pages, 0, nr, a->page, a->to, a->status, MPOL_MF_MOVE) < 0)
		return -errno;
	for (unsigned long i = 0; i < nr; i++)
		if (a->status[i] != a->node[side])
			return -EBUSY;
	return 0;
}

long host_pages_elsewhere(const void *at, unsigned long nr, int node)
{
	void **page = calloc(nr, sizeof *page);
	int *status = calloc(nr, sizeof *status);
	long elsewhere = page && status ? 0 : -ENOMEM;

	for (unsigned long i = 0; !elsewhere && i < nr; i++)
		page[i] = (char *)(uintptr_t)at + i * PAGE;
	if (!elsewhere && syscall(SYS_move_pages, 0, nr, page, NULL, status, 0))
		elsewhere = -errno;
	for (unsigned long i = 0; elsewhere >= 0 && i < nr; i++)
		elsewhere += status[i] != node;
	free(page);
	free(status);
	return elsewhere;
}
