// SPDX-License-Identifier: MIT
// Zonelists: order by distance and its tie breaks, memoryless nodes, zones within a node.
#include "phys_fixture.h"

// The nodes of a fallback list, first zone of each.
static void assert_order(struct memory *m, unsigned nid, unsigned n, const unsigned *nodes)
{
	const struct zonelist *list = &phys_node(&m->phys, nid)->fallback;

	assert_int_equal(list->nr, n);
	for (unsigned i = 0; i < n; i++)
		if (list->zone[i]->node->nid != nodes[i])
			fail_msg("node %u place %u: node %u, expected %u", nid, i,
				list->zone[i]->node->nid, nodes[i]);
}

static void test_by_distance(void **state)
{
	// A line of four nodes: 0-1-2-3.
	static const uint16_t line[] = {
		10, 20, 30, 40, 20, 10, 20, 30, 30, 20, 10, 20, 40, 30, 20, 10};
	struct memory m;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 4, .mib = {4, 4, 4, 4}, .distance = line});
	assert_order(&m, 0, 4, (unsigned[]){0, 1, 2, 3});
	assert_order(&m, 3, 4, (unsigned[]){3, 2, 1, 0});
	// Equals: the higher number first.
	assert_order(&m, 1, 4, (unsigned[]){1, 2, 0, 3});
	assert_order(&m, 2, 4, (unsigned[]){2, 3, 1, 0});
	assert_int_equal(phys_node(&m.phys, 1)->nofallback.nr, 1);
	memory_close(&m);
}

// All at the same distance: each node goes on with the next one, round and round.
static void test_equal_distances(void **state)
{
	struct memory m;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 4, .mib = {4, 4, 4, 4}});
	assert_order(&m, 0, 4, (unsigned[]){0, 1, 2, 3});
	assert_order(&m, 1, 4, (unsigned[]){1, 2, 3, 0});
	assert_order(&m, 2, 4, (unsigned[]){2, 3, 0, 1});
	assert_order(&m, 3, 4, (unsigned[]){3, 0, 1, 2});
	memory_close(&m);
}

// A node without cpus is preferred among equals; one without memory is in no list but has one.
static void test_cpuless_and_memoryless(void **state)
{
	static const uint8_t cpus[] = {0, 1};
	struct memory m;

	(void)state;
	memory_open(&m,
		&(struct memory_spec){.nodes = 3, .cpus = 2, .cpu_node = cpus, .mib = {4, 4, 4}});
	assert_order(&m, 0, 3, (unsigned[]){0, 2, 1});
	memory_close(&m);
	memory_open(&m, &(struct memory_spec){.nodes = 3, .mib = {4, 0, 4}});
	assert_order(&m, 0, 2, (unsigned[]){0, 2});
	assert_order(&m, 1, 2, (unsigned[]){2, 0});
	assert_int_equal(phys_node(&m.phys, 1)->nofallback.nr, 0);
	memory_close(&m);
}

static void test_highest_zone_first(void **state)
{
	struct memory m;
	const struct zonelist *list;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 2, .mib = {8, 8}, .movable_mib = 4});
	list = &phys_node(&m.phys, 1)->fallback;
	assert_int_equal(list->nr, 4);
	assert_int_equal(list->zone[0]->type, ZONE_MOVABLE);
	assert_int_equal(list->zone[1]->type, ZONE_NORMAL);
	assert_int_equal(list->zone[1]->node->nid, 1);
	assert_int_equal(list->zone[2]->type, ZONE_MOVABLE);
	assert_int_equal(list->zone[2]->node->nid, 0);
	memory_close(&m);
}

// The kernel's numbers for a machine of four nodes with 256 MiB each.
static void test_watermarks(void **state)
{
	struct memory m;
	struct zone *zone;

	(void)state;
	memory_open(&m, &(struct memory_spec){.nodes = 4, .mib = {256, 256, 256, 256}});
	assert_int_equal(m.phys.min_free_kbytes, 4096); // sqrt(16 * 1 GiB in kB)
	zone = memory_zone(&m, 2);
	assert_int_equal(zone_wmark(zone, WMARK_MIN), 256);
	assert_int_equal(zone_wmark(zone, WMARK_LOW), 256 + 65); // 65536 * 10 / 10000
	assert_int_equal(zone_wmark(zone, WMARK_HIGH), 256 + 130);
	assert_int_equal(zone_wmark(zone, WMARK_PROMO), 256 + 195);
	assert_int_equal(phys_set_min_free_kbytes(&m.phys, 16384), 0);
	assert_int_equal(zone_wmark(zone, WMARK_MIN), 1024);
	assert_int_equal(zone_wmark(zone, WMARK_LOW), 1024 + 256);
	assert_int_equal(phys_set_min_free_kbytes(&m.phys, 4ul << 20), -EINVAL);
	assert_int_equal(phys_set_watermark_scale_factor(&m.phys, 0), -EINVAL);
	memory_close(&m);
	memory_open(&m, &(struct memory_spec){.nodes = 1, .mib = {64}, .movable_mib = 32});
	zone = node_zone(phys_node(&m.phys, 0), ZONE_MOVABLE);
	assert_int_equal(zone_wmark(zone, WMARK_MIN), 32);
	assert_int_equal(memory_zone(&m, 0)->lowmem_reserve[1], 8192 / 32);
	memory_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_distance),
		cmocka_unit_test(test_equal_distances),
		cmocka_unit_test(test_cpuless_and_memoryless),
		cmocka_unit_test(test_highest_zone_first),
		cmocka_unit_test(test_watermarks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
