// SPDX-License-Identifier: MIT
// Counters and facts of a machine as text: names and order as a real kernel prints them
// (tests/data/), values as the machine has them. A memoryless node is among the nodes.
#include "support/maps_cases.h"

#include "phys/alloc.h"

static char *recorded;

static struct gw_machine *three_nodes(void)
{
	const uint64_t bytes[3] = {64ul << 20, 0, 32ul << 20};
	const unsigned char cpu_node[5] = {0, 0, 1, 2, 0};
	const unsigned char distance[9] = {10, 20, 30, 20, 10, 20, 30, 20, 10};
	const struct gw_machine_config config = {
		.size = sizeof config,
		.nr_nodes = 3,
		.node_bytes = bytes,
		.nr_cpus = 5,
		.cpu_node = cpu_node,
		.distance = distance,
		.backend = GW_BACKEND_SOFT,
		.flags = GW_MACHINE_MANUAL_CLOCK,
	};
	struct gw_machine *machine;

	assert_int_equal(gw_machine_create(&config, &machine), 0);
	return machine;
}

static noinline char *read_text(struct gw_machine *machine, const char *path)
{
	char *text;
	int err = gw_text(machine, path, &text);

	if (err)
		fail_msg("%s: %d", path, err);
	return text;
}

static char *recorded_file(const char *path)
{
	char mark[128];
	char *block;

	snprintf(mark, sizeof mark, "== %s", path);
	block = data_block(recorded, mark, "== ");
	assert_non_null(block);
	return block;
}

// Numbers (after a blank or at the start of a line) become 0: what is left is names, order and
// layout, byte for byte. Where numbers are set right the 0 stands in their last place.
static void blank_numbers(char *text, bool right)
{
	char *to = text, before = '\n';

	for (const char *from = text; *from;) {
		size_t digits = strspn(from, "0123456789");

		if (digits && (before == ' ' || before == '\n')) {
			for (size_t i = 1; right && i < digits; i++)
				*to++ = ' ';
			*to++ = '0';
			from += digits;
			before = '0';
		} else {
			before = *from;
			*to++ = *from++;
		}
	}
	*to = '\0';
}

static void assert_same_layout(struct gw_machine *machine, const char *path, bool right)
{
	char *want = recorded_file(path), *got = read_text(machine, path);

	blank_numbers(want, right);
	blank_numbers(got, right);
	if (strcmp(want, got)) {
		size_t i = 0;

		while (want[i] == got[i])
			i++;
		fail_msg("%s differs at byte %zu:\n--- Linux\n%.200s\n--- Godwit\n%.200s", path, i,
			want + (i < 40 ? 0 : i - 40), got + (i < 40 ? 0 : i - 40));
	}
	free(want);
	free(got);
}

static void test_layouts(void **state maybe_unused)
{
	static const char *const left[] = {"proc/vmstat", "sys/devices/system/node/node0/numastat",
		"sys/devices/system/node/node0/vmstat"};
	static const char *const right[] = {"proc/meminfo", "sys/devices/system/node/node0/meminfo",
		"sys/devices/system/node/node2/meminfo"};
	struct gw_machine *machine = three_nodes();

	for (unsigned i = 0; i < ARRAY_SIZE(left); i++)
		assert_same_layout(machine, left[i], false);
	for (unsigned i = 0; i < ARRAY_SIZE(right); i++)
		assert_same_layout(machine, right[i], true);
	gw_machine_destroy(machine);
}

// The lines of a zone without numbers, per-cpu sections (of another number of cpus) left out.
static char *zone_block(char *zoneinfo, const char *head)
{
	char *block = data_block(zoneinfo, head, "Node ");
	char *sets, *rest;

	assert_non_null(block);
	sets = strstr(block, "    cpu: 1");
	if (sets) {
		rest = strstr(block, "  node_unreclaimable");
		memmove(sets, rest, strlen(rest) + 1);
	}
	blank_numbers(block, false);
	return block;
}

static void test_zoneinfo(void **state maybe_unused)
{
	static const char *const heads[] = {"Node 0, zone      DMA", "Node 1, zone   Normal",
		"Node 2, zone   Normal", "Node 2, zone   Device"};
	struct gw_machine *machine = three_nodes();
	char *want = recorded_file("proc/zoneinfo"), *got = read_text(machine, "proc/zoneinfo");

	// Where the kernel has its first zone the engine has none: the others compare.
	for (unsigned i = 1; i < ARRAY_SIZE(heads); i++) {
		char *wanted = zone_block(want, heads[i]), *gotten = zone_block(got, heads[i]);

		assert_string_equal(gotten, wanted);
		free(wanted);
		free(gotten);
	}
	assert_non_null(strstr(got, "        managed  16384\n"));
	assert_non_null(strstr(got, "    cpu: 4\n"));
	free(want);
	free(got);
	gw_machine_destroy(machine);
}

static void test_topology(void **state maybe_unused)
{
	static const struct {
		const char *path, *text;
	} rows[] = {
		{"sys/devices/system/node/node0/distance", "10 20 30\n"},
		{"sys/devices/system/node/node2/distance", "30 20 10\n"},
		{"sys/devices/system/node/node0/cpulist", "0-1,4\n"},
		{"sys/devices/system/node/node1/cpulist", "2\n"},
		{"sys/devices/system/node/node0/cpumap", "13\n"},
		{"sys/devices/system/node/node2/cpumap", "08\n"},
		{"sys/devices/system/node/possible", "0-2\n"},
		{"sys/devices/system/node/online", "0-2\n"},
		{"sys/devices/system/node/has_memory", "0,2\n"},
		{"sys/devices/system/node/has_normal_memory", "0,2\n"},
		{"sys/devices/system/node/has_cpu", "0-2\n"},
		{"sys/devices/system/node/has_generic_initiator", "\n"},
	};
	struct gw_machine *machine = three_nodes();

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		char *text = read_text(machine, rows[i].path);

		assert_string_equal(text, rows[i].text);
		free(text);
	}
	gw_machine_destroy(machine);
}

static int64_t counter(struct gw_machine *machine, const char *name)
{
	int64_t value;

	assert_int_equal(gw_vmstat(machine, name, &value), 0);
	return value;
}

static unsigned long line_of(struct gw_machine *machine, const char *path, const char *name)
{
	char *text = read_text(machine, path);
	unsigned long value;

	assert_non_null(strstr(text, name));
	value = strtoul(strstr(text, name) + strlen(name), NULL, 10);
	free(text);
	return value;
}

static void test_values(void **state maybe_unused)
{
	static const char *const no_such[] = {"sys/devices/system/node/node3/numastat",
		"sys/devices/system/node/node03/numastat", "sys/devices/system/node/node/numastat",
		"proc/vmstat/", "proc/vmsta"};
	struct gw_machine *machine = three_nodes();
	struct cases c = {.machine = machine};
	int64_t faults, value;
	char *text;
	uint64_t p;

	assert_int_equal(gw_task_create(machine, NULL, &c.task), 0);
	assert_int_equal(gw_task_set_cpu(c.task, 3), 0);
	p = case_anon(&c, 8);
	faults = counter(machine, "pgfault");
	case_put(c.task, p, 0, 5);
	assert_int_equal(counter(machine, "pgfault") - faults, 5);
	assert_int_equal(counter(machine, "nr_anon_pages"), 5);
	assert_int_equal(line_of(machine, "proc/vmstat", "\nnr_anon_pages "), 5);
	assert_int_equal(
		line_of(machine, "sys/devices/system/node/node2/vmstat", "\nnr_anon_pages "), 5);
	assert_int_equal(
		line_of(machine, "sys/devices/system/node/node0/vmstat", "\nnr_anon_pages "), 0);
	assert_int_equal(
		line_of(machine, "sys/devices/system/node/node2/meminfo", "AnonPages:"), 20);
	assert_int_equal(line_of(machine, "proc/meminfo", "AnonPages:"), 20);
	assert_int_equal(line_of(machine, "proc/meminfo", "MemTotal:"), 96 << 10);
	assert_true(line_of(machine, "sys/devices/system/node/node2/numastat", "local_node ") >= 5);
	assert_int_equal(gw_vmstat(machine, "nr_nothing", &value), -ENOENT);
	assert_int_equal(gw_vmstat(machine, NULL, &value), -EINVAL);
	assert_int_equal(gw_vmstat(machine, "nr_unstable", &value), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(no_such); i++)
		assert_int_equal(gw_text(machine, no_such[i], &text), -ENOENT);
	assert_int_equal(gw_tunable_set(machine, "proc/vmstat", "1"), -EACCES);
	gw_task_exit(c.task);
	gw_machine_destroy(machine);
}

// By name and by line: the same counters in the same order.
static void test_names(void **state maybe_unused)
{
	struct gw_machine *machine = three_nodes();
	char *text = read_text(machine, "proc/vmstat");
	const char *line = text;
	unsigned nr = 0;

	for (unsigned i = 0; gw_vmstat_name(i); i++) {
		const char *name = gw_vmstat_name(i);
		int64_t value;

		assert_int_equal(gw_vmstat(machine, name, &value), 0);
		if (!strncmp(name, "cma_", 4))
			continue; // no line without an area
		assert_memory_equal(line, name, strlen(name));
		line = strchr(line, '\n') + 1;
		nr++;
	}
	assert_int_equal(*line, '\0');
	assert_true(nr > 150);
	free(text);
	gw_machine_destroy(machine);
}

static void test_cma(void **state maybe_unused)
{
	struct gw_machine *machine = three_nodes();
	struct node *node = phys_node(&machine->phys, 2);
	char *text;

	assert_int_equal(phys_init_cma_range(&machine->phys, pfn_of(node->start_pfn + 4096), 1024),
		0);
	text = read_text(machine, "proc/vmstat");
	assert_non_null(strstr(text, "\nhtlb_buddy_alloc_fail 0\ncma_alloc_success 0\n"
				     "cma_alloc_fail 0\nunevictable_pgs_culled "));
	free(text);
	text = read_text(machine, "proc/meminfo");
	assert_non_null(strstr(text, "CmaTotal:           4096 kB\nCmaFree:            4096 kB\n"
				     "Unaccepted:"));
	free(text);
	text = read_text(machine, "proc/pagetypeinfo");
	assert_non_null(strstr(text, "   HighAtomic          CMA      Isolate \n"));
	free(text);
	text = read_text(machine, "proc/zoneinfo");
	assert_non_null(strstr(text, "        cma      1024\n"));
	free(text);
	gw_machine_destroy(machine);
}

static void test_host_facts(void **state maybe_unused)
{
	struct gw_host_facts facts = {.size = 1};

	assert_int_equal(gw_host_facts(&facts), -EINVAL);
	facts.size = sizeof facts;
	assert_int_equal(gw_host_facts(&facts), 0);
	assert_int_equal(facts.size, sizeof facts);
	assert_true(facts.max_map_count > 0);
	assert_true(facts.kernel[0] >= '1' && facts.kernel[0] <= '9');
	assert_true(facts.userfaultfd || !facts.userfaultfd_user_only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_zoneinfo),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_cma),
		cmocka_unit_test(test_host_facts),
	};
	int failed;

	recorded = data_file("linux-6.12-texts.txt");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(recorded);
	return failed;
}
