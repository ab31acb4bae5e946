// SPDX-License-Identifier: MIT
// Stories on the engine: what the files of this machine share. A story's task is a task of a Godwit
// machine; the player's thread attaches to it for the time of one command.
#ifndef GODWIT_LAB_ENGINE_MACHINE_H
#define GODWIT_LAB_ENGINE_MACHINE_H

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

#include "lab/lab_machine.h"

#include <setjmp.h>
#include <stdatomic.h>

struct engine_load;  // engine_load.c
struct engine_store; // engine_store.c

struct engine_object { // shm= and disk= by name
	const char *name;
	struct gw_object *object;
};

struct engine_mapping {
	bool mapped; // some time; `address` is the story's
	struct gw_pin *pin;
};

struct engine_machine {
	struct lab_machine base;
	const struct lab_options *options;
	const struct story *story;
	struct gw_machine *machine;
	struct gw_task **tasks;		 // by story_task.index; NULL: not yet, or exited
	struct engine_mapping *mappings; // by story_mapping.index
	struct engine_object *objects;
	size_t object_count;
	struct engine_load **loads;	 // by operand_load.index
	struct engine_store **stores;	 // by operand_store.index
	uint64_t trace_mark;
	bool real; // application pointers exist
	int host_node[GW_MAX_NODES]; // with --bind-nodes: what each node's bytes are bound to
	atomic_bool cancelled;
	char missing[200]; // what this build has not
};

static inline struct engine_machine *engine_of(struct lab_machine *machine)
{
	return (struct engine_machine *)machine;
}

static inline struct gw_task *engine_task(struct engine_machine *m, const struct story_task *task)
{
	return m->tasks[task->index];
}

// ret of a system call of the engine: a value, or a negative errno.
static inline int engine_result(struct lab_result *result, long ret)
{
	if (ret < 0)
		lab_result_fail(result, (int)-ret);
	else
		result->ret = ret;
	return 0;
}

// engine_access.c: accesses through the task's own pointers, whose signals are caught.
int engine_signals_catch(void);	   // before the first machine is built; the previous handlers wait
void engine_signals_restore(void); // behind it
lab_action_fn engine_write, engine_read, engine_check;
// Calls fn. The signal that ended it in engine_touch_lane(), which tells what was there before; 0:
// it returned.
int engine_until_signal(void (*fn)(void *arg), void *arg);
uint64_t engine_touch_lane(struct engine_machine *, struct gw_task *, uint64_t address, bool write,
	uint64_t value);

// engine_load.c
lab_action_fn engine_load_start, engine_load_stop;
// Stops the loads of a task that ends; what they found is added to the result.
void engine_load_end(struct engine_machine *, const struct gw_task *, struct lab_result *);
int engine_load_finish(struct lab_machine *);	    // what runs when the story ends
void engine_load_abandon(struct engine_load *load); // at teardown; NULL is allowed

// engine_store.c
lab_action_fn engine_store;
void engine_store_free(struct engine_store *); // NULL is allowed

// engine_memory.c: tasks and their mappings.
lab_action_fn engine_task_new, engine_fork, engine_exit, engine_cpu, engine_map, engine_unmap,
	engine_protect, engine_remap, engine_advise, engine_lock, engine_unlock, engine_pin,
	engine_unpin;

// engine_calls.c: policies and moves.
lab_action_fn engine_policy, engine_get_policy, engine_mbind, engine_where, engine_move,
	engine_migrate, engine_mems, engine_mems_v1, engine_set, engine_fill, engine_unfill,
	engine_sleep;

// engine_stayed.c: what a call left where it was, for the report. task: whose pages they are.
#define ENGINE_STAYED_MAX 512

struct engine_stayed {
	struct gw_stayed_list list;
	struct gw_stayed v[ENGINE_STAYED_MAX];
};
struct engine_stayed *engine_stayed_new(void); // NULL: no memory
// 0 or -ENOMEM. NULL is allowed and is nothing; it is freed.
int engine_stayed_end(struct engine_machine *, struct engine_stayed *,
	const struct story_task *task, struct lab_result *);

// engine_query.c
int engine_nodes(struct lab_machine *, const struct story_range *, int32_t *nodes);
int engine_vmstat(struct lab_machine *, struct lab_counters *);
int engine_text(struct lab_machine *, enum lab_text, const struct story_range *, char **ret_text);
int engine_huge(struct lab_machine *, const struct story_range *, uint64_t *ret_count);
int engine_pool(struct lab_machine *, unsigned node, uint64_t page_size, struct lab_pool *);
int engine_tunable(struct lab_machine *, const char *path, char **ret_value);
int engine_mark(struct lab_machine *);

// engine_huge.c
lab_action_fn engine_split, engine_khugepaged, engine_compact;

// engine_truth.c: --bind-nodes.
int engine_bind_needs(struct engine_machine *, const struct story_machine *);
int engine_verify(struct lab_machine *);

extern const struct lab_machine_ops engine_machine_ops;

#endif
