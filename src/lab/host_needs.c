// SPDX-License-Identifier: MIT
// Whether a story can be played on this machine, found out without changing anything.
//
// Three questions: what its machine lines ask for, what its `needs` ask for, and what each of its
// commands needs, as a table: one row a kind of command. A command that changes the machine itself
// needs the right to do so (root) and, on a machine that is no test guest, the user's word; one
// that takes memory away from it until the next boot needs another word.

#include "lab/host_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#define F_MOVE_ALL 4u
#define OVERLAYFS_MAGIC 0x794c7630
#define SPLIT_FILE "sys/kernel/debug/split_huge_pages"

typedef int need_fn(struct host_machine *m, const struct command *c);

static int skip(struct host_machine *m, const struct command *c, const char *reason)
{
	return lab_machine_fail(
		&m->base, LAB_SKIP, "line %u, '%s': %s", c->line, c->source, reason);
}

// ---- What commands need -------------------------------------------------------------------------

static int needs_change(struct host_machine *m, const struct command *c)
{
	if (m->may_change)
		return 0;
	if (!m->is_guest && !m->options->allow_system_changes)
		return skip(m, c, "changes this machine, which needs --allow-system-changes");
	return skip(m, c, "changes this machine, which needs root");
}

static int needs_poison(struct host_machine *m, const struct command *c)
{
	if (!m->is_guest && !m->options->allow_poison)
		return skip(m, c, "takes pages away from this machine, which needs --allow-poison");
	return geteuid() == 0 ? 0 : skip(m, c, "needs root");
}

static int needs_advice(struct host_machine *m, const struct command *c)
{
	return c->range.advice == MADV_SOFT_OFFLINE ? needs_poison(m, c) : 0;
}

static int needs_a_cma(struct host_machine *m, const struct command *c)
{
	return skip(m, c, "this kernel cannot be asked for contiguous memory");
}

static int needs_a_driver(struct host_machine *m, const struct command *c)
{
	return skip(m, c, "this kernel does not have that driver");
}

static int needs_user(struct host_machine *m, const struct command *c)
{
	long uid = c->create.task->uid;

	if (uid < 0 || (uid_t)uid == geteuid() || geteuid() == 0)
		return 0;
	return skip(m, c, "needs root, to become another user");
}

static int needs_disk(struct host_machine *m, const struct command *c)
{
	int file = c->map.object == OBJECT_DISK ? host_disk_file(m) : -1;

	if (file >= 0)
		close(file);
	if (c->map.object != OBJECT_DISK || file >= 0)
		return 0;
	return skip(m, c, "no file on a disk can be made (GODWIT_DISK names a folder)");
}

static int needs_io_uring(struct host_machine *m, const struct command *c)
{
	struct io_uring_params params = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0)
		return skip(m, c, "needs io_uring to pin memory, and this kernel refuses it");
	close(ring);
	return 0;
}

static bool keeps_huge(const struct command *c)
{
	return c->kind == CMD_MBIND   ? c->policy.keep_huge
	       : c->kind == CMD_MOVE ? c->move.keep_huge
				     : c->migrate.keep_huge;
}

static int needs_whole_moves(struct host_machine *m, const struct command *c)
{
	return keeps_huge(c) ? skip(m, c, "a kernel cannot be told to keep huge pages whole") : 0;
}

// A task without uid= may move what others share, which the kernel allows to root.
static int needs_move_all(struct host_machine *m, const struct command *c)
{
	unsigned flags = c->kind == CMD_MBIND ? c->policy.flags : c->move.flags;

	if (!(flags & F_MOVE_ALL) || c->task->uid >= 0 || geteuid() == 0)
		return needs_whole_moves(m, c);
	return skip(m, c, "needs root, to move what others share");
}

static int needs_split(struct host_machine *m, const struct command *c)
{
	if (host_has(&m->host, SPLIT_FILE) && geteuid() == 0)
		return 0;
	return skip(m, c, "needs /" SPLIT_FILE ", and root");
}

static int needs_cpuset(struct host_machine *m, const struct command *c)
{
	enum cgroup_version version = c->kind == CMD_MEMS ? CGROUP_V2 : CGROUP_V1;
	char mount[256];

	if (host_cpuset_mount(&m->host, version, mount, sizeof mount))
		return skip(m, c,
			version == CGROUP_V2 ? "cpusets of cgroup version 2 are mounted nowhere"
					     : "cpusets of cgroup version 1 are mounted nowhere");
	return needs_change(m, c);
}

static int check_command(struct host_machine *m, const struct command *c)
{
	static need_fn *const needs[CMD_COUNT] = {
		[CMD_TASK] = needs_user,
		[CMD_MAP] = needs_disk,
		[CMD_ADVISE] = needs_advice,
		[CMD_PIN] = needs_io_uring,
		[CMD_MOVE] = needs_move_all,
		[CMD_MBIND] = needs_move_all,
		[CMD_MIGRATE] = needs_whole_moves,
		[CMD_MEMS] = needs_cpuset,
		[CMD_MEMS_V1] = needs_cpuset,
		[CMD_SPLIT] = needs_split,
		[CMD_SET] = needs_change,
		[CMD_COMPACT] = needs_change,
		[CMD_KHUGEPAGED] = needs_change,
		[CMD_KSMD] = needs_change,
		[CMD_BALANCE] = needs_change,
		[CMD_CMA] = needs_a_cma,
		[CMD_CONTIG] = needs_a_cma,
		[CMD_OFFLINE_PAGE] = needs_poison,
		[CMD_FILL] = needs_change,
		[CMD_STORE] = needs_a_driver,
	};

	return needs[c->kind] ? needs[c->kind](m, c) : 0;
}

// ---- Disks --------------------------------------------------------------------------------------

static bool is_memory(int file)
{
	struct statfs fs;

	return fstatfs(file, &fs) || fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ||
	       fs.f_type == OVERLAYFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
}

int host_disk_file(struct host_machine *m)
{
	const char *const folders[] = {
		getenv("GODWIT_DISK"), m->is_guest ? "/disk" : NULL, "/var/tmp"};

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char path[300];
		int file;

		if (!folders[i])
			continue;
		snprintf(path, sizeof path, "%s/godwit-XXXXXX", folders[i]);
		file = mkostemp(path, O_CLOEXEC);
		if (file < 0)
			continue;
		unlink(path);
		if (!is_memory(file))
			return file;
		close(file);
	}
	return -ENODEV;
}

// ---- What machine lines need --------------------------------------------------------------------

static int check_words(struct host_machine *m, const struct story_machine *want)
{
	static const struct {
		const char *word, *path;
	} needs[NEED_COUNT] = {
		[NEED_CMA] = {"cma", NULL},
		[NEED_THP] = {"thp", "sys/kernel/mm/transparent_hugepage/enabled"},
		[NEED_HUGETLB] = {"hugetlb", "sys/kernel/mm/hugepages"},
		[NEED_KSM] = {"ksm", "sys/kernel/mm/ksm/run"},
		[NEED_NUMA_BALANCING] = {"numa_balancing", "proc/sys/kernel/numa_balancing"},
		[NEED_SOFT_OFFLINE] = {"soft_offline",
			"sys/devices/system/memory/soft_offline_page"},
		[NEED_ROOT] = {"root", ""},
	};

	for (unsigned i = 0; i < NEED_COUNT; i++) {
		if (!(want->needs & 1u << i))
			continue;
		if (i == NEED_ROOT ? geteuid() == 0
				   : needs[i].path && host_has(&m->host, needs[i].path))
			continue;
		return lab_machine_fail(&m->base, LAB_SKIP, "needs %s: %s", needs[i].word,
			i == NEED_ROOT	? "you are not"
			: needs[i].path ? "this kernel has none"
					: "this kernel cannot be asked for contiguous memory");
	}
	return 0;
}

static int check_kernel(struct host_machine *m, const struct story_machine *want)
{
	unsigned major = 0, minor = 0;

	if (!want->kernel_major)
		return 0;
	if (!host_kernel(&m->host, &major, &minor) &&
		(major > want->kernel_major ||
			(major == want->kernel_major && minor >= want->kernel_minor)))
		return 0;
	return lab_machine_fail(&m->base, LAB_SKIP, "needs kernel>=%u.%u: this is %u.%u",
		want->kernel_major, want->kernel_minor, major, minor);
}

static int check_pools(struct host_machine *m, const struct story_machine *want)
{
	if (want->cma_count)
		return lab_machine_fail(&m->base, LAB_SKIP,
			"machine cma=: this kernel cannot be asked for contiguous memory");
	if (!want->pool_count || m->may_change)
		return 0;
	return lab_machine_fail(&m->base, LAB_SKIP,
		"machine hugepages=: changes this machine, which needs %s",
		m->is_guest || m->options->allow_system_changes ? "root"
								: "--allow-system-changes");
}

int host_needs(struct lab_machine *machine, const struct story *story)
{
	struct host_machine *m = host_of(machine);
	const struct story_machine *want = &story->machine;
	int err = host_map_make(m, want);
	unsigned nodes = nodemask_weight(m->nodes.memory);

	if (!err && want->needs_nodes > nodes)
		err = lab_machine_fail(machine, LAB_SKIP, "needs nodes=%u: this machine has %u",
			want->needs_nodes, nodes);
	if (!err)
		err = check_words(m, want);
	if (!err)
		err = check_kernel(m, want);
	if (!err)
		err = check_pools(m, want);
	for (size_t i = 0; !err && i < story->command_count; i++)
		err = check_command(m, story->commands[i]);
	return err ? LAB_SKIP : 0;
}
