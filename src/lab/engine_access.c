// SPDX-License-Identifier: MIT
// write, read and check: the task touches its memory page by page.
//
// With real pointers the player's thread does it itself, attached to the task. An access that the
// task may not make ends in SIGSEGV or SIGBUS of this thread; the handlers here take it as the
// command's result. They are installed before the engine's, so that the engine passes on to them
// what is not its own. On the soft backend the engine's copy functions access for the task, and
// their errno is the signal the task would have got.
#include "lab/engine_machine.h"

#include "base/assert.h"
#include "base/sched.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local sigjmp_buf access_ended;
static _Thread_local volatile sig_atomic_t accessing;
static struct sigaction before_segv, before_bus;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *before = signal == SIGBUS ? &before_bus : &before_segv;

	if (accessing)
		siglongjmp(access_ended, signal);
	if (sched_active())
		assert_print("godwit: a crash with --seed %lu\n", sched_seed());
	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(signal, info, context);
	} else {
		// Not an access of a story: a crash. Let it happen as if we were not here.
		sigaction(signal, before, NULL);
	}
}

int engine_signals_catch(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigfillset(&action.sa_mask);
	if (sigaction(SIGSEGV, &action, &before_segv))
		return -1;
	return sigaction(SIGBUS, &action, &before_bus);
}

void engine_signals_restore(void)
{
	struct sigaction now;

	if (!sigaction(SIGSEGV, NULL, &now) && now.sa_sigaction == on_signal)
		sigaction(SIGSEGV, &before_segv, NULL);
	if (!sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == on_signal)
		sigaction(SIGBUS, &before_bus, NULL);
}

int engine_until_signal(void (*fn)(void *arg), void *arg)
{
	int signal = sigsetjmp(access_ended, 1);

	if (!signal)
		fn(arg);
	accessing = 0;
	return signal;
}

enum access { ACCESS_WRITE, ACCESS_READ, ACCESS_CHECK };

// One page or less through the pointer. Returns the index of the first wrong byte, or n.
static uint64_t touch(enum access how, volatile unsigned char *p, uint64_t n, uint8_t byte)
{
	unsigned char first;

	switch (how) {
	case ACCESS_WRITE:
		memset((void *)(uintptr_t)p, byte, n);
		return n;
	case ACCESS_READ:
		first = *p;
		(void)first;
		return n;
	case ACCESS_CHECK:
		break;
	}
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != byte)
			return i;
	return n;
}

static int signal_of(int64_t err)
{
	return err == -EFAULT ? SIGSEGV : SIGBUS;
}

static uint64_t lane_soft(struct gw_task *task, uint64_t address, bool write, uint64_t value)
{
	uint64_t old = 0;
	int64_t done = gw_read(task, address, &old, sizeof old);

	if (done >= 0 && write)
		done = gw_write(task, address, &value, sizeof value);
	if (done < 0)
		siglongjmp(access_ended, signal_of(done));
	return old;
}

uint64_t engine_touch_lane(struct engine_machine *m, struct gw_task *task, uint64_t address,
	bool write, uint64_t value)
{
	volatile uint64_t *p;
	uint64_t old;

	if (!m->real)
		return lane_soft(task, address, write, value);
	p = gw_pointer(task, address);
	if (!p) // nothing mapped there, on the host side either
		siglongjmp(access_ended, SIGSEGV);
	accessing = 1;
	old = *p;
	if (write)
		*p = value;
	accessing = 0;
	return old;
}

// The same on a backend without pointers. *ret_signal: how the access ended.
static uint64_t touch_soft(struct gw_task *task, enum access how, uint64_t address, uint64_t n,
	uint8_t byte, int *ret_signal)
{
	unsigned char bytes[STORY_PAGE_SIZE];
	int64_t done;

	memset(bytes, byte, n);
	if (how == ACCESS_WRITE)
		done = gw_write(task, address, bytes, n);
	else
		done = gw_read(task, address, bytes, how == ACCESS_READ ? 1 : n);
	if (done < 0)
		*ret_signal = signal_of(done);
	return done < 0 || how != ACCESS_CHECK ? n : touch(ACCESS_CHECK, bytes, n, byte);
}


static int walk_pages(struct engine_machine *m, const struct command *c, struct lab_result *result,
	enum access how)
{
	const struct story_range *range = &c->range.range;
	struct gw_task *task = engine_task(m, c->task);
	volatile uint64_t address = range->address;
	uint64_t end = range->address + range->length;
	int err = gw_task_attach(task);

	if (err)
		return lab_machine_fail(&m->base, err, "attach to task %s", c->task->name);
	if (m->real && (result->signal = sigsetjmp(access_ended, 1))) {
		accessing = 0;
		return 0;
	}
	while (address < end && !result->signal) {
		uint64_t at = address,
			 next = (at & ~(uint64_t)(STORY_PAGE_SIZE - 1)) + STORY_PAGE_SIZE;
		uint64_t n = (next < end ? next : end) - at, wrong;

		if (m->real) {
			unsigned char *p = gw_pointer(task, at);

			if (!p) { // nothing mapped there, on the host side either
				result->signal = SIGSEGV;
				break;
			}
			accessing = 1;
			wrong = touch(how, p, n, c->range.byte);
			accessing = 0;
			if (wrong < n)
				result->found = p[wrong];
		} else {
			wrong = touch_soft(task, how, at, n, c->range.byte, &result->signal);
			if (wrong < n)
				(void)!gw_read(task, at + wrong, &result->found, 1);
		}
		if (wrong < n) {
			result->mismatch = true;
			result->address = at + wrong;
			break;
		}
		address = next;
	}
	return 0;
}

int engine_write(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return walk_pages(engine_of(machine), c, result, ACCESS_WRITE);
}

int engine_read(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return walk_pages(engine_of(machine), c, result, ACCESS_READ);
}

int engine_check(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	return walk_pages(engine_of(machine), c, result, ACCESS_CHECK);
}
