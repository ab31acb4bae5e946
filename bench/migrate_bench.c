// SPDX-License-Identifier: MIT
// What moving pages costs through the whole engine (gw_move_pages), as a ratio to a plain memcpy of
// the same bytes in the same run. Medians over rounds; sources and targets change sides each round.
//
//   migrate_bench [-m MIB] [-r ROUNDS] [-b auto|soft|rewire] [-s]
//
// -s   scatter: every second page only, so that no two are neighbours
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>
#include <godwit/trace.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned mib = 64, rounds = 9, backend = GW_BACKEND_AUTO, step = 1;

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void check(const char *what, long err)
{
	if (!err)
		return;
	fprintf(stderr, "migrate_bench: %s: %ld %s\n", what, err, gw_machine_error());
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static double plain_copy(size_t bytes)
{
	char *from = malloc(bytes), *to = malloc(bytes);
	double *us = calloc(rounds, sizeof(*us)), result;

	memset(from, 1, bytes);
	memset(to, 2, bytes);
	for (unsigned r = 0; r < rounds; r++) {
		double start = now_us();
		for (size_t at = 0; at < bytes; at += GW_PAGE_SIZE)
			memcpy((r & 1 ? from : to) + at, (r & 1 ? to : from) + at, GW_PAGE_SIZE);
		us[r] = now_us() - start;
	}
	result = median(us, rounds);
	free(us);
	free(from);
	free(to);
	return result;
}

static double moves(struct gw_task *task, uint64_t at, unsigned long pages)
{
	uint64_t *address = calloc(pages, sizeof(*address));
	int *node = calloc(pages, sizeof(*node)), *status = calloc(pages, sizeof(*status));
	double *us = calloc(rounds, sizeof(*us)), result;

	for (unsigned long i = 0; i < pages; i++)
		address[i] = at + i * step * GW_PAGE_SIZE;
	for (unsigned r = 0; r < rounds + 2; r++) {
		for (unsigned long i = 0; i < pages; i++)
			node[i] = !(r & 1);
		double start = now_us();
		check("gw_move_pages", gw_move_pages(task, 0, pages, address, node, status,
			GW_MPOL_MF_MOVE));
		if (r >= 2)
			us[r - 2] = now_us() - start;
	}
	result = median(us, rounds);
	free(us);
	free(status);
	free(node);
	free(address);
	return result;
}

static void options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "m:r:b:s")) != -1) {
		if (c == 'm')
			mib = (unsigned)atoi(optarg);
		else if (c == 'r')
			rounds = (unsigned)atoi(optarg);
		else if (c == 'b')
			backend = !strcmp(optarg, "soft") ? GW_BACKEND_SOFT : GW_BACKEND_REWIRE;
		else if (c == 's')
			step = 2;
	}
}

int main(int argc, char **argv)
{
	uint64_t bytes[2], at;
	struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes};
	struct gw_machine *machine;
	struct gw_task *task;

	options(argc, argv);
	config.backend = backend;
	bytes[0] = bytes[1] = (uint64_t)(5 * mib * step + 32) << 20;
	struct gw_mapping mapping = {.size = sizeof mapping,
		.length = (uint64_t)mib * step << 20,
		.prot = GW_PROT_READ | GW_PROT_WRITE};
	check("gw_machine_create", gw_machine_create(&config, &machine));
	gw_trace_enable(machine, 0);
	check("gw_task_create", gw_task_create(machine, NULL, &task));
	check("gw_task_attach", gw_task_attach(task));
	check("gw_map", gw_map(task, &mapping, &at));
	for (uint64_t i = 0; i < mapping.length; i += GW_PAGE_SIZE)
		check("gw_write", gw_write(task, at + i, "x", 1) - 1);
	unsigned long pages = (unsigned long)mib << 8;
	double move = moves(task, at, pages), copy = plain_copy((size_t)mib << 20);
	printf("%u MiB %s: move %.0f ns a page, memcpy %.0f ns a page, ratio %.2f\n", mib,
		step == 1 ? "in a row" : "scattered", move * 1e3 / (double)pages,
		copy * 1e3 / (double)pages, copy / move);
	check("gw_task_attach", gw_task_attach(NULL));
	gw_task_exit(task);
	gw_machine_destroy(machine);
	return 0;
}
