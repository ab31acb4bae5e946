// SPDX-License-Identifier: MIT
// A task touches its own memory: write, read, check, page by page in rising order.
//
// SIGSEGV and SIGBUS of an access are its result: the handler jumps back. A signal anywhere else
// is a crash of the task and is left to the kernel. The handlers do not block their own signal
// (SA_NODEFER), so that jumping out of them needs no system call.

#include "lab/host_wire.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>

#define PAGE 4096

static _Thread_local sigjmp_buf access_ended;
static _Thread_local volatile sig_atomic_t accessing;

static void on_signal(int signal_number)
{
	if (accessing)
		siglongjmp(access_ended, signal_number);
	signal(signal_number, SIG_DFL);
}

void agent_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};

	sigemptyset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

int agent_touch_lane(volatile uint64_t *lane, bool write, uint64_t value, uint64_t *ret_old)
{
	int ended = sigsetjmp(access_ended, 0);

	if (!ended) {
		accessing = 1;
		*ret_old = *lane;
		if (write)
			*lane = value;
	}
	accessing = 0;
	return ended;
}

// One page or less. The index of the first wrong byte, or n.
static uint64_t touch(enum agent_access how, volatile unsigned char *p, uint64_t n, uint8_t byte)
{
	unsigned char first;

	switch (how) {
	case AGENT_WRITE:
		memset((void *)(uintptr_t)p, byte, n);
		return n;
	case AGENT_READ:
		first = *p;
		(void)first;
		return n;
	case AGENT_CHECK:
		break;
	}
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != byte)
			return i;
	return n;
}

void agent_access(struct agent *agent, const struct agent_request *r, struct agent_reply *reply)
{
	uint64_t end = r->arg[1] + r->arg[2], next;

	(void)agent;
	reply->signal = sigsetjmp(access_ended, 0);
	for (uint64_t at = r->arg[1]; at < end && !reply->signal; at = next) {
		volatile unsigned char *p = (unsigned char *)(uintptr_t)at;
		uint64_t n, wrong;

		next = (at | (PAGE - 1)) + 1;
		n = (next < end ? next : end) - at;
		accessing = 1;
		wrong = touch((enum agent_access)r->arg[0], p, n, (uint8_t)r->arg[3]);
		if (wrong < n) {
			reply->mismatch = 1;
			reply->found = p[wrong];
			reply->address = at + wrong;
			break;
		}
	}
	accessing = 0;
}
