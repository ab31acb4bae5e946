// SPDX-License-Identifier: MIT
// Long-term pins of a task on the host: io_uring buffers.
//
// Registering a buffer makes the kernel pin its pages for as long as it is registered, without
// privilege, hardware or any traffic. One ring a pin; its queues are never mapped. Unregistering
// unpins before it returns; the ring itself goes later, which no page waits for. A forked child
// inherits the file of the ring but not the pin, and closes it.

#include "lab/host_wire.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFER_MAX (1ull << 30) // the kernel's limit
#define BUFFERS_MAX 64

struct agent_pin {
	struct agent_pin *next;
	uint64_t key;
	int ring;
};

static int register_range(int ring, uint64_t address, uint64_t length)
{
	struct iovec parts[BUFFERS_MAX];
	unsigned count = 0;

	for (uint64_t done = 0; done < length && count < BUFFERS_MAX; count++) {
		uint64_t n = length - done < BUFFER_MAX ? length - done : BUFFER_MAX;

		parts[count] = (struct iovec){(void *)(uintptr_t)(address + done), n};
		done += n;
	}
	return (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, parts, count);
}

static struct agent_pin *find(struct agent *agent, uint64_t key)
{
	struct agent_pin *pin = agent->pins;

	while (pin && pin->key != key)
		pin = pin->next;
	return pin;
}

void agent_pin(struct agent *agent, const struct agent_request *r, struct agent_reply *reply)
{
	struct io_uring_params params = {0};
	struct agent_pin *pin = find(agent, r->arg[0]) ? NULL : malloc(sizeof *pin);
	int ring = pin ? (int)syscall(SYS_io_uring_setup, 1, &params) : -1;

	if (ring < 0 || register_range(ring, r->arg[1], r->arg[2])) {
		reply->ret = -1;
		reply->error = pin ? errno : EBUSY;
		if (ring >= 0)
			close(ring);
		free(pin);
		return;
	}
	*pin = (struct agent_pin){agent->pins, r->arg[0], ring};
	agent->pins = pin;
}

static void unpin(struct agent_pin *pin)
{
	syscall(SYS_io_uring_register, pin->ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
	close(pin->ring);
	free(pin);
}

void agent_unpin(struct agent *agent, const struct agent_request *r, struct agent_reply *reply)
{
	for (struct agent_pin **at = &agent->pins; *at; at = &(*at)->next) {
		struct agent_pin *pin = *at;

		if (pin->key != r->arg[0])
			continue;
		*at = pin->next;
		unpin(pin);
		return;
	}
	reply->ret = -1;
	reply->error = EINVAL;
}

void agent_drop_pins(struct agent *agent)
{
	while (agent->pins) {
		struct agent_pin *pin = agent->pins;

		agent->pins = pin->next;
		unpin(pin);
	}
}

void agent_forget_pins(struct agent *agent)
{
	while (agent->pins) {
		struct agent_pin *pin = agent->pins;

		agent->pins = pin->next;
		close(pin->ring);
		free(pin);
	}
}
