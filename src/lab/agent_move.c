// SPDX-License-Identifier: MIT
// move_pages(2) as a story spells it, wrong calls included.
//
// A story may claim more entries than there are, or pass a bad pointer. So that "more" is an
// address where nothing is mapped, and not what happens to lie behind, each array ends exactly at
// the end of a mapping with an inaccessible page behind it. Entries that the kernel did not write
// keep INT32_MIN.
//
//   arg[0] pid   arg[1] count passed   arg[2] entries there are   arg[3] flags
//   arg[4] enum agent_bad bits         arg[5] the payload has nodes

#include "lab/host_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ull

struct fenced {
	char *map;
	size_t length; // of the mapping, the fence included
	void *array;
};

static bool fenced_make(struct fenced *f, size_t bytes)
{
	size_t inside = (bytes + PAGE - 1) & ~(PAGE - 1);

	f->length = inside + PAGE;
	f->map = mmap(NULL, f->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->map == MAP_FAILED)
		return false;
	mprotect(f->map + inside, PAGE, PROT_NONE);
	f->array = f->map + inside - bytes;
	return true;
}

static void fenced_free(struct fenced *f)
{
	if (f->map && f->map != MAP_FAILED)
		munmap(f->map, f->length);
}

static void call(const struct agent_request *r, const char *payload, struct fenced *pages,
	struct fenced *nodes, struct fenced *status, struct agent_reply *reply)
{
	size_t count = r->arg[2];
	unsigned bad = (unsigned)r->arg[4];
	const void *to = r->arg[5] ? nodes->array : NULL;

	memcpy(pages->array, payload, count * sizeof(uint64_t));
	if (r->arg[5])
		memcpy(nodes->array, payload + count * sizeof(uint64_t), count * sizeof(int32_t));
	for (size_t i = 0; i < count; i++)
		((int32_t *)status->array)[i] = INT32_MIN;
	if (bad & AGENT_BAD_NODES)
		to = (void *)8;
	reply->ret = syscall(SYS_move_pages, (pid_t)r->arg[0], r->arg[1],
		bad & AGENT_BAD_PAGES ? NULL : pages->array, to,
		bad & AGENT_BAD_STATUS ? NULL : status->array, (int)r->arg[3]);
	reply->error = reply->ret == -1 ? errno : 0;
}

void agent_move(const struct agent_request *r, const void *payload, struct agent_reply *reply,
	int32_t **ret_status, size_t *ret_count)
{
	size_t count = r->arg[2];
	size_t told = r->arg[1] < count ? r->arg[1] : count;
	struct fenced pages = {0}, nodes = {0}, status = {0};

	*ret_status = malloc(told * sizeof **ret_status + 1);
	if (*ret_status && fenced_make(&pages, count * sizeof(uint64_t)) &&
		fenced_make(&nodes, count * sizeof(int32_t)) &&
		fenced_make(&status, count * sizeof(int32_t))) {
		call(r, payload, &pages, &nodes, &status, reply);
		memcpy(*ret_status, status.array, told * sizeof **ret_status);
		*ret_count = told;
	} else {
		reply->ret = -1;
		reply->error = ENOMEM;
	}
	fenced_free(&pages);
	fenced_free(&nodes);
	fenced_free(&status);
}
