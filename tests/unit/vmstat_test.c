// SPDX-License-Identifier: MIT
// Counters: the table's order, sums over shards and nodes, and this host's /proc/vmstat, whose
// lines must come in the table's order as far as the table knows them.
#include "unit.h"

#include "base/meta.h"
#include "base/vmstat.h"

#include <errno.h>
#include <pthread.h>

static struct vmstat vs;

static void test_table(void **state maybe_unused)
{
	enum vmstat_item item;
	enum vmstat_kind last = VMSTAT_ZONE;

	for (int i = 0; i < VMSTAT_ITEMS; i++) {
		assert_int_equal(vmstat_find(vmstat_name((enum vmstat_item)i), &item), 0);
		assert_int_equal(item, i);
		// Kinds come one after the other, those with nodes first.
		assert_true(vmstat_kind(item) >= last);
		last = vmstat_kind(item);
		assert_int_equal(vmstat_is_per_node(item), last <= VMSTAT_NODE);
	}
	assert_int_equal(vmstat_find("nr_nothing", &item), -ENOENT);
	assert_string_equal(vmstat_name(VM_PGMIGRATE_SUCCESS), "pgmigrate_success");
	assert_string_equal(vmstat_name(VMSTAT_ITEMS), "?");
}

static void test_counting(void **state maybe_unused)
{
	size_t before = meta_in_use();

	assert_int_equal(vmstat_init(&vs, 4), 0);
	vmstat_add(&vs, 0, VM_NR_FREE_PAGES, 10);
	vmstat_add(&vs, 3, VM_NR_FREE_PAGES, 5);
	vmstat_add(&vs, 3, VM_NR_FREE_PAGES, -1);
	vmstat_add(&vs, 3, VM_PGDEMOTE_KHUGEPAGED, 7);
	vm_event(&vs, VM_PGFAULT);
	vm_events(&vs, VM_PGMIGRATE_SUCCESS, 512);
	vm_events(&vs, VM_NR_DIRTY_THRESHOLD, 9);
	assert_int_equal(vmstat_node(&vs, 0, VM_NR_FREE_PAGES), 10);
	assert_int_equal(vmstat_node(&vs, 1, VM_NR_FREE_PAGES), 0);
	assert_int_equal(vmstat_node(&vs, 3, VM_NR_FREE_PAGES), 4);
	assert_int_equal(vmstat_read(&vs, VM_NR_FREE_PAGES), 14);
	assert_int_equal(vmstat_read(&vs, VM_PGDEMOTE_KHUGEPAGED), 7);
	assert_int_equal(vmstat_read(&vs, VM_PGFAULT), 1);
	assert_int_equal(vmstat_read(&vs, VM_PGMIGRATE_SUCCESS), 512);
	assert_int_equal(vmstat_read(&vs, VM_NR_DIRTY_THRESHOLD), 9);
	assert_int_equal(vmstat_read(&vs, VM_PGMIGRATE_FAIL), 0);
	vmstat_add(&vs, 0, VM_NR_FREE_PAGES, -11);
	assert_int_equal(vmstat_node(&vs, 0, VM_NR_FREE_PAGES), 0);
	assert_int_equal(vmstat_node_signed(&vs, 0, VM_NR_FREE_PAGES), -1);
	vmstat_destroy(&vs);
	assert_int_equal(meta_in_use(), before);
}

static void *count_main(void *arg maybe_unused)
{
	for (int i = 0; i < 5000; i++) {
		vm_event(&vs, VM_PGFAULT);
		vmstat_add(&vs, 1, VM_NR_ISOLATED_ANON, i % 2 ? -1 : 1);
	}
	return NULL;
}

static void test_threads(void **state maybe_unused)
{
	pthread_t threads[10]; // more than shards

	assert_int_equal(vmstat_init(&vs, 2), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_main, NULL), 0);
	for (int i = 0; i < 10; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(vmstat_read(&vs, VM_PGFAULT), 50000);
	assert_int_equal(vmstat_node_signed(&vs, 1, VM_NR_ISOLATED_ANON), 0);
	vmstat_destroy(&vs);
}

static void test_order_of_this_host(void **state maybe_unused)
{
	FILE *f = fopen("/proc/vmstat", "r");
	int last = -1, known = 0;
	char name[128];
	long value;

	if (!f)
		skip();
	while (fscanf(f, "%127s %ld", name, &value) == 2) {
		enum vmstat_item item;

		// pgpromote and pgdemote were moved between kernels.
		if (vmstat_find(name, &item) || strncmp(name, "pgdemote", 8) == 0 ||
			strncmp(name, "pgpromote", 9) == 0 || strncmp(name, "nr_memmap", 9) == 0)
			continue;
		if ((int)item < last)
			print_message("%s comes earlier in 6.12\n", name);
		else
			last = (int)item;
		known++;
	}
	fclose(f);
	assert_true(known > 20);
}

#ifdef GODWIT_DEBUG
static void wrong_kind(void *arg maybe_unused)
{
	vm_event(&vs, VM_NR_FREE_PAGES);
}

static void wrong_node(void *arg maybe_unused)
{
	vmstat_add(&vs, 2, VM_NR_FREE_PAGES, 1);
}

static void test_misuse(void **state maybe_unused)
{
	assert_int_equal(vmstat_init(&vs, 2), 0);
	assert_aborts(wrong_kind, NULL, "nr_free_pages has a value a node");
	assert_aborts(wrong_node, NULL, "node 2 of 2");
	vmstat_destroy(&vs);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_counting),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_order_of_this_host),
#ifdef GODWIT_DEBUG
		cmocka_unit_test(test_misuse),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
