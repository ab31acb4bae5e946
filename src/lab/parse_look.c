// SPDX-License-Identifier: MIT
// show and expect: what a story looks at and what it must find.
//
// Each kind of expectation is one row of a table with its own reader. An expectation about a
// command's outcome needs such a command above it: return, errno and signal are of the last
// command that is no mark, show or expect; status is of the last where or move; moved is since a
// mark. An `expect errno` of a map that failed sets its name free again.

#include "lab/parser.h"
#include "lab/words.h"

#include <string.h>

// ---- show ---------------------------------------------------------------------------------------

static bool keep_words(struct parser *p, const char *expected, const char *const **ret_words,
	size_t *ret_count)
{
	struct word w;
	const char **kept = story_arena_alloc(p->arena, p->words.count * sizeof(char *));
	size_t count = 0;
	if (!kept)
		return out_of_memory(p);
	do {
		if (!take_word(p, expected, &w))
			return false;
		kept[count] = keep_word(p, w);
		if (!kept[count++])
			return false;
	} while (more_words(p));
	*ret_words = kept;
	*ret_count = count;
	return true;
}

static const char *const show_words[] = {
	[SHOW_VMSTAT] = "vmstat",
	[SHOW_NUMA_MAPS] = "numa_maps",
	[SHOW_SMAPS] = "smaps",
	[SHOW_BUDDYINFO] = "buddyinfo",
	[SHOW_NUMASTAT] = "numastat",
	[SHOW_HUGEPAGES] = "hugepages",
	[SHOW_TRACE] = "trace",
};

const char *show_word(enum show_what what)
{
	return show_words[what];
}

bool parse_show(struct parser *p, struct command *c)
{
	const char *expected =
		"vmstat, numa_maps, smaps, buddyinfo, numastat, hugepages or trace";
	const unsigned kinds = sizeof(show_words) / sizeof(show_words[0]);
	unsigned what = 0;
	struct word w;
	if (!take_word(p, expected, &w))
		return false;
	while (what < kinds && !word_is(w, show_words[what]))
		what++;
	if (what == kinds)
		return bad_word(p, w, expected);
	c->show.what = what;
	if (what == SHOW_VMSTAT)
		return keep_words(p, "names of counters", &c->show.names, &c->show.count);
	if (what == SHOW_NUMA_MAPS || what == SHOW_SMAPS)
		return take_task_range(p, &c->show.range);
	return true;
}

// ---- expect: the last command -------------------------------------------------------------------

static struct command *last_action(struct parser *p)
{
	struct command **v = p->commands.v;
	for (size_t i = p->commands.count; i-- > 0;)
		if (v[i]->kind != CMD_EXPECT && v[i]->kind != CMD_SHOW && v[i]->kind != CMD_MARK)
			return v[i];
	return NULL;
}

static bool last_is(struct parser *p, const char *what, struct command **ret_last)
{
	*ret_last = last_action(p);
	return *ret_last || p->errors->count || // the command may have been a bad line
		bad(p, ((struct word *)p->words.v)[0].column,
			"expect %s without a command before it, expected one", what);
}

static bool take_number(struct parser *p, const char *expected, int64_t *ret_value)
{
	struct word w;
	return take_word(p, expected, &w) && read_integer(p, w, ret_value);
}

static void failed_map(struct parser *p, const struct command *last)
{
	struct known_map *maps = p->maps.v;
	if (last && last->kind == CMD_MAP)
		maps[last->map.map->index].mapped = false;
}

static bool expect_return(struct parser *p, struct operand_expect *e)
{
	struct command *last;
	if (!last_is(p, "return", &last) || !read_op(p, &e->op) ||
		!take_number(p, "a number", &e->value))
		return false;
	if (e->op == OP_EQ && e->value == -1)
		failed_map(p, last);
	return true;
}

static bool expect_errno(struct parser *p, struct operand_expect *e)
{
	struct command *last;
	struct word w;
	if (!last_is(p, "errno", &last) || !take_word(p, "an error such as EBUSY", &w))
		return false;
	e->value = errno_by_name(w.s, w.length);
	if (!e->value)
		return bad_word(p, w, "an error such as EBUSY");
	failed_map(p, last);
	e->name = errno_name((int)e->value);
	return true;
}

static bool expect_signal(struct parser *p, struct operand_expect *e)
{
	struct command *last;
	struct word w;
	if (!last_is(p, "signal", &last) || !take_word(p, "a signal such as SIGBUS", &w))
		return false;
	e->value = signal_by_name(w.s, w.length);
	if (!e->value)
		return bad_word(p, w, "a signal such as SIGBUS or SIGSEGV");
	e->name = signal_name((int)e->value);
	return true;
}

static bool expect_status(struct parser *p, struct operand_expect *e)
{
	struct command **v = p->commands.v;
	for (size_t i = p->commands.count; i-- > 0;)
		if (v[i]->kind == CMD_WHERE || v[i]->kind == CMD_MOVE)
			return read_statuses(p, true, &e->status);
	if (p->errors->count)
		return read_statuses(p, true, &e->status);
	return bad(p, ((struct word *)p->words.v)[0].column,
		"expect status without a where or move before it, expected one");
}

static bool expect_text(struct parser *p, struct operand_expect *e)
{
	struct command *last;
	if (!last_is(p, "text", &last))
		return false;
	e->text = keep_rest(p, "the text of the answer");
	return e->text;
}

// ---- expect: the state of the machine -----------------------------------------------------------

static bool op_and_number(struct parser *p, struct operand_expect *e)
{
	return read_op(p, &e->op) && take_number(p, "a number", &e->value);
}

static bool name_op_and_number(struct parser *p, struct operand_expect *e, const char *what)
{
	struct word w;
	if (!take_word(p, what, &w))
		return false;
	e->name = keep_word(p, w);
	return e->name && op_and_number(p, e);
}

static bool expect_vmstat(struct parser *p, struct operand_expect *e)
{
	return name_op_and_number(p, e, "the name of a counter");
}

static bool expect_ksm(struct parser *p, struct operand_expect *e)
{
	return name_op_and_number(p, e, "the name of a file of sys/kernel/mm/ksm");
}

static bool expect_moved(struct parser *p, struct operand_expect *e)
{
	if (!p->marked)
		return bad(p, ((struct word *)p->words.v)[0].column,
			"expect moved without a mark before it, expected one");
	return take_task_range(p, &e->range) && op_and_number(p, e);
}

static bool expect_node(struct parser *p, struct operand_expect *e)
{
	return take_task_range(p, &e->range) && read_statuses(p, false, &e->status);
}

static bool expect_huge(struct parser *p, struct operand_expect *e)
{
	return take_task_range(p, &e->range) && op_and_number(p, e);
}

static bool expect_smaps(struct parser *p, struct operand_expect *e)
{
	struct word w;
	uint64_t size;
	if (!take_task_range(p, &e->range) || !take_word(p, "a field such as Rss", &w))
		return false;
	while (w.length && w.s[w.length - 1] == ':')
		w.length--;
	e->name = keep_word(p, w);
	if (!e->name || !read_op(p, &e->op) || !take_word(p, "a number of kB, or a size", &w))
		return false;
	if (!read_size(p, w, &size))
		return false;
	bool plain = w.s[w.length - 1] >= '0' && w.s[w.length - 1] <= '9';
	e->value = (int64_t)(plain || word_begins(w, "0x") ? size : size / 1024);
	return true;
}

static bool expect_numa_maps(struct parser *p, struct operand_expect *e)
{
	return take_task_range(p, &e->range) &&
		keep_words(p, "words of the line such as N1=16", &e->words, &e->word_count);
}

static bool expect_hugepages(struct parser *p, struct operand_expect *e)
{
	struct option_spec o[] = {
		[POOL_TOTAL] = {.name = "total", .kind = OPTION_NUMBER},
		[POOL_FREE] = {.name = "free", .kind = OPTION_NUMBER},
		[POOL_SURPLUS] = {.name = "surplus", .kind = OPTION_NUMBER},
		[POOL_FIELDS] = {.name = "size", .kind = OPTION_SIZE},
	};
	struct word w;
	unsigned node;
	if (!take_word(p, "a node", &w) || !read_node(p, w, &node) ||
		!read_options(p, o, POOL_FIELDS + 1, NULL))
		return false;
	bool any = false;
	for (unsigned i = 0; i < POOL_FIELDS; i++) {
		any |= o[i].seen;
		e->pool[i] = o[i].seen ? (int64_t)o[i].number : -1;
	}
	if (!any)
		return bad(p, p->end_column, "nothing to compare, expected total=, free= or "
					     "surplus=");
	e->page_size = o[POOL_FIELDS].seen ? o[POOL_FIELDS].number : 2 << 20;
	if (e->page_size != 2 << 20 && e->page_size != 1 << 30)
		return bad_word(p, o[POOL_FIELDS].value, "pages of 2M or 1G");
	e->node = (int)node;
	return true;
}

static bool expect_tunable(struct parser *p, struct operand_expect *e)
{
	struct word w;
	if (!take_word(p, "the path of a tunable", &w))
		return false;
	e->name = keep_word(p, w);
	e->text = keep_rest(p, "a value");
	return e->name && e->text;
}

// ---- expect -------------------------------------------------------------------------------------

static const struct {
	const char *word;
	bool (*read)(struct parser *p, struct operand_expect *e);
} expectations[] = {
	[EXPECT_RETURN] = {"return", expect_return},
	[EXPECT_ERRNO] = {"errno", expect_errno},
	[EXPECT_SIGNAL] = {"signal", expect_signal},
	[EXPECT_STATUS] = {"status", expect_status},
	[EXPECT_TEXT] = {"text", expect_text},
	[EXPECT_VMSTAT] = {"vmstat", expect_vmstat},
	[EXPECT_MOVED] = {"moved", expect_moved},
	[EXPECT_NODE] = {"node", expect_node},
	[EXPECT_HUGE] = {"huge", expect_huge},
	[EXPECT_SMAPS] = {"smaps", expect_smaps},
	[EXPECT_NUMA_MAPS] = {"numa_maps", expect_numa_maps},
	[EXPECT_HUGEPAGES] = {"hugepages", expect_hugepages},
	[EXPECT_KSM] = {"ksm", expect_ksm},
	[EXPECT_TUNABLE] = {"tunable", expect_tunable},
};

bool parse_expect(struct parser *p, struct command *c)
{
	const char *expected = "return, errno, signal, status, text, vmstat, moved, node, huge, "
			       "smaps, numa_maps, hugepages, ksm or tunable";
	struct word w;
	if (!take_word(p, expected, &w))
		return false;
	for (unsigned i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++)
		if (word_is(w, expectations[i].word)) {
			c->expect.what = i;
			return expectations[i].read(p, &c->expect);
		}
	return bad_word(p, w, expected);
}

const char *expect_word(enum expect_what what)
{
	return expectations[what].word;
}
