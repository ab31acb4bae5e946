// SPDX-License-Identifier: MIT
// Tasks: who asks. A task is made with a space of its own, or forked with a copy of its parent's;
// host threads attach to it, and while they do, what they touch is touched by it.
//
//	task_create/task_fork --> alive (in mm->tasks) --task_exit--> gone (found by nobody), until
//	                                                              the last reference
//
// The reference of task_create() belongs to the caller and is dropped by task_exit(); attached
// threads and those who found the task by its pid hold one each. task->space changes only once, to
// NULL, under tasks_lock; others take it with task_space_get().
//
// Which task a thread runs as is in an initial-exec thread-local variable, because a fault handler
// asks; and, for a backend that serves another thread's faults, in a table by thread id. A thread
// that ends without detaching is detached by a thread-specific-data destructor.
//
// Held: nothing on entry; tasks_lock and tids_lock inside. Fails: -ENOMEM, -EINVAL (no such cpu).
#include "virt/task.h"

#include "base/assert.h"
#include "base/meta.h"
#include "base/trace.h"
#include "machine/topology.h"
#include "phys/zone.h"
#include "virt/fault.h"
#include "virt/mempolicy.h"
#include "virt/mm.h"
#include "virt/space.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// ---- Birth and death

static struct task *task_new(struct mm_core *mm, uid_t uid, int cpu)
{
	struct task *task = meta_new(struct task);

	if (!task)
		return NULL;
	*task = (struct task){
		.mm = mm,
		.cpu = cpu,
		.uid = uid,
		.cap_sys_nice = uid == 0,
		.cap_sys_admin = uid == 0,
		.cap_sys_ptrace = uid == 0,
		.dumpable = true,
		.il_prev = NO_NODE,
		.mems_allowed = mm->phys->has_memory,
		.users = 1,
		.numa_preferred_nid = NO_NODE,
	};
	mutex_init(&task->policy_lock, RANK_POLICY);
	return task;
}

static void task_free(struct task *task)
{
	mempolicy_put(task->policy);
	mutex_destroy(&task->policy_lock);
	meta_delete(task);
}

// The task has its space now: others may find it.
static void task_publish(struct task *task, struct space *space)
{
	struct mm_core *mm = task->mm;

	mutex_lock(&mm->tasks_lock);
	space->owner = task;
	task->space = space;
	task->pid = mm->next_pid++;
	list_add_tail(&task->node, &mm->tasks);
	mutex_unlock(&mm->tasks_lock);
}

static bool cpu_exists(const struct mm_core *mm, int cpu)
{
	return cpu >= 0 && (unsigned)cpu < mm->phys->topology->nr_cpus;
}

int task_create(struct mm_core *mm, uid_t uid, int cpu, struct task **ret_task)
{
	struct space *space;

	if (!cpu_exists(mm, cpu))
		return -EINVAL;
	struct task *task = task_new(mm, uid, cpu);
	if (!task)
		return -ENOMEM;
	int err = space_create(mm, &space);
	if (err) {
		task_free(task);
		return err;
	}
	task_publish(task, space);
	*ret_task = task;
	return 0;
}

// What a child has from its parent besides memory.
static void task_inherit(struct task *child, struct task *parent)
{
	child->cap_sys_nice = parent->cap_sys_nice;
	child->cap_sys_admin = parent->cap_sys_admin;
	child->cap_sys_ptrace = parent->cap_sys_ptrace;
	child->dumpable = parent->dumpable;
	child->thp_disabled = parent->thp_disabled;
	child->mems_allowed = task_mems_allowed(parent);
	child->mems_v1_migrate = parent->mems_v1_migrate;
	child->policy = task_policy_get(parent);
	mutex_lock(&parent->policy_lock);
	child->il_prev = parent->il_prev;
	child->il_weight = parent->il_weight;
	mutex_unlock(&parent->policy_lock);
}

int task_fork(struct task *parent, int cpu, struct task **ret_child)
{
	struct space *space;

	if (!cpu_exists(parent->mm, cpu))
		return -EINVAL;
	struct task *child = task_new(parent->mm, parent->uid, cpu);
	if (!child)
		return -ENOMEM;
	task_inherit(child, parent);
	int err = space_fork(parent->space, parent, &space);
	if (err) {
		task_free(child);
		return err;
	}
	task_publish(child, space);
	*ret_child = child;
	return 0;
}

void task_exit(struct task *task)
{
	struct mm_core *mm = task->mm;

	mutex_lock(&mm->tasks_lock);
	struct space *space = task->space;
	task->space = NULL;
	list_del(&task->node);
	if (space->owner == task)
		space->owner = NULL;
	mutex_unlock(&mm->tasks_lock);
	space_put(space);
	task_put(task);
}

void task_get(struct task *task)
{
	atomic_fetch_add_explicit(&task->users, 1, memory_order_relaxed);
}

void task_put(struct task *task)
{
	if (task && atomic_fetch_sub_explicit(&task->users, 1, memory_order_acq_rel) == 1)
		task_free(task);
}

struct task *task_find(struct mm_core *mm, int pid)
{
	struct task *task, *found = NULL;

	mutex_lock(&mm->tasks_lock);
	list_for_each_entry(task, &mm->tasks, node)
		if (task->pid == pid) {
			found = task;
			task_get(task);
			break;
		}
	mutex_unlock(&mm->tasks_lock);
	return found;
}

struct space *task_space_get(struct task *task)
{
	mutex_lock(&task->mm->tasks_lock);
	struct space *space = task->space;
	if (space)
		space_get(space);
	mutex_unlock(&task->mm->tasks_lock);
	return space;
}

int task_nid(const struct task *task)
{
	return mm_cpu_nid(task->mm, atomic_load_explicit(&task->cpu, memory_order_relaxed));
}

int task_may_access(const struct task *who, const struct task *target)
{
	if (!who || who == target || who->cap_sys_ptrace)
		return 0;
	return who->uid == target->uid && target->dumpable ? 0 : -EPERM;
}

// ---- Threads

#define TID_BUCKETS 64

struct attachment {
	struct attachment *next;
	pid_t tid;
	struct task *task; // a reference
};

static struct mutex tids_lock = MUTEX_INIT(TASKS);
static struct attachment *tids[TID_BUCKETS];
static pthread_key_t thread_end_key;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static bool thread_end_known;

static _Thread_local struct attachment *attached __attribute__((tls_model("initial-exec")));

static struct attachment **bucket_of(pid_t tid)
{
	return &tids[(unsigned)tid % TID_BUCKETS];
}

static void detach(struct attachment *a)
{
	mutex_lock(&tids_lock);
	for (struct attachment **p = bucket_of(a->tid); *p; p = &(*p)->next)
		if (*p == a) {
			*p = a->next;
			break;
		}
	mutex_unlock(&tids_lock);
	attached = NULL;
	mmu_thread_leave(a->task->mm->mmu);
	task_put(a->task);
	meta_delete(a);
}

static void thread_ends(void *arg)
{
	detach(arg);
}

// Without the key a thread that ends attached leaves its attachment behind: harmless, but a leak.
static void make_thread_end_key(void)
{
	thread_end_known = pthread_key_create(&thread_end_key, thread_ends) == 0;
}

static void watch_thread_end(void *value)
{
	pthread_once(&thread_end_once, make_thread_end_key);
	if (thread_end_known)
		(void)pthread_setspecific(thread_end_key, value);
}

// With what the mmu needs of a thread.
static struct attachment *attachment_new(struct task *task)
{
	struct attachment *a = meta_new(struct attachment);

	if (!a)
		return NULL;
	if (mmu_thread_enter(task->mm->mmu)) {
		meta_delete(a);
		return NULL;
	}
	task_get(task);
	*a = (struct attachment){NULL, (pid_t)syscall(SYS_gettid), task};
	return a;
}

int task_attach(struct task *task)
{
	struct attachment *a = NULL;

	if (task) {
		a = attachment_new(task);
		if (!a)
			return -ENOMEM;
	}
	if (attached)
		detach(attached);
	watch_thread_end(a);
	if (!a) {
		trace_set_task(0, 0);
		return 0;
	}
	mutex_lock(&tids_lock);
	a->next = *bucket_of(a->tid);
	*bucket_of(a->tid) = a;
	mutex_unlock(&tids_lock);
	attached = a;
	trace_set_task((uint32_t)task->pid, (uint16_t)task->cpu);
	return 0;
}

// The child of the host's fork(): of all threads only this one is there, and what it was attached
// to is a picture of the parent's. It lets go of the alternate stack, not of the task.
void tasks_in_child(void)
{
	struct attachment *a = attached;

	mutex_init(&tids_lock, RANK_TASKS);
	memset(tids, 0, sizeof tids);
	if (!a)
		return;
	attached = NULL;
	watch_thread_end(NULL);
	mmu_thread_leave(a->task->mm->mmu);
	trace_set_task(0, 0);
	meta_delete(a);
}

struct task *task_current(void)
{
	return attached ? attached->task : NULL;
}

struct task *task_of_tid(struct mm_core *mm, pid_t tid)
{
	struct task *task = NULL;

	mutex_lock(&tids_lock);
	for (struct attachment *a = *bucket_of(tid); a; a = a->next)
		if (a->tid == tid && a->task->mm == mm)
			task = a->task;
	if (task)
		task_get(task);
	mutex_unlock(&tids_lock);
	return task;
}

struct task *task_of_access(struct space *space, pid_t tid)
{
	struct task *task = tid ? task_of_tid(space->mm, tid) : task_current();

	if (task && !tid) // ourselves: it does not end while we are attached
		task_get(task);
	mutex_lock(&space->mm->tasks_lock);
	struct task *other = task && task->space == space ? NULL : space->owner;
	if (other)
		task_get(other);
	bool same = task && task->space == space;
	mutex_unlock(&space->mm->tasks_lock);
	if (same)
		return task;
	task_put(task);
	return other;
}
