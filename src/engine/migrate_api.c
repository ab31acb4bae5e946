// SPDX-License-Identifier: MIT
// include/godwit/migrate.h: moving pages by hand, with explanations and a bound on pauses.
#include <godwit/migrate.h>

#include "base/histogram.h"
#include "engine/engine.h"
#include "engine/move_options.h"
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

const char *gw_why_name(enum gw_why why)
{
	return migrate_why_name((enum migrate_why)why);
}

// ---- What is said of each page

static void note_detail(uint64_t index, enum migrate_why why, const char *text, void *arg)
{
	struct gw_explanation *explain = arg;

	(void)why;
	snprintf(explain[index].detail, sizeof explain[index].detail, "%s", text);
}

static enum gw_huge_fate fate(unsigned order_before, unsigned page_size)
{
	if (!order_before || !page_size)
		return GW_HUGE_FATE_NONE;
	return page_size < PAGE_SIZE << order_before ? GW_HUGE_FATE_SPLIT : GW_HUGE_FATE_STAYED;
}

// What is looked at when a call is over, which was allowed to look.
struct aftermath {
	const struct move_request *rq;
	struct gw_explanation *explain; // [rq->count]
	struct stayed *stayed;		// NULL: nobody asks
};

static void note_stayed(
	struct aftermath *am, unsigned long i, const struct folio *folio, unsigned page)
{
	const struct move_request *rq = am->rq;
	const struct gw_explanation *ex = &am->explain[i];
	struct stayed_run run = {.address = rq->pages[i] & PAGE_MASK,
		.nr = 1,
		.nid = STAYED_NOWHERE,
		.why = rq->why[i]};

	if (!am->stayed || !rq->nodes || ex->why == GW_WHY_MOVED || ex->why == GW_WHY_ALREADY_THERE)
		return;
	if (folio && (int)folio_nid(folio) == rq->nodes[i])
		return; // by another address of it, or by somebody else
	if (folio) {
		run.order = folio_order(folio);
		run.address -= page * PAGE_SIZE;
		run.nid = (int)folio_nid(folio);
	}
	memcpy(run.detail, ex->detail, sizeof run.detail);
	stayed_add(am->stayed, &run);
}

// Of what size the page is now, and whether it stayed.
static void look_at(struct aftermath *am, struct space *space, unsigned long i)
{
	const struct move_request *rq = am->rq;
	struct gw_explanation *ex = &am->explain[i];
	struct folio *folio;
	unsigned page;

	if (follow_page(space, rq->pages[i], &folio, &page)) {
		note_stayed(am, i, NULL, 0);
		return;
	}
	ex->page_size = (unsigned)folio_size(folio);
	ex->huge = fate(rq->order[i], ex->page_size);
	note_stayed(am, i, folio, page);
	folio_put(folio);
}

static void look_at_all(struct aftermath *am)
{
	const struct move_request *rq = am->rq;
	struct task *task = rq->pid ? task_find(rq->caller->mm, rq->pid) : rq->caller;
	struct space *space = task ? task_space_get(task) : NULL;

	for (unsigned long i = 0; space && i < rq->count; i++)
		look_at(am, space, i);
	if (space)
		space_put(space);
	if (rq->pid && task)
		task_put(task);
}

static void explain_all(struct aftermath *am)
{
	const struct move_request *rq = am->rq;

	for (unsigned long i = 0; i < rq->count; i++)
		am->explain[i].why = (enum gw_why)rq->why[i];
	if (rq->count && rq->why[0] != WHY_REFUSED && rq->why[0] != WHY_NO_PERMISSION)
		look_at_all(am);
}

// ---- A call, with room for what shall be said

struct explained {
	struct gw_explanation *explain; // written under locks: not the caller's, it may be managed
	void *memory;			// of the arrays
};

// An errno, or 0 and the request has its arrays.
static int prepare_to_explain(struct explained *ex, struct move_request *rq)
{
	unsigned long n = rq->count;
	size_t each = sizeof *rq->why + sizeof *rq->order + sizeof *ex->explain;

	if (n > SIZE_MAX / 2 / each)
		return -ENOMEM;
	ex->memory = calloc(n + 1, each);
	if (!ex->memory)
		return -ENOMEM;
	ex->explain = ex->memory;
	rq->why = (void *)(ex->explain + n);
	rq->order = (uint8_t *)(rq->why + n);
	rq->detail = note_detail;
	rq->detail_arg = ex->explain;
	return 0;
}

// Neither moved nor passed over by its status, nor a victim of an earlier one.
static bool is_reason(enum gw_why why)
{
	return why > GW_WHY_NOT_ON_LRU && why != GW_WHY_ABORTED;
}

static const struct gw_explanation *first_failure(const struct explained *ex, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		if (is_reason(ex->explain[i].why))
			return &ex->explain[i];
	return NULL;
}

static void report_all(const struct move_request *rq, const struct explained *ex,
	struct gw_move_report *report)
{
	const struct gw_explanation *first = first_failure(ex, rq->count);

	move_report_totals(report, &rq->totals);
	report->why = first ? first->why : GW_WHY_MOVED;
	memcpy(report->detail, first ? first->detail : (char[60]){0}, sizeof report->detail);
}

static long move_and_explain(struct move_request *rq, const struct gw_move_options *options)
{
	struct explained ex = {0};
	struct stayed stayed = {0};
	long ret = prepare_to_explain(&ex, rq);

	if (options->report)
		*options->report = (struct gw_move_report){0};
	if (options->stayed)
		stayed_list_begin(options->stayed, &stayed);
	if (!ret) {
		ret = move_pages(rq);
		explain_all(&(struct aftermath){
			.rq = rq,
			.explain = ex.explain,
			.stayed = options->stayed ? &stayed : NULL,
		});
		if (options->explain)
			memcpy(options->explain, ex.explain, rq->count * sizeof *ex.explain);
		if (options->report)
			report_all(rq, &ex, options->report);
		free(ex.memory);
	}
	if (options->stayed)
		stayed_list_end(options->stayed, &stayed);
	return ret;
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

	if (task_refused(caller))
		return task_refused(caller);
	if (!move_options_good(options))
		return -EINVAL;
	request.pause_budget_us = options ? options->pause_budget_us : 0;
	request.keep_huge = options && options->keep_huge;
	if (options && (options->explain || options->report || options->stayed))
		return move_and_explain(&request, options);
	return move_pages(&request);
}

long gw_move_pages(struct gw_task *caller, int pid, unsigned long count, const uint64_t *pages,
	const int *nodes, int *status, unsigned flags)
{
	return gw_move_pages_explained(caller, pid, count, pages, nodes, status, flags, NULL);
}

long gw_migrate_pages(struct gw_task *caller, int pid, unsigned long maxnode,
	const unsigned long *from, const unsigned long *to)
{
	return gw_migrate_pages_explained(caller, pid, maxnode, from, to, NULL);
}

long gw_migrate_pages_explained(struct gw_task *caller, int pid, unsigned long maxnode,
	const unsigned long *from, const unsigned long *to, const struct gw_move_options *options)
{
	struct migrate_control mc;
	struct move_notes notes;

	if (task_refused(caller))
		return task_refused(caller);
	long ret = move_options_begin(options, &mc, &notes);
	if (ret)
		return ret;
	ret = migrate_range(task_of(caller), pid, maxnode, from, to, &mc);
	move_options_end(&mc, &notes);
	return ret;
}

void gw_migration_waits(struct gw_machine *machine, struct gw_waits *ret_waits)
{
	if (!ret_waits)
		return;
	if (machine_refused(machine)) {
		*ret_waits = (struct gw_waits){0};
		return;
	}
	const struct histogram *h = migrate_wait_histogram(&machine->mm);
	ret_waits->count = histogram_count(h);
	ret_waits->p50_ns = histogram_percentile(h, 500);
	ret_waits->p99_ns = histogram_percentile(h, 990);
	ret_waits->max_ns = histogram_max(h);
	ret_waits->overruns = atomic_load(&machine->mm.migrate_overruns);
}
