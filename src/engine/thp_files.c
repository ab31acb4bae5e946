// SPDX-License-Identifier: MIT
// The files of transparent huge pages: sys/kernel/mm/transparent_hugepage/ with khugepaged/ and a
// folder for each size, debugfs' split_huge_pages, and godwit/read_only_thp_for_fs, which in Linux
// is decided when it is built. Values live in struct thp (src/thp/thp.h); a
// write that changes whether anything is enabled starts or ends khugepaged.
//
// Errors are Linux's: -EINVAL for what is no such value, -ENOENT for a size that does not exist,
// -ESRCH for a task that does not.
#include "engine/engine.h"

#include "base/text_buf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define DIR "sys/kernel/mm/transparent_hugepage/"
#define UMOST ((unsigned long)UINT_MAX)

// ---- Settings: a row's slot is an enum thp_setting

static int get_number(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", thp_setting(&m->thp, t->slot));
	return 0;
}

static int get_words(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	tunable_print_words(text, t->words, (unsigned)thp_setting(&m->thp, t->slot));
	return 0;
}

static int change(struct gw_machine *m, _Atomic unsigned long *setting, unsigned long value)
{
	atomic_store(setting, value);
	return thp_settings_changed(&m->thp);
}

static int set_number(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long n;
	int err = tunable_number(value, 10, t->least, t->most, &n);

	return err ? err : change(m, &m->thp.setting[t->slot], n);
}

static int set_flag(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	bool on;
	int err = tunable_bool(value, &on);

	return err ? err : change(m, &m->thp.setting[t->slot], on);
}

static int set_words(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned nth;
	int err = tunable_word(t->words, value, &nth);

	return err ? err : change(m, &m->thp.setting[t->slot], nth);
}

// ---- A folder for each size

// A row's `least` is the smallest order that has the file: anonymous memory has no folios of two
// pages, shared memory does.
static int size_order(const struct tunable *t, unsigned kbytes, unsigned *ret_order)
{
	if (kbytes < PAGE_SIZE << t->least >> 10 || kbytes > PMD_SIZE >> 10 ||
		kbytes & (kbytes - 1))
		return -ENOENT;
	*ret_order = (unsigned)__builtin_ctz(kbytes) + 10 - PAGE_SHIFT;
	return 0;
}

enum { OF_ANON, OF_SHMEM };

static _Atomic unsigned long *size_setting(struct thp *thp, const struct tunable *t, unsigned order)
{
	return t->slot == OF_ANON ? &thp->size_enabled[order] : &thp->size_shmem[order];
}

static int get_size(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	struct text_buf *text)
{
	unsigned order;
	int err = size_order(t, index[0], &order);

	if (err)
		return err;
	tunable_print_words(text, t->words, (unsigned)*size_setting(&m->thp, t, order));
	return 0;
}

static int set_size(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	const char *value)
{
	unsigned order, nth;
	int err = size_order(t, index[0], &order);

	if (!err)
		err = tunable_word(t->words, value, &nth);
	if (!err && t->slot == OF_SHMEM && nth == SIZE_SHMEM_INHERIT && order != PMD_ORDER &&
		thp_setting(&m->thp, SET_SHMEM_ENABLED) == SHMEM_FORCE)
		err = -EINVAL;
	return err ? err : change(m, size_setting(&m->thp, t, order), nth);
}

// To force it is possible while only the size of a PMD follows.
static bool may_force_shmem(struct thp *thp)
{
	for (unsigned order = THP_LEAST_SHMEM_ORDER; order <= PMD_ORDER; order++)
		if ((atomic_load(&thp->size_shmem[order]) == SIZE_SHMEM_INHERIT) !=
			(order == PMD_ORDER))
			return false;
	return true;
}

static int set_shmem(struct gw_machine *m, const struct tunable *t,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned nth;
	int err = tunable_word(t->words, value, &nth);

	if (!err && nth == SHMEM_FORCE && !may_force_shmem(&m->thp))
		err = -EINVAL;
	return err ? err : change(m, &m->thp.setting[t->slot], nth);
}

static int get_stat(struct gw_machine *m, const struct tunable *t, const unsigned *index,
	struct text_buf *text)
{
	unsigned order;
	int err = size_order(t, index[0], &order);

	if (!err)
		text_printf(text, "%ld\n", size_stat(&m->phys.sizes, order, t->slot));
	return err;
}

// ---- khugepaged's counters, and splitting

static int get_full_scans(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", atomic_load(&m->thp.khugepaged.full_scans));
	return 0;
}

static int get_collapsed(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_printf(text, "%lu\n", atomic_load(&m->thp.khugepaged.pages_collapsed));
	return 0;
}

// "1": everything. "PID,0xSTART,0xEND[,ORDER]": what a task has there.
static int split_huge_pages(struct gw_machine *m, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	unsigned long start, end;
	unsigned order = 0;
	int pid, n = sscanf(value, "%d,0x%lx,0x%lx,%u", &pid, &start, &end, &order);

	if (n == 1 && pid == 1) {
		(void)thp_split_all(&m->thp);
		return 0;
	}
	if (n < 3 || order >= PMD_ORDER)
		return -EINVAL;
	int split = thp_split_range(&m->thp, pid, start, end, order);
	return split < 0 ? split : 0;
}

// ---- The table

#define NUMBER(path_, which, least_, most_)                                                        \
	{path_, get_number, set_number, .slot = which, .least = least_, .most = most_},
#define STAT(name, file, least_)                                                                   \
	{DIR "hugepages-*kB/stats/" #file, get_stat, NULL, .slot = STAT_##name, .least = least_},

static const struct tunable rows[] = {
	// clang-format off
	{DIR "enabled", get_words, set_words, .slot = SET_ENABLED, .words = "always madvise never"},
	{DIR "defrag", get_words, set_words, .slot = SET_DEFRAG,
		.words = "always defer defer+madvise madvise never"},
	{DIR "shmem_enabled", get_words, set_shmem, .slot = SET_SHMEM_ENABLED,
		.words = "always within_size advise never deny force"},
	NUMBER(DIR "use_zero_page", SET_USE_ZERO_PAGE, 0, 1)
	{DIR "shrink_underused", get_number, set_flag, .slot = SET_SHRINK_UNDERUSED},
	NUMBER(DIR "khugepaged/pages_to_scan", SET_PAGES_TO_SCAN, 1, UMOST)
	NUMBER(DIR "khugepaged/scan_sleep_millisecs", SET_SCAN_SLEEP, 0, UMOST)
	NUMBER(DIR "khugepaged/alloc_sleep_millisecs", SET_ALLOC_SLEEP, 0, UMOST)
	NUMBER(DIR "khugepaged/max_ptes_none", SET_MAX_PTES_NONE, 0, PTRS_PER_TABLE - 1)
	NUMBER(DIR "khugepaged/max_ptes_shared", SET_MAX_PTES_SHARED, 0, PTRS_PER_TABLE - 1)
	NUMBER(DIR "khugepaged/max_ptes_swap", SET_MAX_PTES_SWAP, 0, PTRS_PER_TABLE - 1)
	NUMBER(DIR "khugepaged/defrag", SET_KHUGEPAGED_DEFRAG, 0, 1)
	TUNABLE(DIR "khugepaged/full_scans", get_full_scans, NULL),
	TUNABLE(DIR "khugepaged/pages_collapsed", get_collapsed, NULL),
	{DIR "hugepages-*kB/enabled", get_size, set_size, .slot = OF_ANON,
		.least = THP_LEAST_ORDER, .words = "always inherit madvise never"},
	{DIR "hugepages-*kB/shmem_enabled", get_size, set_size, .slot = OF_SHMEM,
		.least = THP_LEAST_SHMEM_ORDER,
		.words = "always inherit within_size advise never"},
	SIZE_STATS(STAT)
	NUMBER("godwit/read_only_thp_for_fs", SET_READ_ONLY_FILES, 0, 1)
	TUNABLE("sys/kernel/debug/split_huge_pages", NULL, split_huge_pages),
	// clang-format on
};

const struct tunable_table tunables_thp = {rows, ARRAY_SIZE(rows)};
