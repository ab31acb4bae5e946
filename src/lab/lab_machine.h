// SPDX-License-Identifier: MIT
// The seam between the player of stories and what plays them: the engine in this process, the
// running kernel, or a fake in the tests.
//
// A command goes in, a result comes out. The player (player.c) calls everything from one thread,
// one call at a time, in this order:
//
//   open -> needs -> supports (every command) -> setup -> { action | query }* -> teardown
//
// cancel alone may come from another thread, while any of the others runs. Once open succeeded
// teardown is always called exactly once, whatever happened in between.
//
// What a callback returns and what the story sees are two things. A system call that fails, a
// signal, a wrong byte: that is what the story asked about. It goes into the result, and the
// callback returns 0. A negative errno from a callback means that the machine itself could not go
// on (the helper process died, out of memory for its own tables); the machine says why with
// lab_machine_fail(), the story ends there, and teardown follows.
//
// Nodes and cpus in commands and in results, also in texts, are the story's: a machine that maps
// them to others translates both ways. Addresses are the story's too (struct story_mapping).
#ifndef GODWIT_LAB_LAB_MACHINE_H
#define GODWIT_LAB_LAB_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lab/story.h"

// ---- Results ------------------------------------------------------------------------------------

// What one action did. The player clears it before and releases it after the call; the machine
// fills what applies, with the functions below for what is allocated.
//
//   kind of command                       what is filled
//   every system call                     ret (0 where the call returns an address), error
//   write read check                      signal, when an access died; ret is 0 otherwise
//   check                                 mismatch: the first wrong byte
//   where move                            status, one entry an address that the call was told of
//                                         (raw count=N included), also when ret is -1
//   get_policy                            text: the policy, the node, or the set of nodes
//   move mbind migrate                    stayed, on a machine that knows
//   stop                                  accesses, stall_ns, lost; signal and address, when a
//                                         thread died of one
//   set                                   error, of the write to the file
//   the others                            ret and error, when there is a call that can fail
// Neighbouring pages that a move left where they were.
struct lab_stayed {
	char *range;	 // "A.buf[0:8K]", or an address
	uint64_t pages;	 // of page_size bytes
	uint64_t page_size;
	int node;	 // of the story; -1: on none
	const char *why; // "SHARED", and in words; both static
	const char *text;
	char detail[60]; // may be empty
};

struct lab_result {
	long long ret;	  // what the call returned; -1: failed, see error
	int error;	  // positive errno, only with ret == -1
	int signal;	  // number of the signal, 0: none
	int32_t *status;  // node, -errno, or STATUS_UNWRITTEN
	size_t status_count;
	char *text;
	bool mismatch;	  // check found, at address, the byte `found`
	uint64_t address;
	uint8_t found;
	bool has_load; // the next three are valid
	uint64_t accesses;
	uint64_t stall_ns;
	uint64_t lost; // values read that were not the last ones written
	struct lab_stayed *stayed; // why pages stayed: said, not compared
	size_t stayed_count;
	uint64_t stayed_more; // others, of 4 KiB
};

// ret = -1 and error = errno_value (positive).
void lab_result_fail(struct lab_result *result, int errno_value);
// Allocates count entries, all STATUS_UNWRITTEN. 0 or -ENOMEM.
int lab_result_statuses(struct lab_result *result, size_t count)
	__attribute__((warn_unused_result));
// A copy of text becomes the result's text. 0 or -ENOMEM.
int lab_result_text(struct lab_result *result, const char *text)
	__attribute__((warn_unused_result));
void lab_result_release(struct lab_result *result);

struct lab_counter {
	char *name;
	int64_t value;
};

struct lab_counters {
	struct lab_counter *v;
	size_t count, capacity;
};

// Appends a copy of name. 0 or -ENOMEM.
int lab_counters_add(struct lab_counters *counters, const char *name, int64_t value)
	__attribute__((warn_unused_result));
// False when there is no such counter.
bool lab_counters_get(const struct lab_counters *counters, const char *name, int64_t *ret_value);
void lab_counters_release(struct lab_counters *counters);

// TEXT_NUMASTAT of so many nodes: read() gives a node's file, for free(). 0, -ENOMEM or read()'s.
int lab_numastat_text(unsigned nodes, int (*read)(void *arg, unsigned node, char **ret_text),
	void *arg, char **ret_text) __attribute__((warn_unused_result));

struct lab_pool {
	uint64_t total, free, surplus; // pages
};

enum lab_text {
	TEXT_NUMA_MAPS, // the lines of /proc/PID/numa_maps that lie in the mapping
	TEXT_SMAPS,	// the blocks of /proc/PID/smaps that lie in the mapping
	TEXT_BUDDYINFO,
	TEXT_NUMASTAT, // all /sys/devices/system/node/node*/numastat, a line a counter: since boot
	TEXT_TRACE,    // what was traced since the mark
};

// ---- Operations ---------------------------------------------------------------------------------

struct lab_options {
	const char *backend; // engine: mmu backend by name, NULL: the machine's choice
	uint64_t seed;	     // engine, soft backend: the order of everything
	bool verbose;
	const char *host_root;	   // host: folder of a recorded machine, NULL: the running one
	bool allow_system_changes; // host: tunables, pools, ... of a machine that is no test guest
	bool allow_poison;	   // host: pages of it may be taken away until it boots again
	bool bind_nodes; // engine: its bytes lie on nodes of this host, and the kernel is asked
	bool hugetlbfs;	 // engine: its hugetlb pools take pages of this host's
};

// What verify found, all looks together. A page counts each time it is looked at.
struct lab_truth {
	uint64_t looks;	   // 0: nobody looked
	uint64_t agreed;   // pages of which the kernel says what the engine says
	uint64_t unmapped; // pages that the host does not map yet
	uint64_t zero;	   // places with the zero page
	uint64_t lines;	   // of numa_maps that agree
};

// What every machine begins with; the machine embeds it as its first member and open fills it.
struct lab_machine {
	const struct lab_machine_ops *ops;
	char failure[256]; // why a callback returned an error, or setup skipped
	// Called for what the user should know though the story goes on (a tunable that could not
	// be set). NULL: silent. Set by the player before setup.
	void (*warn)(void *arg, const char *text);
	void *warn_arg;
	struct lab_truth truth;
	bool seeded; // the engine on soft: a seed decides what happens when, and time is virtual
	uint64_t seed;
};

// Formats machine->failure; returns error, so that `return lab_machine_fail(m, -EIO, ...)` works.
int lab_machine_fail(struct lab_machine *machine, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void lab_machine_warn(struct lab_machine *machine, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

enum {
	LAB_SKIP = 1, // needs, setup: what the story needs is not here
	LAB_DIFFERS,  // verify: the machine says one thing and its memory another
};

// Performs one command of its kind. 0, or negative errno when the machine cannot go on.
typedef int lab_action_fn(struct lab_machine *machine, const struct command *command,
	struct lab_result *result);

struct lab_machine_ops {
	const char *name; // "engine", "host": what --on says

	// Whether setup may be called while the process has other threads (who forks wants none).
	bool beside_threads;

	// Nothing is built or changed yet. options live until teardown.
	// Fails only for want of memory or with a bad option; then there is no machine and the
	// reason is written to failure.
	int (*open)(const struct lab_options *options, struct lab_machine **ret_machine,
		char *failure, size_t failure_size);

	// Whether the story can be played here as far as can be known without changing anything:
	// the needs, nodes, distances and kernel that its machine lines ask for. 0, or LAB_SKIP
	// with failure set ("needs cma: this kernel was built without it"). NULL: nothing to ask.
	int (*needs)(struct lab_machine *machine, const struct story *story);

	// Whether this build can play the command at all; asked for every command before setup, so
	// that a story is refused before anything runs (exit 2). Only for operands: a kind whose
	// action is NULL is refused without asking. NULL: everything. *ret_reason is
	// valid until the next call.
	bool (*supports)(struct lab_machine *machine, const struct command *command,
		const char **ret_reason);

	// Builds the machine that the story's machine lines ask for, tasks not included, and puts
	// the tunables where a story starts. LAB_SKIP with failure set when a need turns out not
	// to be met (huge pages that cannot be had); teardown undoes what was changed. story lives
	// until teardown.
	int (*setup)(struct lab_machine *machine, const struct story *story);

	// By kind of command; NULL: not in this build. What each guarantees:
	//
	// TASK FORK EXIT   The task exists, stopped at its next command, on its cpu; fork(2) of the
	//                  parent as it is; EXIT returns when the address space is gone.
	// CPU              The task runs there from the next command on.
	// MAP              At map->address. A failure leaves nothing mapped. shm objects are known
	//                  by name to all tasks, are as long as the longest map of that name, and
	//                  live as long as the story.
	// UNMAP PROTECT REMAP ADVISE LOCK UNLOCK   One system call.
	// WRITE READ CHECK Page by page in rising order, by the task itself, on its cpu; a signal
	//                  ends the access and is the result; the task lives on.
	// PIN UNPIN        Long-term pins of the whole range; a failed pin is ret -1, error set;
	//                  UNPIN returns when the pages are really free of it.
	// POLICY GET_POLICY MBIND WHERE MOVE MIGRATE MEMS MEMS_V1
	//                  One system call (MEMS: the write to the file), made by the task. Pid 0
	//                  unless `of` or a raw pid says otherwise.
	// LOAD STOP        LOAD returns after the first access of every thread. STOP joins them.
	// SPLIT            The range's huge pages, through the file of debugfs.
	// SET              One write. A tunable that does not exist: ret -1 with ENOENT.
	// COMPACT          compact_memory, or node/nodeN/compact with world.node.
	// KHUGEPAGED KSMD  The daemon is started if it was stopped, makes world.count full scans
	//                  and is put back as it was.
	// BALANCE          numa_balancing is 1 for world.time_ns, while the loads run, then as it
	//                  was before.
	// CMA CONTIG       One allocation of a contiguous range; CMA is known by name until freed;
	//                  CONTIG frees at once.
	// OFFLINE_PAGE     soft_offline_page of each page of the range, in rising order; it ends
	//                  with the first error.
	// FILL UNFILL      Takes the free memory of a node, all but `size`, with pages that cannot
	//                  be moved or reclaimed; UNFILL gives back a node, or all (-1).
	// SLEEP            Nothing happens but time, which is virtual in a seeded run.
	//
	// MARK, SHOW and EXPECT never get here; the player makes them from the queries.
	lab_action_fn *action[CMD_COUNT];

	// ---- Queries: they change nothing that a story can see, no counter, no placement --------

	// The node of every 4 KiB page of the range, in order; any negative number: not present.
	// nodes has range->length / 4096 entries, rounded up.
	int (*nodes)(struct lab_machine *machine, const struct story_range *range, int32_t *nodes);
	// All counters of /proc/vmstat, brought up to date first.
	int (*vmstat)(struct lab_machine *machine, struct lab_counters *counters);
	// A Linux text; range is for NUMA_MAPS and SMAPS, else NULL. *ret_text is the caller's to
	// free(). Node numbers in it are the story's.
	int (*text)(struct lab_machine *machine, enum lab_text what,
		const struct story_range *range, char **ret_text);
	// Number of 2 MiB mappings (PMD leaves, hugetlb's too) that begin in the range.
	int (*huge)(struct lab_machine *machine, const struct story_range *range,
		uint64_t *ret_count);
	// A node's pool of pages of that size; -ENOENT: no such pool (no failure, no message).
	int (*pool)(struct lab_machine *machine, unsigned node, uint64_t page_size,
		struct lab_pool *ret_pool);
	// What reading the file gives, without the last newline; -ENOENT: no such tunable. `expect
	// ksm NAME` reads sys/kernel/mm/ksm/NAME.
	int (*tunable)(struct lab_machine *machine, const char *path, char **ret_value);
	// Asked after every action: is what the machine says true of the memory below it? 0, or
	// LAB_DIFFERS with failure set; machine->truth is added to. NULL: nothing to ask.
	int (*verify)(struct lab_machine *machine);
	// A mark was made; NULL is allowed. (The trace begins again.)
	int (*mark)(struct lab_machine *machine);

	// The last command was played: what still runs in the background ends. LAB_DIFFERS with
	// failure set when it found something wrong. NULL: teardown does.
	int (*finish)(struct lab_machine *machine);

	// Give up the running callback soon; it then returns -EINTR. Any thread. NULL: it cannot.
	void (*cancel)(struct lab_machine *machine);

	// Ends tasks, undoes what setup and SET changed, frees the machine, always. What could not
	// be restored is warned about, and then it is -EAGAIN.
	int (*teardown)(struct lab_machine *machine);
};

// ---- Registry -----------------------------------------------------------------------------------

// machines.c has the one table of machines.
int lab_machine_open(const char *name, const struct lab_options *options,
	struct lab_machine **ret_machine, char *failure, size_t failure_size)
	__attribute__((warn_unused_result));

#endif
