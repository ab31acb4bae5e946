// SPDX-License-Identifier: MIT
// Expectations: what was wanted, what was found, and whether that holds.
//
// Each kind has one judge. A judge asks the machine, writes both texts to streams and says yes or
// no; a negative return means that the machine could not answer, which ends the story. A counter,
// field or tunable that the machine does not have is not an error of the machine but an
// expectation that does not hold. Texts are run-length coded status lists, numbers with their
// sign of comparison, or words, always in the language of stories.

#include "lab/outcome.h"
#include "lab/play.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct judging {
	struct play *play;
	const struct operand_expect *e;
	FILE *wanted, *found;
	bool held;
};

// ---- Numbers ------------------------------------------------------------------------------------

static const char *op_sign(enum compare_op op)
{
	static const char *const signs[] = {
		[OP_EQ] = "", [OP_NE] = "!= ", [OP_GE] = ">= ", [OP_LE] = "<= "};
	return signs[op];
}

static bool op_holds(enum compare_op op, int64_t found, int64_t wanted)
{
	switch (op) {
	case OP_EQ:
		return found == wanted;
	case OP_NE:
		return found != wanted;
	case OP_GE:
		return found >= wanted;
	case OP_LE:
		return found <= wanted;
	}
	return false;
}

static void want_number(struct judging *j)
{
	fprintf(j->wanted, "%s%" PRId64, op_sign(j->e->op), j->e->value);
}

static int judge_number(struct judging *j, int64_t found)
{
	want_number(j);
	fprintf(j->found, "%" PRId64, found);
	j->held = op_holds(j->e->op, found, j->e->value);
	return 0;
}

static int judge_missing(struct judging *j, const char *what)
{
	want_number(j);
	fprintf(j->found, "no such %s", what);
	return 0;
}

// ---- The last command ---------------------------------------------------------------------------

static int judge_return(struct judging *j)
{
	const struct lab_result *last = &j->play->last;
	want_number(j);
	if (last->signal)
		print_result(j->found, last);
	else if (last->ret == -1)
		fprintf(j->found, "-1 %s", errno_name(last->error) ? errno_name(last->error) : "");
	else
		fprintf(j->found, "%lld", last->ret);
	j->held = !last->signal && op_holds(j->e->op, last->ret, j->e->value);
	return 0;
}

static int judge_errno(struct judging *j)
{
	const struct lab_result *last = &j->play->last;
	fputs(j->e->name, j->wanted);
	if (last->signal || last->ret != -1)
		print_result(j->found, last);
	else
		fputs(errno_name(last->error) ? errno_name(last->error) : "no errno", j->found);
	j->held = !last->signal && last->ret == -1 && last->error == j->e->value;
	return 0;
}

static int judge_signal(struct judging *j)
{
	fputs(j->e->name, j->wanted);
	print_result(j->found, &j->play->last);
	j->held = j->play->last.signal == j->e->value;
	return 0;
}

static int judge_status(struct judging *j)
{
	const struct play *play = j->play;
	print_status_list(j->wanted, &j->e->status);
	print_statuses(j->found, play->status, play->status_count);
	j->held = statuses_match(&j->e->status, play->status, play->status_count);
	return 0;
}

static int judge_text(struct judging *j)
{
	const char *text = j->play->last.text ? j->play->last.text : "";
	fputs(j->e->text, j->wanted);
	fputs(text, j->found);
	j->held = !strcmp(j->e->text, text);
	return 0;
}

// ---- Counters and tunables ----------------------------------------------------------------------

bool counter_change(const struct lab_counters *before, const struct lab_counters *now,
	const char *name, int64_t *ret_change)
{
	int64_t then = 0, value;
	if (!lab_counters_get(now, name, &value))
		return false;
	lab_counters_get(before, name, &then);
	*ret_change = value - then;
	return true;
}

static int judge_vmstat(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	struct lab_counters now = {0};
	int64_t change = 0;
	int err = m->ops->vmstat(m, &now);
	bool known = !err && counter_change(&j->play->mark, &now, j->e->name, &change);
	lab_counters_release(&now);
	if (err)
		return err;
	return known ? judge_number(j, change) : judge_missing(j, "counter");
}

static int judge_ksm(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	char path[200], *value = NULL;
	snprintf(path, sizeof(path), "sys/kernel/mm/ksm/%s", j->e->name);
	int err = m->ops->tunable(m, path, &value);
	if (err == -ENOENT)
		return judge_missing(j, "file");
	if (!err)
		judge_number(j, strtoll(value, NULL, 10));
	free(value);
	return err;
}

// "always [madvise] never" is also what it has chosen.
static bool tunable_is(const char *value, const char *wanted)
{
	const char *open = strchr(value, '['), *close = open ? strchr(open, ']') : NULL;
	if (!strcmp(value, wanted))
		return true;
	return close && (size_t)(close - open - 1) == strlen(wanted) &&
		!strncmp(open + 1, wanted, strlen(wanted));
}

static int judge_tunable(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	char *value = NULL;
	int err = m->ops->tunable(m, j->e->name, &value);
	fputs(j->e->text, j->wanted);
	if (err == -ENOENT) {
		fputs("no such tunable", j->found);
		return 0;
	}
	if (err)
		return err;
	fputs(value, j->found);
	j->held = tunable_is(value, j->e->text);
	free(value);
	return 0;
}

// ---- Pages --------------------------------------------------------------------------------------

int query_nodes(struct play *play, const struct story_range *range, int32_t **ret_nodes,
	size_t *ret_count)
{
	struct lab_machine *m = play->machine;
	size_t count = (range->length + STORY_PAGE_SIZE - 1) / STORY_PAGE_SIZE;
	int32_t *nodes = calloc(count + 1, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	int err = m->ops->nodes(m, range, nodes);
	if (err) {
		free(nodes);
		return err;
	}
	for (size_t i = 0; i < count; i++)
		if (nodes[i] < 0)
			nodes[i] = -ENOENT;
	*ret_nodes = nodes;
	*ret_count = count;
	return 0;
}

static const struct placement *placement_of(struct play *play, const struct operand_expect *e)
{
	for (size_t i = 0; i < play->placement_count; i++)
		if (&play->placements[i].expectation->expect == e)
			return &play->placements[i];
	return NULL;
}

static int judge_moved(struct judging *j)
{
	const struct placement *before = placement_of(j->play, j->e);
	int32_t *now;
	size_t count;
	int64_t moved = 0;
	int err = query_nodes(j->play, &j->e->range, &now, &count);
	if (err)
		return err;
	for (size_t i = 0; before && before->nodes && i < count && i < before->count; i++)
		moved += now[i] >= 0 && before->nodes[i] >= 0 && now[i] != before->nodes[i];
	free(now);
	return judge_number(j, moved);
}

// One node: of all pages that are present, of which there must be one. A list: of all pages.
static bool nodes_match(const struct status_list *list, const int32_t *nodes, size_t count)
{
	bool present = false;
	if (list->counted)
		return statuses_match(list, nodes, count);
	for (size_t i = 0; i < count; i++) {
		if (nodes[i] != list->v[0].value && nodes[i] >= 0)
			return false;
		present |= nodes[i] >= 0;
	}
	return present == (list->v[0].value >= 0);
}

static int judge_node(struct judging *j)
{
	int32_t *nodes;
	size_t count;
	int err = query_nodes(j->play, &j->e->range, &nodes, &count);
	if (err)
		return err;
	print_status_list(j->wanted, &j->e->status);
	print_statuses(j->found, nodes, count);
	j->held = nodes_match(&j->e->status, nodes, count);
	free(nodes);
	return 0;
}

static int judge_huge(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	uint64_t count;
	int err = m->ops->huge(m, &j->e->range, &count);
	return err ? err : judge_number(j, (int64_t)count);
}

// ---- Texts --------------------------------------------------------------------------------------

static int judge_smaps(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	char *text;
	int64_t kb;
	int err = m->ops->text(m, TEXT_SMAPS, &j->e->range, &text);
	if (err)
		return err;
	bool known = smaps_sum(text, j->e->name, &kb);
	free(text);
	return known ? judge_number(j, kb) : judge_missing(j, "field");
}

static void judge_numa_word(struct judging *j, const char *text, const char *word)
{
	const char *equals = strchr(word, '=');
	char *end = NULL;
	long long wanted = equals ? strtoll(equals + 1, &end, 10) : 0;
	if (!equals || end == equals + 1 || *end) {
		bool has = numa_maps_has(text, word);
		fprintf(j->found, "%s%s", has ? "" : "no ", word);
		j->held &= has;
		return;
	}
	size_t key = (size_t)(equals - word);
	int64_t sum = numa_maps_sum(text, word, key);
	fprintf(j->found, "%.*s=%" PRId64, (int)key, word, sum);
	j->held &= sum == wanted;
}

static int judge_numa_maps(struct judging *j)
{
	struct lab_machine *m = j->play->machine;
	char *text;
	int err = m->ops->text(m, TEXT_NUMA_MAPS, &j->e->range, &text);
	if (err)
		return err;
	j->held = true;
	for (size_t i = 0; i < j->e->word_count; i++) {
		fprintf(j->wanted, "%s%s", i ? " " : "", j->e->words[i]);
		fputs(i ? " " : "", j->found);
		judge_numa_word(j, text, j->e->words[i]);
	}
	free(text);
	return 0;
}

static int judge_hugepages(struct judging *j)
{
	static const char *const names[] = {
		[POOL_TOTAL] = "total", [POOL_FREE] = "free", [POOL_SURPLUS] = "surplus"};
	struct lab_machine *m = j->play->machine;
	struct lab_pool pool = {0};
	int err = m->ops->pool(m, (unsigned)j->e->node, j->e->page_size, &pool);
	if (err && err != -ENOENT)
		return err;
	const uint64_t found[] = {
		[POOL_TOTAL] = pool.total, [POOL_FREE] = pool.free, [POOL_SURPLUS] = pool.surplus};
	const char *blank = "";
	j->held = true;
	for (unsigned i = 0; i < POOL_FIELDS; i++) {
		if (j->e->pool[i] < 0)
			continue;
		fprintf(j->wanted, "%s%s=%" PRId64, blank, names[i], j->e->pool[i]);
		fprintf(j->found, "%s%s=%" PRIu64, blank, names[i], found[i]);
		j->held &= found[i] == (uint64_t)j->e->pool[i];
		blank = " ";
	}
	return 0;
}

// ---- All ----------------------------------------------------------------------------------------

int judge_expectation(struct play *play, const struct command *command,
	struct verdict *ret_verdict)
{
	static int (*const judges[])(struct judging *j) = {
		[EXPECT_RETURN] = judge_return,
		[EXPECT_ERRNO] = judge_errno,
		[EXPECT_SIGNAL] = judge_signal,
		[EXPECT_STATUS] = judge_status,
		[EXPECT_TEXT] = judge_text,
		[EXPECT_VMSTAT] = judge_vmstat,
		[EXPECT_MOVED] = judge_moved,
		[EXPECT_NODE] = judge_node,
		[EXPECT_HUGE] = judge_huge,
		[EXPECT_SMAPS] = judge_smaps,
		[EXPECT_NUMA_MAPS] = judge_numa_maps,
		[EXPECT_HUGEPAGES] = judge_hugepages,
		[EXPECT_KSM] = judge_ksm,
		[EXPECT_TUNABLE] = judge_tunable,
	};
	struct verdict v = {0};
	size_t size;
	struct judging j = {.play = play, .e = &command->expect};
	j.wanted = open_memstream(&v.wanted, &size);
	j.found = open_memstream(&v.found, &size);
	int err = j.wanted && j.found ? judges[command->expect.what](&j) : -ENOMEM;
	if (j.wanted && fclose(j.wanted) && !err)
		err = -ENOMEM;
	if (j.found && fclose(j.found) && !err)
		err = -ENOMEM;
	if (err) {
		free(v.wanted);
		free(v.found);
		return err;
	}
	v.held = j.held;
	*ret_verdict = v;
	return 0;
}
