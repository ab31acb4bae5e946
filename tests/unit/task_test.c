// SPDX-License-Identifier: MIT
// Tasks: birth, fork, exit, finding, permissions, and the threads that run as them.
#include "soft_machine.h"

#include "base/fault_inject.h"
#include "base/meta.h"
#include "virt/mempolicy.h"
#include "virt/mempolicy_calls.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>

#define RW (VM_READ | VM_WRITE)

static void birth_and_death(void **state)
{
	struct soft_machine *m = *state;
	size_t before = meta_in_use();
	struct task *a, *b, *found;

	assert_int_equal(task_create(&m->mm, 0, 8, &a), -EINVAL); // no such cpu
	assert_int_equal(task_create(&m->mm, 0, -1, &a), -EINVAL);
	assert_int_equal(task_create(&m->mm, 0, 5, &a), 0);
	assert_int_equal(task_create(&m->mm, 1000, 2, &b), 0);
	assert_int_not_equal(a->pid, b->pid);
	assert_int_equal(task_nid(a), 1);
	assert_true(a->cap_sys_nice && a->cap_sys_admin && a->cap_sys_ptrace);
	assert_false(b->cap_sys_nice || b->cap_sys_admin || b->cap_sys_ptrace);
	assert_int_equal(task_mems_allowed(a).bits, SOFT_MEMORY.bits);
	assert_int_equal(task_mems_allowed(NULL).bits, NODEMASK_ALL.bits);

	found = task_find(&m->mm, b->pid);
	assert_ptr_equal(found, b);
	assert_null(task_find(&m->mm, 4711));
	struct space *space = task_space_get(found);
	assert_ptr_equal(space, b->space);
	space_put(space);
	int pid = b->pid;
	task_exit(b);
	assert_null(task_find(&m->mm, pid));
	assert_null(task_space_get(found)); // gone, but not freed
	task_put(found);
	task_exit(a);
	assert_int_equal(meta_in_use(), before);
}

static void forking(void **state)
{
	struct soft_machine *m = *state;
	struct task *parent, *child;
	unsigned long nodes = 6;
	char text[POLICY_TEXT_MAX];

	assert_int_equal(task_create(&m->mm, 0, 0, &parent), 0);
	parent->dumpable = false;
	assert_int_equal(policy_set_task(parent, POLICY_BIND, &nodes, 65), 0);
	uint64_t addr = soft_map(parent, 4, RW, NULL, 0);
	soft_fill(parent, addr, 2, 'p');
	assert_int_equal(task_fork(parent, 99, &child), -EINVAL);
	assert_int_equal(task_fork(parent, 2, &child), 0);
	assert_true(child->cap_sys_nice && !child->dumpable);
	assert_int_equal(soft_byte(child, addr), 'p');
	soft_fill(child, addr, 1, 'c');
	assert_int_equal(soft_byte(parent, addr), 'p');
	mempolicy_format(child->policy, text, sizeof(text));
	assert_string_equal(text, "bind:1-2");
	// Its own from now on.
	assert_int_equal(policy_set_task(child, POLICY_DEFAULT, NULL, 0), 0);
	mempolicy_format(parent->policy, text, sizeof(text));
	assert_string_equal(text, "bind:1-2");
	mm_check(&m->mm);
	task_exit(parent);
	assert_int_equal(soft_byte(child, addr + PAGE_SIZE), 'p');
	task_exit(child);
}

static void permissions(void **state)
{
	struct soft_machine *m = *state;
	static const struct {
		uid_t who, target;
		bool same, dumpable;
		int err;
	} rows[] = {
		{1000, 1000, true, false, 0}, // itself, always
		{1000, 1000, false, true, 0},
		{1000, 1000, false, false, -EPERM},
		{1000, 1001, false, true, -EPERM},
		{1000, 0, false, true, -EPERM},
		{0, 1000, false, true, 0},
		{0, 1000, false, false, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct task *who, *target;

		assert_int_equal(task_create(&m->mm, rows[i].who, 0, &who), 0);
		assert_int_equal(task_create(&m->mm, rows[i].target, 0, &target), 0);
		target->dumpable = rows[i].dumpable;
		if (task_may_access(who, rows[i].same ? who : target) != rows[i].err)
			fail_msg("row %u", i);
		assert_int_equal(task_may_access(NULL, target), 0);
		task_exit(who);
		task_exit(target);
	}
}

static pid_t gettid_of(void)
{
	return (pid_t)syscall(SYS_gettid);
}

// Only to compare.
static struct task *of_tid(struct mm_core *mm, pid_t tid)
{
	struct task *task = task_of_tid(mm, tid);

	task_put(task);
	return task;
}

static void *run_attached(void *arg)
{
	struct task *task = arg;
	pid_t tid = gettid_of();

	if (task_current() || of_tid(task->mm, tid))
		return "attached from the start";
	if (task_attach(task) || task_current() != task || of_tid(task->mm, tid) != task)
		return "not attached";
	return NULL; // and ends attached
}

static void threads(void **state)
{
	struct soft_machine *m = *state;
	size_t before = meta_in_use();
	struct task *a, *b;
	pthread_t thread;
	void *wrong;

	assert_int_equal(task_create(&m->mm, 0, 0, &a), 0);
	assert_int_equal(task_create(&m->mm, 0, 1, &b), 0);
	assert_null(task_current());
	assert_int_equal(task_attach(NULL), 0);
	assert_int_equal(task_attach(a), 0);
	assert_ptr_equal(task_current(), a);
	assert_int_equal(task_attach(b), 0);
	assert_ptr_equal(task_current(), b);
	assert_ptr_equal(of_tid(&m->mm, gettid_of()), b);
	assert_int_equal(pthread_create(&thread, NULL, run_attached, a), 0);
	assert_int_equal(pthread_join(thread, &wrong), 0);
	if (wrong)
		fail_msg("%s", (char *)wrong);
	fault_arm(FI_META, FI_THREAD, 0, 1);
	assert_int_equal(task_attach(a), -ENOMEM);
	assert_true(fault_disarm(FI_META));
	assert_ptr_equal(task_current(), b);
	task_exit(b);
	assert_ptr_equal(task_current(), b); // until it detaches
	assert_int_equal(task_attach(NULL), 0);
	assert_null(task_current());
	assert_null(of_tid(&m->mm, gettid_of()));
	task_exit(a);
	assert_int_equal(meta_in_use(), before);
}

static void creation_fails(void **state)
{
	struct soft_machine *m = *state;
	struct task *parent;
	bool failed = true;

	assert_int_equal(task_create(&m->mm, 0, 0, &parent), 0);
	uint64_t addr = soft_map(parent, 4, RW, NULL, 0);
	soft_fill(parent, addr, 4, 'f');
	size_t before = meta_in_use();
	for (unsigned fork = 0; fork < 2; fork++, failed = true)
		for (uint64_t n = 0; failed; n++) {
			struct task *task;

			fault_arm(FI_META, FI_THREAD, n, 1);
			int err = fork ? task_fork(parent, 1, &task)
				       : task_create(&m->mm, 0, 1, &task);
			failed = fault_disarm(FI_META);
			assert_int_equal(err, failed ? -ENOMEM : 0);
			mm_check(&m->mm);
			if (!err)
				task_exit(task);
			assert_int_equal(meta_in_use(), before);
		}
	assert_int_equal(soft_byte(parent, addr), 'f');
	task_exit(parent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(birth_and_death),
		cmocka_unit_test(forking),
		cmocka_unit_test(permissions),
		cmocka_unit_test(threads),
		cmocka_unit_test(creation_fails),
	};
	return cmocka_run_group_tests(tests, soft_setup, soft_teardown);
}
