// SPDX-License-Identifier: MIT
// A cpuset for one task.
//
// In version 2 a new group uses what its parent allows until cpuset.mems is written, so a process
// that enters it notices nothing. A group of version 1 has no nodes and no cpus at first and takes
// nobody in: it is given the parent's before. In both the one write that a story means, of
// cpuset.mems, comes when the process is in.
//
// The folder goes to the journal before it is made, so that no crash leaves it behind.

#include "host/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_word(const char *list, const char *word, const char *separators)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += length)
		if ((at == list || strchr(separators, at[-1])) &&
			(!at[length] || strchr(separators, at[length])))
			return true;
	return false;
}

static bool has_controller(struct host *host, const char *mount, const char *file)
{
	char *text;
	bool has;

	if (host_readf(host, &text, "%s/%s", mount, file))
		return false;
	has = has_word(text, "cpuset", " \n");
	free(text);
	return has;
}

int host_cpuset_mount(struct host *host, enum cgroup_version version, char *buf, size_t size)
{
	char *text, *rest, *line;
	int err = host_read(host, "proc/mounts", &text);

	if (err)
		return err;
	err = -ENOENT;
	for (rest = text; err && (line = strsep(&rest, "\n"));) {
		char *source = strsep(&line, " "), *at = strsep(&line, " ");
		char *type = strsep(&line, " "), *options = strsep(&line, " ");

		if (!source || !options || *at != '/')
			continue;
		if (version == CGROUP_V2 && !strcmp(type, "cgroup2") &&
			has_controller(host, at + 1, "cgroup.controllers"))
			err = 0;
		if (version == CGROUP_V1 && !strcmp(type, "cgroup") &&
			has_word(options, "cpuset", ","))
			err = 0;
		if (!err)
			snprintf(buf, size, "%s", at + 1);
	}
	free(text);
	return err;
}

bool host_cpuset_is_enabled(struct host *host, const char *mount)
{
	return has_controller(host, mount, "cgroup.subtree_control");
}

static int write_below(struct host *host, const char *folder, const char *file, const char *value)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
		return -ENAMETOOLONG;
	return host_write(host, path, value);
}

static int copy_below(struct host *host, const char *from, const char *to, const char *file)
{
	char *value;
	int err = host_readf(host, &value, "%s/%s", from, file);

	if (err)
		return err;
	err = write_below(host, to, file, value);
	free(value);
	return err;
}

static int enable(struct host_journal *journal, const char *mount)
{
	char path[PATH_MAX];
	int err;

	if (snprintf(path, sizeof path, "%s/cgroup.subtree_control", mount) >= (int)sizeof path)
		return -ENAMETOOLONG;
	err = host_journal_undo(journal, path, "-cpuset");
	return err ? err : host_write(journal->host, path, "+cpuset");
}

int host_cpuset_make(struct host_journal *journal, enum cgroup_version version, const char *name,
	pid_t pid, char *path, size_t size)
{
	struct host *host = journal->host;
	char mount[256], text[32];
	int err = host_cpuset_mount(host, version, mount, sizeof mount);

	if (err)
		return err;
	if (snprintf(path, size, "%s/%s", mount, name) >= (int)size)
		return -ENAMETOOLONG;
	if (version == CGROUP_V2 && !host_cpuset_is_enabled(host, mount))
		err = enable(journal, mount);
	if (!err)
		err = host_journal_made(journal, path);
	if (!err)
		err = host->ops->make_folder(host, path);
	if (!err && version == CGROUP_V1)
		err = copy_below(host, mount, path, "cpuset.cpus");
	if (!err && version == CGROUP_V1)
		err = copy_below(host, mount, path, "cpuset.mems");
	snprintf(text, sizeof text, "%d", (int)pid);
	return err ? err : write_below(host, path, "cgroup.procs", text);
}

int host_cpuset_set_mems(struct host *host, const char *path, enum cgroup_version version,
	const char *nodes, bool migrate)
{
	int err = 0;

	if (version == CGROUP_V1)
		err = write_below(host, path, "cpuset.memory_migrate", migrate ? "1" : "0");
	return err ? err : write_below(host, path, "cpuset.mems", nodes);
}
