// SPDX-License-Identifier: MIT
// Actors of the stress program beyond loads and stores: the host's kernel reads and writes managed
// memory by itself (buffers registered with io_uring, under a pin), system calls get managed
// buffers while these move, and the process forks.
//
// A registered buffer is the frames themselves: had one moved in spite of the pin, the kernel would
// go on writing the old one.
#include "stress.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- io_uring, just enough of it: one request at a time

struct ring {
	int fd;
	_Atomic uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
	uint32_t *sq_array;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
};

static bool ring_open(struct ring *r)
{
	struct io_uring_params p = {0};
	size_t size;
	char *ring;

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0 || !(p.features & IORING_FEAT_SINGLE_MMAP))
		return false;
	size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->sqe = mmap(NULL, p.sq_entries * sizeof *r->sqe, PROT_READ | PROT_WRITE, MAP_SHARED,
		r->fd, IORING_OFF_SQES);
	if (ring == MAP_FAILED || r->sqe == MAP_FAILED)
		return false;
	r->sq_head = (_Atomic uint32_t *)(ring + p.sq_off.head);
	r->sq_tail = (_Atomic uint32_t *)(ring + p.sq_off.tail);
	r->sq_mask = *(uint32_t *)(ring + p.sq_off.ring_mask);
	r->sq_array = (uint32_t *)(ring + p.sq_off.array);
	r->cq_head = (_Atomic uint32_t *)(ring + p.cq_off.head);
	r->cq_tail = (_Atomic uint32_t *)(ring + p.cq_off.tail);
	r->cq_mask = *(uint32_t *)(ring + p.cq_off.ring_mask);
	r->cqe = (struct io_uring_cqe *)(ring + p.cq_off.cqes);
	return true;
}

static int ring_do(struct ring *r, unsigned op, int fd, uint64_t at, unsigned length)
{
	uint32_t tail = atomic_load(r->sq_tail), head = atomic_load(r->cq_head);
	int result;

	r->sqe[tail & r->sq_mask] = (struct io_uring_sqe){
		.opcode = (uint8_t)op, .fd = fd, .addr = at, .len = length, .off = 0};
	r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
	atomic_store(r->sq_tail, tail + 1);
	// A signal may end the wait of a call that has submitted the request.
	while (atomic_load(r->cq_tail) == head) {
		unsigned left = tail + 1 - atomic_load(r->sq_head);

		if (syscall(SYS_io_uring_enter, r->fd, left, 1, IORING_ENTER_GETEVENTS, NULL, 0) <
				0 &&
			errno != EINTR)
			return -errno;
	}
	result = r->cqe[head & r->cq_mask].res;
	atomic_store(r->cq_head, head + 1);
	return result;
}

struct device {
	struct ring ring;
	int file;
	bool there;
};

static struct device *device_open(void)
{
	struct device *d = calloc(1, sizeof *d);

	d->there = ring_open(&d->ring);
	d->file = memfd_create("device", 0);
	if (!d->there)
		printf("stress: no io_uring here: pins are not tried with a device\n");
	return d;
}

static void device_round(struct actor *actor, struct device *d, uint64_t at, unsigned pages)
{
	uint64_t value[LANES], seen;
	struct iovec iov = {(void *)(uintptr_t)at, pages * PAGE};

	if (syscall(SYS_io_uring_register, d->ring.fd, IORING_REGISTER_BUFFERS, &iov, 1)) {
		if (errno != ENOMEM)
			fail(actor, "io_uring: registering %#lx: %s", at, strerror(errno));
		return;
	}
	for (unsigned round = 0; round < 6; round++) {
		unsigned page = below(actor, pages);

		for (unsigned i = 0; i < LANES; i++)
			value[i] = rnd(actor);
		if (pwrite(d->file, value, sizeof value, 0) != sizeof value)
			fail(actor, "pwrite");
		if (ring_do(&d->ring, IORING_OP_READ_FIXED, d->file, at + page * PAGE,
			    sizeof value) != sizeof value)
			fail(actor, "io_uring: read");
		for (unsigned i = 0; i < LANES; i++) {
			seen = *(volatile uint64_t *)(uintptr_t)(at + page * PAGE + i * 8);
			if (seen != value[i])
				fail(actor, "the device wrote %#lx at %#lx, there is %#lx", value[i],
					at + page * PAGE + i * 8, seen);
		}
		usleep(500);
	}
	syscall(SYS_io_uring_register, d->ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

// A place the library pinned may be used by the kernel directly, whatever movers want.
void act_device(struct actor *actor)
{
	unsigned pages = 1 + below(actor, 16);
	struct gw_pin *pin;
	uint64_t at;

	if (stress.soft) {
		usleep(10000);
		return;
	}
	if (!actor->state)
		actor->state = device_open();
	if (!((struct device *)actor->state)->there) {
		usleep(10000);
		return;
	}
	at = map_pages(actor, actor->task, pages, 0);
	if (chance(actor, 50))
		page_fill(actor, actor->task, at, 5);
	atomic_store(&stress.passing_pages[4], pages);
	atomic_store(&stress.passing[4], at);
	actor->doing = "gw_pin";
	expect(actor, "gw_pin", gw_pin(actor->task, at, pages * PAGE, "io_uring", &pin), 0);
	actor->doing = "use the device";
	device_round(actor, actor->state, at, pages);
	actor->doing = "gw_unpin";
	gw_unpin(pin);
	expect(actor, "gw_unmap", gw_unmap(actor->task, at, pages * PAGE), 0);
}

// ---- System calls on buffers that move

enum wire { PIPE, STREAM, DATAGRAM, FILE_, WIRES };

struct wires {
	int ends[WIRES][2]; // what is written to, and read from
	uint64_t at;
};

#define SYSCALL_PAGES 32u

static ssize_t put_into(struct wires *w, enum wire wire, uint64_t from, size_t length)
{
	void *p = (void *)(uintptr_t)from;

	if (wire == FILE_)
		return pwrite(w->ends[wire][0], p, length, 0);
	return wire == PIPE ? write(w->ends[wire][0], p, length)
			    : send(w->ends[wire][0], p, length, 0);
}

// A datagram comes whole or never again.
static ssize_t take_from(struct wires *w, enum wire wire, uint64_t to, size_t length, size_t done)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)to, length / 2},
		{(void *)(uintptr_t)(to + length / 2), length - length / 2}};

	if (wire == FILE_)
		return preadv(w->ends[wire][1], iov, 2, (off_t)done);
	return wire == PIPE ? readv(w->ends[wire][1], iov, 2)
			    : recv(w->ends[wire][1], (void *)(uintptr_t)to, length, 0);
}

static void through(struct actor *actor, struct wires *w, enum wire wire, uint64_t from,
	uint64_t to, size_t length)
{
	size_t done = 0;
	ssize_t n;

	n = put_into(w, wire, from, length);
	if (n != (ssize_t)length)
		fail(actor, "write %d of %zu from %#lx: %zd, %s", wire, length, from, n,
			strerror(errno));
	while (done < length) {
		n = take_from(w, wire, to + done, length - done, done);
		if (n <= 0 || (wire == DATAGRAM && n != (ssize_t)length))
			fail(actor, "read %d to %#lx: %zd, %s", wire, to + done, n,
				strerror(errno));
		done += (size_t)n;
	}
}

// An end is written to, the other one read from.
static void open_pair(struct actor *actor, int ends[2], int type)
{
	if (socketpair(AF_UNIX, type, 0, ends))
		fail(actor, "socketpair: %s", strerror(errno));
}

static struct wires *wires_open(struct actor *actor)
{
	struct wires *w = calloc(1, sizeof *w);

	int ends[2];

	if (pipe(ends))
		fail(actor, "pipe: %s", strerror(errno));
	w->ends[PIPE][0] = ends[1];
	w->ends[PIPE][1] = ends[0];
	open_pair(actor, w->ends[STREAM], SOCK_STREAM);
	open_pair(actor, w->ends[DATAGRAM], SOCK_DGRAM);
	w->ends[FILE_][0] = w->ends[FILE_][1] = memfd_create("wire", 0);
	w->at = map_pages(actor, actor->task, SYSCALL_PAGES, 0);
	atomic_store(&stress.passing_pages[6], SYSCALL_PAGES);
	atomic_store(&stress.passing[6], w->at);
	return w;
}

static void syscall_round(struct actor *actor, struct wires *w)
{
	unsigned from = below(actor, SYSCALL_PAGES / 2), to = SYSCALL_PAGES / 2 + from;
	size_t offset = below(actor, 4000), length = 1 + below(actor, 8000);
	uint64_t a = w->at + from * PAGE + offset, b = w->at + to * PAGE + offset;
	enum wire wire = (enum wire)below(actor, WIRES);
	unsigned char value = (unsigned char)rnd(actor);

	if (from * PAGE + offset + length > SYSCALL_PAGES / 2 * PAGE)
		length = SYSCALL_PAGES / 2 * PAGE - from * PAGE - offset;
	for (size_t i = 0; i < length; i++)
		((volatile unsigned char *)(uintptr_t)a)[i] = (unsigned char)(value + i * 7);
	through(actor, w, wire, a, b, length);
	for (size_t i = 0; i < length; i++)
		if (((volatile unsigned char *)(uintptr_t)b)[i] != (unsigned char)(value + i * 7))
			fail(actor, "byte %zu of %zu read to %#lx is wrong", i, length, b);
	if (chance(actor, 30)) // so that a system call is the first to touch it
		expect(actor, "gw_advise", gw_advise(actor->task, w->at + SYSCALL_PAGES / 2 * PAGE,
			SYSCALL_PAGES / 2 * PAGE, MADV_DONTNEED), 0);
}

// Where system calls are not safe on pages that move, they are under a pin.
void act_syscall(struct actor *actor)
{
	struct gw_pin *pin = NULL;
	struct wires *w;

	if (stress.soft) {
		usleep(10000);
		return;
	}
	if (!actor->state)
		actor->state = wires_open(actor);
	w = actor->state;
	actor->doing = "system calls";
	if (!stress.syscall_safe)
		expect(actor, "gw_pin",
			gw_pin(actor->task, w->at, SYSCALL_PAGES * PAGE, "system call", &pin), 0);
	for (unsigned i = 0; i < 16; i++) {
		syscall_round(actor, w);
		if (pin)
			break; // one round a pin: a word of advice may have taken the pages away
	}
	if (pin)
		gw_unpin(pin);
}

// ---- The host's fork()

// The child must not reach the memory; touching it ends it, and nothing of it is seen here.
void act_host_fork(struct actor *actor)
{
	struct area *area = some_area(actor);
	uint64_t at = lane_at(area->view[0].address, below(actor, area->pages), LANE_FORKER);
	bool write = chance(actor, 50);
	int status;
	pid_t child;

	if (stress.soft) {
		usleep(10000);
		return;
	}
	actor->doing = "fork";
	child = fork();
	if (child < 0)
		fail(actor, "fork: %s", strerror(errno));
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		if (write)
			*(volatile uint64_t *)(uintptr_t)at = 0xbad;
		else
			(void)*(volatile uint64_t *)(uintptr_t)at;
		_exit(1);
	}
	actor->doing = "wait for the forked process";
	if (waitpid(child, &status, 0) != child)
		fail(actor, "waitpid: %s", strerror(errno));
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
		fail(actor, "a forked process %s %#lx: status %#x", write ? "wrote" : "read", at,
			status);
	actor->doing = "wait";
	usleep(50000);
}
