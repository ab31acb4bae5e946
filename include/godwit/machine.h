// SPDX-License-Identifier: MIT
// Godwit's machine: nodes with memory, processors, and tasks that use them, inside this process.
//
// Conventions of all of Godwit's headers: functions return 0 or a positive count, or a negative
// errno; outputs are written only on success; nothing prints, exits or sets errno. Sizes are bytes
// and addresses are numbers of type uint64_t unless said otherwise. A number is a task's address;
// gw_pointer() gives the pointer behind it. In the process's own space (gw_map without an address)
// the number is the pointer. Node, mode and flag numbers are Linux's. Every function may be called
// from any thread unless said otherwise; none may be called from a signal handler. In a child of
// the host's fork() the machines of the parent are gone: calls return -EOWNERDEAD, or NULL or 0
// where that is no error, or do nothing. NULL may be released, as with free().
#ifndef GODWIT_MACHINE_H
#define GODWIT_MACHINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GW_CHECK __attribute__((warn_unused_result))
#define GW_EXPORT __attribute__((visibility("default")))
#else
#define GW_CHECK
#define GW_EXPORT
#endif

#define GW_MAX_NODES 64
#define GW_MAX_CPUS 256
#define GW_PAGE_SIZE 4096ul

// Which way application addresses reach the frames.
enum gw_backend {
	GW_BACKEND_AUTO,   // rewire
	GW_BACKEND_REWIRE, // real pointers: shared memory, mapped page by page
	GW_BACKEND_SOFT,   // no pointers: only gw_read() and gw_write(); deterministic
};

// How rewire stops accesses to a page that moves.
enum gw_blocker {
	GW_BLOCKER_AUTO,   // userfaultfd where it is safe for system calls, else signal
	GW_BLOCKER_SIGNAL, // SIGSEGV; works everywhere; system calls on a moving page see EFAULT
	GW_BLOCKER_USERFAULTFD, // system calls wait too
};

// What a machine is made of. Zero fields mean the default. Everything is copied.
struct gw_machine_config {
	size_t size;		   // sizeof(struct gw_machine_config), for later versions
	unsigned nr_nodes;	   // 1..GW_MAX_NODES; default 1
	const uint64_t *node_bytes; // nr_nodes sizes, multiples of 2 MiB; 0: a node without memory;
				    // NULL: 256 MiB each
	unsigned nr_cpus;	    // default: one a node
	const unsigned char *cpu_node; // nr_cpus nodes; NULL: cpu i is on node i mod nr_nodes
	const unsigned char *distance; // nr_nodes * nr_nodes, row-major, local 10; NULL: 10 and 20
	enum gw_backend backend;
	enum gw_blocker blocker;
	const int *host_node;	 // bind the bytes of node i to this node of the host; -1: do not
	// Keep the bytes of node i in this file, which is made or grown as needed and stays; NULL:
	// in memory. On a disk the blocker is signal: a userfaultfd watches memory only. Not on
	// hugetlbfs, whose pages cannot be mapped in pieces of 4 KiB. The machine holds flock(2) on
	// it: a file is one node's of one machine.
	const char *const *path;
	unsigned copy_threads;	 // threads that copy large moves; default 1 (the mover itself)
	unsigned flags;		 // GW_MACHINE_*
};

// HUGE: ask the host for 2 MiB pages behind the nodes; it has them where
// /sys/kernel/mm/transparent_hugepage/shmem_enabled is "advise" (with "always" and its like a node
// gets them unasked). The text godwit/arenas says what each node got, and why nothing larger.
#define GW_MACHINE_HUGE 1u
#define GW_MACHINE_MANUAL_CLOCK 2u // time stands still but for gw_clock_advance()
// HUGETLB: pages of the machine's own hugetlb pools take their bytes from the host's pool of 2 MiB
// pages (/proc/sys/vm/nr_hugepages), one for one, as long as it has some that are free and that
// nobody reserved; they go back as the machine's pools shrink. Backend rewire, nodes in memory.
#define GW_MACHINE_HUGETLB 4u

struct gw_machine;
struct gw_task;

// Build a machine (config NULL: all defaults). gw_machine_error() has the reason of a failure in
// words. -EINVAL: the configuration. -ENOMEM. -ENOSYS, -EPERM, -EOPNOTSUPP: the backend or blocker
// asked for by name is not to be had here (`godwit check` says why), or cannot watch the file of a
// node, or that is on hugetlbfs. -EMFILE. -ENOSPC: the process has more memory in machines than
// there are frame numbers for (1 TiB less what they waste). With a path: -EBUSY when the file is
// another node's or machine's, of any process; what open(2), flock(2) and ftruncate(2) say, as
// -ENOENT, -EACCES, -EISDIR, -ENOSPC, -EFBIG. With a host node: what mbind(2) says.
GW_EXPORT int gw_machine_create(const struct gw_machine_config *config,
	struct gw_machine **ret_machine) GW_CHECK;
// What was wrong with the last gw_machine_create() of this thread; never NULL.
GW_EXPORT const char *gw_machine_error(void);
// All tasks end. No thread may be attached, or touch the machine's memory, any more; objects, pins,
// drivers and notifiers have been released before (what was not is a bug of the caller: abort).
GW_EXPORT void gw_machine_destroy(struct gw_machine *machine);

// "rewire", "soft"; "userfaultfd", "signal", "none".
GW_EXPORT const char *gw_machine_backend(const struct gw_machine *machine);
GW_EXPORT const char *gw_machine_blocker(const struct gw_machine *machine);
// Whether a system call on a page that moves, or was never touched, is correct (it waits), but for
// the few that need gw_pin() with any blocker (gw_space(3)).
GW_EXPORT int gw_machine_syscall_safe(const struct gw_machine *machine);
GW_EXPORT unsigned gw_machine_nodes(const struct gw_machine *machine);
GW_EXPORT unsigned gw_machine_cpus(const struct gw_machine *machine);

// Balance the books: every frame, count, list and page-table entry against every other. Only while
// nothing else uses the machine. Aborts with a dump when they do not balance: that is a bug here.
GW_EXPORT void gw_machine_check(struct gw_machine *machine);

// A manual clock goes forward. -EINVAL: the machine has no manual clock.
GW_EXPORT int gw_clock_advance(struct gw_machine *machine, uint64_t ns) GW_CHECK;

// Take a node's free memory with pages that never move, but `leave` bytes that others can still
// take (above the min watermark; 0: not a page); give it back. Returns the bytes taken or given.
// -EINVAL: no such node.
GW_EXPORT int64_t gw_node_fill(struct gw_machine *machine, unsigned node, uint64_t leave) GW_CHECK;
GW_EXPORT int64_t gw_node_unfill(struct gw_machine *machine, unsigned node);

// ---- Tasks --------------------------------------------------------------------------------------

struct gw_task_config {
	size_t size; // sizeof(struct gw_task_config)
	unsigned cpu;
	uid_t uid;	  // 0: root
	unsigned drop_caps; // GW_CAP_*: what root shall not have; other users have none
};

#define GW_CAP_SYS_NICE 1u
#define GW_CAP_SYS_ADMIN 2u
#define GW_CAP_SYS_PTRACE 4u

// A task with a space of its own. config NULL: root on cpu 0. The caller owns it until
// gw_task_exit(). -EINVAL: no such cpu, or another size of the structure. -ENOMEM.
GW_EXPORT int gw_task_create(struct gw_machine *machine, const struct gw_task_config *config,
	struct gw_task **ret_task) GW_CHECK;
// fork(2): a copy of the task and, with copy on write, of its space. The child's numbers are the
// parent's; its pointers are others (gw_pointer()). -ENOMEM.
GW_EXPORT int gw_task_fork(struct gw_task *parent, struct gw_task **ret_child) GW_CHECK;
// The task and its memory go. No thread may be attached to it.
GW_EXPORT void gw_task_exit(struct gw_task *task);
GW_EXPORT int gw_task_pid(const struct gw_task *task); // of this machine, from 1
// The task runs on that cpu from now on; nothing moves. -EINVAL: no such cpu.
GW_EXPORT int gw_task_set_cpu(struct gw_task *task, unsigned cpu) GW_CHECK;
GW_EXPORT unsigned gw_task_cpu(const struct gw_task *task);
GW_EXPORT struct gw_machine *gw_task_machine(const struct gw_task *task);

// The calling thread runs as this task: its first touches count as the task's, on the task's cpu.
// With the signal blocker every thread that touches the machine's memory must be attached to some
// task. It gets an alternate signal stack, and SIGSEGV is unblocked, until it detaches; do not
// block SIGSEGV meanwhile. NULL: detach. -ENOMEM.
GW_EXPORT int gw_task_attach(struct gw_task *task) GW_CHECK;

#ifdef __cplusplus
}
#endif
#endif
