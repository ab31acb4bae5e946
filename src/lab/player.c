// SPDX-License-Identifier: MIT
// The player: one story, one machine, one report.
//
//   needs -> setup -> for each command { act | mark | show | judge } -> teardown
//
// What each command did goes to the reporter at once. A story fails
//   - at an expectation that does not hold; it goes on after it, as later lines still tell
//     something;
//   - at a system call that returned -1, or a signal, when no expectation follows before the next
//     action (struct command.expected); there the story ends, since what follows would not mean
//     what it says, unless options->keep_going;
//   - at a check that found another byte, and at a load that lost values: likewise;
//   - when the machine itself cannot go on: always ends.
// marks and shows may stand between a command and the expectations about it.
//
// `expect moved` compares with where the pages were at the mark, so a mark looks ahead for the
// expectations up to the next mark and asks only about their ranges. Everything that a machine
// reports is owned by struct play until the next command of its kind.

#include "lab/outcome.h"
#include "lab/play.h"
#include "lab/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// ---- Before -------------------------------------------------------------------------------------

static bool is_played_here(enum command_kind kind)
{
	return kind == CMD_MARK || kind == CMD_SHOW || kind == CMD_EXPECT;
}

static struct story_error *new_error(struct story_errors *errors, unsigned line, unsigned column)
{
	if (errors->count == STORY_ERRORS_MAX) {
		errors->more = true;
		return NULL;
	}
	struct story_error *e = &errors->v[errors->count++];
	e->line = line;
	e->column = column;
	return e;
}

static void not_supported(struct story_errors *errors, const struct command *c, const char *reason)
{
	struct story_error *e =
		new_error(errors, c->line, reason ? c->operand_column : c->column);
	if (e && reason)
		snprintf(e->text, sizeof(e->text),
			"%s is not yet in this build, expected '%s' without it", reason,
			command_word(c->kind));
	else if (e)
		snprintf(e->text, sizeof(e->text),
			"'%s' is not yet in this build, expected another command",
			command_word(c->kind));
}

static void area_not_supported(struct story_errors *errors, const struct story_cma *area)
{
	struct story_error *e = new_error(errors, area->line, area->column);
	if (e)
		snprintf(e->text, sizeof(e->text),
			"'cma' is not yet in this build, expected a machine without it");
}

bool play_skips(const struct story *story, struct lab_machine *machine, char *reason,
	size_t reason_size)
{
	const struct story_machine *m = &story->machine;
	const char *name = machine->ops->name;
	const char *only = m->only_engine ? "engine" : m->only_host ? "host" : name;
	if (strcmp(only, name)) {
		snprintf(reason, reason_size, "only %s", only);
		return true;
	}
	if (!machine->ops->needs || machine->ops->needs(machine, story) != LAB_SKIP)
		return false;
	snprintf(reason, reason_size, "%s", machine->failure);
	return true;
}

bool play_supported(const struct story *story, struct lab_machine *machine,
	struct story_errors *errors)
{
	memset(errors, 0, sizeof(*errors));
	if (story->machine.cma_count && !machine->ops->action[CMD_CMA])
		area_not_supported(errors, story->machine.cma);
	for (size_t i = 0; i < story->command_count; i++) {
		const struct command *c = story->commands[i];
		const char *reason = NULL;
		if (!is_played_here(c->kind) && !machine->ops->action[c->kind])
			not_supported(errors, c, NULL);
		else if (machine->ops->supports && !machine->ops->supports(machine, c, &reason))
			not_supported(errors, c, reason);
	}
	return !errors->count;
}

// ---- Reporting ----------------------------------------------------------------------------------

static void report(struct play *play, struct play_event *event)
{
	event->story = play->story;
	event->command = play->story->commands[play->at];
	if (event->failure)
		play->totals->failed++;
	play->reporter->event(play->reporter, event);
}

// The machine cannot go on; err is not 0.
static void stop(struct play *play, int err)
{
	struct play_totals *t = play->totals;
	const char *why = play->machine->failure[0] ? play->machine->failure : strerror(-err);
	char limit[48];
	snprintf(limit, sizeof(limit), "did not end within %u s", play->options->limit_s);
	if (watch_interrupted(play->watch))
		why = t->interrupted ? "interrupted" : limit;
	if (!t->reason[0])
		snprintf(t->reason, sizeof(t->reason), "line %u: %s",
			play->story->commands[play->at]->line, why);
	t->failed++;
	play->ended = true;
}

// ---- Actions ------------------------------------------------------------------------------------

// Why the story fails at this result; NULL: it does not.
static const char *failure_of(const struct command *c, const struct lab_result *r)
{
	if (r->mismatch)
		return "another byte";
	if (r->has_load && r->lost)
		return "lost values";
	if (c->expected)
		return NULL;
	if (r->signal)
		return "a signal that the story does not expect";
	return r->ret == -1 ? "an error that the story does not expect" : NULL;
}

static void keep_result(struct play *play, const struct command *c, struct lab_result *result)
{
	if (c->kind == CMD_WHERE || c->kind == CMD_MOVE) {
		free(play->status);
		play->status = result->status;
		play->status_count = result->status_count;
		result->status = NULL;
	}
	lab_result_release(&play->last);
	play->last = *result;
}

// 0, LAB_DIFFERS with the reason, or negative when the machine cannot go on.
static int verify(struct lab_machine *m, char *reason, size_t size)
{
	int err = m->ops->verify ? m->ops->verify(m) : 0;
	if (err != LAB_DIFFERS)
		return err;
	snprintf(reason, size, "%s", m->failure);
	m->failure[0] = '\0';
	return err;
}

static int act(struct play *play, const struct command *c)
{
	struct lab_machine *m = play->machine;
	struct lab_result result = {0};
	int err = m->ops->action[c->kind](m, c, &result);
	if (err) {
		lab_result_release(&result);
		return err;
	}
	if (c->kind == CMD_TASK || c->kind == CMD_FORK)
		play->alive[c->create.task->index] = result.ret != -1;
	if (c->kind == CMD_EXIT)
		play->alive[c->create.task->index] = false;
	struct play_event event = {.result = &result, .failure = failure_of(c, &result)};
	char untrue[sizeof(m->failure)];
	err = verify(m, untrue, sizeof(untrue));
	if (err < 0) {
		lab_result_release(&result);
		return err;
	}
	if (err && !event.failure)
		event.failure = untrue;
	report(play, &event);
	if (event.failure && !play->options->keep_going)
		play->ended = true;
	keep_result(play, c, &result);
	return 0;
}

// ---- mark ---------------------------------------------------------------------------------------

static void forget_placements(struct play *play)
{
	for (size_t i = 0; i < play->placement_count; i++)
		free(play->placements[i].nodes);
	free(play->placements);
	play->placements = NULL;
	play->placement_count = 0;
}

static int place(struct play *play, const struct command *expectation)
{
	const struct story_range *range = &expectation->expect.range;
	struct placement *grown = reallocarray(play->placements, play->placement_count + 1,
		sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	play->placements = grown;
	struct placement *p = &grown[play->placement_count];
	*p = (struct placement){.expectation = expectation};
	int err = play->alive[range->map->task->index]
		? query_nodes(play, range, &p->nodes, &p->count)
		: 0;
	play->placement_count += !err;
	return err;
}

static int remember_placements(struct play *play)
{
	const struct story *s = play->story;
	forget_placements(play);
	for (size_t i = play->at + 1; i < s->command_count; i++) {
		const struct command *c = s->commands[i];
		if (c->kind == CMD_MARK)
			break;
		if (c->kind != CMD_EXPECT || c->expect.what != EXPECT_MOVED)
			continue;
		int err = place(play, c);
		if (err)
			return err;
	}
	return 0;
}

static int mark(struct play *play)
{
	struct lab_machine *m = play->machine;
	struct lab_counters now = {0};
	int err = remember_placements(play);
	if (!err)
		err = remember_numastat(play);
	if (!err && m->ops->mark)
		err = m->ops->mark(m);
	if (!err)
		err = m->ops->vmstat(m, &now);
	if (err) {
		lab_counters_release(&now);
		return err;
	}
	lab_counters_release(&play->mark);
	play->mark = now;
	struct play_event event = {0};
	report(play, &event);
	return 0;
}

// ---- show ---------------------------------------------------------------------------------------

static int show_vmstat(struct play *play, const struct operand_show *s)
{
	struct lab_machine *m = play->machine;
	struct lab_counters now = {0}, changes = {0};
	int err = m->ops->vmstat(m, &now);
	for (size_t i = 0; !err && i < s->count; i++) {
		int64_t change;
		if (counter_change(&play->mark, &now, s->names[i], &change))
			err = lab_counters_add(&changes, s->names[i], change);
		else
			err = lab_machine_fail(m, -ENOENT, "there is no counter '%s'", s->names[i]);
	}
	struct play_event event = {.values = &changes};
	if (!err)
		report(play, &event);
	lab_counters_release(&now);
	lab_counters_release(&changes);
	return err;
}

static int print_pool(struct play *play, FILE *out, unsigned node, uint64_t page_size)
{
	struct lab_machine *m = play->machine;
	struct lab_pool pool;
	int err = m->ops->pool(m, node, page_size, &pool);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (page_size == 2 << 20 || pool.total || pool.surplus)
		fprintf(out, "node %u %s total %" PRIu64 " free %" PRIu64 " surplus %" PRIu64 "\n",
			node, page_size == 2 << 20 ? "2M" : "1G", pool.total, pool.free,
			pool.surplus);
	return 0;
}

static int pools_text(struct play *play, char **ret_text)
{
	size_t size;
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);
	int err = out ? 0 : -ENOMEM;
	for (unsigned n = 0; !err && n < play->story->machine.nodes; n++) {
		err = print_pool(play, out, n, 2 << 20);
		if (!err)
			err = print_pool(play, out, n, 1 << 30);
	}
	if (out && fclose(out) && !err)
		err = -ENOMEM;
	if (err)
		free(text);
	else
		*ret_text = text;
	return err;
}

static int text_of(struct play *play, const struct operand_show *s, char **ret_text)
{
	static const enum lab_text texts[] = {
		[SHOW_NUMA_MAPS] = TEXT_NUMA_MAPS,
		[SHOW_SMAPS] = TEXT_SMAPS,
		[SHOW_BUDDYINFO] = TEXT_BUDDYINFO,
		[SHOW_TRACE] = TEXT_TRACE,
	};
	struct lab_machine *m = play->machine;
	if (s->what == SHOW_HUGEPAGES)
		return pools_text(play, ret_text);
	if (s->what == SHOW_NUMASTAT)
		return numastat_since_mark(play, ret_text);
	return m->ops->text(m, texts[s->what], s->range.map ? &s->range : NULL, ret_text);
}

static int show_text(struct play *play, const struct operand_show *s)
{
	char *text;
	int err = text_of(play, s, &text);
	if (err)
		return err;
	struct play_event event = {.text = text};
	report(play, &event);
	free(text);
	return 0;
}

// ---- expect -------------------------------------------------------------------------------------

static int expect(struct play *play, const struct command *c)
{
	struct verdict v;
	int err = judge_expectation(play, c, &v);
	if (err)
		return err;
	struct play_event event = {.wanted = v.wanted,
		.found = v.found,
		.held = v.held,
		.failure = v.held ? NULL : "the expectation does not hold"};
	report(play, &event);
	free(v.wanted);
	free(v.found);
	return 0;
}

// ---- All ----------------------------------------------------------------------------------------

static int play_command(struct play *play, const struct command *c)
{
	if (c->kind == CMD_EXPECT) {
		play->totals->expectations++;
		return expect(play, c);
	}
	play->totals->commands++;
	if (c->kind == CMD_MARK)
		return mark(play);
	if (c->kind == CMD_SHOW)
		return c->show.what == SHOW_VMSTAT ? show_vmstat(play, &c->show)
						   : show_text(play, &c->show);
	return act(play, c);
}

// What came before the command may have been interrupted, too.
static int play_watched(struct play *play, const struct command *c)
{
	watch_begin(play->watch, c);
	int err = watch_interrupted(play->watch) ? 0 : play_command(play, c);
	watch_end(play->watch);
	play->totals->interrupted = watch_signalled(play->watch);
	return !err && watch_interrupted(play->watch) ? -EINTR : err;
}

// What was still running may have found that the story fails.
static void finish(struct play *play)
{
	struct play_totals *t = play->totals;
	struct lab_machine *m = play->machine;

	if (!m->ops->finish || !m->ops->finish(m))
		return;
	t->failed++;
	if (!t->reason[0])
		snprintf(t->reason, sizeof(t->reason), "the end: %s", m->failure);
}

static void play_commands(struct play *play)
{
	const struct story *s = play->story;
	for (play->at = 0; play->at < s->command_count && !play->ended; play->at++) {
		int err = play_watched(play, s->commands[play->at]);
		if (err)
			stop(play, err);
	}
}

static void start_watch(struct play *play)
{
	const struct play_options *o = play->options;
	if (!play->watch)
		play->watch = watch_start(play->machine, o->limit_s, o->progress);
}

static int copy_counters(const struct lab_counters *from, struct lab_counters *to)
{
	int err = 0;
	for (size_t i = 0; !err && i < from->count; i++)
		err = lab_counters_add(to, from->v[i].name, from->v[i].value);
	return err;
}

static void total_counters(struct play *play)
{
	struct lab_counters now = {0};
	int err = play->machine->ops->vmstat(play->machine, &now);
	for (size_t i = 0; !err && i < now.count; i++) {
		int64_t change = 0;
		counter_change(&play->start, &now, now.v[i].name, &change);
		if (change)
			err = lab_counters_add(&play->totals->counters, now.v[i].name, change);
	}
	lab_counters_release(&now); // without them the totals are still right
}

static int begin(struct play *play)
{
	play->alive = calloc(play->story->task_count + 1, sizeof(bool));
	int err = play->alive ? play->machine->ops->vmstat(play->machine, &play->start) : -ENOMEM;
	if (!err)
		err = copy_counters(&play->start, &play->mark);
	return err ? err : remember_numastat(play);
}

static void release(struct play *play)
{
	forget_placements(play);
	lab_result_release(&play->last);
	lab_counters_release(&play->start);
	lab_counters_release(&play->mark);
	free(play->numastat);
	free(play->status);
	free(play->alive);
}

static void set_up_and_play(struct play *play)
{
	struct play_totals *t = play->totals;
	struct lab_machine *m = play->machine;
	if (m->ops->beside_threads)
		start_watch(play);
	watch_phase(play->watch, "setting up the machine");
	int err = m->ops->setup(m, play->story);
	watch_end(play->watch);
	if (err == LAB_SKIP) {
		t->exit = PLAY_SKIPPED;
		snprintf(t->reason, sizeof(t->reason), "%s", m->failure);
		return;
	}
	if (!err)
		err = begin(play);
	if (err) {
		t->exit = PLAY_FAILED;
		t->failed++;
		snprintf(t->reason, sizeof(t->reason), "setup: %s",
			m->failure[0] ? m->failure : strerror(-err));
		return;
	}
	start_watch(play);
	play_commands(play);
	finish(play);
	total_counters(play);
	t->truth = m->truth;
	t->exit = t->failed ? PLAY_FAILED : PLAY_HELD;
}

static void pass_warning(void *arg, const char *text)
{
	struct reporter *r = arg;
	r->warn(r, text);
}

// A machine that is not again as it was fails the story, whatever happened in it.
static void tear_down(struct play *play)
{
	struct play_totals *t = play->totals;

	watch_phase(play->watch, "checking and taking down the machine");
	int err = play->machine->ops->teardown(play->machine);
	watch_end(play->watch);
	t->interrupted |= watch_signalled(play->watch);
	watch_stop(play->watch);
	if (!err)
		return;
	t->exit = PLAY_FAILED;
	t->failed++;
	if (!t->reason[0])
		snprintf(t->reason, sizeof(t->reason), "not all could be put back");
}

enum play_exit play_story(const struct story *story, struct lab_machine *machine,
	struct reporter *reporter, const struct play_options *options,
	struct play_totals *ret_totals)
{
	const char *name = machine->ops->name;
	struct play play = {.story = story,
		.machine = machine,
		.reporter = reporter,
		.options = options,
		.totals = ret_totals};
	*ret_totals = (struct play_totals){.seeded = machine->seeded, .seed = machine->seed};
	machine->warn = pass_warning;
	machine->warn_arg = reporter;
	bool skipped =
		play_skips(story, machine, ret_totals->reason, sizeof(ret_totals->reason));
	reporter->begin(reporter, story, name, skipped);
	if (skipped)
		ret_totals->exit = PLAY_SKIPPED;
	else
		set_up_and_play(&play);
	tear_down(&play);
	reporter->end(reporter, story, name, ret_totals);
	release(&play);
	return ret_totals->exit;
}

void play_totals_release(struct play_totals *totals)
{
	lab_counters_release(&totals->counters);
}
