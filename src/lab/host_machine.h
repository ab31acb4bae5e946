// SPDX-License-Identifier: MIT
// Stories on the running kernel: what the files of this machine share. A story's task is a process
// (agent.c) that the player talks to over a socket.
#ifndef GODWIT_LAB_HOST_MACHINE_H
#define GODWIT_LAB_HOST_MACHINE_H

#include "host/cgroup.h"
#include "host/host.h"
#include "host/journal.h"
#include "host/nodes.h"
#include "lab/host_wire.h"
#include "lab/lab_machine.h"

#include <stdatomic.h>

#define HOST_LANES 64

struct host_task {
	int socket; // -1: there is no such process
	pid_t pid;
	bool in_group[3];   // by enum cgroup_version: the task has a cpuset group of its own
	char group[3][256]; // its folder
};

// Story nodes and cpus, and what they are here. A story node that the machine of the story does
// not have becomes one that does not exist here either.
struct host_map {
	unsigned count;			// story nodes
	unsigned node[STORY_NODES_MAX]; // real node of a story node
	int story_node[MAX_NODES];	// -1: not in the story
	unsigned beyond;		// first number above all real nodes
	unsigned cpu[STORY_CPUS_MAX];	// real cpu of a story cpu
	bool same;			// every node is itself
};

struct host_object { // shm= and disk= by name
	const char *name;
	int file;
};

struct host_machine {
	struct lab_machine base;
	const struct lab_options *options;
	struct host host;
	const struct story *story;
	struct host_nodes nodes;
	struct host_map map;

	bool is_guest, may_change; // known from open on
	bool has_journal;
	struct host_journal journal;

	struct host_task maker;	 // forks the others
	struct host_task *tasks; // by story_task.index
	struct host_task filler[STORY_NODES_MAX];
	uint64_t *load_lanes; // by operand_load.index; bit n: lane n
	uint64_t lanes;	      // of all loads that run
	struct host_object *objects;
	size_t object_count;
	char trace[160]; // the folder of an instance of tracefs, "" for none

	int cancel_event;
	atomic_bool cancelled;
};

static inline struct host_machine *host_of(struct lab_machine *machine)
{
	return (struct host_machine *)machine;
}

static inline struct host_task *task_here(struct host_machine *m, const struct story_task *task)
{
	return &m->tasks[task->index];
}

// What the kernel said to a task.
int result_of(struct lab_result *result, const struct agent_reply *reply);
// 0, or a negative errno, as the result of a file's write.
int result_of_write(struct lab_result *result, int err);

// ---- host_map.c ---------------------------------------------------------------------------------

// 0, or LAB_SKIP with the reason.
int host_map_make(struct host_machine *m, const struct story_machine *want);
int real_node(const struct host_map *map, int node); // any number, also a bad one
int story_node(const struct host_map *map, int node);
uint64_t real_nodes(const struct host_map *map, uint64_t nodes);
uint64_t story_nodes(const struct host_map *map, uint64_t nodes);
// "sys/devices/system/node/node1/..." names a story's node in stories. Returns buf.
const char *real_path(const struct host_map *map, const char *path, char *buf, size_t size);
// Node numbers of a numa_maps text; takes the text, gives it or another one. NULL: no memory.
char *story_numa_maps(const struct host_map *map, char *text);

// ---- host_needs.c -------------------------------------------------------------------------------

int host_needs(struct lab_machine *machine, const struct story *story);
// Opens a file on a disk, without a name. Negative errno; -ENODEV: there is only memory.
int host_disk_file(struct host_machine *m);

// ---- host_start.c: how a story finds the machine ------------------------------------------------

// Takes the machine, saves, and sets. 0, LAB_SKIP or an error.
int host_start_state(struct host_machine *m);
// A change that is put back at the end. The kernel's answer.
int host_change(struct host_machine *m, const char *path, const char *value);

// ---- host_tasks.c -------------------------------------------------------------------------------

// Forks the maker; only while the player has one thread.
int host_maker_start(struct host_machine *m);
// A new process, forked from `from`, on a real cpu.
int host_task_start(struct host_machine *m, struct host_task *from, struct host_task *task);
// Ends it and waits for the end of its memory.
void host_task_end(struct host_machine *m, struct host_task *task);
// Without asking: what does not answer is killed.
void host_task_abandon(struct host_task *task);
// One request. payload has request->bytes; what comes back goes to *ret_payload (to free()) and
// its size is reply->bytes; NULL: dropped. Fails only when the task or the player is gone.
int host_ask(struct host_machine *m, struct host_task *task, const struct agent_request *request,
	const void *payload, int file, struct agent_reply *ret_reply, void **ret_payload);
// A system call without pointers.
int host_call(struct host_machine *m, struct host_task *task, long call, const uint64_t arg[6],
	struct agent_reply *ret_reply);
// Sleeps, but not through a cancel: -EINTR.
int host_sleep(struct host_machine *m, uint64_t ns);

lab_action_fn host_act_task, host_act_fork, host_act_exit, host_act_cpu, host_act_write,
	host_act_read, host_act_check, host_act_load, host_act_stop;

// ---- host_memory.c, host_calls.c, host_world.c --------------------------------------------------

lab_action_fn host_act_map, host_act_unmap, host_act_protect, host_act_remap, host_act_advise,
	host_act_lock, host_act_unlock, host_act_pin, host_act_unpin;
lab_action_fn host_act_policy, host_act_get_policy, host_act_mbind, host_act_where, host_act_move,
	host_act_migrate, host_act_mems, host_act_mems_v1;
int host_follow_groups(struct host_machine *m, const struct host_task *parent,
	struct host_task *child, const char *name);
lab_action_fn host_act_split, host_act_set, host_act_compact, host_act_khugepaged, host_act_ksmd,
	host_act_balance, host_act_offline_page, host_act_fill, host_act_unfill, host_act_sleep;

// ---- host_query.c -------------------------------------------------------------------------------

int host_query_nodes(struct lab_machine *, const struct story_range *, int32_t *nodes);
int host_query_vmstat(struct lab_machine *, struct lab_counters *);
int host_query_text(struct lab_machine *, enum lab_text, const struct story_range *, char **);
int host_query_huge(struct lab_machine *, const struct story_range *, uint64_t *ret_count);
int host_query_pool(struct lab_machine *, unsigned node, uint64_t page_size, struct lab_pool *);
int host_query_tunable(struct lab_machine *, const char *path, char **ret_value);
int host_mark(struct lab_machine *);
int host_trace_start(struct host_machine *m); // an instance of tracefs with the events of moves

extern const struct lab_machine_ops host_machine_ops;

#endif
