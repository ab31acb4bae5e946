// SPDX-License-Identifier: MIT
// godwit lab compare: stories on the engine and on a real kernel, and what differs.
//
//   compare_files()    leaves out what is no story and tells so; puts those together that want the
//                      same machine; plays each group on the engine and on the kernel: on this
//                      host where it has the nodes, else in a virtual machine, a boot a group
//   compare_reports()  takes two reports that were written before
//
// One bad story must not cost the others: a file with a mistake and a story that the engine cannot
// play are left out (exit status 2 in the end), one that ends the virtual machine is told (1), and
// those behind it are played on a new one.

#include "cli/cli.h"
#include "cli/lab.h"
#include "lab/compare.h"
#include "lab/real_kernel.h"
#include "lab/report.h"
#include "lab/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_report(const char *file, struct results *ret_results)
{
	FILE *f = fopen(file, "re");
	int err = f ? results_read(f, ret_results) : -errno;
	if (f)
		fclose(f);
	if (err)
		fprintf(stderr, "godwit: cannot read the report %s: %s\n", file, strerror(-err));
	return !err;
}

static bool results_here(const struct stories *s, const char *machine, struct run_options *o,
	struct results *ret_results)
{
	struct json_report json;
	FILE *f = tmpfile();
	if (!f) {
		fprintf(stderr, "godwit: no temporary file: %s\n", strerror(errno));
		return false;
	}
	json_report_init(&json, f);
	bool good = play_all(s, machine, &json.reporter, o) != CLI_USAGE;
	rewind(f);
	int err = good ? results_read(f, ret_results) : 0;
	fclose(f);
	if (err)
		fprintf(stderr, "godwit: cannot read the results of the %s: %s\n", machine,
			strerror(-err));
	return good && !err;
}

static bool all_fit_here(const struct stories *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (!host_has_nodes(s->v[i]))
			return false;
	return true;
}

// One boot, of the stories from `first` on; their results are added, as many as it lived to give.
// CLI_OK, or the exit status of no result at all, which has been told.
static int boot_once(const struct stories *s, size_t first, const struct run_options *o,
	const char *topology, struct results *results)
{
	bool series = strcmp(o->kernel, "auto") && strcmp(o->kernel, "vm");
	const char **files = malloc((s->count + 1) * sizeof(*files));
	char failure[256] = "no memory";
	int err = files ? 0 : -ENOMEM;
	// A machine cannot read this standard input: of "-" it gets the copy.
	for (size_t i = first; !err && i < s->count; i++)
		files[i] = strcmp(s->files[i], "-") || !o->input ? s->files[i] : o->input;
	if (!err)
		err = play_on_real_kernel(series ? o->kernel : NULL, topology, o->play.limit_s,
			files + first, s->count - first, results, failure, sizeof(failure));
	free(files);
	if (err)
		fprintf(stderr, "godwit: %s\n", failure);
	return !err ? CLI_OK : err == -EPROTO ? CLI_FAILED : err > 0 ? CLI_SKIPPED : CLI_USAGE;
}

// A machine may end in the middle of a story, or run out of time. What is left is played on a new
// one. A story that comes first there and has no result again is the one to blame, and left out;
// when the next has none either there is no machine to be had. CLI_OK, CLI_FAILED: all but those;
// or the exit status of none at all.
static int play_in_vm(const struct stories *s, const struct run_options *o, const char *topology,
	struct results *results)
{
	int status = CLI_OK, booted = CLI_OK;
	bool barren = false;
	for (size_t before; results->count < s->count; barren = booted != CLI_OK) {
		before = results->count;
		fprintf(stderr, "godwit: booting a kernel in a machine with %.60s, for %zu %s\n",
			topology, s->count - before, s->count - before == 1 ? "story" : "stories");
		booted = boot_once(s, before, o, topology, results);
		if (booted == CLI_OK)
			continue;
		if (booted != CLI_FAILED || barren)
			break;
		status = CLI_FAILED;
		fprintf(stderr, "godwit: %s: the machine gave no result\n", s->files[before]);
		if (results_add_missing(results, s->files[before], "the machine gave no result"))
			break;
	}
	return booted == CLI_OK || booted == CLI_FAILED ? status : booted;
}

// CLI_OK, CLI_FAILED: not all, or the exit status after a message.
static int results_of_host(const struct stories *s, struct run_options *o,
	struct results *ret_results)
{
	bool here = !strcmp(o->kernel, "here") || (!strcmp(o->kernel, "auto") && all_fit_here(s));
	char topology[4096];
	if (here)
		return results_here(s, "host", o, ret_results) ? CLI_OK : CLI_USAGE;
	real_kernel_topology(s->v[0], topology, sizeof(topology));
	return play_in_vm(s, o, topology, ret_results);
}

static int print_comparisons(const struct results *left, const struct results *right,
	const struct stories *s, bool json)
{
	struct comparison *v;
	size_t count;
	if (compare_results(left, right, !s, &v, &count)) {
		fprintf(stderr, "godwit: no memory to compare\n");
		return CLI_FAILED;
	}
	for (size_t i = 0; i < count; i++) {
		struct story *read = NULL;
		struct story_errors errors;
		if (!s && story_load(v[i].story, &read, &errors))
			read = NULL; // the report stands without its story
		if (json)
			print_comparison_json(stdout, &v[i]);
		else
			print_comparison(stdout, &v[i], s && i < s->count ? s->v[i] : read,
				wants_colour(stdout));
		story_free(read);
	}
	int status = comparisons_exit(v, count);
	comparisons_release(v, count);
	return status;
}

int compare_reports(int argc, char **argv, bool json)
{
	struct results left = {0}, right = {0};
	int status = CLI_USAGE;
	if (argc != 2)
		return cli_usage_error("godwit lab compare", "--results takes two reports");
	if (read_report(argv[0], &left) && read_report(argv[1], &right))
		status = print_comparisons(&left, &right, NULL, json);
	results_release(&left);
	results_release(&right);
	return status;
}

// All of one shape of machine: one boot.
static int compare_group(const struct stories *s, struct run_options *o)
{
	struct results left = {0}, right = {0};
	if (!results_here(s, "engine", o, &left))
		return CLI_USAGE;
	int status = o->interrupted ? CLI_FAILED : results_of_host(s, o, &right);
	if (status == CLI_OK || right.count)
		status = gravest(status, print_comparisons(&left, &right, s, o->json));
	results_release(&left);
	results_release(&right);
	return status;
}

// Moves the stories that need the same machine as the first one to the front; how many there are.
static size_t gather_group(struct story **v, const char **files, size_t count)
{
	char first[4096], other[4096];
	size_t n = 1;
	real_kernel_topology(v[0], first, sizeof(first));
	for (size_t i = 1; i < count; i++) {
		struct story *story = v[i];
		const char *file = files[i];
		if (strcmp(first, real_kernel_topology(story, other, sizeof(other))))
			continue;
		memmove(&v[n + 1], &v[n], (i - n) * sizeof(*v));
		memmove(&files[n + 1], &files[n], (i - n) * sizeof(*files));
		v[n] = story;
		files[n++] = file;
	}
	return n;
}

// What the engine of this build cannot play is told, and left out.
static int leave_out_unsupported(struct stories *s, const struct lab_options *options)
{
	struct lab_machine *m = open_machine("engine", options);
	size_t kept = 0;
	if (!m)
		return CLI_USAGE;
	for (size_t i = 0; i < s->count; i++) {
		if (is_supported(s->v[i], s->files[i], m)) {
			s->v[kept] = s->v[i];
			s->files[kept++] = s->files[i];
			continue;
		}
		story_free(s->v[i]);
		s->refused++;
	}
	s->count = kept;
	m->ops->teardown(m);
	return CLI_OK;
}

// One bad story does not keep the others from being compared.
static int compare_stories(struct stories *s, struct run_options *o)
{
	int status = leave_out_unsupported(s, &o->lab);
	if (status)
		return status;
	status = s->refused ? CLI_USAGE : CLI_SKIPPED;
	watch_block_signals();
	for (size_t at = 0, n; at < s->count && !o->interrupted; at += n) {
		n = gather_group(s->v + at, s->files + at, s->count - at);
		const struct stories group = {.v = s->v + at, .files = s->files + at, .count = n};
		status = gravest(status, compare_group(&group, o));
	}
	return status;
}

int compare_files(int argc, char **argv, struct run_options *o)
{
	char input[4096] = "";
	struct stories s;
	int status = CLI_USAGE, err = 0;
	for (int i = 0; !err && !*input && i < argc; i++)
		if (!strcmp(argv[i], "-"))
			err = story_copy_input(input, sizeof(input));
	if (err) {
		fprintf(stderr, "godwit: cannot copy standard input: %s\n", strerror(-err));
	} else if (load_stories(argc, argv, &s)) {
		o->input = *input ? input : NULL;
		status = compare_stories(&s, o);
		release_stories(&s);
	}
	if (*input)
		unlink(input);
	return status;
}
