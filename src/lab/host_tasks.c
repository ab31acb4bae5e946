// SPDX-License-Identifier: MIT
// The processes that are a story's tasks, seen from the player: made, asked, ended.
//
// The maker is forked in setup, when the player has one thread; every task is forked from it, or
// from the task that the story names, by themselves. The player holds one end of a socket for
// each. A request waits for its reply or for a cancel; after a cancel the stream is out of step, so
// that task is only good for being killed, which teardown does.
//
//   socket >= 0   lives, waits for the next request
//   socket -1     not yet, or gone
//
// The end of a process is the end of its stream, which the kernel closes after it took down the
// process's memory: that is what "exit returns when the address space is gone" needs.

#include "lab/host_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// ---- Asking -------------------------------------------------------------------------------------

// Until something can be read. -EINTR: cancelled.
static int await(struct host_machine *m, int socket)
{
	struct pollfd files[] = {{socket, POLLIN, 0}, {m->cancel_event, POLLIN, 0}};

	while (poll(files, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return files[0].revents ? 0 : -EINTR;
}

static int died(struct host_machine *m, struct host_task *task)
{
	host_task_abandon(task);
	return lab_machine_fail(
		&m->base, -ECHILD, "the process of a task (%d) has died", (int)task->pid);
}

static int take_payload(
	struct host_machine *m, struct host_task *task, uint64_t bytes, void **ret_payload)
{
	void *payload = malloc(bytes + 1);

	if (!payload || !wire_receive(task->socket, payload, bytes, NULL)) {
		free(payload);
		return died(m, task);
	}
	if (ret_payload)
		*ret_payload = payload;
	else
		free(payload);
	return 0;
}

int host_ask(struct host_machine *m, struct host_task *task, const struct agent_request *request,
	const void *payload, int file, struct agent_reply *ret_reply, void **ret_payload)
{
	struct agent_request r = *request;
	int err;

	if (ret_payload)
		*ret_payload = NULL;
	r.has_file = file >= 0;
	if (task->socket < 0 || !wire_send(task->socket, &r, sizeof r, file) ||
		!wire_send(task->socket, payload, r.bytes, -1))
		return died(m, task);
	err = await(m, task->socket);
	if (err) {
		host_task_abandon(task); // out of step with us from now on
		return err;
	}
	if (!wire_receive(task->socket, ret_reply, sizeof *ret_reply, NULL))
		return died(m, task);
	return ret_reply->bytes ? take_payload(m, task, ret_reply->bytes, ret_payload) : 0;
}

int host_call(struct host_machine *m, struct host_task *task, long call, const uint64_t arg[6],
	struct agent_reply *ret_reply)
{
	struct agent_request r = {.op = AGENT_SYSCALL, .call = (uint32_t)call, .file_arg = -1};

	memcpy(r.arg, arg, sizeof r.arg);
	return host_ask(m, task, &r, NULL, -1, ret_reply, NULL);
}

int host_sleep(struct host_machine *m, uint64_t ns)
{
	struct pollfd file = {m->cancel_event, POLLIN, 0};
	struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	return ppoll(&file, 1, &t, NULL) > 0 ? -EINTR : 0;
}

// ---- Beginning and end --------------------------------------------------------------------------

_Noreturn static void become_maker(int socket)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (socket > 3)
		syscall(SYS_close_range, 3, socket - 1, 0);
	syscall(SYS_close_range, socket + 1, ~0u, 0);
	syscall(SYS_set_mempolicy, 0, NULL, 0); // whatever the player was started with
	agent_run(socket);
}

int host_maker_start(struct host_machine *m)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return lab_machine_fail(&m->base, -errno, "no sockets: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		become_maker(ends[1]);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return lab_machine_fail(&m->base, -EAGAIN, "no process for the tasks");
	}
	m->maker = (struct host_task){.socket = ends[0], .pid = pid};
	return 0;
}

int host_task_start(struct host_machine *m, struct host_task *from, struct host_task *task)
{
	struct agent_request r = {.op = AGENT_FORK};
	struct agent_reply reply;
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return lab_machine_fail(&m->base, -errno, "no sockets: %s", strerror(errno));
	err = host_ask(m, from, &r, NULL, ends[1], &reply, NULL);
	close(ends[1]);
	if (!err && reply.ret < 0)
		err = -reply.error;
	if (err)
		close(ends[0]);
	else
		*task = (struct host_task){.socket = ends[0], .pid = (pid_t)reply.ret};
	return err;
}

// False: it lives on. What it still says is thrown away.
static bool await_end(struct host_task *task, int timeout_ms)
{
	struct pollfd file = {task->socket, POLLIN, 0};
	char bytes[4096];

	while (poll(&file, 1, timeout_ms) > 0)
		if (recv(task->socket, bytes, sizeof bytes, 0) <= 0)
			return true;
	return false;
}

void host_task_abandon(struct host_task *task)
{
	if (task->socket < 0)
		return;
	// One that has ended is reaped; its number may be another's already.
	if (!await_end(task, 0) && !kill(task->pid, SIGKILL))
		await_end(task, 5000);
	close(task->socket);
	task->socket = -1;
}

void host_task_end(struct host_machine *m, struct host_task *task)
{
	struct agent_request r = {.op = AGENT_EXIT};
	bool is_child = task == &m->maker && task->pid > 0;

	if (task->socket >= 0 && wire_send(task->socket, &r, sizeof r, -1) &&
		await_end(task, 5000)) {
		close(task->socket);
		task->socket = -1;
	}
	host_task_abandon(task);
	while (is_child && waitpid(task->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

// ---- Actions ------------------------------------------------------------------------------------

static int set_cpu(struct host_machine *m, struct host_task *task, unsigned cpu)
{
	struct agent_request r = {.op = AGENT_CPU, .arg = {m->map.cpu[cpu]}};
	struct agent_reply reply;
	int err = host_ask(m, task, &r, NULL, -1, &reply, NULL);

	if (!err && reply.ret < 0)
		err = lab_machine_fail(&m->base, -reply.error, "cannot run on cpu %u: %s",
			m->map.cpu[cpu], strerror(reply.error));
	return err;
}

// What ps(1) and traces call it.
static int set_name(struct host_machine *m, struct host_task *task, const char *name)
{
	char text[16] = "";
	struct agent_request r = {.op = AGENT_SYSCALL,
		.call = SYS_prctl,
		.file_arg = -1,
		.pointers = 1u << 1,
		.arg = {PR_SET_NAME},
		.bytes = sizeof text};
	struct agent_reply reply;

	snprintf(text, sizeof text, "%s", name);
	return host_ask(m, task, &r, text, -1, &reply, NULL);
}

static int become(struct host_machine *m, struct host_task *task, long uid)
{
	struct agent_request r = {.op = AGENT_BECOME, .arg = {(uint64_t)uid}};
	struct agent_reply reply;
	int err = host_ask(m, task, &r, NULL, -1, &reply, NULL);

	if (!err && reply.ret < 0)
		err = lab_machine_fail(&m->base, -reply.error, "cannot become user %ld: %s", uid,
			strerror(reply.error));
	return err;
}

int host_act_task(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_task *new = c->create.task;
	struct host_task *task = task_here(m, new);
	int err = host_task_start(m, &m->maker, task);

	(void)result;
	if (!err && new->uid >= 0 && (uid_t) new->uid != geteuid())
		err = become(m, task, new->uid);
	if (!err)
		err = set_name(m, task, new->name);
	return err ? err : set_cpu(m, task, new->cpu);
}

int host_act_fork(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct story_task *new = c->create.task;
	struct host_task *parent = task_here(m, c->create.parent), *task = task_here(m, new);
	int err = host_task_start(m, parent, task);

	if (err < 0 && task->socket < 0 && parent->socket >= 0) {
		lab_result_fail(result, -err); // fork(2) itself said no
		return 0;
	}
	if (!err)
		err = host_follow_groups(m, parent, task, new->name);
	if (!err)
		err = set_name(m, task, new->name);
	return err ? err : set_cpu(m, task, new->cpu);
}

int host_act_exit(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);

	(void)result;
	host_task_end(m, task_here(m, c->create.task));
	return 0;
}

int host_act_cpu(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);

	(void)result;
	return set_cpu(m, task_here(m, c->task), c->world.cpu);
}

// ---- Accesses and loads -------------------------------------------------------------------------

static int access_pages(struct lab_machine *machine, const struct command *c,
	struct lab_result *result, enum agent_access how)
{
	struct host_machine *m = host_of(machine);
	const struct story_range *range = &c->range.range;
	struct agent_request r = {
		.op = AGENT_ACCESS, .arg = {how, range->address, range->length, c->range.byte}};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, NULL, -1, &reply, NULL);

	if (err)
		return err;
	result->signal = reply.signal;
	result->mismatch = reply.mismatch;
	result->address = reply.address;
	result->found = (uint8_t)reply.found;
	return 0;
}

int host_act_write(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return access_pages(machine, c, result, AGENT_WRITE);
}

int host_act_read(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return access_pages(machine, c, result, AGENT_READ);
}

int host_act_check(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return access_pages(machine, c, result, AGENT_CHECK);
}

// Lanes of a page are shared out among all loads that run, so that two loads on one range do not
// take each other's writes for losses. The first lane; HOST_LANES: there is no room.
static unsigned find_lanes(const struct host_machine *m, unsigned count, uint64_t *ret_mask)
{
	uint64_t mask = count < HOST_LANES ? (UINT64_C(1) << count) - 1 : ~UINT64_C(0);

	for (unsigned first = 0; count && first + count <= HOST_LANES; first++) {
		*ret_mask = mask << first;
		if (!(m->lanes & *ret_mask))
			return first;
	}
	return HOST_LANES;
}

int host_act_load(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	const struct operand_load *load = &c->load;
	uint64_t mask;
	unsigned lane = find_lanes(m, load->threads, &mask);
	struct agent_request r = {.op = AGENT_LOAD,
		.arg = {load->index, load->range.address, load->range.length, load->writes,
			load->threads, lane}};
	struct agent_reply reply;
	int err;

	if (lane == HOST_LANES)
		return lab_machine_fail(
			machine, -EINVAL, "more than %d load threads at once", HOST_LANES);
	err = host_ask(m, task_here(m, c->task), &r, NULL, -1, &reply, NULL);
	if (err || reply.ret < 0)
		return err ? err : result_of(result, &reply);
	m->lanes |= mask;
	m->load_lanes[load->index] = mask;
	return 0;
}

int host_act_stop(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct host_machine *m = host_of(machine);
	struct agent_request r = {.op = AGENT_STOP, .arg = {c->load.index}};
	struct agent_reply reply;
	int err = host_ask(m, task_here(m, c->task), &r, NULL, -1, &reply, NULL);

	if (err || reply.ret < 0)
		return err ? err : result_of(result, &reply);
	m->lanes &= ~m->load_lanes[c->load.index];
	result->has_load = true;
	result->accesses = reply.accesses;
	result->stall_ns = reply.stall_ns;
	result->lost = reply.lost;
	result->signal = reply.signal;
	result->address = reply.address;
	return 0;
}
