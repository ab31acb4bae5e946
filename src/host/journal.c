// SPDX-License-Identifier: MIT
// The journal of changes to the machine: save, set, restore, whatever happens.
//
// A file in /run (root) or $XDG_RUNTIME_DIR, locked with flock(2) as long as this process or its
// guardian lives. A line is an entry:
//
//   set PATH VALUE     what PATH held before it was first changed, or what undoes a change
//   rmdir PATH         a folder that was made
//
// An entry is written before the change it is about, and taken back when the kernel refuses that; a
// line that ends without a newline was being written when its process died, so nothing was changed
// yet. Restoring goes from the last line to
// the first. Entries that were put back leave the file, those that could not be stay: an empty file
// owes nothing. A setting of a file that is gone (ENOENT: a cgroup that was removed, a module that
// was unloaded) is owed to nobody: it leaves, too, and is told. Doing it twice does no harm.
//
// KSM refuses two of its knobs while it shares pages. They are put back after everything that is
// shared was separated (2 in its file run), and run itself after them.
//
//   who restores                      when
//   the process itself                at its normal end, also after errors and Ctrl-C
//   the guardian, a child of it       when the process is gone without having said so (kill -9):
//                                     then the socket between them ends
//   the next process that opens it    when both are gone (power does not count: the tunables are
//                                     then as the machine boots)
//
// Tunables that hold no state (a write is an action) are never saved. A value that the kernel
// prints with brackets is saved as the word inside.

#include "host/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "godwit.restore"
#define LINE_MAX_BYTES 1024
#define KSM "sys/kernel/mm/ksm/"
#define KSM_RUN_LINE "set " KSM "run "

// ---- The file -----------------------------------------------------------------------------------

static int journal_path(const struct host *host, char *buf, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	int n;

	if (*host->root || geteuid() == 0)
		n = snprintf(buf, size, "%s/run/" FILE_NAME, host->root);
	else if (dir && *dir)
		n = snprintf(buf, size, "%s/" FILE_NAME, dir);
	else
		return -EACCES;
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

// The first line of the lock's holder is "# pid N"; it is no entry. A guardian leaves there who has
// died: it is about to end, and whoever comes may wait for it.
static pid_t owner_of(int fd)
{
	char text[32] = "";
	int pid = 0;

	if (pread(fd, text, sizeof text - 1, 0) < 0 || sscanf(text, "# pid %d", &pid) != 1)
		return 0;
	return pid;
}

static bool is_alive(pid_t pid)
{
	return pid > 0 && (!kill(pid, 0) || errno == EPERM);
}

// A guardian that is just restoring needs a moment.
static int take_lock(int fd, pid_t *ret_owner)
{
	for (int i = 0; i < 100; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return 0;
		*ret_owner = owner_of(fd);
		if (errno != EWOULDBLOCK)
			return -errno;
		if (is_alive(*ret_owner))
			break;
		nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
	return -EBUSY;
}

// What the file holds from now on: who has it, and the lines of text that are not empty. It is one
// write of at least what was there, so that whoever dies here leaves the one or the other.
static int rewrite(struct host_journal *journal, const char *text)
{
	size_t size = strlen(text) + 32, used;
	struct stat st;
	char *buf;
	int err = 0;

	if (fstat(journal->fd, &st))
		return -errno;
	size = size > (size_t)st.st_size ? size : (size_t)st.st_size;
	buf = malloc(size + 1);
	if (!buf)
		return -ENOMEM;
	used = (size_t)snprintf(buf, size, "# pid %d\n", (int)journal->owner);
	for (; *text; text++)
		if (*text != '\n' || buf[used - 1] != '\n')
			buf[used++] = *text;
	memset(buf + used, '\n', size - used);
	if (pwrite(journal->fd, buf, size, 0) != (ssize_t)size ||
		ftruncate(journal->fd, (off_t)used))
		err = -EIO;
	free(buf);
	return err;
}

int host_journal_open(struct host *host, struct host_journal *ret_journal, pid_t *ret_owner,
	host_complaint_fn *complain, void *arg)
{
	struct host_journal j = {.host = host, .owner = getpid(), .guard = -1};
	int err = journal_path(host, j.path, sizeof j.path);

	*ret_owner = 0;
	if (err)
		return err;
	j.fd = open(j.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j.fd < 0)
		return -errno;
	err = take_lock(j.fd, ret_owner);
	if (!err) {
		err = host_journal_restore(&j, complain, arg);
		if (err == -EAGAIN)
			err = 0; // its entries stay, and are tried again at the end
	}
	if (err)
		close(j.fd);
	else
		*ret_journal = j;
	return err;
}

static int add_line(struct host_journal *journal, const char *line)
{
	size_t length = strlen(line);
	struct stat st;

	if (fstat(journal->fd, &st))
		return -errno;
	return pwrite(journal->fd, line, length, st.st_size) == (ssize_t)length ? 0 : -EIO;
}

static char *read_lines(struct host_journal *journal)
{
	struct stat st;
	char *text;
	ssize_t n;

	if (fstat(journal->fd, &st) || !(text = malloc((size_t)st.st_size + 1)))
		return NULL;
	n = pread(journal->fd, text, (size_t)st.st_size, 0);
	text[n > 0 ? n : 0] = '\0';
	for (ssize_t i = 0; i < n; i++) // in a damaged file
		text[i] = text[i] ? text[i] : '?';
	return text;
}

static bool has_line(struct host_journal *journal, const char *begin)
{
	char *text = read_lines(journal);
	size_t length = strlen(begin);
	bool found = false;

	for (const char *line = text; line && !found; line = strchr(line, '\n')) {
		line += *line == '\n';
		found = !strncmp(line, begin, length);
	}
	free(text);
	return found;
}

// ---- Changes ------------------------------------------------------------------------------------

static bool is_action(const char *path)
{
	static const char *const actions[] = {"proc/sys/vm/compact_memory",
		"proc/sys/vm/drop_caches", "proc/sys/vm/stat_refresh",
		"sys/kernel/debug/split_huge_pages"};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (!strcmp(path, actions[i]))
			return true;
	return false;
}

static int save(struct host_journal *journal, const char *path)
{
	char line[LINE_MAX_BYTES], value[512], *text;
	int n;

	n = snprintf(line, sizeof line, "set %s ", path);
	if (n >= (int)sizeof line)
		return -ENAMETOOLONG;
	if (is_action(path) || has_line(journal, line) || host_read(journal->host, path, &text))
		return 0;
	host_chosen(text, value, sizeof value);
	free(text);
	if (strchr(value, '\n'))
		return 0; // no state that a write could bring back
	n = snprintf(line, sizeof line, "set %s %s\n", path, value);
	return n >= (int)sizeof line ? -ENAMETOOLONG : add_line(journal, line);
}

// Whether path holds value now.
static bool holds(struct host_journal *journal, const char *path, const char *value)
{
	char chosen[512], *text;

	if (host_read(journal->host, path, &text))
		return false;
	host_chosen(text, chosen, sizeof chosen);
	free(text);
	return !strcmp(chosen, value);
}

// A write that was refused owes nothing. Some sysctls take a part of it before they find out: then
// the value is another one, and the entry, from offset on, stays. What may not be written at all
// may count by itself.
static void take_back(struct host_journal *journal, off_t offset, const char *path, int err)
{
	char *text = read_lines(journal), *value = NULL;
	size_t begin = strlen("set ") + strlen(path) + 1;

	if (text && strlen(text) > (size_t)offset + begin) {
		value = text + (size_t)offset + begin;
		value[strcspn(value, "\n")] = '\0';
	}
	if (value && (err == -EACCES || err == -EPERM || holds(journal, path, value)))
		(void)!ftruncate(journal->fd, offset);
	free(text);
}

int host_journal_set(struct host_journal *journal, const char *path, const char *value)
{
	struct stat st;
	int err = fstat(journal->fd, &st) ? -errno : save(journal, path);

	if (err)
		return err;
	err = host_write(journal->host, path, value);
	if (err)
		take_back(journal, st.st_size, path, err);
	return err;
}

int host_journal_undo(struct host_journal *journal, const char *path, const char *value)
{
	char line[LINE_MAX_BYTES];

	if (snprintf(line, sizeof line, "set %s %s\n", path, value) >= (int)sizeof line)
		return -ENAMETOOLONG;
	return add_line(journal, line);
}

int host_journal_made(struct host_journal *journal, const char *path)
{
	char line[LINE_MAX_BYTES];

	if (snprintf(line, sizeof line, "rmdir %s\n", path) >= (int)sizeof line)
		return -ENAMETOOLONG;
	return add_line(journal, line);
}

// ---- Restoring ----------------------------------------------------------------------------------

// A cgroup is busy until the last of its processes has been reaped.
static int remove_patiently(struct host *host, const char *path)
{
	int err = -EBUSY;

	for (int i = 0; i < 100 && err == -EBUSY; i++) {
		if (i)
			nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
		err = host->ops->remove_folder(host, path);
	}
	return err == -ENOENT ? 0 : err;
}

enum restored { PUT_BACK, GONE, FAILED };

static void complain_of_junk(
	struct host_journal *journal, const char *line, host_complaint_fn *complain, void *arg)
{
	char text[sizeof journal->path + 128], shown[61];
	size_t n = 0;

	for (; line[n] && n < sizeof shown - 1; n++)
		shown[n] = line[n] >= ' ' && line[n] <= '~' ? line[n] : '?';
	shown[n] = '\0';
	snprintf(text, sizeof text, "%s: '%s' is no entry: left out", journal->path, shown);
	if (complain)
		complain(arg, text);
}

// What a process that died was writing; nothing was changed yet.
static bool is_half_an_entry(const char *line)
{
	static const char *const words[] = {"# pid ", "set ", "rmdir "};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strncmp(line, words[i], min(strlen(line), strlen(words[i]))))
			return true;
	return false;
}

// line is written to.
static enum restored restore_line(
	struct host_journal *journal, char *line, host_complaint_fn *complain, void *arg)
{
	char text[LINE_MAX_BYTES + 128], whole[LINE_MAX_BYTES], *kind, *path;
	bool gone;
	int err;

	snprintf(whole, sizeof whole, "%s", line);
	kind = strsep(&line, " ");
	path = strsep(&line, " ");
	if (!strcmp(kind, "set") && path && line)
		err = host_write(journal->host, path, line);
	else if (!strcmp(kind, "rmdir") && path)
		err = remove_patiently(journal->host, path);
	else {
		complain_of_junk(journal, whole, complain, arg);
		return GONE;
	}
	if (!err || (line && holds(journal, path, line)))
		return PUT_BACK; // refused as it was at first, by whoever died then, but it is so
	gone = err == -ENOENT;
	if (gone)
		snprintf(text, sizeof text, "%s is gone: nothing to put back there", path);
	else
		snprintf(text, sizeof text, "cannot put back %s%s%s: %s", path,
			line ? " to " : "", line ? line : "", strerror(-err));
	if (complain)
		complain(arg, text);
	return gone ? GONE : FAILED;
}

// Of the entries in text, from the last to the first, those of KSM's run or all others. What is
// put back, or has nowhere to go, vanishes from text, the rest stays. The number that was put back.
static int restore_lines(struct host_journal *journal, char *text, bool ksm_run,
	host_complaint_fn *complain, void *arg)
{
	char line[LINE_MAX_BYTES];
	enum restored restored;
	int count = 0;

	for (size_t end = strlen(text), start; end > 0; end = start) {
		for (start = end - 1; start > 0 && text[start - 1] != '\n';)
			start--;
		snprintf(line, sizeof line, "%.*s", (int)(end - 1 - start), text + start);
		if (!*line || *line == '#' ||
			ksm_run != !strncmp(line, KSM_RUN_LINE, strlen(KSM_RUN_LINE)))
			continue;
		restored = restore_line(journal, line, complain, arg);
		if (restored == FAILED)
			continue;
		memset(text + start, '\n', end - start);
		count += restored == PUT_BACK;
	}
	return count;
}

// True: there is an entry of it, and it is not so now.
static bool is_changed(struct host_journal *journal, const char *path)
{
	char line[LINE_MAX_BYTES], *now;

	snprintf(line, sizeof line, "set %s ", path);
	if (!has_line(journal, line) || host_read(journal->host, path, &now))
		return false;
	snprintf(line, sizeof line, "set %s %s\n", path, now);
	free(now);
	return !has_line(journal, line);
}

// Only where a knob was really changed: separating pages takes memory.
static void separate_shared_pages(
	struct host_journal *journal, host_complaint_fn *complain, void *arg)
{
	if ((is_changed(journal, KSM "max_page_sharing") ||
		    is_changed(journal, KSM "merge_across_nodes")) &&
		host_journal_set(journal, KSM "run", "2") && complain)
		complain(arg, "cannot separate the pages that KSM shares");
}

// The number of entries that were put back, -EAGAIN: some were not, and are still in the file.
static int restore(struct host_journal *journal, host_complaint_fn *complain, void *arg)
{
	char *text, *end, *left;
	int count, err;

	separate_shared_pages(journal, complain, arg);
	text = read_lines(journal);
	if (!text)
		return -ENOMEM;
	end = strrchr(text, '\n');
	end = end ? end + 1 : text;
	if (!is_half_an_entry(end))
		complain_of_junk(journal, end, complain, arg);
	*end = '\0';
	count = restore_lines(journal, text, false, complain, arg);
	count += restore_lines(journal, text, true, complain, arg);
	left = text + (*text == '#' ? strcspn(text, "\n") : 0);
	err = rewrite(journal, left);
	if (!err && left[strspn(left, "\n")])
		err = -EAGAIN;
	free(text);
	return err ? err : count;
}

int host_journal_restore(struct host_journal *journal, host_complaint_fn *complain, void *arg)
{
	int count = restore(journal, complain, arg);

	if (count < 0 && count != -EAGAIN && complain)
		complain(arg, "the list of what to put back cannot be used");
	return count < 0 ? count : 0;
}

int host_journal_recover(struct host *host, host_complaint_fn *complain, void *arg)
{
	struct host_journal j = {.host = host, .owner = getpid(), .guard = -1};
	pid_t owner = 0;
	int err = journal_path(host, j.path, sizeof j.path);

	if (err)
		return err;
	j.fd = open(j.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (j.fd < 0)
		return errno == ENOENT ? 0 : -errno;
	err = take_lock(j.fd, &owner);
	if (!err)
		err = restore(&j, complain, arg);
	close(j.fd);
	return err;
}

// Of root's file another user can tell no more than that it is not empty.
static bool root_has_left(struct host *host)
{
	char path[300];
	struct stat st;

	if (snprintf(path, sizeof path, "%s/run/" FILE_NAME, host->root) >= (int)sizeof path)
		return false;
	return access(path, R_OK) && !stat(path, &st) && st.st_size > 0;
}

static bool has_left(struct host *host)
{
	struct host_journal j = {.host = host, .owner = getpid(), .guard = -1};
	bool left = false;

	if (journal_path(host, j.path, sizeof j.path))
		return false;
	j.fd = open(j.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (j.fd < 0)
		return false;
	if (!flock(j.fd, LOCK_SH | LOCK_NB)) // else its process lives
		left = has_line(&j, "set ") || has_line(&j, "rmdir ");
	close(j.fd);
	return left;
}

enum host_journal_left host_journal_left(struct host *host)
{
	if (has_left(host))
		return HOST_JOURNAL_LEFT;
	return root_has_left(host) ? HOST_JOURNAL_ROOTS : HOST_JOURNAL_EMPTY;
}

// ---- The guardian -------------------------------------------------------------------------------

static void complain_to_stderr(void *arg, const char *text)
{
	(void)arg;
	dprintf(STDERR_FILENO, "godwit: %s\n", text);
}

static void close_between(unsigned first, unsigned last)
{
	if (first <= last)
		syscall(SYS_close_range, first, last, 0);
}

// Whatever else this process has open (sockets of tasks, the other end of the pair) must end with
// it, not with the guardian.
static void keep_only(int a, int b)
{
	int low = a < b ? a : b, high = a < b ? b : a;

	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close_between(3, (unsigned)low - 1);
	close_between((unsigned)low + 1, (unsigned)high - 1);
	close_between((unsigned)high + 1, ~0u);
}

_Noreturn static void stand_guard(struct host_journal *journal, int end)
{
	sigset_t all;
	char byte;
	ssize_t n;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	keep_only(journal->fd, end);
	do
		n = read(end, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0 && host_journal_restore(journal, complain_to_stderr, NULL))
		complain_to_stderr(NULL, HOST_JOURNAL_ADVICE);
	_exit(0);
}

int host_journal_guard(struct host_journal *journal)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	pid = fork();
	if (pid == 0)
		stand_guard(journal, ends[0]);
	close(ends[0]);
	if (pid < 0) {
		close(ends[1]);
		return -EAGAIN;
	}
	journal->guard = ends[1];
	journal->guardian = pid;
	return 0;
}

int host_journal_close(struct host_journal *journal, host_complaint_fn *complain, void *arg)
{
	int err;

	if (journal->fd < 0)
		return 0;
	err = host_journal_restore(journal, complain, arg);
	if (!err && ftruncate(journal->fd, 0))
		err = -errno;
	if (journal->guard >= 0) {
		// Restored; a guardian that only saw the other end go would do it once more.
		// One that is dead is no reason to die (SIGPIPE).
		if (send(journal->guard, "", 1, MSG_NOSIGNAL) != 1)
			kill(journal->guardian, SIGKILL);
		close(journal->guard);
		while (waitpid(journal->guardian, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(journal->fd);
	journal->fd = journal->guard = -1;
	return err;
}
