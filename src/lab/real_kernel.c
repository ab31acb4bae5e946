// SPDX-License-Identifier: MIT
// Plays stories on a real kernel that boots in a virtual machine.
//
//   real-kernel --append ARGS --topology WORDS --with FILE... --
//       godwit lab run --on host --json --keep-going FILE...
//
// The script finds or fetches a kernel, boots it with several nodes, runs the command inside, and
// passes its output through, the console's noise included; results.c picks out what it knows. All
// files are played in one boot. The script's exit status is that of the command inside, so that a
// report is what says that booting worked; without one, 77 says that this host cannot boot a
// kernel. A machine that ends in the middle (a panic, no time left) has given the whole stories
// before that.

#include "lab/real_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- This host's nodes --------------------------------------------------------------------------

// Counts a list such as "0-1,4".
static unsigned count_list(const char *s)
{
	unsigned count = 0;
	while (*s) {
		char *end;
		unsigned long first = strtoul(s, &end, 10), last = first;
		if (end == s)
			break;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		count += last >= first ? (unsigned)(last - first) + 1 : 0;
		s = *end == ',' ? end + 1 : end;
	}
	return count;
}

bool host_has_nodes(const struct story *story)
{
	const struct story_machine *m = &story->machine;
	char list[256] = "0";
	unsigned wanted = 0;
	FILE *f = fopen("/sys/devices/system/node/has_memory", "re");
	if (f) {
		if (!fgets(list, sizeof(list), f))
			list[0] = '\0';
		fclose(f);
	}
	for (unsigned n = 0; n < m->nodes; n++)
		wanted += m->memory[n] != 0;
	unsigned found = count_list(list);
	return m->more_nodes ? found >= wanted : found == wanted;
}

// Nodes may be larger than the story asks: a kernel needs some memory for itself.
#define NODE_BYTES_MIN (768ull << 20)

__attribute__((format(printf, 4, 5))) static void add(char *buf, size_t size, size_t *at,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int n = vsnprintf(buf + *at, size - *at, format, args);
	va_end(args);
	*at = n < 0 || (size_t)n >= size - *at ? size - 1 : *at + (size_t)n;
}

const char *real_kernel_topology(const struct story *story, char *buf, size_t size)
{
	const struct story_machine *m = &story->machine;
	size_t at = 0;

	add(buf, size, &at, "nodes=%u memory=", m->nodes);
	for (unsigned n = 0; n < m->nodes; n++) {
		uint64_t bytes = m->memory[n];

		if (bytes && bytes < NODE_BYTES_MIN)
			bytes = NODE_BYTES_MIN;
		add(buf, size, &at, "%s%llu%s", n ? "," : "", (unsigned long long)bytes >> 20,
			bytes ? "M" : ""); // 0 is a word of its own
	}
	for (unsigned cpu = 0; cpu < m->cpus; cpu++)
		add(buf, size, &at, "%s%u@%u", cpu ? "," : " cpus=", cpu, m->cpu_node[cpu]);
	for (unsigned i = 0; m->distance && i < m->nodes * m->nodes; i++)
		add(buf, size, &at, "%s%u", i ? "," : " distance=", m->distance[i]);
	return buf;
}

// ---- The script ---------------------------------------------------------------------------------

// From the folder of the program upwards: a build folder lies below the sources.
static bool script_above_program(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	for (char *slash = strrchr(path, '/'); slash; slash = strrchr(path, '/')) {
		snprintf(slash, size - (size_t)(slash - path), "/scripts/real-kernel");
		if (!access(path, X_OK))
			return true;
		*slash = '\0';
	}
	return false;
}

static const char *find_script(char *path, size_t size)
{
	const char *named = getenv("GODWIT_REAL_KERNEL");
	if (named && *named)
		return named;
	return script_above_program(path, size) ? path : "real-kernel";
}

// Nothing moves pages by itself before the first story, and between two: what NUMA balancing has
// marked then is moved when it is touched in the next one, and counted there.
#define QUIET                                                                                      \
	"numa_balancing=disable transparent_hugepage=never sysctl.vm.compaction_proactiveness=0"

#define MACHINE_LIMIT_S 600

static int start_script(const char *script, const char *kernel, const char *topology,
	unsigned limit_s, const char *const *files, size_t count, int out, pid_t *ret_pid)
{
	char limit[16], machine_limit[16];
	const char *const fixed[] = {"--timeout", machine_limit, "--", "godwit", "lab", "run",
		"--on", "host", "--json", "--keep-going", "--timeout", limit};
	const size_t n = sizeof(fixed) / sizeof(fixed[0]);
	char **argv = calloc(3 * count + n + 8, sizeof(*argv));
	char **paths = calloc(count + 1, sizeof(*paths));
	size_t argc = 0;
	snprintf(limit, sizeof(limit), "%u", limit_s);
	snprintf(machine_limit, sizeof(machine_limit), "%u",
		!limit_s			? 0
		: limit_s < MACHINE_LIMIT_S - 60 ? MACHINE_LIMIT_S
						 : limit_s + 60);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	if (!argv || !paths) {
		free(argv);
		free(paths);
		return -ENOMEM;
	}
	argv[argc++] = (char *)script;
	if (kernel) {
		argv[argc++] = (char *)"--kernel";
		argv[argc++] = (char *)kernel;
	}
	argv[argc++] = (char *)"--append";
	argv[argc++] = (char *)QUIET;
	argv[argc++] = (char *)"--topology";
	argv[argc++] = (char *)topology;
	for (size_t i = 0; i < count; i++) { // wherever they are, they have the same path inside
		paths[i] = realpath(files[i], NULL);
		argv[argc++] = (char *)"--with";
		argv[argc++] = paths[i] ? paths[i] : (char *)files[i];
	}
	for (size_t i = 0; i < n; i++)
		argv[argc++] = (char *)fixed[i];
	for (size_t i = 0; i < count; i++)
		argv[argc++] = paths[i] ? paths[i] : (char *)files[i];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawnattr_init(&attributes);
	sigemptyset(&none); // Ctrl-C is for the script too, whatever is blocked here
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	int err = posix_spawnp(ret_pid, script, &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
	free(argv);
	return -err;
}

static int read_script(int fd, pid_t pid, struct results *results, int *ret_status)
{
	int err;
	FILE *in = fdopen(fd, "r");
	if (in) {
		err = results_add(in, results);
		fclose(in);
	} else {
		err = -errno;
		close(fd);
	}
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return err;
}

int play_on_real_kernel(const char *kernel, const char *topology, unsigned limit_s,
	const char *const *files, size_t count, struct results *results, char *failure,
	size_t failure_size)
{
	char path[4096];
	const char *script = find_script(path, sizeof(path));
	const size_t before = results->count;
	int fds[2], status = 0;
	pid_t pid;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	int err = start_script(script, kernel, topology, limit_s, files, count, fds[1], &pid);
	close(fds[1]);
	if (err) {
		close(fds[0]);
		snprintf(failure, failure_size, "cannot run %s: %s", script, strerror(-err));
		return err;
	}
	err = read_script(fds[0], pid, results, &status);
	if (err)
		snprintf(failure, failure_size, "cannot read the results of %s: %s", script,
			strerror(-err));
	if (err || results->count > before)
		return err;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		snprintf(failure, failure_size, "skipped: %s cannot boot a kernel here", script);
		return 1;
	}
	snprintf(failure, failure_size, "%s gave results of 0 of %zu stories", script, count);
	return -EPROTO;
}
