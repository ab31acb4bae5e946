// SPDX-License-Identifier: MIT
// Topology, pools and the small readers, on recorded machines (tests/data/host).
#include "unit.h"

#include <errno.h>

#include "host/counters.h"
#include "host/hugepools.h"
#include "host/nodes.h"

#define MIB (1ull << 20)

static struct host open_machine(const char *name)
{
	struct host host;
	char root[180];

	snprintf(root, sizeof root, TEST_DATA "/host/%s", name);
	assert_int_equal(host_init(&host, root), 0);
	return host;
}

static const struct host_nodes *nodes_of(const char *name)
{
	static struct host_nodes nodes;
	struct host host = open_machine(name);

	assert_int_equal(host_nodes_read(&host, &nodes), 0);
	return &nodes;
}

static void test_one_node(void **state)
{
	const struct host_nodes *n = nodes_of("1node");

	(void)state;
	assert_int_equal(n->online.bits, 1);
	assert_int_equal(n->memory.bits, 1);
	assert_in_range(n->node[0].total_bytes, 400 * MIB, 600 * MIB);
	assert_true(n->node[0].free_bytes < n->node[0].total_bytes);
	assert_int_equal(n->node[0].distance[0], 10);
	assert_true(bitmap_test(n->node[0].cpus, 0));
	assert_int_equal(bitmap_weight(n->node[0].cpus, HOST_CPUS_MAX), 1);
}

//   0 --20-- 1 --20-- 2 --10-- 3 ...   node 1 has a cpu and no memory
static void test_memoryless_node(void **state)
{
	const struct host_nodes *n = nodes_of("4node-memoryless");

	(void)state;
	assert_int_equal(n->online.bits, 0xf);
	assert_int_equal(n->memory.bits, 0xd);
	assert_int_equal(n->node[1].total_bytes, 0);
	assert_true(bitmap_test(n->node[1].cpus, 1));
	assert_int_equal(n->node[0].distance[3], 40);
	assert_int_equal(n->node[3].distance[0], 40);
	assert_int_equal(n->node[2].distance[2], 10);
}

static void test_eight_nodes(void **state)
{
	const struct host_nodes *n = nodes_of("8node");

	(void)state;
	assert_int_equal(n->online.bits, 0xff);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(n->node[i].total_bytes > 0);
		assert_true(bitmap_test(n->node[i].cpus, i));
		assert_true(bitmap_test(n->node[i].cpus, i + 8));
		for (unsigned j = 0; j < 8; j++)
			assert_int_equal(n->node[i].distance[j], i == j ? 10 : 20);
	}
}

static void test_pools(void **state)
{
	struct host host = open_machine("2node");
	uint64_t sizes[HUGE_SIZES_MAX];
	struct host_pool pool;

	(void)state;
	assert_int_equal(host_huge_sizes(&host, sizes), 2);
	assert_int_equal(sizes[0], 2 * MIB);
	assert_int_equal(sizes[1], 1024 * MIB);
	assert_int_equal(host_pool_read(&host, 0, 2 * MIB, &pool), 0);
	assert_int_equal(pool.total, 4);
	assert_int_equal(pool.free, 2);
	assert_int_equal(pool.surplus, 0);
	assert_int_equal(host_pool_read(&host, 1, 2 * MIB, &pool), 0);
	assert_int_equal(pool.total, 0);
	assert_int_equal(host_pool_read(&host, 0, 16 * MIB, &pool), -ENOENT);
	assert_int_equal(host_pool_read(&host, 7, 2 * MIB, &pool), -ENOENT);
}

static int find_counter(void *arg, const char *name, int64_t value)
{
	if (!strcmp(name, "pgmigrate_success"))
		*(int64_t *)arg = value;
	return 0;
}

static int stop_at_first(void *arg, const char *name, int64_t value)
{
	(void)name, (void)value;
	++*(int *)arg;
	return -EINTR;
}

static void test_counters(void **state)
{
	struct host host = open_machine("2node");
	int64_t value = -1;
	int calls = 0;

	(void)state;
	assert_int_equal(host_vmstat(&host, find_counter, &value), 0);
	assert_true(value >= 0);
	assert_int_equal(host_vmstat(&host, stop_at_first, &calls), -EINTR);
	assert_int_equal(calls, 1);
}

static void test_machine(void **state)
{
	struct host new = open_machine("1node"), old = open_machine("2node");
	unsigned major, minor;

	(void)state;
	assert_int_equal(host_kernel(&new, &major, &minor), 0);
	assert_int_equal(major * 100 + minor, 612);
	assert_int_equal(host_kernel(&old, &major, &minor), 0);
	assert_int_equal(major * 100 + minor, 601);
	assert_true(host_is_test_guest(&new));
	assert_false(host_has_swap(&new));
}

static void test_texts(void **state)
{
	unsigned long map[2];
	char buf[32];
	uint64_t n;

	(void)state;
	assert_true(host_field("MemTotal:   12 kB\nMemFree: 7 kB\n", "MemFree", &n));
	assert_int_equal(n, 7);
	assert_false(host_field("MemTotal: 12 kB\n", "Mem", &n));
	host_chosen("always [madvise] never", buf, sizeof buf);
	assert_string_equal(buf, "madvise");
	host_chosen("42", buf, sizeof buf);
	assert_string_equal(buf, "42");
	assert_true(host_list_bits("0-1,4,200\n", map, 128));
	assert_int_equal(map[0], 0x13);
	assert_int_equal(map[1], 0);
	assert_true(host_list_bits("", map, 128));
	assert_int_equal(map[0], 0);
	assert_false(host_list_bits("x", map, 128));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_node),
		cmocka_unit_test(test_memoryless_node),
		cmocka_unit_test(test_eight_nodes),
		cmocka_unit_test(test_pools),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
