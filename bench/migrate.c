// SPDX-License-Identifier: MIT
// `godwit bench migrate` and `godwit bench huge`: the tables of cases, and the loop that measures
// each in each variant.
//
//   bench_migrate()   for each case, for each blocker that this host gives, with one copy thread and
//                     (where it matters) two, on arenas of 4 KiB host pages and (where it matters)
//                     of huge ones: one row
//
// Every row has a machine of its own, so that no row finds the address space as another left it
// (scattered moves leave a host mapping for each page). A row that cannot be measured here stays in
// the report with the reason.
#include "bench/case.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define AREA_BYTES (64ul << 20)
#define AREA_BYTES_QUICK (4ul << 20)
#define ROUNDS 15
#define ROUNDS_QUICK 2

static const struct bench_case cases[] = {
	{"single", "4 KiB pages one by one: a gw_move_pages() call each", bench_moves, .per_call = 1,
		.at_most = 2048},
	{"scattered-512", "512 pages that are not neighbours in each call", bench_moves,
		.per_call = 512, .at_most = 8192, .scattered = true},
	{"contiguous-512", "512 neighbouring pages (2 MiB) in each call", bench_moves,
		.per_call = 512, .two_threads = true, .huge_too = true},
	{"large", "all pages in one call", bench_moves, .two_threads = true, .huge_too = true},
	{"shared-512", "512 neighbouring pages that two spaces map, in each call", bench_moves,
		.per_call = 512, .spaces = 2},
	{"huge-2m", "one huge folio in each call", bench_moves, .per_call = 1, .thp = true,
		.two_threads = true, .huge_too = true},
	{"mmu-2m", "below the engine: block, copy and map 2 MiB", bench_mmu_move,
		.two_threads = true, .huge_too = true},
	{"writer-512", "contiguous-512 while a thread writes to random pages", bench_moves,
		.per_call = 512, .writer = true},
	{"writer-large", "all pages in one call under the writer", bench_moves, .writer = true},
	{"budget-50", "writer-large, blocks to take at most 50 us", bench_moves, .writer = true,
		.pause_budget_us = 50},
	{"budget-100", "writer-large, blocks to take at most 100 us", bench_moves, .writer = true,
		.pause_budget_us = 100},
	{"budget-500", "writer-large, blocks to take at most 500 us", bench_moves, .writer = true,
		.pause_budget_us = 500},
	{"first-touch", "the first store to each page of a new area", bench_first_touch,
		.huge_too = true},
	{"query", "where all pages are, in one call", bench_query, .per_call = 0},
	{"protect", "PROT_NONE for all pages in one call, and back", bench_protect, .per_call = 0},
	{"mmu-clear", "below the engine: take 512 translations away and give them back: arming",
		bench_mmu_clear, .per_call = 512},
};

// Against move_pages(2) of the host: the same calls to both.
static const struct bench_case host_cases[] = {
	{"single", "4 KiB pages one by one: a call each", bench_moves, .per_call = 1,
		.at_most = 2048},
	{"scattered-512", "512 pages that are not neighbours in each call", bench_moves,
		.per_call = 512, .at_most = 8192, .scattered = true},
	{"contiguous-512", "512 neighbouring pages (2 MiB) in each call", bench_moves,
		.per_call = 512},
	{"large", "all pages in one call", bench_moves, .per_call = 0},
	{"thp", "one transparent huge page in each call", bench_moves, .per_call = 1, .thp = true,
		.host_pages = HOST_PAGES_THP},
	{"thp-large", "all transparent huge pages in one call", bench_moves, .thp = true,
		.host_pages = HOST_PAGES_THP},
	{"hugetlb", "one huge page of the pool in each call, of the kernel's and of the engine's",
		bench_moves, .per_call = 1, .hugetlb = true, .host_pages = HOST_PAGES_HUGETLB},
};

// `godwit bench huge`, against memcpy and against the host.
static const struct bench_case huge_cases[] = {
	{"move", "one huge folio in each call", bench_moves, .per_call = 1, .thp = true,
		.host_pages = HOST_PAGES_THP, .huge_too = true},
	{"move-all", "all huge folios in one call", bench_moves, .thp = true,
		.host_pages = HOST_PAGES_THP, .huge_too = true},
	{"move-hugetlb", "one huge page of the pool in each call", bench_moves, .per_call = 1,
		.hugetlb = true, .host_pages = HOST_PAGES_HUGETLB, .huge_too = true},
	{"move-writer", "move-all while a thread writes to random pages", bench_moves, .thp = true,
		.writer = true, .alone = true},
	{"split", "one huge page taken apart, in each call (debugfs)", bench_split, .thp = true,
		.host_pages = HOST_PAGES_THP, .huge_too = true},
	{"collapse", "512 small pages made one, in each call (MADV_COLLAPSE)", bench_collapse,
		.thp = true, .host_pages = HOST_PAGES_THP, .huge_too = true},
	{"collapse-writer", "collapse while a thread writes to random pages", bench_collapse,
		.thp = true, .writer = true, .host_pages = HOST_PAGES_THP, .huge_too = true},
	{"scan", "khugepaged looks at every page, and finds one missing in each 2 MiB",
		bench_scan, .thp = true, .host_pages = HOST_PAGES_THP},
};

struct plan {
	const struct bench_options *options;
	struct bench_report *report;
	unsigned done, total;
	int host_node[2];
};

// ---- Variants

static const char *const blockers[] = {"signal", "userfaultfd"};

static void name_row(const struct bench_setting *s, struct bench_row *row)
{
	const struct bench_case *c = s->what;

	row->what = c->name;
	row->means = c->means;
	row->blocker = blockers[s->spec.blocker - GW_BLOCKER_SIGNAL];
	row->arena = s->spec.hugetlbfs ? "pool" : s->spec.huge ? "2m" : "4k";
	row->copy_threads = s->spec.copy_threads;
	row->under_writer = c->writer;
	row->pause_budget_us = c->pause_budget_us;
	snprintf(row->name, sizeof row->name, "%s/%s/%s/%u", c->name, row->blocker, row->arena,
		row->copy_threads);
}

static int take_row(struct plan *p, const struct bench_setting *s)
{
	struct bench_row row = {0}, *grown;
	int err;

	name_row(s, &row);
	if (p->options->filter && !strstr(row.name, p->options->filter))
		return 0;
	if (!p->report) { // only counting
		p->total++;
		return 0;
	}
	if (p->options->progress)
		p->options->progress(p->done, p->total, row.name, p->options->progress_arg);
	p->done++;
	err = s->what->run(s, &row);
	if (err && err != -EIO)
		return err;
	grown = realloc(p->report->row, (p->report->nr + 1) * sizeof(row));
	if (!grown)
		return -ENOMEM;
	p->report->row = grown;
	grown[p->report->nr++] = row;
	return err;
}

// What the arenas lie on: usual pages, or, in other rows, huge ones, or the host's hugetlb pool.
enum { USUAL, HUGE_PAGES, HOSTS_POOL };

static struct world_spec spec_of(const struct bench_case *c, enum gw_blocker blocker, int pages,
	unsigned threads, const struct plan *p)
{
	bool quick = p->options->quick;

	return (struct world_spec){
		.against_host = p->options->against_host,
		.host_node = {p->host_node[0], p->host_node[1]},
		.host_pages = c->host_pages,
		.blocker = blocker,
		.huge = pages == HUGE_PAGES,
		.hugetlbfs = pages == HOSTS_POOL,
		.copy_threads = threads,
		.spaces = c->spaces ? c->spaces : 1,
		.thp = c->thp,
		.hugetlb = c->hugetlb,
		.bytes = quick ? AREA_BYTES_QUICK : AREA_BYTES,
	};
}

static int take_case(struct plan *p, const struct bench_case *c)
{
	bool quick = p->options->quick;
	unsigned rounds = p->options->rounds ? p->options->rounds : quick ? ROUNDS_QUICK : ROUNDS;
	int last = !c->huge_too || quick ? USUAL : c->hugetlb ? HOSTS_POOL : HUGE_PAGES;
	int err = 0;

	if (c->alone && p->options->against_host)
		return 0;
	for (int pages = USUAL; pages <= last; pages++)
		for (unsigned threads = 1; threads <= (c->two_threads ? 2u : 1u); threads++)
			for (int b = GW_BLOCKER_SIGNAL; !err && b <= GW_BLOCKER_USERFAULTFD; b++) {
				struct bench_setting s = {
					.what = c,
					.spec = spec_of(c, (enum gw_blocker)b, pages, threads, p),
					.rounds = rounds,
					.quick = quick,
				};
				err = take_row(p, &s);
			}
	return err;
}

#define TABLE(cases) (cases), sizeof(cases) / sizeof((cases)[0])

static int take_table(struct plan *p, const struct bench_case *c, size_t nr)
{
	int err = 0;

	for (size_t i = 0; !err && i < nr; i++)
		err = take_case(p, &c[i]);
	return err;
}

static int take_all(struct plan *p)
{
	bool host = p->options->against_host;

	if (p->options->huge)
		return take_table(p, TABLE(huge_cases));
	return host ? take_table(p, TABLE(host_cases)) : take_table(p, TABLE(cases));
}

// ---- The host

static void read_line(const char *path, const char *key, char *ret_text, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[256];

	snprintf(ret_text, size, "unknown");
	while (f && fgets(line, sizeof line, f)) {
		char *value = key ? strstr(line, ": ") : line;

		if (key && (strncmp(line, key, strlen(key)) || !value))
			continue;
		value += key ? 2 : 0;
		value[strcspn(value, "\n")] = '\0';
		snprintf(ret_text, size, "%.*s", (int)size - 1, value);
		break;
	}
	if (f)
		fclose(f);
}

// The word in brackets.
static void choice_of(const char *setting, char *ret_word, size_t size)
{
	const char *open = strchr(setting, '['), *close = open ? strchr(open, ']') : NULL;

	if (close)
		snprintf(ret_word, size, "%.*s", (int)(close - open - 1), open + 1);
	else
		snprintf(ret_word, size, "unknown");
}

static void describe_host(struct bench_host *h)
{
	struct utsname u;
	char setting[128];

	if (!uname(&u))
		snprintf(h->kernel, sizeof h->kernel, "%.*s", (int)sizeof h->kernel - 1, u.release);
	read_line("/proc/cpuinfo", "model name", h->cpu, sizeof h->cpu);
	read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", NULL, setting,
		sizeof setting);
	choice_of(setting, h->shmem_huge, sizeof h->shmem_huge);
	h->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	h->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1ul << 30);
}

int bench_migrate(const struct bench_options *options, struct bench_report *ret_report)
{
	struct plan p = {.options = options};

	*ret_report = (struct bench_report){
#if defined(GODWIT_DEBUG) || !defined(__OPTIMIZE__)
		.debug_build = true,
#endif
		.bytes = options->quick ? AREA_BYTES_QUICK : AREA_BYTES,
		.against_host = options->against_host,
		.huge = options->huge,
	};
	describe_host(&ret_report->host);
	if (options->against_host) {
		int err = host_two_nodes(ret_report->host_node);

		if (err)
			return err;
		memcpy(p.host_node, ret_report->host_node, sizeof p.host_node);
	}
	(void)take_all(&p);
	p.report = ret_report;
	return take_all(&p);
}

unsigned bench_pool_pages(const struct bench_options *options)
{
	return (unsigned)((options->quick ? AREA_BYTES_QUICK : AREA_BYTES) >> 21);
}

void bench_report_release(struct bench_report *report)
{
	free(report->row);
	*report = (struct bench_report){0};
}
