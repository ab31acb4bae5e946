// SPDX-License-Identifier: MIT
// The machine as a whole, on the host: tunables, daemons, full nodes, time.
//
//   khugepaged N   Its sleep between scans is an hour when a story starts. A write to it wakes the
//                  daemon for one run; this is repeated until full_scans has grown by N. With
//                  THP off the daemon does not exist, and there is nothing to wait for.
//   ksmd N         One batch is made as large as a whole scan, with a long sleep behind it, so that
//                  ksmd stands still when full_scans has grown by N.
//   balance S      numa_balancing is 1 for so long.
//   fill           A process that is bound to the node locks memory until the node has only so
//                  much left. Near the end of a node's memory an access could call the OOM killer;
//                  so the last part is allocated elsewhere and moved there, which only fails.
//
// What a daemon waits for may never come (nothing to scan): after QUIET_NS without a full scan the
// command goes on.

#include "lab/host_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KHUGEPAGED "sys/kernel/mm/transparent_hugepage/khugepaged/"
#define KSM "sys/kernel/mm/ksm/"
#define BALANCING "proc/sys/kernel/numa_balancing"
#define TICK_NS UINT64_C(5000000)
#define QUIET_NS UINT64_C(10000000000)

// ---- Tunables and actions -----------------------------------------------------------------------

int host_act_set(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	char path[300];

	return result_of_write(result,
		host_change(m, real_path(&m->map, c->set.path, path, sizeof path), c->set.value));
}

int host_act_compact(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	char path[100] = "proc/sys/vm/compact_memory";

	if (c->world.node >= 0)
		snprintf(path, sizeof path, "sys/devices/system/node/node%d/compact",
			real_node(&m->map, c->world.node));
	return result_of_write(result, host_write(&m->host, path, "1"));
}

int host_act_split(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *range = &c->range.range;
	char text[100];

	snprintf(text, sizeof text, "%d,0x%" PRIx64 ",0x%" PRIx64, (int)task_here(m, c->task)->pid,
		range->address, range->address + range->length);
	return result_of_write(
		result, host_write(&m->host, "sys/kernel/debug/split_huge_pages", text));
}

int host_act_sleep(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	(void)result;
	return host_sleep(host_of(machine), c->world.time_ns);
}

// ---- Values that are changed for the time of a command ------------------------------------------

struct loan {
	char path[100];
	char *before;
};

static int lend(struct host_machine *m, struct loan *loan, const char *path, const char *value)
{
	char text[128];
	int err;

	snprintf(loan->path, sizeof loan->path, "%s", path);
	err = host_read(&m->host, path, &loan->before);
	if (err)
		return lab_machine_fail(&m->base, err, "cannot read /%s: %s", path, strerror(-err));
	host_chosen(loan->before, text, sizeof text);
	snprintf(loan->before, strlen(loan->before) + 1, "%s", text);
	err = host_change(m, path, value);
	return err ? lab_machine_fail(
			     &m->base, err, "cannot set /%s to %s: %s", path, value, strerror(-err))
		   : 0;
}

static int give_back(struct host_machine *m, struct loan *loan)
{
	int err = loan->before ? host_change(m, loan->path, loan->before) : 0;

	free(loan->before);
	loan->before = NULL;
	return err ? lab_machine_fail(
			     &m->base, err, "cannot set /%s back: %s", loan->path, strerror(-err))
		   : 0;
}

static int lend_all(
	struct host_machine *m, struct loan *loans, const char *const (*values)[2], size_t count)
{
	int err = 0;

	for (size_t i = 0; !err && i < count; i++)
		err = lend(m, &loans[i], values[i][0], values[i][1]);
	return err;
}

static int give_back_all(struct host_machine *m, struct loan *loans, size_t count, int err)
{
	while (count--) {
		int now = give_back(m, &loans[count]);

		err = err ? err : now;
	}
	return err;
}

// ---- Daemons ------------------------------------------------------------------------------------

// Until the counter has grown by count. nudge is written to its file again and again (NULL: not).
static int await_scans(
	struct host_machine *m, const char *counter, uint64_t count, const char *nudge)
{
	uint64_t start, now, last, quiet = 0;
	int err = host_read_number(&m->host, counter, &start);

	for (last = start; !err && last - start < count && quiet < QUIET_NS;) {
		if (nudge && quiet % (TICK_NS * 40) == 0)
			err = host_write(&m->host, nudge, "3600000");
		if (!err)
			err = host_sleep(m, TICK_NS);
		if (!err)
			err = host_read_number(&m->host, counter, &now);
		if (err)
			break;
		quiet = now == last ? quiet + TICK_NS : 0;
		last = now;
	}
	if (err && err != -EINTR)
		return lab_machine_fail(&m->base, err, "/%s: %s", counter, strerror(-err));
	if (quiet >= QUIET_NS)
		lab_machine_warn(&m->base, "/%s does not grow: there is nothing to scan", counter);
	return err;
}

static bool thp_is_off(struct host_machine *m)
{
	char *text, chosen[64];

	if (host_read(&m->host, "sys/kernel/mm/transparent_hugepage/enabled", &text))
		return true;
	host_chosen(text, chosen, sizeof chosen);
	free(text);
	return !strcmp(chosen, "never");
}

int host_act_khugepaged(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	static const char *const values[][2] = {
		{KHUGEPAGED "alloc_sleep_millisecs", "1"},
		{KHUGEPAGED "pages_to_scan", "100000000"},
	};
	struct host_machine *m = host_of(machine);
	struct loan loans[ARRAY_SIZE(values)] = {0};
	int err;

	(void)result;
	if (thp_is_off(m))
		return 0;
	err = lend_all(m, loans, values, ARRAY_SIZE(values));
	if (!err)
		err = await_scans(m, KHUGEPAGED "full_scans", c->world.count,
			KHUGEPAGED "scan_sleep_millisecs");
	return give_back_all(m, loans, ARRAY_SIZE(values), err);
}

int host_act_ksmd(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	static const char *const values[][2] = {
		{KSM "pages_to_scan", "100000000"},
		{KSM "sleep_millisecs", "400"},
		{KSM "run", "1"},
	};
	struct host_machine *m = host_of(machine);
	struct loan loans[ARRAY_SIZE(values)] = {0};
	int err = lend_all(m, loans, values, ARRAY_SIZE(values));

	(void)result;
	if (!err)
		err = await_scans(m, KSM "full_scans", c->world.count, NULL);
	return give_back_all(m, loans, ARRAY_SIZE(values), err);
}

int host_act_balance(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	struct loan loan = {0};
	int err = lend(m, &loan, BALANCING, "1");

	(void)result;
	if (!err)
		err = host_sleep(m, c->world.time_ns);
	return give_back_all(m, &loan, 1, err);
}

// ---- Soft offline -------------------------------------------------------------------------------

// 0: no page is there.
static uint64_t frame_of(int pagemap, uint64_t address)
{
	uint64_t word = 0;

	if (pread(pagemap, &word, sizeof word, (off_t)(address / STORY_PAGE_SIZE * sizeof word)) !=
		sizeof word)
		return 0;
	return word >> 63 ? word & ((UINT64_C(1) << 55) - 1) : 0;
}

int host_act_offline_page(
	struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *range = &c->range.range;
	char text[40];
	int pagemap, err = 0;

	snprintf(text, sizeof text, "/proc/%d/pagemap", (int)task_here(m, c->task)->pid);
	pagemap = open(text, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return lab_machine_fail(machine, -errno, "cannot read %s", text);
	for (uint64_t at = 0; !err && at < range->length; at += STORY_PAGE_SIZE) {
		uint64_t frame = frame_of(pagemap, range->address + at);

		snprintf(text, sizeof text, "0x%" PRIx64, frame * STORY_PAGE_SIZE);
		err = frame ? host_write(
				      &m->host, "sys/devices/system/memory/soft_offline_page", text)
			    : -ENXIO;
	}
	close(pagemap);
	return result_of_write(result, err);
}
