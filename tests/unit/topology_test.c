// SPDX-License-Identifier: MIT
#include "base/wait.h"
#include "machine/clock.h"
#include "machine/topology.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct topology topo;

static void defaults(void **state maybe_unused)
{
	struct topology_config c = {.nr_nodes = 3, .nr_cpus = 7};

	assert_int_equal(topology_init(&topo, &c, NULL), 0);
	assert_int_equal(topo.nr_cpus, 7);
	assert_int_equal(topology_distance(&topo, 1, 1), 10);
	assert_int_equal(topology_distance(&topo, 0, 2), 20);
	assert_int_equal(topology_cpu_node(&topo, 5), 2);
	assert_int_equal(topology_node_cpus(&topo, 0), 3);
	assert_int_equal(topology_nth_cpu(&topo, 0, 2), 6);
	assert_int_equal(topology_nth_cpu(&topo, 0, 3), -1);
	assert_int_equal(topology_nodes(&topo).bits, 7);
	c.nr_cpus = 0;
	assert_int_equal(topology_init(&topo, &c, NULL), 0);
	assert_int_equal(topo.nr_cpus, 3);
}

static void distances(void **state maybe_unused)
{
	static const uint16_t table[] = {10, 15, 40, 15, 10, 21, 40, 22, 10};
	static const uint8_t cpus[] = {0, 2};
	struct topology_config c = {3, 2, cpus, table};

	assert_int_equal(topology_init(&topo, &c, NULL), 0);
	assert_int_equal(topology_distance(&topo, 1, 2), 21); // not symmetric
	assert_int_equal(topology_distance(&topo, 2, 1), 22);
	assert_int_equal(topology_cpu_nodes(&topo).bits, 5);
	assert_int_equal(topology_nearest(&topo, 2, nodemask_below(2)), 1);
	assert_int_equal(topology_nearest(&topo, 0, NODEMASK_ALL), 0);
	assert_int_equal(topology_nearest(&topo, 0, NODEMASK_NONE), NO_NODE);
	assert_int_equal(topology_nearest(&topo, 0, nodemask_of(60)), NO_NODE);
}

static void refused(void **state maybe_unused)
{
	static const uint16_t self[] = {10, 20, 20, 11}, near[] = {10, 10, 20, 10},
			      far[] = {10, 255, 20, 10};
	static const uint8_t cpus[] = {0, 2};
	static const struct {
		struct topology_config config;
		const char *says;
	} rows[] = {
		{{.nr_nodes = 0}, "0 nodes"},
		{{.nr_nodes = 65}, "65 nodes"},
		{{.nr_nodes = 1, .nr_cpus = MAX_CPUS + 1}, "cpus"},
		{{.nr_nodes = 2, .cpu_node = cpus}, "there are none"},
		{{.nr_nodes = 2, .nr_cpus = 2, .cpu_node = cpus}, "cpu 1 is on node 2"},
		{{.nr_nodes = 2, .distance = self}, "node 1 is at distance 11 from itself"},
		{{.nr_nodes = 2, .distance = near}, "distance 10 from node 0 to 1"},
		{{.nr_nodes = 2, .distance = far}, "distance 255"},
	};
	char error[TOPOLOGY_ERROR_MAX];
	struct topology untouched;

	memset(&topo, 0x5a, sizeof(topo));
	memcpy(&untouched, &topo, sizeof(topo));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(topology_init(&topo, &rows[i].config, error), -EINVAL);
		assert_non_null(strstr(error, rows[i].says));
		assert_memory_equal(&topo, &untouched, sizeof(topo));
	}
}

static struct clock test_clock;

static void *advance_later(void *arg maybe_unused)
{
	for (int i = 0; i < 10; i++)
		clock_advance(&test_clock, 100);
	return NULL;
}

static void manual_clock(void **state maybe_unused)
{
	pthread_t thread;

	clock_init_manual(&test_clock, 5);
	assert_int_equal(clock_now_ns(&test_clock), 5);
	pthread_create(&thread, NULL, advance_later, NULL);
	assert_int_equal( // a week of scanning in no time
		wait_until(&test_clock, clock_now_ns(&test_clock) >= 1000, WAIT_FOREVER), 0);
	pthread_join(thread, NULL);
	assert_int_equal(clock_now_ns(&test_clock), 1005);
}

static void *kick_later(void *arg)
{
	*(atomic_bool *)arg = true;
	clock_kick(&test_clock);
	return NULL;
}

static void host_clock(void **state maybe_unused)
{
	atomic_bool told = false;
	pthread_t thread;
	uint64_t now;

	clock_init_monotonic(&test_clock);
	now = clock_now_ns(&test_clock);
	assert_int_equal(wait_until(&test_clock, false, 2000000), -ETIMEDOUT);
	assert_true(clock_now_ns(&test_clock) >= now + 2000000);
	pthread_create(&thread, NULL, kick_later, &told);
	assert_int_equal(wait_until(&test_clock, told, WAIT_FOREVER), 0);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(distances),
		cmocka_unit_test(refused),
		cmocka_unit_test(manual_clock),
		cmocka_unit_test(host_clock),
	};

	return cmocka_run_group_tests_name("topology, clock", tests, NULL, NULL);
}
