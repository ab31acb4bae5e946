// SPDX-License-Identifier: MIT
// What a move costs below the engine: block, copy, map (populate included), as a ratio to a plain
// memcpy of the same bytes between the same arenas in the same run. Medians; cold buffers.
//
//   mmu_bench [-m MIB] [-b signal|userfaultfd] [-c memcpy|nontemporal|parallel|auto] [-s]
//   [PAGES...]
//
// -m MIB    the memory that is moved back and forth (64)
// -s        scatter: the moved batches are not neighbours (each is a mapping of its own)
// The huge rows are left out when the host does not give huge pages to shared memory
// (/sys/kernel/mm/transparent_hugepage/shmem_enabled=advise gives them).
#include "machine/arena.h"
#include "machine/copier.h"
#include "machine/mmu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK, COPY, MAP, TOTAL, PLAIN, STEPS };

struct bench {
	const char *name;
	struct mmu *mmu;
	struct mmu_window *window;
	struct arena *arena[2];
	struct copier *copier;
	size_t batches;
	unsigned nr, stride; // pages
	double *us[STEPS];
};

static const char *only_blocker;
static enum copier_kind copier_kind = COPIER_AUTO;
static bool scatter;

static void die(const char *what, int err)
{
	fprintf(stderr, "mmu_bench: %s: %s\n", what, strerror(-err));
	exit(1);
}

static void check(const char *what, int err)
{
	if (err)
		die(what, err);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static enum mmu_fault_result on_fault(void *owner maybe_unused, const struct mmu_fault *f)
{
	fprintf(stderr, "mmu_bench: fault at %lx\n", f->at);
	return MMU_FAULT_BUS;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static struct pfn frame(const struct bench *b, unsigned node, size_t batch)
{
	return pfn_of(b->arena[node]->first + batch * b->stride);
}

static uintptr_t address(const struct bench *b, size_t batch)
{
	return b->window->start + (batch * b->stride << PAGE_SHIFT);
}

static void move_one(struct bench *b, size_t i, unsigned from)
{
	const struct mmu_ops *ops = b->mmu->ops;
	struct pfn src = frame(b, from, i), dst = frame(b, !from, i);
	double t0 = now_us(), t1, t2;

	check("block", ops->block(b->mmu, address(b, i), src, b->nr, false));
	t1 = now_us();
	copier_copy(b->copier, ops->peek(b->mmu, dst), ops->peek(b->mmu, src), b->nr);
	t2 = now_us();
	check("map", ops->map(b->mmu, address(b, i), dst, b->nr, MMU_WRITE));
	b->us[TOTAL][i] = now_us() - t0;
	b->us[BLOCK][i] = t1 - t0;
	b->us[COPY][i] = t2 - t1;
	b->us[MAP][i] = b->us[TOTAL][i] - (t2 - t0);
}

static void plain_copy(struct bench *b, unsigned from)
{
	for (size_t i = 0; i < b->batches; i++) {
		void *dst = b->mmu->ops->peek(b->mmu, frame(b, !from, i));
		void *src = b->mmu->ops->peek(b->mmu, frame(b, from, i));
		double start = now_us();

		memcpy(dst, src, (size_t)b->nr << PAGE_SHIFT);
		b->us[PLAIN][i] = now_us() - start;
	}
}

static void report(struct bench *b)
{
	double us[STEPS];
	struct mmu_stats stats;

	for (int s = 0; s < STEPS; s++)
		us[s] = median(b->us[s], b->batches);
	mmu_stats(b->mmu, &stats);
	printf("%-16s %5u %9.1f %8.1f %8.1f %8.1f %8.1f  %5.2f %7zu\n", b->name, b->nr, us[PLAIN],
		us[BLOCK], us[COPY], us[MAP], us[TOTAL], us[PLAIN] / us[TOTAL], stats.vmas);
}

static void run(struct bench *b, unsigned nr, size_t bytes)
{
	b->nr = nr;
	b->stride = scatter && nr < PTRS_PER_TABLE ? 2 * nr : nr;
	b->batches = min((bytes >> PAGE_SHIFT) / b->stride, 4096ul);
	for (int s = 0; s < STEPS; s++)
		b->us[s] = calloc(b->batches, sizeof(double));
	for (size_t i = 0; i < b->batches; i++)
		check("map",
			b->mmu->ops->map(b->mmu, address(b, i), frame(b, 0, i), nr, MMU_WRITE));
	for (unsigned round = 0; round < 4; round++) { // the last one counts
		plain_copy(b, round & 1);
		for (size_t i = 0; i < b->batches; i++)
			move_one(b, i, round & 1);
	}
	report(b);
	for (size_t i = 0; i < b->batches; i++)
		b->mmu->ops->clear(b->mmu, address(b, i), nr);
	for (int s = 0; s < STEPS; s++)
		free(b->us[s]);
}

static bool open_arenas(struct bench *b, size_t bytes, bool huge)
{
	for (unsigned node = 0; node < 2; node++) {
		struct arena_config config = {
			.node = node,
			.bytes = bytes,
			.host_node = -1,
			.huge = huge,
			.keep_tables = true,
		};
		double start;

		check("arena", arena_open(&config, &b->arena[node]));
		if (huge && b->arena[node]->page_shift == PAGE_SHIFT)
			return false;
		start = now_us();
		check("back", arena_back(b->arena[node], pfn_of(b->arena[node]->first),
				      b->arena[node]->nr_pages));
		if (node)
			printf("# %s: backing 2 MiB takes %.0f us\n", b->name,
				(now_us() - start) / (double)(bytes / PMD_SIZE));
		memset(b->arena[node]->direct, 1 + (int)node, bytes);
	}
	return true;
}

static void bench_mmu(struct bench *b, size_t bytes, bool huge, const unsigned *sizes)
{
	if (open_arenas(b, bytes, huge)) {
		check("copier", copier_open(copier_kind, 0, &b->copier));
		check("window",
			b->mmu->ops->window_open(b->mmu, bytes, PMD_SIZE, NULL, NULL, &b->window));
		for (const unsigned *nr = sizes; *nr; nr++)
			if (!huge || *nr == PTRS_PER_TABLE)
				run(b, *nr, bytes);
		b->mmu->ops->window_close(b->mmu, b->window);
		copier_close(b->copier);
	} else {
		printf("# %s: the host gives shared memory no huge pages\n", b->name);
	}
	for (unsigned node = 0; node < 2 && b->arena[node]; node++)
		arena_close(b->arena[node]);
}

static void bench(enum mmu_blocker blocker, size_t bytes, bool huge, const unsigned *sizes)
{
	struct mmu_config config = {.backend = MMU_BACKEND_REWIRE, .blocker = blocker};
	struct bench b = {0};
	char name[64];
	int err = mmu_open(&config, on_fault, &b.mmu);

	if (err) {
		printf("# blocker %d: %s\n", blocker, strerror(-err));
		return;
	}
	snprintf(name, sizeof(name), "%s %s", b.mmu->ops->blocker, huge ? "2M" : "4K");
	b.name = name;
	if (!only_blocker || !strcmp(only_blocker, b.mmu->ops->blocker))
		bench_mmu(&b, bytes, huge, sizes);
	b.mmu->ops->close(b.mmu);
}

static enum copier_kind parse_copier(const char *name)
{
	static const char *const names[] = {"auto", "memcpy", "nontemporal", "parallel"};

	for (int i = 0; i < 4; i++)
		if (!strcmp(name, names[i]))
			return (enum copier_kind)i;
	fprintf(stderr, "mmu_bench: no copier %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned sizes[32] = {1, 4, 16, 64, 128, 256, 512, 0};
	size_t bytes = 64ul << 20;
	int opt;

	while ((opt = getopt(argc, argv, "m:b:c:s")) != -1) {
		if (opt == 'm')
			bytes = strtoul(optarg, NULL, 0) << 20;
		else if (opt == 'b')
			only_blocker = optarg;
		else if (opt == 'c')
			copier_kind = parse_copier(optarg);
		else if (opt == 's')
			scatter = true;
		else
			return 2;
	}
	for (int i = optind; i < argc && i - optind < 31; i++) {
		sizes[i - optind] = (unsigned)strtoul(argv[i], NULL, 0);
		sizes[i - optind + 1] = 0;
	}
	printf("%-16s %5s %9s %8s %8s %8s %8s  %5s %7s\n", "blocker, arena", "pages", "memcpy/us",
		"block", "copy", "map", "total", "ratio", "vmas");
	for (int huge = 0; huge < 2; huge++) {
		bench(MMU_BLOCKER_SIGNAL, bytes, huge, sizes);
		bench(MMU_BLOCKER_USERFAULTFD, bytes, huge, sizes);
	}
	return 0;
}
