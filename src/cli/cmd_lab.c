// SPDX-License-Identifier: MIT
// godwit lab run, check, compare, restore: stories from the command line.
//
//   run      parses every file, asks the machine whether it can play them, and only then plays
//   check    parses, says nothing when all is well
//   compare  plays on both machines (the real kernel in a virtual machine if this host does not
//            have the nodes), or takes two reports that run --json wrote, and shows what differs
//   restore  puts back what a run on the host left changed because it was killed
//
// Before anything runs every mistake in every file is on stderr and the exit status is 2; compare
// goes on with the files that have none (lab_compare.c). The status of several stories is the
// gravest: 2, then 1, then 0; 77 only when all were skipped.

#include "cli/cli.h"
#include "cli/lab.h"
#include "host/journal.h"
#include "lab/report.h"
#include "lab/watch.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S_DEFAULT 600

// ---- Stories ------------------------------------------------------------------------------------

void release_stories(struct stories *s)
{
	for (size_t i = 0; i < s->count; i++)
		story_free(s->v[i]);
	free(s->v);
	free(s->files);
}

static bool load_story(const char *file, struct story **ret_story)
{
	struct story_errors errors;
	int err = story_load(file, ret_story, &errors);
	if (err == -EINVAL && errors.count)
		print_errors(stderr, file, &errors);
	else if (err)
		fprintf(stderr, "godwit: cannot read %s: %s\n", file, strerror(-err));
	return !err;
}

bool load_stories(int argc, char **argv, struct stories *ret_stories)
{
	size_t count = argc > 0 ? (size_t)argc : 0;
	struct stories s = {.v = calloc(count + 1, sizeof(*s.v)),
		.files = calloc(count + 1, sizeof(*s.files))};
	if (!s.v || !s.files) {
		release_stories(&s);
		fprintf(stderr, "godwit: no memory for the stories\n");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		bool good = load_story(argv[i], &s.v[s.count]);
		s.files[s.count] = argv[i];
		s.count += good;
		s.refused += !good;
	}
	*ret_stories = s;
	return true;
}

// False: some file is bad, and all that is wrong with all of them has been printed.
static bool load_all_stories(int argc, char **argv, struct stories *ret_stories)
{
	if (!load_stories(argc, argv, ret_stories))
		return false;
	if (ret_stories->refused)
		release_stories(ret_stories);
	return !ret_stories->refused;
}

struct lab_machine *open_machine(const char *name, const struct lab_options *options)
{
	char failure[256] = "";
	struct lab_machine *m = NULL;
	int err = lab_machine_open(name, options, &m, failure, sizeof(failure));
	if (!err)
		return m;
	fprintf(stderr, "godwit: %s\n", failure[0] ? failure : strerror(-err));
	return NULL;
}

bool is_supported(const struct story *story, const char *file, struct lab_machine *m)
{
	char reason[256];
	struct story_errors errors;
	if (play_skips(story, m, reason, sizeof(reason)) || play_supported(story, m, &errors))
		return true;
	print_errors(stderr, file, &errors);
	return false;
}

// Opens the machine once, only to ask; nothing is built.
static bool all_supported(const struct stories *s, const char *name,
	const struct lab_options *options)
{
	struct lab_machine *m = open_machine(name, options);
	bool good = m;
	for (size_t i = 0; m && i < s->count; i++)
		good &= is_supported(s->v[i], s->files[i], m);
	if (m)
		m->ops->teardown(m);
	return good;
}

// ---- run ----------------------------------------------------------------------------------------

int gravest(int before, int now)
{
	static const int order[] = {CLI_SKIPPED, CLI_OK, CLI_FAILED, CLI_USAGE};
	for (size_t i = sizeof(order) / sizeof(order[0]); i-- > 0;)
		if (before == order[i] || now == order[i])
			return order[i];
	return CLI_FAILED;
}

// After a signal: what has not been played is told, and fails.
static int tell_unplayed(const struct stories *s, size_t from)
{
	for (size_t i = from; i < s->count; i++)
		fprintf(stderr, "godwit: interrupted: %s was not played\n", s->files[i]);
	return from < s->count ? CLI_FAILED : CLI_SKIPPED;
}

int play_all(const struct stories *s, const char *machine, struct reporter *reporter,
	struct run_options *o)
{
	int status = CLI_SKIPPED;
	for (size_t i = 0; i < s->count; i++) {
		struct lab_machine *m = open_machine(machine, &o->lab);
		struct play_totals totals;
		if (!m)
			return CLI_USAGE;
		int played = play_story(s->v[i], m, reporter, &o->play, &totals);
		o->interrupted |= totals.interrupted;
		if (played == PLAY_FAILED && totals.seeded)
			fprintf(stderr, "godwit: %s failed with --seed %llu\n", s->files[i],
				(unsigned long long)totals.seed);
		play_totals_release(&totals);
		status = gravest(status, played);
		if (o->interrupted)
			return gravest(status, tell_unplayed(s, i + 1));
	}
	return status;
}

static int run_stories(const struct stories *s, struct run_options *o)
{
	struct text_report text;
	struct json_report json;
	if (!all_supported(s, o->machine, &o->lab))
		return CLI_USAGE;
	watch_block_signals();
	text_report_init(&text, stdout, wants_colour(stdout));
	json_report_init(&json, stdout);
	return play_all(s, o->machine, o->json ? &json.reporter : &text.reporter, o);
}

// ---- Options ------------------------------------------------------------------------------------

enum { OPT_ON = 256, OPT_BACKEND, OPT_SEED, OPT_JSON, OPT_KEEP_GOING, OPT_TIMEOUT, OPT_RESULTS,
	OPT_KERNEL, OPT_ALLOW_CHANGES, OPT_ALLOW_POISON, OPT_BIND_NODES, OPT_HUGETLBFS };

static bool read_number(const char *text, unsigned long long max, unsigned long long *ret_number)
{
	char *end;
	errno = 0;
	*ret_number = strtoull(text, &end, 0);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret_number <= max;
}

static bool apply_option(struct run_options *o, int option, const char *prefix)
{
	unsigned long long n = 0;
	switch (option) {
	case OPT_ON:
		o->machine = optarg;
		return true;
	case OPT_BACKEND:
		o->lab.backend = optarg;
		return true;
	case OPT_SEED:
		if (!read_number(optarg, UINT64_MAX, &n))
			return !cli_usage_error(prefix, "--seed takes a number, not '%s'", optarg);
		o->lab.seed = n;
		o->seed_given = true;
		return true;
	case OPT_JSON:
		o->json = true;
		return true;
	case OPT_KEEP_GOING:
		o->play.keep_going = true;
		return true;
	case OPT_TIMEOUT:
		if (!read_number(optarg, 1000000, &n))
			return !cli_usage_error(prefix, "--timeout takes seconds, not '%s'",
				optarg);
		o->play.limit_s = (unsigned)n;
		return true;
	case OPT_RESULTS:
		o->results = true;
		return true;
	case OPT_ALLOW_CHANGES:
		o->lab.allow_system_changes = true;
		return true;
	case OPT_ALLOW_POISON:
		o->lab.allow_poison = true;
		return true;
	case OPT_BIND_NODES:
		o->lab.bind_nodes = true;
		return true;
	case OPT_HUGETLBFS:
		o->lab.hugetlbfs = true;
		return true;
	case OPT_KERNEL:
		o->kernel = optarg;
		if (!strcmp(optarg, "auto") || !strcmp(optarg, "here") || !strcmp(optarg, "vm") ||
			!strcmp(optarg, "6.1") || !strcmp(optarg, "6.12"))
			return true;
		return !cli_usage_error(prefix, "--kernel is auto, here, vm, 6.1 or 6.12, not '%s'",
			optarg);
	}
	return false;
}

static int help(const char *text)
{
	fputs(text, stdout);
	return CLI_OK;
}

// False: it was given where it would decide nothing, which has been told.
static bool choose_seed(struct run_options *o, const char *prefix)
{
	uint32_t seed;
	if (o->seed_given && (!o->lab.backend || strcmp(o->lab.backend, "soft")))
		return !cli_usage_error(prefix, "--seed is for --backend soft");
	if (o->seed_given)
		return true;
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = (uint32_t)time(NULL);
	o->lab.seed = seed;
	return true;
}

// 0: argv[optind..] are the files; else -1 with the exit status in *ret_status.
static int read_options(int argc, char **argv, const char *prefix, const struct option *known,
	const char *help_text, struct run_options *ret_options, int *ret_status)
{
	*ret_options = (struct run_options){.machine = "engine",
		.play = {.limit_s = LIMIT_S_DEFAULT, .progress = true},
		.kernel = "auto"};
	*ret_status = CLI_USAGE;
	optind = 1;
	opterr = 0;
	for (int option; (option = getopt_long(argc, argv, ":h", known, NULL)) >= 0;) {
		if (option == 'h') {
			*ret_status = help(help_text);
			return -1;
		}
		if (option == '?' || option == ':') {
			cli_bad_option(prefix, option, argv);
			return -1;
		}
		if (!apply_option(ret_options, option, prefix))
			return -1;
	}
	if (optind == argc) {
		cli_usage_error(prefix, "no file given");
		return -1;
	}
	return choose_seed(ret_options, prefix) ? 0 : -1;
}

// ---- Commands -----------------------------------------------------------------------------------

static const char run_help[] =
	"usage: godwit lab run [OPTION]... FILE...\n\n"
	"Plays stories; a FILE of - is standard input. Exit status: 0 all held, 1 something did\n"
	"not, 2 a bad story or usage, 77 all were skipped.\n\n"
	"  --on engine|host        where: in this process, or on the running kernel (engine)\n"
	"  --backend NAME          engine: signal, userfaultfd or soft (the best there is)\n"
	"  --seed N                soft: the order in which all runs (one chosen by chance)\n"
	"  --bind-nodes            engine: its nodes are on this host's, and are compared\n"
	"  --hugetlbfs             engine: its hugetlb pools take free pages of this host's\n"
	"  --keep-going            go on in a story after an error it does not expect\n"
	"  --timeout SECONDS       for one command (600; 0: none)\n"
	"  --allow-system-changes  host: stories may change tunables, pools, cgroups\n"
	"  --allow-poison          host: stories may take pages away until the next boot\n"
	"  --json                  one object a line, \"schema\": 1\n";

static const char check_help[] =
	"usage: godwit lab check FILE...\n\n"
	"Reads stories and says what is wrong with them; plays nothing.\n";

static const char compare_help[] =
	"usage: godwit lab compare [OPTION]... FILE...\n"
	"       godwit lab compare --results [--json] REPORT REPORT\n\n"
	"Plays stories on the engine and on a real kernel, and shows what differs; or compares\n"
	"two reports of `godwit lab run --json`.\n\n"
	"  --kernel auto|here|vm|6.1|6.12\n"
	"                          which kernel: the running one if it has the nodes (auto), or\n"
	"                          one that boots in a virtual machine (vm, 6.1, 6.12)\n"
	"  --backend NAME, --seed N, --timeout SECONDS, --allow-system-changes, --allow-poison\n"
	"                          as for `godwit lab run`\n"
	"  --json                  one object a difference, \"schema\": 1\n";

static int cmd_run(int argc, char **argv)
{
	static const struct option known[] = {
		{"on", required_argument, NULL, OPT_ON},
		{"backend", required_argument, NULL, OPT_BACKEND},
		{"seed", required_argument, NULL, OPT_SEED},
		{"json", no_argument, NULL, OPT_JSON},
		{"bind-nodes", no_argument, NULL, OPT_BIND_NODES},
		{"hugetlbfs", no_argument, NULL, OPT_HUGETLBFS},
		{"keep-going", no_argument, NULL, OPT_KEEP_GOING},
		{"timeout", required_argument, NULL, OPT_TIMEOUT},
		{"allow-system-changes", no_argument, NULL, OPT_ALLOW_CHANGES},
		{"allow-poison", no_argument, NULL, OPT_ALLOW_POISON},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct run_options o;
	struct stories s;
	int status;
	if (read_options(argc, argv, "godwit lab run", known,
		    run_help, &o, &status))
		return status;
	if (o.lab.bind_nodes && strcmp(o.machine, "engine"))
		return cli_usage_error("godwit lab run", "--bind-nodes is for the engine");
	if (o.lab.hugetlbfs && strcmp(o.machine, "engine"))
		return cli_usage_error("godwit lab run", "--hugetlbfs is for the engine");
	if (!load_all_stories(argc - optind, argv + optind, &s))
		return CLI_USAGE;
	status = run_stories(&s, &o);
	release_stories(&s);
	return status;
}

static int lab_check(int argc, char **argv)
{
	static const struct option known[] = {{"help", no_argument, NULL, 'h'}, {0}};
	struct run_options o;
	struct stories s;
	int status;
	if (read_options(argc, argv, "godwit lab check", known, check_help, &o, &status))
		return status;
	if (!load_all_stories(argc - optind, argv + optind, &s))
		return CLI_USAGE;
	release_stories(&s);
	return CLI_OK;
}

static int cmd_compare(int argc, char **argv)
{
	static const struct option known[] = {
		{"backend", required_argument, NULL, OPT_BACKEND},
		{"seed", required_argument, NULL, OPT_SEED},
		{"json", no_argument, NULL, OPT_JSON},
		{"timeout", required_argument, NULL, OPT_TIMEOUT},
		{"results", no_argument, NULL, OPT_RESULTS},
		{"kernel", required_argument, NULL, OPT_KERNEL},
		{"allow-system-changes", no_argument, NULL, OPT_ALLOW_CHANGES},
		{"allow-poison", no_argument, NULL, OPT_ALLOW_POISON},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct run_options o;
	int status;
	if (read_options(argc, argv, "godwit lab compare", known,
		    compare_help, &o, &status))
		return status;
	o.play.keep_going = true; // what comes after a failure may differ too
	if (o.results)
		return compare_reports(argc - optind, argv + optind, o.json);
	return compare_files(argc - optind, argv + optind, &o);
}

static void print_complaint(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "godwit: %s\n", text);
}

static int cmd_restore(int argc, char **argv)
{
	struct host host;
	int count;
	if (argc == 2 && !strcmp(argv[1], "--help"))
		return help("usage: godwit lab restore\n\n"
			    "Puts back what a run on the host left changed, because it was "
			    "killed.\n");
	if (argc > 1)
		return cli_usage_error("godwit lab restore", "it takes nothing");
	count = host_init(&host, NULL);
	if (!count)
		count = host_journal_recover(&host, print_complaint, NULL);
	if (count == -EBUSY)
		fprintf(stderr, "godwit: a story is being played; it will restore by itself\n");
	else if (count == -EAGAIN)
		print_complaint(NULL, HOST_JOURNAL_ADVICE);
	else if (count < 0)
		fprintf(stderr, "godwit: cannot restore: %s\n", strerror(-count));
	else
		printf("%d change%s put back\n", count, count == 1 ? "" : "s");
	return count < 0 ? CLI_FAILED : CLI_OK;
}

int cmd_lab(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{"run", "[--on engine|host] [--json] FILE...", "play stories", cmd_run},
		{"check", "FILE...", "parse stories, play nothing", lab_check},
		{"compare", "FILE...", "play stories on both machines and show what differs",
			cmd_compare},
		{"restore", "", "put back what a killed run on the host left changed", cmd_restore},
	};
	return cli_dispatch("godwit lab", commands, sizeof(commands) / sizeof(commands[0]), argc,
		argv);
}
