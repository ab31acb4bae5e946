// SPDX-License-Identifier: MIT
// What is changed on a machine is put back: at the end, after kill -9, by the next one who comes.
//
// Each test works on a copy of a recorded machine.
#include "unit.h"

#include "host/cgroup.h"
#include "host/journal.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#define THP "sys/kernel/mm/transparent_hugepage/enabled"
#define KSM "sys/kernel/mm/ksm/"
#define BALANCING "proc/sys/kernel/numa_balancing"

static struct host host;
static char root[128];

static int copy_machine(void **state)
{
	char command[600];

	(void)state;
	snprintf(root, sizeof root, "/tmp/godwit-journal-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(command, sizeof command, "cp -r %s/host/1node/. %s && mkdir -p %s/run", TEST_DATA,
		root, root);
	return system(command) || host_init(&host, root) ? -1 : 0;
}

static int remove_machine(void **state)
{
	char command[200];

	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", root);
	return system(command);
}

static void assert_value(const char *path, const char *value)
{
	char *text;

	assert_int_equal(host_read(&host, path, &text), 0);
	assert_string_equal(text, value);
	free(text);
}

// The recorded files have what a story had set; this is what a machine looks like before.
static void set_before(void)
{
	assert_int_equal(host_write(&host, THP, "[always] madvise never\n"), 0);
	assert_int_equal(host_write(&host, BALANCING, "1\n"), 0);
}

static void no_complaint(void *arg, const char *text)
{
	(void)arg;
	fail_msg("complained: %s", text);
}

static struct host_journal open_journal(void)
{
	struct host_journal journal;
	pid_t owner;

	assert_int_equal(host_journal_open(&host, &journal, &owner, no_complaint, NULL), 0);
	return journal;
}

// Whoever comes waits some seconds for a guardian that is about to end. Where that is not enough for
// a busy machine the wait is repeated; but waited it must have.
static int recover_after_guardian(void)
{
	struct timespec begin, end;
	int n;

	do {
		clock_gettime(CLOCK_MONOTONIC, &begin);
		n = host_journal_recover(&host, no_complaint, NULL);
		clock_gettime(CLOCK_MONOTONIC, &end);
	} while (n == -EBUSY && end.tv_sec - begin.tv_sec > 3);
	return n;
}

static void change(struct host_journal *journal)
{
	assert_int_equal(host_journal_set(journal, THP, "never"), 0);
	assert_int_equal(host_journal_set(journal, THP, "madvise"), 0);
	assert_int_equal(host_journal_set(journal, BALANCING, "0"), 0);
	assert_value(THP, "madvise");
	assert_value(BALANCING, "0");
}

static void test_normal_end(void **state)
{
	struct host_journal journal;

	(void)state;
	set_before();
	journal = open_journal();
	change(&journal);
	assert_int_equal(host_journal_set(&journal, "sys/none", "1"), -ENOENT);
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
	assert_value(THP, "always");
	assert_value(BALANCING, "1");
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 0);
}

static void test_folder(void **state)
{
	struct host_journal journal;
	char path[200];

	(void)state;
	journal = open_journal();
	assert_int_equal(host_journal_made(&journal, "sys/kernel/mm/group"), 0);
	snprintf(path, sizeof path, "%s/sys/kernel/mm/group", root);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
	assert_false(host_has(&host, "sys/kernel/mm/group"));
}

// A child changes the machine and waits; ready is written to when it has.
static pid_t start_changer(bool guarded)
{
	int ready[2];
	pid_t child;
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		struct host_journal journal = open_journal();

		close(ready[0]);
		if (guarded && host_journal_guard(&journal))
			_exit(1);
		change(&journal);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

static void kill_hard(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_kill_with_guardian(void **state)
{
	pid_t child;
	char *text = NULL;

	(void)state;
	set_before();
	child = start_changer(true);
	assert_value(THP, "madvise");
	kill_hard(child);
	for (int i = 0; i < 6000; i++) { // nobody can wait for the guardian but by looking
		free(text);
		assert_int_equal(host_read(&host, THP, &text), 0);
		if (!strcmp(text, "always"))
			break;
		usleep(10000);
	}
	free(text);
	assert_value(THP, "always");
	assert_int_equal(recover_after_guardian(), 0);
	assert_value(BALANCING, "1");
}

// Whoever kills the guardian does not kill what it guards, which puts everything back itself.
static void test_guardian_killed(void **state)
{
	pid_t child;
	int status;

	(void)state;
	set_before();
	child = fork();
	if (child == 0) {
		struct host_journal journal = open_journal();

		if (host_journal_guard(&journal))
			_exit(1);
		change(&journal);
		kill(journal.guardian, SIGKILL);
		waitid(P_PID, (id_t)journal.guardian, &(siginfo_t){0}, WEXITED | WNOWAIT);
		_exit(host_journal_close(&journal, no_complaint, NULL) ? 2 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_value(THP, "always");
	assert_value(BALANCING, "1");
}

// Who comes while a guardian has put everything back, and has not ended yet, waits for it.
static void test_guardian_is_waited_for(void **state)
{
	int ready[2];
	pid_t child;
	char byte;

	(void)state;
	set_before();
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		struct host_journal journal = open_journal();

		change(&journal);
		if (fork() == 0) { // as a guardian does; it is gone some time after its last write
			if (host_journal_restore(&journal, no_complaint, NULL) ||
				write(ready[1], "", 1) != 1)
				_exit(1);
			usleep(200000);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_int_equal(recover_after_guardian(), 0);
	assert_value(THP, "always");
	assert_value(BALANCING, "1");
}

static void test_kill_without_guardian(void **state)
{
	(void)state;
	set_before();
	kill_hard(start_changer(false));
	assert_value(THP, "madvise");
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 2);
	assert_value(THP, "always");
	assert_value(BALANCING, "1");
}

static void test_next_one_restores(void **state)
{
	struct host_journal journal;

	(void)state;
	set_before();
	kill_hard(start_changer(false));
	journal = open_journal();
	assert_value(THP, "always");
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
}

static void test_one_at_a_time(void **state)
{
	struct host_journal journal;
	pid_t child, owner;

	(void)state;
	set_before();
	child = start_changer(false);
	assert_int_equal(host_journal_open(&host, &journal, &owner, no_complaint, NULL), -EBUSY);
	assert_int_equal(owner, child);
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), -EBUSY);
	assert_value(THP, "madvise");
	kill_hard(child);
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 2);
}

// A line without its end was being written when the process died: nothing was changed yet.
static void test_half_a_line(void **state)
{
	static const char lines[] = "# pid 1\nset " THP " never\nset " BALANCING " 9";
	char path[200];
	FILE *f;

	(void)state;
	set_before();
	snprintf(path, sizeof path, "%s/run/godwit.restore", root);
	f = fopen(path, "w");
	fputs(lines, f);
	fclose(f);
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 1);
	assert_value(THP, "never");
	assert_value(BALANCING, "1");
}

static void write_journal(const char *text, size_t size, mode_t mode)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof path, "%s/run/godwit.restore", root);
	f = fopen(path, "w");
	assert_int_equal(fwrite(text, 1, size, f), size);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

// What a user sees of root's file, which he may not read.
static enum host_journal_left seen_by_user(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
			_exit(99);
		_exit((int)host_journal_left(&host));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return (enum host_journal_left)WEXITSTATUS(status);
}

static void test_left(void **state)
{
	static const char entry[] = "# pid 1\nset " THP " never\n";

	(void)state;
	assert_int_equal(host_journal_left(&host), HOST_JOURNAL_EMPTY);
	assert_int_equal(chmod(root, 0755), 0);
	write_journal("", 0, 0);
	assert_int_equal(seen_by_user(), HOST_JOURNAL_EMPTY);
	write_journal(entry, strlen(entry), 0600);
	assert_int_equal(host_journal_left(&host), HOST_JOURNAL_LEFT);
	write_journal(entry, strlen(entry), 0);
	assert_int_equal(seen_by_user(), HOST_JOURNAL_ROOTS);
}

static void keep_complaints(void *arg, const char *text)
{
	strcat(strcat(arg, text), "\n");
}

// Lines that are none are told, and what is behind them is put back all the same.
static void test_junk(void **state)
{
	static const char junk[] = "# pid 1\n\0\1\xffzz\nset " THP " never\njunk";
	char told[1000] = "";

	(void)state;
	set_before();
	write_journal(junk, sizeof junk - 1, 0600);
	assert_int_equal(host_journal_recover(&host, keep_complaints, told), 1);
	assert_value(THP, "never");
	assert_non_null(strstr(told, "/run/godwit.restore: '???zz' is no entry"));
	assert_non_null(strstr(told, "'junk' is no entry"));
	told[0] = '\0';
	assert_int_equal(host_journal_recover(&host, keep_complaints, told), 0);
	assert_string_equal(told, "");
}

static void count_complaints(void *arg, const char *text)
{
	(void)text;
	++*(int *)arg;
}

// A kernel that refuses to have this file written.
static const char *refused;

static int write_unless_refused(struct host *h, const char *path, const char *text, size_t length)
{
	return refused && !strcmp(path, refused) ? -EBUSY
						 : running_host_ops.write(h, path, text, length);
}

static void refuse_writes_to(const char *path)
{
	static struct host_ops ops;

	ops = running_host_ops;
	ops.write = write_unless_refused;
	host.ops = &ops;
	refused = path;
}

// A change that the kernel refuses is owed to nobody: not at the end, and not by who comes after one
// that died before it could take its entry back.
static void test_refused_change(void **state)
{
	struct host_journal journal;
	char path[200];
	FILE *f;

	(void)state;
	set_before();
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, THP, "never"), 0);
	refuse_writes_to(BALANCING);
	assert_int_equal(host_journal_set(&journal, BALANCING, "2"), -EBUSY);
	assert_int_equal(host_journal_set(&journal, BALANCING, "3"), -EBUSY);
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
	assert_value(THP, "always");

	snprintf(path, sizeof path, "%s/run/godwit.restore", root);
	f = fopen(path, "w");
	fputs("# pid 1\nset " BALANCING " 1\n", f);
	fclose(f);
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 1);
	assert_false(host_journal_left(&host));
	refused = NULL;
}

// What was changed before stays owed when a later change of it is refused.
static void test_refused_after_changed(void **state)
{
	struct host_journal journal;

	(void)state;
	set_before();
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, BALANCING, "0"), 0);
	refuse_writes_to(BALANCING);
	assert_int_equal(host_journal_set(&journal, BALANCING, "2"), -EBUSY);
	refused = NULL;
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
	assert_value(BALANCING, "1");
}

// A sysctl of several numbers takes those before the one that it refuses.
static int write_half(struct host *h, const char *path, const char *text, size_t length)
{
	int err = running_host_ops.write(h, path, text, length);

	return err ? err : !strcmp(text, "256 x") ? -EINVAL : 0;
}

static void test_half_refused(void **state)
{
	struct host_ops ops = running_host_ops;
	struct host_journal journal;

	(void)state;
	set_before();
	ops.write = write_half;
	host.ops = &ops;
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, BALANCING, "256 x"), -EINVAL);
	assert_int_equal(host_journal_close(&journal, no_complaint, NULL), 0);
	assert_value(BALANCING, "1");
}

// Changes that cannot all be put back; returns how often that was told.
static int fail_to_put_back(void)
{
	struct host_journal journal;
	int complaints = 0;

	set_before();
	journal = open_journal();
	change(&journal);
	refuse_writes_to(BALANCING);
	assert_int_equal(host_journal_close(&journal, count_complaints, &complaints), -EAGAIN);
	return complaints;
}

static void test_complains(void **state)
{
	(void)state;
	assert_int_equal(fail_to_put_back(), 1);
	assert_value(THP, "always");
}

// What could not be put back is tried again: by whoever comes next, until it can be.
static void test_keeps_what_failed(void **state)
{
	struct host_journal journal;
	int complaints;
	pid_t owner;

	(void)state;
	complaints = fail_to_put_back();
	assert_int_equal(host_journal_recover(&host, count_complaints, &complaints), -EAGAIN);
	assert_int_equal(host_journal_open(&host, &journal, &owner, count_complaints, &complaints),
		0);
	assert_int_equal(host_journal_set(&journal, THP, "never"), 0);
	assert_int_equal(host_journal_close(&journal, count_complaints, &complaints), -EAGAIN);
	assert_int_equal(complaints, 4);
	refused = NULL;
	assert_value(BALANCING, "0");
	assert_int_equal(host_write(&host, THP, "never"), 0); // the user's, meanwhile
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 1);
	assert_value(BALANCING, "1");
	assert_value(THP, "never");
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 0);
}

static void keep_complaint(void *arg, const char *text)
{
	snprintf(arg, 200, "%s", text);
}

// A setting of what no longer exists is told once, and not owed for ever; the others are put back.
static void test_drops_what_is_gone(void **state)
{
	char path[200], said[200] = "";

	(void)state;
	set_before();
	kill_hard(start_changer(false));
	snprintf(path, sizeof path, "%s/" BALANCING, root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(host_journal_recover(&host, keep_complaint, said), 1);
	assert_string_equal(said, BALANCING " is gone: nothing to put back there");
	assert_value(THP, "always");
	assert_int_equal(host_journal_recover(&host, no_complaint, NULL), 0);
}

// A kernel whose KSM shares pages until 2 is written to run, and then refuses its knobs.
static bool ksm_shares;
static unsigned ksm_separated;

static int write_to_ksm(struct host *h, const char *path, const char *text, size_t length)
{
	if (!strcmp(path, KSM "run")) {
		ksm_shares &= *text != '2';
		ksm_separated += *text == '2';
	} else if (!strncmp(path, KSM, strlen(KSM)) && ksm_shares) {
		char *now;
		bool same;

		assert_int_equal(host_read(h, path, &now), 0);
		same = !strcmp(now, text);
		free(now);
		if (!same)
			return -EBUSY;
	}
	return running_host_ops.write(h, path, text, length);
}

static void make_ksm(struct host_ops *ops)
{
	static const char *const files[][2] = {
		{"run", "0\n"}, {"max_page_sharing", "256\n"}, {"merge_across_nodes", "1\n"}};
	char command[300];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(command, sizeof command, "%s/" KSM "%s", root, files[i][0]);
		FILE *f = fopen(command, "w");
		fputs(files[i][1], f);
		fclose(f);
	}
	*ops = running_host_ops;
	ops->write = write_to_ksm;
	host.ops = ops;
	ksm_shares = false;
	ksm_separated = 0;
}

static void assert_ksm_restored(struct host_journal *journal, unsigned separated)
{
	ksm_shares = true;
	assert_int_equal(host_journal_close(journal, no_complaint, NULL), 0);
	assert_int_equal(ksm_separated, separated);
	assert_value(KSM "max_page_sharing", "256");
	assert_value(KSM "merge_across_nodes", "1");
}

static void test_ksm(void **state)
{
	struct host_journal journal;
	struct host_ops ops;

	(void)state;
	make_ksm(&ops);
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, KSM "max_page_sharing", "2"), 0);
	assert_int_equal(host_journal_set(&journal, KSM "run", "1"), 0);
	assert_int_equal(host_journal_set(&journal, KSM "merge_across_nodes", "0"), 0);
	assert_ksm_restored(&journal, 1);
	assert_value(KSM "run", "0");

	// run is the user's, and was never changed
	assert_int_equal(host_write(&host, KSM "run", "1"), 0);
	ksm_shares = false;
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, KSM "max_page_sharing", "2"), 0);
	assert_ksm_restored(&journal, 2);
	assert_value(KSM "run", "1");

	// the kernel refused the change: nothing is separated for it
	ksm_shares = true;
	journal = open_journal();
	assert_int_equal(host_journal_set(&journal, KSM "run", "0"), 0);
	assert_int_equal(host_journal_set(&journal, KSM "merge_across_nodes", "0"), -EBUSY);
	assert_int_equal(host_journal_close(&journal, count_complaints, &(int){0}), 0);
	assert_int_equal(ksm_separated, 2);
	assert_value(KSM "run", "1");
}

static void test_cpuset_mounts(void **state)
{
	char mount[200];

	(void)state;
	assert_int_equal(host_cpuset_mount(&host, CGROUP_V2, mount, sizeof mount), 0);
	assert_string_equal(mount, "sys/fs/cgroup");
	assert_true(host_cpuset_is_enabled(&host, mount));
	assert_int_equal(host_cpuset_mount(&host, CGROUP_V1, mount, sizeof mount), -ENOENT);
}

#define JOURNAL_TEST(name) cmocka_unit_test_setup_teardown(name, copy_machine, remove_machine)

int main(void)
{
	const struct CMUnitTest tests[] = {
		JOURNAL_TEST(test_normal_end),
		JOURNAL_TEST(test_folder),
		JOURNAL_TEST(test_kill_with_guardian),
		JOURNAL_TEST(test_guardian_killed),
		JOURNAL_TEST(test_guardian_is_waited_for),
		JOURNAL_TEST(test_kill_without_guardian),
		JOURNAL_TEST(test_next_one_restores),
		JOURNAL_TEST(test_one_at_a_time),
		JOURNAL_TEST(test_half_a_line),
		JOURNAL_TEST(test_left),
		JOURNAL_TEST(test_junk),
		JOURNAL_TEST(test_refused_change),
		JOURNAL_TEST(test_refused_after_changed),
		JOURNAL_TEST(test_half_refused),
		JOURNAL_TEST(test_complains),
		JOURNAL_TEST(test_keeps_what_failed),
		JOURNAL_TEST(test_drops_what_is_gone),
		JOURNAL_TEST(test_ksm),
		JOURNAL_TEST(test_cpuset_mounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
