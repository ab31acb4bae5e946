// SPDX-License-Identifier: MIT
// Rows that move pages with gw_move_pages(): rounds of a world, idle or under a writer.
//
// Under a writer the machine is first left alone for a while, so that the accesses of a second can
// be compared; then all rounds run without a pause. The pages' numbers are checked at the end of
// each row, and the writer's sums.
#include "bench/case.h"
#include "bench/writer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define IDLE_MS 100
#define TURN_PAGES 512ul

static int fail(struct bench_row *row, const char *what, int err)
{
	snprintf(row->skipped, sizeof row->skipped, "%s: %s", what, strerror(-err));
	return err == -EIO ? -EIO : 0;
}

static struct move_plan plan_of(const struct bench_setting *s, const struct world *w)
{
	const struct bench_case *c = s->what;
	struct move_plan p = {
		.entries = c->at_most && c->at_most < w->entries ? c->at_most : w->entries,
		.pause_budget_us = c->pause_budget_us,
		.flags = w->spec.spaces > 1 ? GW_MPOL_MF_MOVE_ALL : GW_MPOL_MF_MOVE,
	};

	// Part of the kernel's move is done by others (its per-cpu lists are drained everywhere).
	p.now = !c->writer && s->spec.copy_threads == 1 && !s->spec.against_host ? bench_cpu_ns
										 : bench_now_ns;
	p.per_call = c->per_call ? c->per_call : p.entries;
	p.per_turn = p.per_call * w->unit > TURN_PAGES ? p.per_call : TURN_PAGES / w->unit;
	return p;
}

static int rounds(struct world *w, const struct move_plan *p, unsigned n, struct timing *t,
	uint64_t *ret_stayed)
{
	for (unsigned i = 0; i < n; i++) {
		double ours, copy;
		int err = world_round(w, p, &ours, &copy, ret_stayed);

		if (err)
			return err;
		if (t)
			timing_add(t, ours, copy);
	}
	return 0;
}

static void sleep_ms(long ms)
{
	const struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static void report_waits(struct world *w, struct bench_row *row, const struct gw_waits *before)
{
	struct gw_waits waits;

	gw_migration_waits(w->machine, &waits);
	row->overruns = waits.overruns - before->overruns;
	row->stalls.waits_p50_us = (double)waits.p50_ns / 1e3;
	row->stalls.waits_p99_us = (double)waits.p99_ns / 1e3;
	row->stalls.waits_max_us = (double)waits.max_ns / 1e3;
}

static int measure(const struct bench_setting *s, struct world *w, struct timing *t,
	struct bench_row *row)
{
	struct move_plan p = plan_of(s, w);
	struct writer *writer = NULL;
	struct gw_waits before;
	uint64_t ignored = 0;
	int err = rounds(w, &p, BENCH_WARM_UP, NULL, &ignored);

	row->pages = p.entries * w->unit;
	row->cpu_time = p.now == bench_cpu_ns;
	gw_migration_waits(w->machine, &before);
	if (!err && s->what->writer) {
		err = writer_start(w, &writer);
		if (err)
			return err;
		sleep_ms(IDLE_MS);
		row->stalls.idle_per_s = writer_rate(writer);
		writer_mark(writer);
	}
	if (!err)
		err = rounds(w, &p, s->rounds, t, &row->stayed);
	if (writer && !writer_stop(writer, &row->stalls))
		err = -EIO;
	report_waits(w, row, &before);
	return err;
}

// After an odd number of rounds only some pages of a row with a limit are on the other side.
static int check_nodes(struct world *w, struct bench_row *row)
{
	long elsewhere = row->pages == w->pages ? world_elsewhere(w) : 0;

	if (elsewhere < 0)
		return (int)elsewhere;
	row->elsewhere = (uint64_t)elsewhere;
	return 0;
}

int bench_moves(const struct bench_setting *s, struct bench_row *row)
{
	struct timing t;
	struct world w;
	int err = world_open(&w, &s->spec, row->skipped, sizeof row->skipped);

	if (err)
		return err == -ENOMEM ? err : 0;
	if (s->what->scattered)
		world_shuffle(&w);
	err = timing_open(&t, s->rounds);
	if (!err) {
		err = measure(s, &w, &t, row);
		if (!err && !world_check(&w))
			err = -EIO;
		if (!err && s->spec.against_host)
			err = check_nodes(&w, row);
		if (err)
			err = fail(row, err == -EIO ? "wrong bytes after a move" : "moving pages",
				err);
		else
			timing_report(&t, row);
		timing_close(&t);
	}
	world_close(&w);
	return err;
}
