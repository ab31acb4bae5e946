// SPDX-License-Identifier: MIT
// What was changed on the machine, and how it was before: kept in a file, so that whatever happens
// to this process it can be put back.
#ifndef GODWIT_HOST_JOURNAL_H
#define GODWIT_HOST_JOURNAL_H

#include "host/host.h"

struct host_journal {
	struct host *host;
	int fd; // the file, locked; -1: there is none
	pid_t owner; // the process that opened it, also in its guardian
	char path[300];
	int guard; // a socket to the guardian; -1: there is none
	pid_t guardian;
};

// Told of each thing that could not be put back, or is gone.
typedef void host_complaint_fn(void *arg, const char *text);

// Takes the machine: at most one process has a journal of it. What a process that died left behind
// is put back first; what cannot be stays in the journal. -EBUSY: another process has it
// (*ret_owner, if not 0); -EACCES: nowhere to keep the file; others of open(2).
must_check int host_journal_open(struct host *host, struct host_journal *ret_journal,
	pid_t *ret_owner, host_complaint_fn *complain, void *arg);

// Starts a process that puts everything back when this one dies. Only while this process has one
// thread. It closes all files but stderr and its own.
must_check int host_journal_guard(struct host_journal *journal);

// Writes a tunable; what it was before goes to the journal first, unless it is there already or
// the file cannot be read (an action, no state). The kernel's answer; when it refused, nothing is
// owed.
must_check int host_journal_set(struct host_journal *journal, const char *path, const char *value);
// What is to be written there at the end, where reading does not tell it.
must_check int host_journal_undo(struct host_journal *journal, const char *path, const char *value);
// A folder that was, or will be, made and has to go (a cgroup).
must_check int host_journal_made(struct host_journal *journal, const char *path);

// What to tell the user when something could not be put back.
#define HOST_JOURNAL_ADVICE                                                                        \
	"not all that was changed could be put back; `godwit lab restore` tries again"

// Puts everything back, youngest first. -EAGAIN: not all; what was not stays in the journal. What
// is gone needs no putting back: it does not count.
must_check int host_journal_restore(
	struct host_journal *journal, host_complaint_fn *complain, void *arg);
// Restores, ends the guardian, gives the machine back (also when not all was restored: -EAGAIN).
must_check int host_journal_close(
	struct host_journal *journal, host_complaint_fn *complain, void *arg);

// Whether a dead process has left entries, for who may not put them back himself.
enum host_journal_left {
	HOST_JOURNAL_EMPTY, // or nobody can tell
	HOST_JOURNAL_LEFT,
	HOST_JOURNAL_ROOTS, // root has entries: of a run that goes on, or of one that was killed
};
enum host_journal_left host_journal_left(struct host *host);

// For `godwit lab restore`: the number of entries that a dead process left and that have been put
// back, -EAGAIN as above, or what host_journal_open says.
must_check int host_journal_recover(struct host *host, host_complaint_fn *complain, void *arg);

#endif
