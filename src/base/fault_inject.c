// SPDX-License-Identifier: MIT
// Failures on demand.
//
// An arming says which calls of a kind fail: numbers nth to nth+times-1 from the moment of arming.
// There is one arming of each kind for the process and one for each thread; a call counts in every
// live arming that covers it and fails if one of them says so. While nothing is armed anywhere a
// call costs one relaxed load.
//
// The process's armings are atomics, since any thread counts in them; arming itself is done by the
// test, while no other thread arms the same kind. A thread that arms for itself disarms before it
// ends, or the fast path stays off. Nothing here can fail, and all of it may run in a signal
// handler.
#include "base/fault_inject.h"

#define X(name, what) [FI_##name] = what,
static const char *const kind_names[FI_KINDS] = {GODWIT_FAULT_KINDS(X)};
#undef X

const char *fault_kind_name(enum fault_kind kind)
{
	return kind < FI_KINDS ? kind_names[kind] : "?";
}

#ifdef GODWIT_DEBUG

struct arming {
	uint32_t live;
	uint32_t fired;
	uint64_t nth, times;
	uint64_t calls;
};

uint32_t fault_armed_count;
static struct arming process[FI_KINDS];
static __thread struct arming thread[FI_KINDS] __attribute__((tls_model("initial-exec")));

#define get(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define set(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

static bool count_call(struct arming *a)
{
	uint64_t n, nth;

	if (!get(a->live))
		return false;
	n = __atomic_fetch_add(&a->calls, 1, __ATOMIC_RELAXED);
	nth = get(a->nth);
	if (n < nth || n - nth >= get(a->times))
		return false;
	set(a->fired, 1);
	return true;
}

bool fault_check_slow(enum fault_kind kind)
{
	bool by_thread = count_call(&thread[kind]);
	bool by_process = count_call(&process[kind]);

	return by_thread || by_process;
}

void fault_arm(enum fault_kind kind, enum fault_scope scope, uint64_t nth, uint64_t times)
{
	struct arming *a = scope == FI_THREAD ? &thread[kind] : &process[kind];

	set(a->fired, 0);
	set(a->calls, 0);
	set(a->nth, nth);
	set(a->times, times);
	if (!__atomic_exchange_n(&a->live, 1, __ATOMIC_RELAXED))
		__atomic_fetch_add(&fault_armed_count, 1, __ATOMIC_RELAXED);
}

static bool disarm(struct arming *a)
{
	if (!__atomic_exchange_n(&a->live, 0, __ATOMIC_RELAXED))
		return false;
	__atomic_fetch_sub(&fault_armed_count, 1, __ATOMIC_RELAXED);
	return get(a->fired);
}

bool fault_disarm(enum fault_kind kind)
{
	bool by_thread = disarm(&thread[kind]);
	bool by_process = disarm(&process[kind]);

	return by_thread || by_process;
}

void fault_disarm_all(void)
{
	for (int kind = 0; kind < FI_KINDS; kind++)
		fault_disarm((enum fault_kind)kind);
}

uint64_t fault_calls(enum fault_kind kind)
{
	return get(thread[kind].live) ? get(thread[kind].calls) : get(process[kind].calls);
}

#endif
