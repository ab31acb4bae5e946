// SPDX-License-Identifier: MIT
// A machine with transparent huge pages, a task, and 4 MiB of it that two huge pages fit into: what
// the tests of src/thp/ begin with.
#ifndef GODWIT_TESTS_THP_FIXTURE_H
#define GODWIT_TESTS_THP_FIXTURE_H

#include "../support/machine_fixture.h"

#include "thp/thp.h"

#define HPAGES 512u

static struct fx fx;
static struct thp thp;
static struct task *a;
static uint64_t buf; // 4 MiB, aligned

static inline void thp_open(unsigned nr_nodes)
{
	fx_open(&fx, nr_nodes, 64);
	memset(&thp, 0, sizeof thp);
	thp_init(&thp, &fx.mm);
	a = fx_task(&fx, 0);
	buf = fx_map(a, 2 * HPAGES);
	assert_int_equal(buf & ~PMD_MASK, 0);
	fx_mark(&fx);
}

static inline int teardown(void **state)
{
	(void)state;
	fx_check(&fx);
	task_exit(a);
	thp_destroy(&thp);
	fx_close(&fx);
	return 0;
}

static inline struct pte pmd_at(struct task *task, uint64_t addr)
{
	struct page_table *pmd = pmd_table_lock(task->space, vaddr_of(addr));
	struct pte e = {0};

	if (pmd) {
		e = table_entry(pmd, pmd_index(vaddr_of(addr)));
		page_table_unlock(pmd);
	}
	return e;
}

static inline bool is_leaf(struct task *task, uint64_t addr)
{
	return pte_huge(pmd_at(task, addr)) && pte_present(pmd_at(task, addr));
}

#endif
