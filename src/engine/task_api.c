// SPDX-License-Identifier: MIT
// include/godwit/machine.h, the tasks: creating, forking and ending them, and which host thread
// runs as which. Everything is the virt layer's; here arguments are checked.
#include "engine/engine.h"

#include <errno.h>

static void drop_caps(struct task *task, unsigned drop)
{
	if (drop & GW_CAP_SYS_NICE)
		task->cap_sys_nice = false;
	if (drop & GW_CAP_SYS_ADMIN)
		task->cap_sys_admin = false;
	if (drop & GW_CAP_SYS_PTRACE)
		task->cap_sys_ptrace = false;
}

int gw_task_create(struct gw_machine *machine, const struct gw_task_config *config,
	struct gw_task **ret_task)
{
	const struct gw_task_config root = {.size = sizeof root};
	struct task *task;
	int err;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!config)
		config = &root;
	if (!ret_task || config->size != sizeof *config || config->cpu >= machine->phys.nr_cpus)
		return -EINVAL;
	err = task_create(&machine->mm, config->uid, (int)config->cpu, &task);
	if (err)
		return err;
	drop_caps(task, config->drop_caps);
	*ret_task = (struct gw_task *)task;
	return 0;
}

int gw_task_fork(struct gw_task *parent, struct gw_task **ret_child)
{
	if (task_refused(parent))
		return task_refused(parent);
	if (!ret_child)
		return -EINVAL;
	struct task *child;
	int err = task_fork(task_of(parent), atomic_load(&task_of(parent)->cpu), &child);

	if (!err)
		*ret_child = (struct gw_task *)child;
	return err;
}

void gw_task_exit(struct gw_task *task)
{
	if (task && !task_is_dead(task))
		task_exit(task_of(task));
}

int gw_task_pid(const struct gw_task *task)
{
	if (task_refused(task))
		return task_refused(task);
	return task_of_const(task)->pid;
}

int gw_task_set_cpu(struct gw_task *task, unsigned cpu)
{
	if (task_refused(task))
		return task_refused(task);
	if (cpu >= machine_of(task_of(task))->phys.nr_cpus)
		return -EINVAL;
	atomic_store(&task_of(task)->cpu, (int)cpu);
	return 0;
}

unsigned gw_task_cpu(const struct gw_task *task)
{
	if (task_refused(task))
		return 0;
	return (unsigned)atomic_load(&task_of_const(task)->cpu);
}

struct gw_machine *gw_task_machine(const struct gw_task *task)
{
	if (task_refused(task))
		return NULL;
	return machine_of(task_of_const(task));
}

int gw_task_attach(struct gw_task *task)
{
	// A child that was forked from an attached thread is attached to nothing.
	if (task_is_dead(task))
		return -EOWNERDEAD;
	return task_attach(task_of(task));
}
