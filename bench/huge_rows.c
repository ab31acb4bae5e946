// SPDX-License-Identifier: MIT
// Rows of `godwit bench huge` that are no moves: splitting huge pages, collapsing small ones
// (alone, and under a writer), and how fast khugepaged looks at pages.
//
//   split      debugfs' split_huge_pages for one huge page at a time
//   collapse   MADV_COLLAPSE for 512 small pages at a time
//   scan       full scans of khugepaged over ranges that it finds wanting at their last page only
//
// A round takes all huge pages of the area apart and collapses them again, and the row's half of it
// is timed page by page; the round's figure is that of the median page. The other side is memcpy of
// 2 MiB, or against the host the same done by the kernel to memory of its own, in turns by round.
// Under a writer each side has all its rounds in a row; the writer stands still while pages are
// taken apart, so that its stalls are those of the collapses.
//
// khugepaged of the host is measured by its full_scans while it does not sleep; its settings are
// put back at the end of the row. That, and debugfs, take root.
//
// What can fail: a huge page that cannot be had, or the right to write a file: then the row has the
// reason.
#include "bench/case.h"
#include "bench/host_area.h"
#include "bench/writer.h"

#include <godwit/huge.h>
#include <godwit/stats.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE (2ull << 20)
#define ADVISE_COLLAPSE 25
#define SETTINGS "sys/kernel/mm/transparent_hugepage/khugepaged/"

// One of the two whose pages are treated.
struct side {
	struct world *w;
	bool host;
	uint64_t *refused; // calls that said no: something was in use at that moment
	int *error;	   // what the last of them said
};

// ---- Files of the engine and of the host

static int host_write_file(const char *path, const char *value)
{
	char full[160];
	ssize_t n;
	int fd, err = 0;

	snprintf(full, sizeof full, "/%s", path);
	fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, value, strlen(value));
	if (n < 0)
		err = -errno;
	close(fd);
	return err;
}

static int set(const struct side *s, const char *path, const char *value)
{
	return s->host ? host_write_file(path, value)
		       : gw_tunable_set(s->w->machine, path, value);
}

// What the host's khugepaged and its balancing are set to, to be put back.
#define KEPT 4
static const char *const kept_path[KEPT] = {SETTINGS "scan_sleep_millisecs",
	SETTINGS "pages_to_scan", SETTINGS "max_ptes_none", "proc/sys/kernel/numa_balancing"};
struct kept {
	unsigned long value[KEPT];
	bool saved;
};

static int keep(const struct side *s, struct kept *kept)
{
	if (!s->host)
		return 0;
	for (int i = 0; i < KEPT; i++)
		kept->value[i] = host_number(kept_path[i]);
	kept->saved = true;
	return 0;
}

static void put_back(const struct side *s, const struct kept *kept)
{
	char text[32];

	for (int i = 0; kept->saved && i < KEPT; i++) {
		snprintf(text, sizeof text, "%lu", kept->value[i]);
		(void)set(s, kept_path[i], text);
	}
}

// ---- One huge page

static int collapse(const struct side *s, uint64_t at)
{
	if (!s->host)
		return gw_advise(s->w->task[0], s->w->area + at, HUGE, ADVISE_COLLAPSE);
	return madvise(s->w->host.at + at, HUGE, ADVISE_COLLAPSE) ? -errno : 0;
}

static int split(const struct side *s, uint64_t at)
{
	uint64_t start = s->host ? (uintptr_t)s->w->host.at + at : s->w->area + at;
	char text[80];

	snprintf(text, sizeof text, "%d,0x%llx,0x%llx",
		s->host ? (int)getpid() : gw_task_pid(s->w->task[0]), (unsigned long long)start,
		(unsigned long long)(start + HUGE));
	return set(s, "sys/kernel/debug/split_huge_pages", text);
}

typedef int one_fn(const struct side *, uint64_t at);

// All of the area; the time of the median one, in ns.
static int each(const struct side *s, one_fn *one, double *ret_ns)
{
	double *ns = s->w->ours;
	unsigned long n = 0;

	for (uint64_t at = 0; at < s->w->spec.bytes; at += HUGE) {
		double start = bench_now_ns();
		int err = one(s, at);

		if (!err) {
			ns[n++] = bench_now_ns() - start;
			continue;
		}
		if (err != -EINVAL && err != -EAGAIN && err != -EBUSY)
			return err;
		++*s->refused;
		*s->error = err;
	}
	*ret_ns = percentile_of(ns, n, 0.5);
	return n ? 0 : *s->error;
}

static double plain_ns(struct world *w)
{
	unsigned long n = 0;

	for (uint64_t at = 0; at < w->spec.bytes; at += HUGE) {
		double start = bench_now_ns();

		memcpy(w->plain.side[1] + at, w->plain.side[0] + at, HUGE);
		w->copy[n++] = bench_now_ns() - start;
	}
	return percentile_of(w->copy, n, 0.5);
}

// ---- Rounds

struct job {
	bool collapse; // else split
	struct writer *writer;
};

// Apart and together again; the time of the half that the row is about.
static int round_of(const struct side *s, const struct job *job, double *ret_ns)
{
	double split_ns, collapse_ns;
	int err;

	if (job->writer)
		writer_pause(job->writer, true);
	err = each(s, split, &split_ns);
	if (job->writer)
		writer_pause(job->writer, false);
	if (!err)
		err = each(s, collapse, &collapse_ns);
	if (!err)
		*ret_ns = job->collapse ? collapse_ns : split_ns;
	return err;
}

static int other_round(const struct side *host, const struct job *job, double *ret_ns)
{
	if (host->host)
		return round_of(host, job, ret_ns);
	*ret_ns = plain_ns(host->w);
	return 0;
}

static int in_turns(const struct side *ours, const struct side *host, const struct job *job,
	unsigned rounds, struct timing *t)
{
	int err = 0;

	for (unsigned i = 0; !err && i < rounds + BENCH_WARM_UP; i++) {
		double ns, other_ns;

		err = other_round(host, job, &other_ns);
		if (!err)
			err = round_of(ours, job, &ns);
		if (!err && i >= BENCH_WARM_UP)
			timing_add(t, ns, other_ns);
	}
	return err;
}

// One side under its writer.
static int written(const struct side *s, unsigned rounds, double *ns, struct bench_stalls *stalls)
{
	struct world there = {.bytes = s->host ? s->w->host.at : s->w->bytes, .pages = s->w->pages};
	struct job job = {.collapse = true};
	int err;

	there.task[0] = s->host ? NULL : s->w->task[0];
	for (unsigned long i = 0; i < there.pages; i++) // its sums begin at 0
		*(volatile uint64_t *)(there.bytes + i * GW_PAGE_SIZE + 64) = 0;
	err = writer_start(&there, &job.writer);
	if (err)
		return err;
	for (unsigned i = 0; !err && i < rounds + 1; i++) {
		err = round_of(s, &job, &ns[i ? i - 1 : 0]);
		if (!i)
			writer_mark(job.writer);
	}
	if (!writer_stop(job.writer, stalls))
		err = -EIO;
	stalls->accesses_per_s = 0; // it stood still for a part of the time
	return err;
}

static int under_writers(const struct side *ours, const struct side *host, unsigned rounds,
	struct timing *t, struct bench_row *row)
{
	double *ns = calloc(2ul * rounds, sizeof(*ns)), *other = ns ? ns + rounds : NULL;
	int err = ns ? written(ours, rounds, ns, &row->stalls) : -ENOMEM;

	if (!err && host->host)
		err = written(host, rounds, other, &row->kernel_stalls);
	for (unsigned i = 0; !err && i < rounds; i++)
		timing_add(t, ns[i], host->host ? other[i] : plain_ns(ours->w));
	free(ns);
	return err;
}

// ---- khugepaged

// Each range lacks its last page, and khugepaged may not invent any.
static int make_wanting(const struct side *s)
{
	for (uint64_t at = 0; at < s->w->spec.bytes; at += HUGE) {
		uint64_t last = at + HUGE - GW_PAGE_SIZE;
		int err = split(s, at);

		if (!err && s->host && madvise(s->w->host.at + last, GW_PAGE_SIZE, MADV_DONTNEED))
			err = -errno;
		if (!err && !s->host)
			err = gw_advise(s->w->task[0], s->w->area + last, GW_PAGE_SIZE,
				MADV_DONTNEED);
		if (err)
			return err;
	}
	return set(s, SETTINGS "max_ptes_none", "0");
}

#define SCANS 4

static int scan_ours(struct world *w, double *ret_ns)
{
	double start = bench_now_ns();

	gw_khugepaged_scan(w->machine, SCANS);
	*ret_ns = (bench_now_ns() - start) / SCANS;
	return 0;
}

// A whole number of its scans, as seen from outside.
static int scan_host(double *ret_ns)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	unsigned long first = host_number(SETTINGS "full_scans"), now = first, at;
	double start = 0, give_up = bench_now_ns() + 30e9;

	for (at = first; now < first + 1 + SCANS && bench_now_ns() < give_up; at = now) {
		nanosleep(&moment, NULL);
		now = host_number(SETTINGS "full_scans");
		if (at == first && now != at) { // one has just begun
			start = bench_now_ns();
			first = now - 1;
		}
	}
	if (now < first + 1 + SCANS)
		return -ETIME;
	*ret_ns = (bench_now_ns() - start) / (double)(now - first - 1);
	return 0;
}

static int let_run(const struct side *s)
{
	int err = make_wanting(s);

	if (!err && s->host) {
		err = set(s, SETTINGS "pages_to_scan", "10000000");
		if (!err)
			err = set(s, SETTINGS "scan_sleep_millisecs", "0");
	}
	return err;
}

// The host's scans would disturb ours: not in turns.
static int scans(const struct side *ours, const struct side *host, unsigned rounds,
	struct timing *t)
{
	struct world *w = ours->w;
	double *ns = calloc(rounds, sizeof(*ns));
	int err = ns ? make_wanting(ours) : -ENOMEM;

	for (unsigned i = 0; !err && i < rounds; i++)
		err = scan_ours(w, &ns[i]);
	if (!err && host->host)
		err = let_run(host);
	for (unsigned i = 0; !err && i < rounds; i++) {
		double other = 0;

		if (host->host)
			err = scan_host(&other);
		else
			other = plain_ns(w) * (double)(w->spec.bytes / HUGE);
		if (!err)
			timing_add(t, ns[i], other);
	}
	free(ns);
	return err;
}

// ---- Rows

enum kind { SPLIT, COLLAPSE, SCAN };

static int measure(const struct bench_setting *s, const struct side *ours,
	const struct side *host, enum kind kind, struct timing *t, struct bench_row *row)
{
	struct job job = {.collapse = kind == COLLAPSE};
	int err;

	row->pages = kind == SCAN ? ours->w->pages : HUGE / GW_PAGE_SIZE;
	row->kernel_stalled = s->what->writer && host->host;
	if (kind == SCAN)
		return scans(ours, host, s->rounds, t);
	err = s->what->writer ? under_writers(ours, host, s->rounds, t, row)
			      : in_turns(ours, host, &job, s->rounds, t);
	return err || world_check(ours->w) ? err : -EIO;
}

// Nobody else is to collapse meanwhile. A page that the balancer waits to hear of is read-only to
// MADV_COLLAPSE; a kernel with one node may have no balancer.
static int quiet(const struct side *s, struct kept *kept)
{
	int err = keep(s, kept);

	if (!err && s->host)
		(void)set(s, "proc/sys/kernel/numa_balancing", "0");
	return err ? err : set(s, SETTINGS "scan_sleep_millisecs", "3600000");
}

static int bench_kind(const struct bench_setting *s, enum kind kind, struct bench_row *row)
{
	struct timing t = {0};
	struct kept kept = {0};
	struct world w;
	int said = 0, err = 0, opened;
	const struct side ours = {&w, false, &row->refused, &said};
	const struct side host = {&w, s->spec.against_host, &row->kernel_refused, &said};

	if (host.host)
		err = quiet(&host, &kept);
	opened = world_open(&w, &s->spec, row->skipped, sizeof row->skipped);
	if (opened) {
		put_back(&host, &kept);
		return opened == -ENOMEM ? opened : 0;
	}
	if (!err)
		err = quiet(&ours, &kept);
	if (!err)
		err = timing_open(&t, s->rounds);
	if (!err)
		err = measure(s, &ours, &host, kind, &t, row);
	put_back(&host, &kept);
	if (err)
		snprintf(row->skipped, sizeof row->skipped, "%s",
			err == -EIO ? "wrong bytes, or a store was lost"
			: err == -EACCES || err == -EPERM ? "this takes root" : strerror(-err));
	else
		timing_report(&t, row);
	timing_close(&t);
	world_close(&w);
	return err == -EIO || err == -ENOMEM ? err : 0;
}

int bench_split(const struct bench_setting *s, struct bench_row *row)
{
	return bench_kind(s, SPLIT, row);
}

int bench_collapse(const struct bench_setting *s, struct bench_row *row)
{
	return bench_kind(s, COLLAPSE, row);
}

int bench_scan(const struct bench_setting *s, struct bench_row *row)
{
	return bench_kind(s, SCAN, row);
}
