// SPDX-License-Identifier: MIT
// A full node: a process that locks a node's memory until little is left.
//
// The process gets a mapping as large as the node and touches it piece by piece, with a policy that
// takes pages from that node alone, as long as the node has clearly more than is wanted: an access
// there cannot fail, it can only call the OOM killer. The rest is allocated on other nodes
// first, then moved to the full one, which does fail when there is no room, and locked. Clean page
// cache on the node would be given up for new pages, so it is dropped before. All of it goes with
// the process.
//
// What is left is left above the min watermark, below which an ordinary allocation gets nothing.

#include "lab/host_machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BASE UINT64_C(0x100000000000)
#define PIECE (UINT64_C(8) << 20)
#define MARGIN (UINT64_C(24) << 20) // what is left to moves
#define MODE_BIND 2
#define MODE_DEFAULT 0

struct fill {
	struct host_machine *m;
	struct host_task *task;
	unsigned node; // real
	uint64_t leave, size, used;
};

static uint64_t free_bytes(struct fill *f)
{
	char *text, name[40];
	uint64_t kb = 0;

	if (host_readf(&f->m->host, &text, "sys/devices/system/node/node%u/meminfo", f->node))
		return 0;
	snprintf(name, sizeof name, "Node %u MemFree", f->node);
	host_field(text, name, &kb);
	free(text);
	return kb << 10;
}

// The min watermarks of the node's zones, in bytes.
static uint64_t min_watermark(struct fill *f)
{
	unsigned node = ~0u;
	uint64_t pages = 0, min;
	char *text, *rest, *line;

	if (host_read(&f->m->host, "proc/zoneinfo", &text))
		return 0;
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (sscanf(line, "Node %u,", &node) != 1 && node == f->node &&
			sscanf(line, " min %" SCNu64, &min) == 1)
			pages += min;
	free(text);
	return pages * STORY_PAGE_SIZE;
}

static int call(
	struct fill *f, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	struct agent_reply reply;
	int err = host_call(f->m, f->task, number, (uint64_t[6]){a, b, c, d, e, 0}, &reply);

	return err ? err : reply.ret == -1 ? -reply.error : 0;
}

static int set_policy(struct fill *f, int mode)
{
	uint64_t nodes = UINT64_C(1) << f->node;
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_mbind,
		.file_arg = -1,
		.pointers = mode ? 1u << 3 : 0,
		.arg = {BASE, f->size, (uint64_t)mode, 0, mode ? 65 : 0, 0},
		.bytes = sizeof nodes};
	struct agent_reply reply;
	int err = host_ask(f->m, f->task, &r, &nodes, -1, &reply, NULL);

	return err ? err : reply.ret == -1 ? -reply.error : 0;
}

static int start(struct fill *f)
{
	int err = host_task_start(f->m, &f->m->maker, f->task);

	(void)!host_write(&f->m->host, "proc/sys/vm/drop_caches", "1");
	if (!err)
		err = call(f, SYS_mmap, BASE, f->size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, (uint64_t)-1);
	if (err)
		return err;
	// Huge pages would take more at a time than was found free.
	(void)!call(f, SYS_madvise, BASE, f->size, MADV_NOHUGEPAGE, 0, 0);
	return set_policy(f, MODE_BIND);
}

// The next piece, touched by mlock.
static int take(struct fill *f, uint64_t bytes)
{
	int err;

	if (f->used + bytes > f->size)
		return -ENOMEM;
	err = call(f, SYS_mlock, BASE + f->used, bytes, 0, 0, 0);
	f->used += err ? 0 : bytes;
	return err;
}

static int move(struct fill *f, uint64_t from, uint64_t bytes)
{
	uint64_t count = bytes / STORY_PAGE_SIZE;
	struct agent_request r = {.op = AGENT_MOVE,
		.arg = {0, count, count, 2, 0, 1},
		.bytes = count * (sizeof(uint64_t) + sizeof(int32_t))};
	uint64_t *pages = malloc(r.bytes + 1);
	int32_t *nodes = (int32_t *)(pages + count);
	struct agent_reply reply;
	int err;

	if (!pages)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++) {
		pages[i] = from + i * STORY_PAGE_SIZE;
		nodes[i] = (int32_t)f->node;
	}
	err = host_ask(f->m, f->task, &r, pages, -1, &reply, NULL);
	free(pages);
	return err ? err : reply.ret ? -ENOSPC : 0;
}

// In pieces that get smaller; the end is where not even a page moves any more.
static int squeeze(struct fill *f)
{
	uint64_t bytes = UINT64_C(1) << 20;
	int err = set_policy(f, MODE_DEFAULT);

	while (!err && free_bytes(f) > f->leave) {
		uint64_t from = BASE + f->used;

		err = take(f, bytes);
		if (!err)
			err = move(f, from, bytes);
		if (err != -ENOSPC)
			continue;
		if (bytes == STORY_PAGE_SIZE)
			return 0;
		bytes = bytes > 16 * STORY_PAGE_SIZE ? bytes / 16 : STORY_PAGE_SIZE;
		err = 0;
	}
	return err;
}

int host_act_fill(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	unsigned node = (unsigned)c->world.node;
	struct fill f = {.m = m,
		.task = &m->filler[node],
		.node = m->map.node[node],
		.leave = c->world.size};
	int err = 0;

	// Huge pages being enabled raises the watermarks.
	uint64_t min = min_watermark(&f), margin = MARGIN + min;
	f.leave += f.leave ? min : 0;
	f.size = m->nodes.node[f.node].total_bytes + (UINT64_C(64) << 20);
	if (f.task->socket >= 0)
		return result_of_write(result, -EBUSY);
	err = start(&f);
	while (!err && free_bytes(&f) > f.leave + margin)
		err = take(
			&f, free_bytes(&f) - f.leave - margin > PIECE ? PIECE : UINT64_C(1) << 20);
	if (!err)
		err = squeeze(&f);
	if (err == -EINTR || err == -ECHILD)
		return err;
	return err ? lab_machine_fail(machine, err, "cannot fill node %u: %s", node, strerror(-err))
		   : 0;
}

int host_act_unfill(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);

	(void)result;
	for (unsigned node = 0; node < m->map.count; node++)
		if (c->world.node < 0 || (unsigned)c->world.node == node)
			host_task_end(m, &m->filler[node]);
	return 0;
}
