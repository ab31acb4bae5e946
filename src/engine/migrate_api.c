// SPDX-License-Identifier: MIT
// include/godwit/migrate.h: moving pages by hand, with explanations and a bound on pauses.
#include <godwit/migrate.h>

#include "base/histogram.h"
#include "engine/engine.h"
#include "virt/fault.h"
#include "migrate/move_pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)GW_WHY_COUNT == (int)WHY_COUNT, "the public reasons are the engine's");
_Static_assert((int)GW_WHY_REFUSED == (int)WHY_REFUSED, "in the same order");

const char *gw_why_text(enum gw_why why)
{
	if (why >= GW_WHY_COUNT)
		return "unknown";
	return migrate_why_text((enum migrate_why)why);
}

static void note_detail(uint64_t index, enum migrate_why why, const char *text, void *arg)
{
	struct gw_explanation *explain = arg;

	(void)why;
	snprintf(explain[index].detail, sizeof explain[index].detail, "%s", text);
}

static void explain_from(const enum migrate_why *why, unsigned long count,
	struct gw_explanation *explain)
{
	for (unsigned long i = 0; i < count; i++)
		explain[i].why = (enum gw_why)why[i];
}

// A page found no room on the node it was to go to; for a huge page, what compaction had to say.
static void explain_target(const struct phys *phys, int nid, struct gw_explanation *explain)
{
	size_t size = sizeof explain->detail;
	struct compact_verdict v;

	if (explain->detail[0] || explain->why != GW_WHY_NO_TARGET || nid < 0 ||
		(unsigned)nid >= phys->nr_nodes)
		return;
	unsigned long kb = node_nr_free(phys_node(phys, (unsigned)nid)) << (PAGE_SHIFT - 10);
	if (explain->page_size <= PAGE_SIZE ||
		!node_compact_verdict(phys_node(phys, (unsigned)nid), &v))
		snprintf(explain->detail, size, "%lu kB free there", kb);
	else if (!v.nr)
		snprintf(explain->detail, size, "%lu kB free there, compaction: %s", kb,
			compact_result_text(v.result));
	else
		snprintf(explain->detail, size, "%lu pages %s stayed there", v.nr,
			compact_stay_text(v.why));
}

// Of what sizes the pages are now.
static void explain_sizes(struct task *caller, int pid, unsigned long count, const uint64_t *pages,
	struct gw_explanation *explain)
{
	struct task *task = pid ? task_find(caller->mm, pid) : caller;
	struct space *space = task ? task_space_get(task) : NULL;

	for (unsigned long i = 0; space && i < count; i++) {
		struct folio *folio;
		unsigned page;

		if (follow_page(space, pages[i], &folio, &page))
			continue;
		explain[i].page_size = (unsigned)folio_size(folio);
		folio_put(folio);
	}
	if (space)
		space_put(space);
	if (pid && task)
		task_put(task);
}

long gw_move_pages_explained(struct gw_task *caller, int pid, unsigned long count,
	const uint64_t *pages, const int *nodes, int *status, unsigned flags,
	const struct gw_move_options *options)
{
	struct move_request request = {
		.caller = task_of(caller),
		.pid = pid,
		.count = count,
		.pages = pages,
		.nodes = nodes,
		.status = status,
		.flags = flags,
	};
	struct gw_explanation *explain = NULL;
	long ret;

	if (task_is_dead(caller))
		return -EOWNERDEAD;
	if (options && options->size != sizeof *options)
		return -EINVAL;
	request.pause_budget_us = machine_of(task_of(caller))->tunables.pause_budget_us;
	if (options) {
		if (options->pause_budget_us)
			request.pause_budget_us = options->pause_budget_us;
		request.keep_huge = options->keep_huge;
		explain = options->explain;
	}
	if (explain && count) {
		request.why = calloc(count, sizeof *request.why);
		if (!request.why)
			return -ENOMEM;
		memset(explain, 0, count * sizeof *explain);
		request.detail = note_detail;
		request.detail_arg = explain;
	}
	ret = move_pages(&request);
	if (request.why) {
		explain_from(request.why, count, explain);
		if (ret >= 0 || ret == -ENOMEM)
			explain_sizes(request.caller, pid, count, pages, explain);
		for (unsigned long i = 0; nodes && i < count; i++)
			explain_target(&machine_of(request.caller)->phys, nodes[i], &explain[i]);
	}
	free(request.why);
	return ret;
}

long gw_move_pages(struct gw_task *caller, int pid, unsigned long count, const uint64_t *pages,
	const int *nodes, int *status, unsigned flags)
{
	return gw_move_pages_explained(caller, pid, count, pages, nodes, status, flags, NULL);
}

long gw_migrate_pages(struct gw_task *caller, int pid, unsigned long maxnode,
	const unsigned long *from, const unsigned long *to)
{
	if (task_is_dead(caller))
		return -EOWNERDEAD;
	return migrate_range(task_of(caller), pid, maxnode, from, to);
}

void gw_migration_waits(struct gw_machine *machine, struct gw_waits *ret_waits)
{
	const struct histogram *h = migrate_wait_histogram(&machine->mm);

	if (machine_is_dead(machine))
		return;
	ret_waits->count = histogram_count(h);
	ret_waits->p50_ns = histogram_percentile(h, 500);
	ret_waits->p99_ns = histogram_percentile(h, 990);
	ret_waits->max_ns = histogram_max(h);
	ret_waits->overruns = atomic_load(&machine->mm.migrate_overruns);
}
