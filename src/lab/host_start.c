// SPDX-License-Identifier: MIT
// The machine as a story finds it: tunables where a story starts, saved first.
//
// With the right to change the machine: take it (the journal), start the guardian, and write every
// tunable of the table that is not yet what it should be. Without: tasks get PR_SET_THP_DISABLE,
// and one warning names what is different. A kernel that lacks a tunable lacks what it tunes.

#include "lab/host_machine.h"

#include "host/hugepools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THP "sys/kernel/mm/transparent_hugepage"

static const struct {
	const char *path, *value;
} start[] = {
	{THP "/enabled", "never"},
	{THP "/shmem_enabled", "never"},
	{THP "/khugepaged/scan_sleep_millisecs", "3600000"},
	{"proc/sys/kernel/numa_balancing", "0"},
	{"sys/kernel/mm/ksm/run", "0"},
	{"sys/kernel/mm/lru_gen/enabled", "0"},
	{"proc/sys/vm/compaction_proactiveness", "0"},
};

struct setting {
	struct host_machine *m;
	char different[220]; // what could not be set, for the warning
};

static bool has_value(struct host_machine *m, const char *path, const char *value)
{
	char *text, chosen[256], *end;
	bool same;

	if (host_read(&m->host, path, &text))
		return true; // there is no such thing
	host_chosen(text, chosen, sizeof chosen);
	free(text);
	same = !strcmp(chosen, value);
	return same ||
	       (*chosen == '0' && strtoull(chosen, &end, 0) == 0 && !*end && !strcmp(value, "0"));
}

static void set_one(struct setting *s, const char *path, const char *value)
{
	size_t used = strlen(s->different);
	int err;

	if (has_value(s->m, path, value))
		return;
	err = s->m->has_journal ? host_journal_set(&s->m->journal, path, value) : -EPERM;
	if (err && used < sizeof s->different - 1)
		snprintf(s->different + used, sizeof s->different - used, "%s%s", used ? ", " : "",
			path);
}

// Kernels with a choice for each size of huge page: the one of a PMD follows `enabled`, the others
// are off.
static void set_size(void *arg, const char *name)
{
	struct setting *s = arg;
	char path[256];
	const char *value = !strcmp(name, "hugepages-2048kB") ? "inherit" : "never";

	if (strncmp(name, "hugepages-", 10))
		return;
	snprintf(path, sizeof path, THP "/%s/enabled", name);
	set_one(s, path, value);
	snprintf(path, sizeof path, THP "/%s/shmem_enabled", name);
	set_one(s, path, value);
}

static void set_pools(struct setting *s)
{
	uint64_t sizes[HUGE_SIZES_MAX];
	size_t count = host_huge_sizes(&s->m->host, sizes);
	char path[160];
	int node;

	for (size_t i = 0; i < count; i++) {
		for_each_node_in(node, s->m->nodes.memory) {
			host_pool_path(node, sizes[i], "nr_hugepages", path, sizeof path);
			set_one(s, path, "0");
		}
		set_one(s,
			host_pool_path(-1, sizes[i], "nr_overcommit_hugepages", path, sizeof path),
			"0");
	}
}

static void set_all(struct setting *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(start); i++)
		set_one(s, start[i].path, start[i].value);
	(void)!host_list(&s->m->host, THP, set_size, s); // a kernel without THP has no such folder
	set_pools(s);
}

static void complain(void *arg, const char *text)
{
	lab_machine_warn(arg, "%s", text);
}

static int take_machine(struct host_machine *m)
{
	pid_t owner;
	int err = host_journal_open(&m->host, &m->journal, &owner, complain, &m->base);

	if (err == -EBUSY)
		return lab_machine_fail(&m->base, err,
			"another godwit (process %d) plays on this machine", (int)owner);
	if (err)
		return lab_machine_fail(&m->base, err,
			"cannot keep what is to be put back (/run): %s", strerror(-err));
	m->has_journal = true;
	err = host_journal_guard(&m->journal);
	return err ? lab_machine_fail(&m->base, err, "no process to guard the machine") : 0;
}

static int disable_thp(struct host_machine *m)
{
	struct agent_reply reply;

	if (has_value(m, THP "/enabled", "never"))
		return 0;
	return host_call(m, &m->maker, SYS_prctl, (uint64_t[6]){PR_SET_THP_DISABLE, 1}, &reply);
}

static void warn_of_changes(struct host_machine *m)
{
	switch (host_journal_left(&m->host)) {
	case HOST_JOURNAL_EMPTY:
		return;
	case HOST_JOURNAL_LEFT:
		lab_machine_warn(&m->base, "a run that was killed has left changes on this "
					   "machine; `godwit lab restore` puts them back");
		return;
	case HOST_JOURNAL_ROOTS:
		lab_machine_warn(&m->base, "a run of root's has changed this machine; if it was "
					   "killed, root's `godwit lab restore` puts that back");
		return;
	}
}

int host_start_state(struct host_machine *m)
{
	struct setting s = {.m = m};
	int err = m->may_change ? take_machine(m) : 0;

	if (err)
		return err;
	if (!m->may_change)
		warn_of_changes(m);
	set_all(&s);
	if (*s.different)
		lab_machine_warn(&m->base, "not as a story starts: %s", s.different);
	if (host_has_swap(&m->host))
		lab_machine_warn(&m->base, "swap is in use, which stories do not expect");
	return disable_thp(m);
}

int host_change(struct host_machine *m, const char *path, const char *value)
{
	return m->has_journal ? host_journal_set(&m->journal, path, value) : -EPERM;
}
