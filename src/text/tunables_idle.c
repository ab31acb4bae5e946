// SPDX-License-Identifier: MIT
// Tunables of subsystems that may be missing: KSM, NUMA balancing, demotion. A subsystem that is
// there has registered rows of its own, which are found before these.
//
//	switch       has its value for "off" and accepts no other: -EOPNOTSUPP, not in this build
//	parameter    is kept and shown, though nobody heeds it: a story may set the stage
//	counter      is 0
//
// A value that Linux would refuse is refused first, with Linux's error. Defaults are Linux's, but
// for the switches. Values live in the machine's slots; nothing is locked, nothing else can fail.
#include "base/assert.h"
#include "base/text_buf.h"
#include "text/files.h"

#include <errno.h>
#include <limits.h>

#define THP "sys/kernel/mm/transparent_hugepage/"
#define KSM "sys/kernel/mm/ksm/"
#define BALANCING "sys/kernel/debug/sched/numa_balancing/"
#define MOST ((unsigned long)INT_MAX)
#define UMOST ((unsigned long)UINT_MAX)

// X(slot, path, default, least, most, set)
#define PARAMETERS(X)                                                                              \
	X(KSM_PAGES, KSM "pages_to_scan", 100, 0, UMOST, sysfs)                                    \
	X(KSM_SLEEP, KSM "sleep_millisecs", 20, 0, UMOST, sysfs)                                   \
	X(KSM_ACROSS, KSM "merge_across_nodes", 1, 0, 1, sysfs)                                    \
	X(KSM_SHARING, KSM "max_page_sharing", 256, 2, MOST, sysfs)                                \
	X(KSM_ZERO, KSM "use_zero_pages", 0, 0, 1, flag)                                           \
	X(KSM_PRUNE, KSM "stable_node_chains_prune_millisecs", 2000, 0, UMOST, sysfs)              \
	X(KSM_SMART, KSM "smart_scan", 1, 0, 1, flag)                                              \
	X(KSM_MAX_CPU, KSM "advisor_max_cpu", 70, 0, UMOST, sysfs)                                 \
	X(KSM_MIN_PAGES, KSM "advisor_min_pages_to_scan", 500, 0, ~0ul, sysfs)                     \
	X(KSM_MAX_PAGES, KSM "advisor_max_pages_to_scan", 30000, 0, ~0ul, sysfs)                   \
	X(KSM_TARGET, KSM "advisor_target_scan_time", 200, 1, ~0ul, sysfs)                         \
	X(SCAN_DELAY, BALANCING "scan_delay_ms", 1000, 0, UMOST, sysctl)                           \
	X(SCAN_MIN, BALANCING "scan_period_min_ms", 1000, 0, UMOST, sysctl)                        \
	X(SCAN_MAX, BALANCING "scan_period_max_ms", 60000, 0, UMOST, sysctl)                       \
	X(SCAN_SIZE, BALANCING "scan_size_mb", 256, 0, UMOST, sysctl)                              \
	X(HOT_THRESHOLD, BALANCING "hot_threshold_ms", 1000, 0, UMOST, sysctl)                     \
	X(PROMOTE_RATE, "proc/sys/kernel/numa_balancing_promote_rate_limit_MBps", 65536, 0, MOST,  \
		sysctl)                                                                            \
	X(SOFT_OFFLINE, "proc/sys/vm/enable_soft_offline", 1, 0, 1, sysctl)                        \
	X(SWAPPINESS, "proc/sys/vm/swappiness", 60, 0, 200, sysctl)                                \
	X(STAT_INTERVAL, "proc/sys/vm/stat_interval", 1, 0, MOST, sysctl)

enum slot {
#define X(name, path, standard, least, most, set) SLOT_##name,
	PARAMETERS(X)
#undef X
	SLOTS
};
build_assert(SLOTS <= TUNABLE_SLOTS, "TUNABLE_SLOTS is too small");

// ---- Single files

static int get_false(struct gw_machine *machine maybe_unused, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, struct text_buf *text)
{
	text_puts(text, "false\n");
	return 0;
}

static int set_false(struct gw_machine *machine maybe_unused, const struct tunable *t maybe_unused,
	const unsigned *index maybe_unused, const char *value)
{
	bool on;
	int err = tunable_bool(value, &on);

	if (err)
		return err;
	return on ? -EOPNOTSUPP : 0;
}

// The LRU has one generation of lists: no bit of the other kind is on.
static int get_lru_gen(struct gw_machine *machine maybe_unused,
	const struct tunable *t maybe_unused, const unsigned *index maybe_unused,
	struct text_buf *text)
{
	text_puts(text, "0x0000\n");
	return 0;
}

static int set_lru_gen(struct gw_machine *machine maybe_unused,
	const struct tunable *t maybe_unused, const unsigned *index maybe_unused,
	const char *value)
{
	unsigned long bits;

	if (*value == 'n' || *value == 'N')
		return 0;
	if (*value == 'y' || *value == 'Y')
		return -EOPNOTSUPP;
	if (tunable_number(value, 0, 0, UMOST, &bits))
		return -EINVAL;
	return bits ? -EOPNOTSUPP : 0;
}

// ---- The table

#define ZERO(path) TUNABLE(path, tunable_get_standard, NULL),
#define SWITCH(path, off, most_)                                                                   \
	{path, tunable_get_standard, tunable_refuse_number, .standard = off, .most = most_},
#define WORDS(path, words_, off)                                                                   \
	{path, tunable_get_standard, tunable_refuse_words, .standard = off, .words = words_},

static const struct tunable rows[] = {
#define X(name, path, standard_, least_, most_, set)                                               \
	{path, tunable_get_number, tunable_set_##set, .slot = SLOT_##name, .standard = standard_,  \
		.least = least_, .most = most_},
	PARAMETERS(X)
#undef X
	// clang-format off
	{THP "hpage_pmd_size", .get = tunable_get_standard, .standard = PMD_SIZE},
	SWITCH(KSM "run", 0, 2)
	WORDS(KSM "advisor_mode", "none scan-time", 0)
	ZERO(KSM "full_scans")
	ZERO(KSM "general_profit")
	ZERO(KSM "ksm_zero_pages")
	ZERO(KSM "pages_scanned")
	ZERO(KSM "pages_shared")
	ZERO(KSM "pages_sharing")
	ZERO(KSM "pages_skipped")
	ZERO(KSM "pages_unshared")
	ZERO(KSM "pages_volatile")
	ZERO(KSM "stable_node_chains")
	ZERO(KSM "stable_node_dups")
	SWITCH("proc/sys/kernel/numa_balancing", 0, 4)
	TUNABLE("sys/kernel/mm/numa/demotion_enabled", get_false, set_false),
	TUNABLE("sys/kernel/mm/lru_gen/enabled", get_lru_gen, set_lru_gen),
	SWITCH("proc/sys/vm/zone_reclaim_mode", 0, MOST)
	SWITCH("proc/sys/vm/numa_stat", 1, 1)
	// clang-format on
};

const struct tunable_table tunables_idle = {rows, ARRAY_SIZE(rows)};
