// SPDX-License-Identifier: MIT
// godwit bench migrate, godwit bench huge: what moving pages, and what huge pages cost on this
// host. The measuring is done in bench/.
//
// Progress goes to stderr when that is a terminal and the run takes longer than a second; results
// go to stdout. Exit status: 0 measured, 1 the bytes of a page were wrong after a move the kernel
// a page elsewhere than the engine, or there was no memory, 2 bad usage, 77 nothing that was asked
// for can be measured here.

#include "bench/host_area.h"
#include "cli/bench_pool.h"
#include "cli/bench_report.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 10000

static const char usage[] =
	"usage: godwit bench migrate|huge [--against memcpy|host] [--quick] [--rounds N]\n"
	"                                 [--filter TEXT] [--allow-system-changes] [--json]\n"
	"\n"
	"How fast pages move here, each row beside a plain memcpy in the same run.\n"
	"\n"
	"  --against host the same done by the kernel instead, between the same two nodes\n"
	"  --quick        a few seconds: that it runs, not how fast\n"
	"  --rounds N     measured rounds of each row (15)\n"
	"  --filter TEXT  only rows whose CASE/BLOCKER/ARENA/COPY contains TEXT\n"
	"  --allow-system-changes\n"
	"                 against host, as root: fill the pools that rows want huge pages\n"
	"                 of, and put them back\n"
	"  --json         all figures, \"schema\": 1\n";

struct progress {
	struct timespec start;
	bool shown;
};

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void show_progress(unsigned done, unsigned total, const char *name, void *arg)
{
	struct progress *p = arg;

	if (seconds_since(&p->start) < 1)
		return;
	fprintf(stderr, "\r\033[K%u/%u %s", done, total, name);
	p->shown = true;
}

static void clear_progress(const struct progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
}

static bool any_measured(const struct bench_report *report)
{
	for (size_t i = 0; i < report->nr; i++)
		if (!report->row[i].skipped[0])
			return true;
	return false;
}

// The kernel's word against the engine's.
static bool all_in_place(const struct bench_report *report)
{
	for (size_t i = 0; i < report->nr; i++)
		if (report->row[i].elsewhere)
			return false;
	return true;
}

static int run(struct bench_options *options, bool json, bool allow_changes)
{
	struct bench_pool pool = {0};
	int node[2];
	struct bench_report report;
	struct progress progress = {0};
	int err, status;

	clock_gettime(CLOCK_MONOTONIC, &progress.start);
	options->progress = isatty(STDERR_FILENO) ? show_progress : NULL;
	options->progress_arg = &progress;
	if (options->against_host && bench_pool_may_change(allow_changes) && !host_two_nodes(node))
		bench_pool_reserve(&pool, node, bench_pool_pages(options));
	err = bench_migrate(options, &report);
	clear_progress(&progress);
	status = any_measured(&report) ? CLI_OK : CLI_SKIPPED;
	if (err && err != -ENODEV)
		status = CLI_FAILED;
	if (err == -ENODEV)
		fprintf(stderr,
			"godwit: --against host: this host has one node with memory, and the "
			"kernel "
			"moves pages between two; try scripts/real-kernel -- godwit bench %s "
			"--against host\n",
			options->huge ? "huge" : "migrate");
	else if (err == -EIO)
		fprintf(stderr, "godwit: %s: the bytes of a page are wrong\n",
			report.row[report.nr - 1].name);
	else if (err)
		fprintf(stderr, "godwit: %s\n", strerror(-err));
	else if (!report.nr && options->filter)
		fprintf(stderr, "godwit: --filter %s: no row has this text\n", options->filter);
	if (!all_in_place(&report))
		status = CLI_FAILED;
	if (err != -ENODEV && (json ? bench_print_json : bench_print_table)(&report))
		status = CLI_FAILED;
	bench_report_release(&report);
	if (!bench_pool_release(&pool))
		status = CLI_FAILED;
	return status;
}

static bool read_rounds(const char *text, unsigned *ret_rounds)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !n || n > ROUNDS_MAX)
		return false;
	*ret_rounds = (unsigned)n;
	return true;
}

static int measure(int argc, char **argv, const char *name, bool huge)
{
	static const struct option known[] = {
		{"quick", no_argument, NULL, 'q'},
		{"rounds", required_argument, NULL, 'r'},
		{"filter", required_argument, NULL, 'f'},
		{"against", required_argument, NULL, 'a'},
		{"allow-system-changes", no_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct bench_options options = {.huge = huge};
	bool json = false, allow_changes = false;

	opterr = 0;
	optind = 1;
	for (int c; (c = getopt_long(argc, argv, ":h", known, NULL)) >= 0;) {
		if (c == 'q')
			options.quick = true;
		else if (c == 'f')
			options.filter = optarg;
		else if (c == 'j')
			json = true;
		else if (c == 'c')
			allow_changes = true;
		else if (c == 'h')
			return fputs(usage, stdout) < 0 ? CLI_FAILED : CLI_OK;
		else if (c == 'a' && (!strcmp(optarg, "host") || !strcmp(optarg, "memcpy")))
			options.against_host = *optarg == 'h';
		else if (c == 'a')
			return cli_usage_error(name,
				"--against takes memcpy or host, not '%s'", optarg);
		else if (c != 'r')
			return cli_bad_option(name, c, argv);
		else if (!read_rounds(optarg, &options.rounds))
			return cli_usage_error(name,
				"--rounds takes 1 to %d, not '%s'", ROUNDS_MAX, optarg);
	}
	if (optind < argc)
		return cli_usage_error(name, "unexpected '%s'", argv[optind]);
	return run(&options, json, allow_changes);
}

static int cmd_migrate(int argc, char **argv)
{
	return measure(argc, argv, "godwit bench migrate", false);
}

static int cmd_huge(int argc, char **argv)
{
	return measure(argc, argv, "godwit bench huge", true);
}

int cmd_bench(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{"migrate",
			"[--against memcpy|host] [--quick] [--rounds N] [--filter TEXT] [--json]",
			"moves of pages, against memcpy or against the kernel's", cmd_migrate},
		{"huge",
			"[--against memcpy|host] [--quick] [--rounds N] [--filter TEXT] [--json]",
			"huge pages: moves, splits, collapses, khugepaged", cmd_huge},
	};

	return cli_dispatch("godwit bench", commands, sizeof(commands) / sizeof(commands[0]), argc,
		argv);
}
