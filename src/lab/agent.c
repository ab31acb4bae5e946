// SPDX-License-Identifier: MIT
// A task of a story on the host: a process that does what it is told over a socket.
//
// The first one is forked from the player before that has a second thread; it only makes the
// others. `task A` is a fork(2) of it, `fork B from A` one of A. Each new process closes its
// parent's socket, so that the player sees the end of a process as the end of its stream, and the
// process the end of the player likewise: no task outlives the player, even if that is killed.
//
// System calls are made here as they come, number and arguments, with pointers into a copy of the
// payload; so a story sees the kernel's own answers. A child process is never waited for:
// SIGCHLD is ignored, and the kernel reaps.

#include "lab/host_wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// ---- The wire -----------------------------------------------------------------------------------

bool wire_send(int socket, const void *data, size_t size, int file)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};

	while (size) {
		struct iovec part = {(void *)(uintptr_t)data, size};
		struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
		ssize_t n;

		if (file >= 0) {
			message.msg_control = &control;
			message.msg_controllen = sizeof control;
			control.header.cmsg_level = SOL_SOCKET;
			control.header.cmsg_type = SCM_RIGHTS;
			control.header.cmsg_len = CMSG_LEN(sizeof file);
			memcpy(CMSG_DATA(&control.header), &file, sizeof file);
		}
		n = sendmsg(socket, &message, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		file = -1;
		data = (const char *)data + n;
		size -= (size_t)n;
	}
	return true;
}

bool wire_receive(int socket, void *data, size_t size, int *ret_file)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};

	if (ret_file)
		*ret_file = -1;
	while (size) {
		struct iovec part = {data, size};
		struct msghdr message = {.msg_iov = &part,
			.msg_iovlen = 1,
			.msg_control = ret_file ? &control : NULL,
			.msg_controllen = ret_file ? sizeof control : 0};
		ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *c;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		c = ret_file ? CMSG_FIRSTHDR(&message) : NULL;
		if (c && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_file, CMSG_DATA(c), sizeof *ret_file);
		data = (char *)data + n;
		size -= (size_t)n;
	}
	return true;
}

// ---- What is asked ------------------------------------------------------------------------------

static void answer(struct agent_reply *reply, long ret)
{
	reply->ret = ret;
	reply->error = ret == -1 ? errno : 0;
}

static void do_fork(struct agent *agent, int socket, struct agent_reply *reply)
{
	pid_t pid = fork();

	answer(reply, pid);
	if (pid) {
		close(socket);
		return;
	}
	close(agent->socket);
	agent->socket = socket;
	agent_forget_pins(agent);
	agent_forget_loads(agent);
}

static void do_become(const struct agent_request *r, struct agent_reply *reply)
{
	uid_t uid = (uid_t)r->arg[0];
	bool failed = (geteuid() == 0 && setgroups(0, NULL)) || setresgid(uid, uid, uid) ||
		      setresuid(uid, uid, uid);

	answer(reply, failed ? -1 : prctl(PR_SET_DUMPABLE, 1));
}

static void do_cpu(const struct agent_request *r, struct agent_reply *reply)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	cpu_set_t cpus;
	long ret = 0;

	CPU_ZERO(&cpus);
	CPU_SET(r->arg[0], &cpus);
	while (!ret && threads && (entry = readdir(threads)))
		if (*entry->d_name != '.')
			ret = sched_setaffinity(atoi(entry->d_name), sizeof cpus, &cpus);
	answer(reply, threads ? ret : sched_setaffinity(0, sizeof cpus, &cpus));
	if (threads)
		closedir(threads);
}

static void do_syscall(
	const struct agent_request *r, char *payload, int file, struct agent_reply *reply)
{
	uint64_t a[6];

	memcpy(a, r->arg, sizeof a);
	for (unsigned i = 0; i < 6; i++)
		if (r->pointers & 1u << i)
			a[i] += (uint64_t)(uintptr_t)payload;
	if (r->file_arg >= 0)
		a[r->file_arg] = (uint64_t)file;
	answer(reply, syscall((long)r->call, a[0], a[1], a[2], a[3], a[4], a[5]));
	if (file >= 0)
		close(file);
	reply->bytes = r->keep_payload ? r->bytes : 0;
}

// ---- The loop -----------------------------------------------------------------------------------

static void handle(struct agent *agent, const struct agent_request *r, char *payload, int file)
{
	static agent_fn *const simple[] = {
		[AGENT_ACCESS] = agent_access,
		[AGENT_PIN] = agent_pin,
		[AGENT_UNPIN] = agent_unpin,
		[AGENT_LOAD] = agent_load,
		[AGENT_STOP] = agent_stop,
	};
	struct agent_reply reply = {0};
	int32_t *status = NULL;
	size_t count = 0;

	switch (r->op) {
	case AGENT_FORK:
		do_fork(agent, file, &reply);
		if (!reply.ret)
			return; // the child: the parent answers
		break;
	case AGENT_BECOME:
		do_become(r, &reply);
		break;
	case AGENT_CPU:
		do_cpu(r, &reply);
		break;
	case AGENT_SYSCALL:
		do_syscall(r, payload, file, &reply);
		break;
	case AGENT_MOVE:
		agent_move(r, payload, &reply, &status, &count);
		reply.bytes = count * sizeof *status;
		break;
	case AGENT_EXIT:
		agent_drop_pins(agent);
		_exit(0);
	default:
		simple[r->op](agent, r, &reply);
	}
	if (!wire_send(agent->socket, &reply, sizeof reply, -1) ||
		(reply.bytes && !wire_send(agent->socket, status ? (void *)status : payload,
					reply.bytes, -1)))
		_exit(0);
	free(status);
}

void agent_run(int socket)
{
	struct agent agent = {.socket = socket};
	struct agent_request request;
	int file;

	signal(SIGCHLD, SIG_IGN);
	agent_catch_signals();
	while (wire_receive(agent.socket, &request, sizeof request, &file)) {
		char *payload = malloc(request.bytes + 1);

		if (!payload || !wire_receive(agent.socket, payload, request.bytes, NULL))
			break;
		handle(&agent, &request, payload, file);
		free(payload);
	}
	_exit(0);
}
