// SPDX-License-Identifier: MIT
// cpuset.mems: rules, rebinding of all policies of a task, and who is told to move pages.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "virt/cpuset.h"
#include "virt/mempolicy.h"
#include "virt/mempolicy_calls.h"

#include <errno.h>

#define RW (VM_READ | VM_WRITE)

static struct {
	unsigned calls;
	struct nodemask from, to;
} moved;

static int note_move(struct task *task, const struct nodemask *from, const struct nodemask *to)
{
	assert_int_equal(task_mems_allowed(task).bits, to->bits);
	moved.calls++;
	moved.from = *from;
	moved.to = *to;
	return -EIO; // what cannot be moved is no failure of the change
}

static int set_mems(struct task *task, uint64_t bits)
{
	return cpuset_set_mems(task, &(struct nodemask){bits}, note_move);
}

static void bind_range(struct task *task, uint64_t addr, uint64_t pages, int mode,
	unsigned long nodes)
{
	struct mbind_request r = {.start = addr,
		.len = pages << PAGE_SHIFT,
		.mode = mode,
		.nmask = &nodes,
		.maxnode = 65};

	assert_int_equal(mbind_policy(task->space, task, &r), 0);
	mempolicy_put(r.policy);
}

static void expect_policy(struct mempolicy *policy, const char *expected)
{
	char text[POLICY_TEXT_MAX];

	mempolicy_format(policy, text, sizeof(text));
	assert_string_equal(text, expected);
	mempolicy_put(policy);
}

static void expect_vma_policy(struct task *task, uint64_t addr, const char *expected)
{
	read_lock(&task->space->mmap_lock);
	struct mempolicy *policy = vma_own_policy_get(vma_lookup(task->space, addr), addr);
	read_unlock(&task->space->mmap_lock);
	expect_policy(policy, expected);
}

static void rules(void **state)
{
	struct soft_machine *m = *state;
	struct task *task;

	assert_int_equal(task_create(&m->mm, 0, 0, &task), 0);
	moved.calls = 0;
	assert_int_equal(set_mems(task, 0), -EINVAL);
	assert_int_equal(set_mems(task, 8), -EINVAL);  // no memory
	assert_int_equal(set_mems(task, 9), -EINVAL);  // not all of it
	assert_int_equal(set_mems(task, 16), -EINVAL); // no such node
	assert_int_equal(moved.calls, 0);
	assert_int_equal(set_mems(task, 7), 0); // as it is: nothing moves
	assert_int_equal(moved.calls, 0);
	assert_int_equal(set_mems(task, 6), 0);
	assert_int_equal(moved.calls, 1);
	assert_int_equal(moved.from.bits, 7);
	assert_int_equal(moved.to.bits, 6);
	assert_int_equal(cpuset_set_mems(task, &(struct nodemask){1}, NULL), 0);
	assert_int_equal(task_mems_allowed(task).bits, 1);
	task_get(task);
	task_exit(task);
	assert_int_equal(set_mems(task, 6), -ESRCH);
	task_put(task);
}

// Pages come from the cpuset, whatever the policy and the cpu.
static void allocation(void **state)
{
	struct soft_machine *m = *state;
	static const struct {
		int mode;
		unsigned long nodes;
		int nid;
	} rows[] = {
		{POLICY_DEFAULT, 0, 1},
		{POLICY_PREFERRED, 4, 1}, // preferred, but not allowed
		{POLICY_BIND, 4, 1},	  // rebound
		{POLICY_INTERLEAVE, 5, 1},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct task *task;

		assert_int_equal(task_create(&m->mm, 0, 0, &task), 0);
		uint64_t addr = soft_map(task, 2, RW, NULL, 0);
		assert_int_equal(policy_set_task(task, rows[i].mode, &rows[i].nodes, 65), 0);
		assert_int_equal(set_mems(task, 2), 0);
		soft_fill(task, addr, 2, 'c');
		assert_int_equal(soft_node(task, addr), rows[i].nid);
		assert_int_equal(soft_node(task, addr + PAGE_SIZE), rows[i].nid);
		// A new policy is cut to the cpuset.
		unsigned long other = 4;
		assert_int_equal(policy_set_task(task, POLICY_BIND, &other, 65), -EINVAL);
		task_exit(task);
	}
}

static void rebinding(void **state)
{
	struct soft_machine *m = *state;
	struct task *task, *child;
	struct object *shm;
	unsigned long nodes = 3;

	assert_int_equal(task_create(&m->mm, 0, 0, &task), 0);
	assert_int_equal(object_create_shmem(&m->mm, "s", 4 * PAGE_SIZE, &shm), 0);
	uint64_t a = soft_map(task, 6, RW, NULL, 0);
	uint64_t s = soft_map(task, 4, RW | VM_SHARED, shm, 0);
	assert_int_equal(policy_set_task(task, POLICY_INTERLEAVE, &nodes, 65), 0);
	bind_range(task, a, 2, POLICY_BIND, 1);
	bind_range(task, a + 2 * PAGE_SIZE, 2, POLICY_BIND | POLICY_F_STATIC_NODES, 1);
	bind_range(task, s, 4, POLICY_BIND, 1);
	assert_int_equal(task_fork(task, 0, &child), 0);
	assert_int_equal(set_mems(task, 6), 0);
	expect_policy(task_policy_get(task), "interleave:1-2");
	expect_vma_policy(task, a, "bind:1");
	expect_vma_policy(task, a + 2 * PAGE_SIZE, "bind=static:1-2");
	expect_vma_policy(task, a + 4 * PAGE_SIZE, "default");
	expect_vma_policy(task, s, "bind:0"); // the object's, nobody's cpuset
	// The child shares none of it.
	expect_policy(task_policy_get(child), "interleave:0-1");
	expect_vma_policy(child, a, "bind:0");
	assert_int_equal(set_mems(task, 7), 0);
	expect_vma_policy(task, a + 2 * PAGE_SIZE, "bind=static:0");
	mm_check(&m->mm);
	task_exit(task);
	task_exit(child);
	object_put(shm);
}

// Without memory for a copy the policy follows all the same.
static void no_memory(void **state)
{
	struct soft_machine *m = *state;
	struct task *task;
	unsigned long nodes = 1;

	assert_int_equal(task_create(&m->mm, 0, 0, &task), 0);
	assert_int_equal(policy_set_task(task, POLICY_BIND, &nodes, 65), 0);
	fault_arm(FI_META, FI_THREAD, 0, FI_ALWAYS);
	assert_int_equal(set_mems(task, 4), 0);
	assert_true(fault_disarm(FI_META));
	expect_policy(task_policy_get(task), "bind:2");
	task_exit(task);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules),
		cmocka_unit_test(allocation),
		cmocka_unit_test(rebinding),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
