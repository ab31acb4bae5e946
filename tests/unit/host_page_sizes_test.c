// SPDX-License-Identifier: MIT
// The nodes of a process's pages by their size, on a recorded machine (4node-thp, Linux 6.12) whose
// calls are answered from a picture of the same process:
//
//   100000000000  32 MiB  |0 HHHH HHHH .... ssss .... s...|  H: 2 MiB, s: 4 KiB pages, .: nothing
//                 node     0000 1111      000       1       the second H has lost its first page,
//                                                           and with it its huge entry
//   101000000000  hugetlb, 3 pages on node 2
//   105000000000   8 MiB   48 pages of 64 KiB on node 0, 33 on node 1
#include "unit.h"

#include "host/page_sizes.h"

#include <errno.h>

#define KIB 1024ull
#define MIB (1024 * KIB)
#define FIRST 0x100000000000ull
#define MULTI 0x105000000000ull
#define HUGE_FRAME 0x10000ull
#define MULTI_FRAME 0x20000ull
#define SMALL_FRAME 0x30000ull

static struct {
	int scan_error, flags_error, move_error;
	bool hides_frames;
	bool whole;	    // the second has its first page still: mapped by small entries alone
	bool one_size;	    // the machine has no other transparent pages
	unsigned scans, reads, moves, addresses;
} machine;

// ---- The picture --------------------------------------------------------------------------------

static bool in(uint64_t at, uint64_t start, uint64_t end)
{
	return at >= start && at < end;
}

static bool has_huge_entry(uint64_t at)
{
	return in(at, FIRST, FIRST + 16 * MIB) && !in(at, FIRST + 2 * MIB, FIRST + 4 * MIB);
}

static uint64_t frame_at(uint64_t at)
{
	if (at == FIRST + 2 * MIB && !machine.whole)
		return 0;
	if (in(at, FIRST, FIRST + 16 * MIB))
		return HUGE_FRAME + (at - FIRST) / 4096;
	if (in(at, FIRST + 16 * MIB, FIRST + 19 * MIB) ||
		in(at, FIRST + 24 * MIB, FIRST + 25 * MIB))
		return SMALL_FRAME + (at - FIRST) / 4096;
	if (in(at, MULTI, MULTI + 3 * MIB) ||
		in(at, MULTI + 4 * MIB, MULTI + 6 * MIB) ||
		in(at, MULTI + 7 * MIB, MULTI + 7 * MIB + 64 * KIB))
		return MULTI_FRAME + (at - MULTI) / 4096;
	return 0;
}

static int node_at(uint64_t at)
{
	if (!frame_at(at))
		return -ENOENT;
	if (at >= MULTI)
		return at >= MULTI + 4 * MIB;
	return in(at, FIRST + 8 * MIB, FIRST + 16 * MIB) || at >= FIRST + 24 * MIB;
}

static uint64_t flags_of(uint64_t frame)
{
	uint64_t in_folio = in(frame, HUGE_FRAME, HUGE_FRAME + 4096)	? frame % 512
			    : in(frame, MULTI_FRAME, MULTI_FRAME + 2048) ? frame % 16
									 : UINT64_MAX;

	return in_folio == UINT64_MAX ? 0 : UINT64_C(1) << (in_folio ? 16 : 15);
}

// ---- The calls ----------------------------------------------------------------------------------

static long fake_read_at(
	struct host *host, const char *path, uint64_t offset, void *buf, size_t size)
{
	bool flags = !strcmp(path, "proc/kpageflags");
	uint64_t *word = buf;

	(void)host;
	machine.reads++;
	assert_true(flags || !strcmp(path, "proc/42/pagemap"));
	if (flags && machine.flags_error)
		return machine.flags_error;
	for (size_t i = 0; i < size / 8; i++) {
		uint64_t frame = frame_at((offset / 8 + i) * 4096);

		if (flags)
			word[i] = flags_of(offset / 8 + i);
		else
			word[i] = !frame ? 0
					 : UINT64_C(1) << 63 | (machine.hides_frames ? 0 : frame);
	}
	return (long)(size / 8 * 8);
}

static bool answers(enum host_scan what, uint64_t at)
{
	return frame_at(at) && has_huge_entry(at) == (what == HOST_SCAN_HUGE_DATA);
}

// At most three ranges at a time, so that it must be asked again.
static long fake_scan(struct host *host, pid_t pid, enum host_scan what, uint64_t *start,
	uint64_t end, struct host_range *ret_ranges, size_t n)
{
	long count = 0;

	(void)host;
	machine.scans++;
	assert_int_equal(pid, 42);
	assert_true(n >= 3);
	if (machine.scan_error)
		return machine.scan_error;
	for (uint64_t at = *start; at < end; at += 4096) {
		if (!answers(what, at))
			continue;
		if (count && ret_ranges[count - 1].end == at) {
			ret_ranges[count - 1].end = at + 4096;
			continue;
		}
		if (count == 3) {
			*start = at;
			return count;
		}
		ret_ranges[count++] = (struct host_range){at, at + 4096};
	}
	*start = end;
	return count;
}

static long fake_move_pages(struct host *host, pid_t pid, size_t count, void *const *pages,
	const int *nodes, int *status, int flags)
{
	(void)host;
	machine.moves++;
	machine.addresses += (unsigned)count;
	assert_int_equal(pid, 42);
	assert_true(!nodes && !flags); // it only asks
	for (size_t i = 0; i < count; i++)
		status[i] = node_at((uintptr_t)pages[i]);
	return machine.move_error;
}

static int fake_list(struct host *host, const char *path,
	void (*each)(void *arg, const char *name), void *arg)
{
	return machine.one_size ? 0 : running_host_ops.list(host, path, each, arg);
}

static void open_host(struct host *host)
{
	static struct host_ops ops;

	ops = running_host_ops;
	ops.read_at = fake_read_at;
	ops.scan = fake_scan;
	ops.move_pages = fake_move_pages;
	ops.list = fake_list;
	assert_int_equal(host_init(host, TEST_DATA "/host/4node-thp"), 0);
	host->ops = &ops;
}

static struct host_mappings look(struct host_page_sizes *ret_sizes)
{
	struct host_mappings mappings;
	struct host host;

	open_host(&host);
	assert_int_equal(host_mappings_read(&host, 42, &mappings), 0);
	machine.scans = machine.reads = machine.moves = machine.addresses = 0;
	assert_int_equal(host_page_sizes_read(
				 &host, 42, (struct nodemask){15}, &mappings, ret_sizes),
		0);
	return mappings;
}

static const struct host_mapping *at_address(const struct host_mappings *all, uint64_t start)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->v[i].start == start)
			return &all->v[i];
	fail_msg("no mapping at %lx", start);
	return NULL;
}

static void assert_size(const struct host_mapping *m, unsigned i, uint64_t page_bytes,
	uint64_t resident, uint64_t node0, uint64_t node1)
{
	assert_true(i < m->nr_sizes);
	assert_int_equal(m->sizes[i].page_bytes, page_bytes);
	assert_true(m->sizes[i].has_nodes);
	assert_int_equal(m->sizes[i].resident, resident);
	assert_int_equal(m->sizes[i].on_node[0], node0);
	assert_int_equal(m->sizes[i].on_node[1], node1);
}

static void assert_huge_and_small(const struct host_mappings *all)
{
	const struct host_mapping *m = at_address(all, FIRST);

	assert_int_equal(m->nr_sizes, 2);
	assert_size(m, 0, 4096, 6 * MIB - 4096, 5 * MIB - 4096, MIB);
	assert_size(m, 1, 2 * MIB, 14 * MIB, 6 * MIB, 8 * MIB);
}

// ---- Kernels and users --------------------------------------------------------------------------

static void test_new_kernel_as_root(void **state)
{
	struct host_page_sizes told;

	(void)state;
	memset(&machine, 0, sizeof machine);
	struct host_mappings all = look(&told);
	const struct host_mapping *pool = at_address(&all, 0x101000000000);

	assert_huge_and_small(&all);
	assert_int_equal(told.multi_size, HOST_MULTI_SIZE_TOLD);
	assert_false(told.nodes_hidden);
	assert_int_equal(at_address(&all, MULTI)->nr_sizes, 1);
	assert_size(at_address(&all, MULTI), 0, 64 * KIB, 5184 * KIB, 3 * MIB, 2112 * KIB);
	assert_int_equal(pool->nr_sizes, 1);
	assert_true(pool->sizes->hugetlb && pool->sizes->page_bytes == 2 * MIB);
	assert_int_equal(pool->sizes->on_node[2], 6 * MIB);
	assert_int_equal(machine.addresses, 7 + 81); // one for each that is larger
	assert_int_equal(machine.moves, 2);
	host_mappings_release(&all);
}

static void test_new_kernel_as_user(void **state)
{
	struct host_page_sizes told;

	(void)state;
	memset(&machine, 0, sizeof machine);
	machine.flags_error = -EACCES;
	struct host_mappings all = look(&told);

	assert_huge_and_small(&all);
	assert_size(at_address(&all, MULTI), 0, 4096, 5184 * KIB, 3 * MIB, 2112 * KIB);
	assert_int_equal(told.multi_size, HOST_MULTI_SIZE_HIDDEN);
	assert_false(told.nodes_hidden);
	assert_int_equal(machine.scans, 1); // only one mapping needs more than its two texts
	assert_int_equal(machine.moves, 1);
	assert_int_equal(machine.addresses, 7);
	assert_int_equal(machine.reads, 1); // whether this is root
	machine.one_size = true;
	host_mappings_release(&all);
	all = look(&told);
	assert_int_equal(told.multi_size, HOST_MULTI_SIZE_NONE);
	host_mappings_release(&all);
}

static void test_old_kernel_as_root(void **state)
{
	struct host_page_sizes told;

	(void)state;
	memset(&machine, 0, sizeof machine);
	machine.scan_error = -ENOTTY;
	machine.one_size = true;
	struct host_mappings all = look(&told);

	assert_huge_and_small(&all);
	assert_int_equal(told.multi_size, HOST_MULTI_SIZE_NONE);
	assert_false(told.nodes_hidden);
	assert_int_equal(machine.moves, 1);
	assert_int_equal(machine.reads, 1 + 1 + 8); // root?, pagemap, a window for each that may be
	host_mappings_release(&all);
}

static void assert_hidden(const struct host_mapping *m)
{
	assert_int_equal(m->nr_sizes, 2);
	assert_int_equal(m->sizes[0].resident, 6 * MIB - 4096);
	assert_int_equal(m->sizes[1].resident, 14 * MIB);
	assert_false(m->sizes[0].has_nodes || m->sizes[1].has_nodes);
}

static void test_not_told(void **state)
{
	struct host_page_sizes told;
	static const struct {
		int scan_error, flags_error, move_error;
		bool hides_frames;
	} rows[] = {
		{.scan_error = -ENOTTY, .flags_error = -EACCES}, // a user
		{.scan_error = -ENOTTY, .hides_frames = true}, // root without CAP_SYS_ADMIN
		{.scan_error = -EACCES},
		{.move_error = -EPERM},
		{.scan_error = -ENOSYS, .flags_error = -ENOENT, .move_error = -ENOSYS}, // recorded
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		memset(&machine, 0, sizeof machine);
		machine.one_size = true;
		machine.scan_error = rows[i].scan_error;
		machine.flags_error = rows[i].flags_error;
		machine.move_error = rows[i].move_error;
		machine.hides_frames = rows[i].hides_frames;
		struct host_mappings all = look(&told);

		assert_hidden(at_address(&all, FIRST));
		assert_true(told.nodes_hidden);
		host_mappings_release(&all);
	}
}

// smaps says 14 MiB, the frames look like 16: an older kernel does not tell which is not huge.
static void test_small_entries_look_huge(void **state)
{
	struct host_page_sizes told;

	(void)state;
	memset(&machine, 0, sizeof machine);
	machine.one_size = true;
	machine.scan_error = -ENOTTY;
	machine.whole = true;
	struct host_mappings all = look(&told);

	assert_hidden(at_address(&all, FIRST));
	assert_true(told.nodes_hidden);
	host_mappings_release(&all);
	machine.scan_error = 0;
	all = look(&told);
	assert_huge_and_small(&all);
	host_mappings_release(&all);
}

// A mapping that was made, or whose start moved, between the two texts.
static void test_only_in_smaps(void **state)
{
	char smaps[] = "100000400000-100000800000 rw-p 00000000 00:00 0 \n"
		       "Rss: 4096 kB\nAnonymous: 4096 kB\nAnonHugePages: 4096 kB\n"
		       "100001000000-100001200000 rw-p 00000000 00:00 0 \n"
		       "Rss: 2048 kB\nAnonymous: 2048 kB\n";
	struct host_mappings m = {0};
	struct host_page_sizes told;
	struct host host;

	(void)state;
	memset(&machine, 0, sizeof machine);
	machine.one_size = true;
	open_host(&host);
	assert_int_equal(host_smaps_parse(smaps, &m), 0);
	assert_int_equal(host_page_sizes_read(&host, 42, (struct nodemask){15}, &m, &told), 0);
	assert_int_equal(m.v[0].nr_sizes, 1);
	assert_size(&m.v[0], 0, 2 * MIB, 4 * MIB, 4 * MIB, 0);
	assert_int_equal(m.v[1].nr_sizes, 1);
	assert_false(m.v[1].sizes->has_nodes);
	assert_true(told.nodes_hidden);
	host_mappings_release(&m);
}

// ---- Older kernels: smaps leaves out huge entries without access --------------------------------

static struct host_mappings look_at(
	unsigned rss_kib, const char *maps, struct host_page_sizes *ret_sizes)
{
	struct host_mappings m = {0};
	struct host host;
	char smaps[200], numa_maps[200];

	open_host(&host);
	snprintf(smaps, sizeof smaps,
		"100000000000-100002000000 rw-p 00000000 00:00 0 \n"
		"Rss: %u kB\nAnonymous: %u kB\nAnonHugePages: 0 kB\n",
		rss_kib, rss_kib);
	snprintf(numa_maps, sizeof numa_maps, "100000000000 default %s\n", maps);
	assert_int_equal(host_smaps_parse(smaps, &m), 0);
	host_numa_maps_parse(numa_maps, &m);
	assert_int_equal(host_page_sizes_read(&host, 42, (struct nodemask){15}, &m, ret_sizes), 0);
	return m;
}

static void set_kernel(int scan_error, int flags_error)
{
	memset(&machine, 0, sizeof machine);
	machine.one_size = true;
	machine.scan_error = scan_error;
	machine.flags_error = flags_error;
}

static void test_all_without_access(void **state)
{
	struct host_page_sizes told;

	(void)state;
	set_kernel(-ENOTTY, -EACCES);
	struct host_mappings m = look_at(0, "N0=1024 N1=2560", &told);

	assert_int_equal(m.v[0].resident, 14 * MIB);
	assert_int_equal(m.v[0].huge, 14 * MIB);
	assert_int_equal(m.v[0].nr_sizes, 1);
	assert_size(&m.v[0], 0, 2 * MIB, 14 * MIB, 4 * MIB, 10 * MIB);
	assert_false(told.nodes_hidden || told.changed);
	host_mappings_release(&m);
}

// The picture, with none of its huge entries in smaps.
static void test_huge_without_access(void **state)
{
	static const char maps[] = "N0=2815 N1=2304";
	struct host_page_sizes told;

	(void)state;
	set_kernel(-ENOTTY, -EACCES);
	struct host_mappings m = look_at(6140, maps, &told);

	assert_hidden(&m.v[0]);
	assert_true(told.nodes_hidden && !told.changed);
	host_mappings_release(&m);
	set_kernel(-ENOTTY, 0);
	m = look_at(6140, maps, &told);
	assert_huge_and_small(&m);
	assert_false(told.nodes_hidden || told.changed);
	host_mappings_release(&m);
}

// No whole number of huge entries is missing: the process has got pages between the two texts.
static void test_growing(void **state)
{
	static const char maps[] = "N0=2815 N1=2304";
	struct host_page_sizes told;

	(void)state;
	set_kernel(-ENOTTY, -EACCES);
	struct host_mappings m = look_at(8, maps, &told);

	assert_int_equal(m.v[0].nr_sizes, 2);
	assert_int_equal(m.v[0].sizes[0].page_bytes, 0);
	assert_int_equal(m.v[0].sizes[0].resident, 20468 * KIB);
	assert_int_equal(m.v[0].sizes[1].resident, 8 * KIB);
	assert_false(m.v[0].sizes[0].has_nodes || m.v[0].sizes[1].has_nodes);
	assert_true(told.changed);
	host_mappings_release(&m);
	set_kernel(0, -EACCES);
	m = look_at(8, maps, &told);
	assert_huge_and_small(&m);
	assert_false(told.nodes_hidden || told.changed);
	host_mappings_release(&m);
}

// What the kernel does not tell is one thing, what the process changed between two looks another.
static void test_unmapped_meanwhile(void **state)
{
	char smaps[] = "100000400000-100000800000 rw-p 00000000 00:00 0 \n"
		       "Rss: 4096 kB\nAnonymous: 4096 kB\n"
		       "100001000000-100001200000 rw-p 00000000 00:00 0 \n"
		       "Rss: 2048 kB\nAnonymous: 2048 kB\n";
	char numa_maps[] = "100000400000 default anon=1024 N0=1024 kernelpagesize_kB=4\n";
	struct host_mappings m = {0};
	struct host_page_sizes told;
	struct host host;

	(void)state;
	set_kernel(0, -EACCES);
	open_host(&host);
	assert_int_equal(host_smaps_parse(smaps, &m), 0);
	host_numa_maps_parse(numa_maps, &m);
	assert_int_equal(host_page_sizes_read(&host, 42, (struct nodemask){15}, &m, &told), 0);
	assert_false(m.v[1].sizes->has_nodes || told.nodes_hidden);
	assert_true(told.changed);
	host_mappings_release(&m);
	set_kernel(0, -EACCES);
	machine.move_error = -ESRCH;
	m = look_at(6140, "N0=2815 N1=2304", &told);
	assert_true(told.changed && !told.nodes_hidden);
	host_mappings_release(&m);
}

static void test_hidden_frames(void **state)
{
	struct host_page_sizes told;

	(void)state;
	memset(&machine, 0, sizeof machine);
	machine.hides_frames = true; // the flags can be read, the frames cannot
	struct host_mappings all = look(&told);

	assert_huge_and_small(&all);
	assert_int_equal(told.multi_size, HOST_MULTI_SIZE_HIDDEN);
	assert_size(at_address(&all, MULTI), 0, 4096, 5184 * KIB, 3 * MIB, 2112 * KIB);
	host_mappings_release(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_kernel_as_root),
		cmocka_unit_test(test_new_kernel_as_user),
		cmocka_unit_test(test_old_kernel_as_root),
		cmocka_unit_test(test_not_told),
		cmocka_unit_test(test_small_entries_look_huge),
		cmocka_unit_test(test_only_in_smaps),
		cmocka_unit_test(test_all_without_access),
		cmocka_unit_test(test_huge_without_access),
		cmocka_unit_test(test_growing),
		cmocka_unit_test(test_unmapped_meanwhile),
		cmocka_unit_test(test_hidden_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
