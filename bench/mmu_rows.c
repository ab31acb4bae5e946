// SPDX-License-Identifier: MIT
// Rows measured below the engine, at the seam to the host's translation (machine/mmu.h): what a
// move of 2 MiB costs without page tables, folios and lists of ours. The difference to the rows
// above them is the engine's bookkeeping.
//
//   move    block, copy, map of 512 consecutive pages: one 2 MiB stretch after the other
//   clear   taking the translation away and giving it back, 512 pages at once: what arming a hint
//           fault costs (the fault itself not counted)
//
// The same method as bench/mmu_bench.c, which shows each step apart.
#include "bench/case.h"

#include "machine/arena.h"
#include "machine/copier.h"
#include "machine/mmu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct below {
	struct mmu *mmu;
	struct mmu_window *window;
	struct arena *arena[2];
	struct copier *copier;
	struct plain plain;
	size_t bytes;
	bench_clock_fn *now;
	double *ours, *copy; // ns of each block
	unsigned side;
	bool clear_only;
};

// Every page is mapped before it is touched.
static enum mmu_fault_result on_fault(void *owner maybe_unused, const struct mmu_fault *f maybe_unused)
{
	return MMU_FAULT_BUS;
}

static struct pfn frame(const struct below *b, unsigned side, size_t block)
{
	return pfn_of(b->arena[side]->first + block * PTRS_PER_TABLE);
}

static uintptr_t address(const struct below *b, size_t block)
{
	return b->window->start + block * PMD_SIZE;
}

static int open_arena(struct below *b, unsigned i, bool huge)
{
	struct arena_config config = {
		.node = i,
		.bytes = b->bytes,
		.host_node = -1,
		.huge = huge,
		.keep_tables = true,
	};
	int err = arena_open(&config, &b->arena[i]);

	if (!err && huge && b->arena[i]->page_shift == PAGE_SHIFT)
		err = -EOPNOTSUPP;
	if (!err)
		err = arena_back(b->arena[i], pfn_of(b->arena[i]->first), b->arena[i]->nr_pages);
	if (!err)
		memset(b->arena[i]->direct, 1 + (int)i, b->bytes);
	return err;
}

static void below_close(struct below *b)
{
	if (b->window)
		b->mmu->ops->window_close(b->mmu, b->window);
	if (b->copier)
		copier_close(b->copier);
	plain_close(&b->plain);
	free(b->ours);
	free(b->copy);
	for (unsigned i = 0; i < 2; i++)
		if (b->arena[i])
			arena_close(b->arena[i]);
	if (b->mmu)
		b->mmu->ops->close(b->mmu);
}

static int below_open(struct below *b, const struct world_spec *spec)
{
	struct mmu_config config = {
		.backend = MMU_BACKEND_REWIRE,
		.blocker = spec->blocker == GW_BLOCKER_SIGNAL ? MMU_BLOCKER_SIGNAL
							      : MMU_BLOCKER_USERFAULTFD,
	};
	int err;

	*b = (struct below){.bytes = spec->bytes, .plain = {.fd = {-1, -1}}};
	b->ours = calloc(b->bytes / PMD_SIZE, sizeof(*b->ours));
	b->copy = calloc(b->bytes / PMD_SIZE, sizeof(*b->copy));
	err = b->ours && b->copy ? mmu_open(&config, on_fault, &b->mmu) : -ENOMEM;
	for (unsigned i = 0; !err && i < 2; i++)
		err = open_arena(b, i, spec->huge);
	if (!err)
		err = copier_open(spec->copy_threads > 1 ? COPIER_PARALLEL : COPIER_AUTO,
			spec->copy_threads, &b->copier);
	if (!err)
		err = plain_open(
			&b->plain, b->bytes, spec->huge ? PLAIN_HUGE : PLAIN_USUAL);
	if (!err)
		err = b->mmu->ops->window_open(b->mmu, b->bytes, PMD_SIZE, NULL, NULL, &b->window);
	for (size_t i = 0; !err && i < b->bytes / PMD_SIZE; i++)
		err = b->mmu->ops->map(b->mmu, address(b, i), frame(b, 0, i), PTRS_PER_TABLE,
			MMU_WRITE);
	if (err)
		below_close(b);
	return err;
}

static int move_block(struct below *b, size_t i)
{
	const struct mmu_ops *ops = b->mmu->ops;
	struct pfn src = frame(b, b->side, i), dst = frame(b, !b->side, i);
	int err = ops->block(b->mmu, address(b, i), src, PTRS_PER_TABLE, false);

	if (err)
		return err;
	copier_copy(b->copier, ops->peek(b->mmu, dst), ops->peek(b->mmu, src), PTRS_PER_TABLE);
	return ops->map(b->mmu, address(b, i), dst, PTRS_PER_TABLE, MMU_WRITE);
}

static int clear_block(struct below *b, size_t i)
{
	b->mmu->ops->clear(b->mmu, address(b, i), PTRS_PER_TABLE);
	return b->mmu->ops->map(b->mmu, address(b, i), frame(b, 0, i), PTRS_PER_TABLE, MMU_WRITE);
}

static int below_round(struct below *b, double *ret_ours, double *ret_copy)
{
	size_t blocks = b->bytes / PMD_SIZE;
	int err = 0;

	for (size_t i = 0; !err && i < blocks; i++) {
		double start = b->now(), middle;

		memcpy(b->plain.side[!b->side] + i * PMD_SIZE, b->plain.side[b->side] + i * PMD_SIZE,
			PMD_SIZE);
		middle = b->now();
		err = b->clear_only ? clear_block(b, i) : move_block(b, i);
		b->ours[i] = b->now() - middle;
		b->copy[i] = middle - start;
	}
	if (!b->clear_only)
		b->side = !b->side;
	*ret_ours = percentile_of(b->ours, blocks, 0.5) * (double)blocks;
	*ret_copy = percentile_of(b->copy, blocks, 0.5) * (double)blocks;
	return err;
}

static int below_rounds(struct below *b, unsigned rounds, struct timing *t)
{
	int err = 0;

	for (unsigned i = 0; !err && i < rounds; i++) {
		double ours, copy;

		err = below_round(b, &ours, &copy);
		if (t)
			timing_add(t, ours, copy);
	}
	return err;
}

static int run(const struct bench_setting *s, struct bench_row *row, bool clear_only)
{
	struct timing t;
	struct below b;
	int err = below_open(&b, &s->spec);

	if (err) {
		snprintf(row->skipped, sizeof row->skipped, "%s",
			err == -EOPNOTSUPP ? "the host gives shared memory no huge pages"
					   : strerror(-err));
		return err == -ENOMEM ? err : 0;
	}
	b.clear_only = clear_only;
	b.now = s->spec.copy_threads == 1 ? bench_cpu_ns : bench_now_ns;
	row->cpu_time = b.now == bench_cpu_ns;
	row->pages = b.bytes >> PAGE_SHIFT;
	err = timing_open(&t, s->rounds);
	if (!err) {
		err = below_rounds(&b, BENCH_WARM_UP, NULL);
		if (!err)
			err = below_rounds(&b, s->rounds, &t);
		if (err)
			snprintf(row->skipped, sizeof row->skipped, "%s", strerror(-err));
		else
			timing_report(&t, row);
		timing_close(&t);
	}
	below_close(&b);
	return err == -ENOMEM ? err : 0;
}

int bench_mmu_move(const struct bench_setting *s, struct bench_row *row)
{
	return run(s, row, false);
}

int bench_mmu_clear(const struct bench_setting *s, struct bench_row *row)
{
	return run(s, row, true);
}
