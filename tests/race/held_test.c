// SPDX-License-Identifier: MIT
// What the host's kernel holds on to by frame, not by address: buffers of devices (io_uring's
// registered buffers, pages in a pipe), and futexes without the PRIVATE flag. When such a page moves,
// what the kernel does afterwards it does to the old frame: data is lost and waiters sleep on. A
// futex with priority inheritance fails while its page moves, as the kernel does not wait for it.
// These tests show that it happens, and that a gw_pin() prevents it each time.
//
//	                     not pinned                    pinned
//	the move             succeeds                      refused, "pinned"
//	the device writes    into the old frame: lost      into the page: seen
//	a store, then a pipe the pipe has the old bytes    the pipe has the store
//	FUTEX_WAKE           finds nobody                  wakes the waiter
//	FUTEX_LOCK_PI        fails while the page moves    locks
//
// The page is read and stored in relaxed order only. For any other, ThreadSanitizer makes the access
// itself, holding a lock of its own that everybody's atomic operations want: an accessor that stands
// still inside (in our SIGSEGV handler, or in the kernel until userfaultfd is served) never goes on.
//
// A case that this host does not offer is skipped; all of them: exit 77.
#include "../unit/unit.h"

#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#define PAGE GW_PAGE_SIZE
#define TRIES 20
#define PATIENCE_MS 60000 // a busy machine lets a thread sleep late

struct world {
	struct gw_machine *machine;
	struct gw_task *task;
	uint64_t at;
	_Atomic uint64_t *word; // the page
	struct gw_pin *pin;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void put(struct world *w, uint64_t value)
{
	atomic_store_explicit(w->word, value, memory_order_relaxed);
}

static uint64_t get(struct world *w)
{
	return atomic_load_explicit(w->word, memory_order_relaxed);
}

static bool open_world(struct world *w, enum gw_blocker blocker, bool pinned)
{
	const uint64_t bytes[2] = {16 << 20, 16 << 20};
	const struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2,
		.node_bytes = bytes, .backend = GW_BACKEND_REWIRE, .blocker = blocker};
	void *p;

	*w = (struct world){0};
	if (gw_machine_create(&config, &w->machine)) {
		print_message("not here: %s\n", gw_machine_error());
		return false;
	}
	assert_int_equal(gw_task_create(w->machine, NULL, &w->task), 0);
	assert_int_equal(gw_task_attach(w->task), 0);
	assert_int_equal(gw_alloc(w->task, PAGE, &p), 0);
	w->word = p;
	w->at = (uint64_t)(uintptr_t)p;
	put(w, 1);
	if (pinned)
		assert_int_equal(gw_pin(w->task, w->at, PAGE, "the kernel", &w->pin), 0);
	return true;
}

static void close_world(struct world *w)
{
	gw_unpin(w->pin);
	assert_int_equal(gw_task_attach(NULL), 0);
	gw_task_exit(w->task);
	gw_machine_destroy(w->machine);
}

// To the other node. Whether it moved; where it is pinned it must not, and say why.
static bool move(struct world *w)
{
	int node = -1, status = -1;
	struct gw_explanation why = {0};
	const struct gw_move_options options = {.size = sizeof options, .explain = &why};

	assert_int_equal(gw_move_pages(w->task, 0, 1, &w->at, NULL, &node, 0), 0);
	assert_true(node == 0 || node == 1);
	node = 1 - node;
	assert_true(gw_move_pages_explained(w->task, 0, 1, &w->at, &node, &status, GW_MPOL_MF_MOVE,
			    &options) >= 0);
	if (w->pin) {
		assert_int_not_equal(status, node);
		assert_int_equal(why.why, GW_WHY_PINNED);
	}
	return status == node;
}

// ---- A device: io_uring writes into a registered buffer

struct ring {
	int fd;
	char *ring;
	struct io_uring_params p;
	struct io_uring_sqe *sqe;
};

static bool ring_open(struct ring *r)
{
	size_t size;

	r->p = (struct io_uring_params){0};
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0 || !(r->p.features & IORING_FEAT_SINGLE_MMAP))
		return false;
	size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->sqe = mmap(NULL, r->p.sq_entries * sizeof *r->sqe, PROT_READ | PROT_WRITE, MAP_SHARED,
		r->fd, IORING_OFF_SQES);
	assert_true(r->ring != MAP_FAILED && (void *)r->sqe != MAP_FAILED);
	return true;
}

static void ring_read(struct ring *r, int fd, uint64_t at, unsigned length)
{
	_Atomic uint32_t *tail = (_Atomic uint32_t *)(r->ring + r->p.sq_off.tail);
	uint32_t mask = *(uint32_t *)(r->ring + r->p.sq_off.ring_mask), i = *tail & mask;

	r->sqe[i] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED, .fd = fd, .addr = at, .len = length};
	((uint32_t *)(r->ring + r->p.sq_off.array))[i] = i;
	atomic_fetch_add(tail, 1);
	while (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		assert_int_equal(errno, EINTR);
	atomic_fetch_add((_Atomic uint32_t *)(r->ring + r->p.cq_off.head), 1);
}

// Whether what the device wrote is in the page. 77: no device.
static int device_try(struct world *w)
{
	struct iovec iov = {(void *)(uintptr_t)w->at, PAGE};
	uint64_t value = 0xdadada;
	struct ring r;
	int file;

	if (!ring_open(&r))
		return SKIP_TEST;
	if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1)) {
		close(r.fd);
		return SKIP_TEST;
	}
	file = memfd_create("data", 0);
	assert_int_equal(pwrite(file, &value, sizeof value, 0), sizeof value);
	(void)move(w);
	ring_read(&r, file, w->at, sizeof value);
	close(file);
	close(r.fd);
	return get(w) == value;
}

// ---- A pipe: vmsplice() gives it the page, not a copy

static int pipe_try(struct world *w)
{
	struct iovec iov = {(void *)(uintptr_t)w->at, sizeof(uint64_t)};
	uint64_t value = 0xfefefe, seen = 0;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	if (vmsplice(ends[1], &iov, 1, 0) != sizeof value) {
		close(ends[0]);
		close(ends[1]);
		return SKIP_TEST;
	}
	(void)move(w);
	put(w, value);
	assert_int_equal(read(ends[0], &seen, sizeof seen), sizeof seen);
	close(ends[0]);
	close(ends[1]);
	return seen == value;
}

// ---- A futex that others might share

struct waiter {
	struct world *w;
	int private;
	_Atomic int tid;
	atomic_bool awake;
	int result; // 0 woken, else errno
};

static void *wait_main(void *arg)
{
	struct waiter *a = arg;

	assert_int_equal(gw_task_attach(a->w->task), 0);
	atomic_store(&a->tid, (int)syscall(SYS_gettid));
	a->result = syscall(SYS_futex, a->w->word, FUTEX_WAIT | a->private, 1, NULL, NULL, 0)
			    ? errno
			    : 0;
	atomic_store(&a->awake, true);
	assert_int_equal(gw_task_attach(NULL), 0);
	return NULL;
}

static bool sleeps(int tid)
{
	char path[64], text[256] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
	f = fopen(path, "re");
	if (!f)
		return true; // this kernel does not tell: the pause behind it is all there is
	if (!fgets(text, sizeof text, f))
		text[0] = '\0';
	fclose(f);
	return atoi(text) == SYS_futex;
}

static void interrupt(int sig)
{
	(void)sig;
}

// 1: woken, 0: never; then a signal ends its sleep.
static int futex_try_flags(struct world *w, int private)
{
	const struct sigaction act = {.sa_handler = interrupt};
	struct waiter a = {.w = w, .private = private};
	long woken = 0;
	pthread_t thread;

	sigaction(SIGUSR1, &act, NULL);
	assert_int_equal(pthread_create(&thread, NULL, wait_main, &a), 0);
	while (!atomic_load(&a.tid))
		usleep(1000);
	for (unsigned i = 0; i < PATIENCE_MS && !sleeps(atomic_load(&a.tid)); i++)
		usleep(1000);
	usleep(5000);
	(void)move(w);
	(void)get(w); // it is there again
	// It must be found where the futex goes with the page, or the page stays.
	for (unsigned i = 0; i < (w->pin || private ? PATIENCE_MS : 4) && !woken; i++) {
		woken = syscall(SYS_futex, w->word, FUTEX_WAKE | private, 1, NULL, NULL, 0);
		usleep(1000);
	}
	while (woken != 1 && !atomic_load(&a.awake)) {
		pthread_kill(thread, SIGUSR1);
		usleep(1000);
	}
	pthread_join(thread, NULL);
	return woken == 1 && a.result == 0;
}

static int futex_try(struct world *w)
{
	return futex_try_flags(w, 0);
}

static int private_futex_try(struct world *w)
{
	return futex_try_flags(w, FUTEX_PRIVATE_FLAG);
}

// ---- A futex with priority inheritance

struct locker {
	struct world *w;
	atomic_bool started, stop;
	_Atomic int error;
};

static void *lock_main(void *arg)
{
	struct locker *a = arg;

	assert_int_equal(gw_task_attach(a->w->task), 0);
	for (bool unlock = false; !atomic_load(&a->stop) || unlock; unlock = !unlock) {
		int op = (unlock ? FUTEX_UNLOCK_PI : FUTEX_LOCK_PI) | FUTEX_PRIVATE_FLAG;

		if (syscall(SYS_futex, a->w->word, op, 0, NULL, NULL, 0)) {
			atomic_store(&a->error, errno);
			break;
		}
		atomic_store(&a->started, true);
	}
	assert_int_equal(gw_task_attach(NULL), 0);
	return NULL;
}

// Locked and unlocked by one thread while the page moves: for some moves where it is pinned, else
// until the kernel meets it on its way.
static int pi_futex_try(struct world *w)
{
	struct locker a = {.w = w};
	uint64_t end = now_ms() + PATIENCE_MS;
	pthread_t thread;

	put(w, 0);
	assert_int_equal(pthread_create(&thread, NULL, lock_main, &a), 0);
	while (!atomic_load(&a.started) && !atomic_load(&a.error))
		usleep(1000);
	for (unsigned i = 0; !atomic_load(&a.error) && now_ms() < end; i++) {
		(void)move(w);
		if (w->pin && i == 1000)
			break;
	}
	atomic_store(&a.stop, true);
	pthread_join(thread, NULL);
	if (atomic_load(&a.error) == ENOSYS)
		return SKIP_TEST;
	assert_true(!a.error || a.error == EFAULT);
	return !a.error;
}

// ---- The cases

typedef int try_fn(struct world *);

// How many of the tries kept what they had; -1 when there is nothing to try with.
static int kept(try_fn *try, enum gw_blocker blocker, bool pinned, unsigned tries)
{
	int n = 0;

	for (unsigned i = 0; i < tries; i++) {
		struct world w;
		int ret;

		if (!open_world(&w, blocker, pinned))
			return -1;
		ret = try(&w);
		close_world(&w);
		if (ret == SKIP_TEST) {
			print_message("not offered by this kernel\n");
			return -1;
		}
		n += ret;
		if (!ret)
			break; // one loss is enough to know
	}
	return n;
}

static unsigned ran;

static void lost_but_under_a_pin(try_fn *try, enum gw_blocker blocker, unsigned tries)
{
	int with = kept(try, blocker, true, tries);

	if (with < 0)
		skip();
	ran++;
	assert_int_equal(with, tries);
	assert_true(kept(try, blocker, false, tries) < (int)tries);
}

#define CASE(name, blocker, tries)                                                                 \
	static void name##_##blocker(void **state)                                                 \
	{                                                                                          \
		(void)state;                                                                       \
		lost_but_under_a_pin(name##_try, GW_BLOCKER_##blocker, tries);                     \
	}
CASE(device, SIGNAL, TRIES)
CASE(device, USERFAULTFD, TRIES)
CASE(pipe, SIGNAL, TRIES)
CASE(pipe, USERFAULTFD, TRIES)
CASE(futex, SIGNAL, 3)
CASE(futex, USERFAULTFD, 3)
CASE(pi_futex, SIGNAL, 3)
CASE(pi_futex, USERFAULTFD, 3)

// A private futex is found by address: it goes with the page.
static void private_futexes_move(enum gw_blocker blocker)
{
	int n = kept(private_futex_try, blocker, false, 3);

	if (n < 0)
		skip();
	assert_int_equal(n, 3);
}

static void private_futex_SIGNAL(void **state)
{
	(void)state;
	private_futexes_move(GW_BLOCKER_SIGNAL);
}

static void private_futex_USERFAULTFD(void **state)
{
	(void)state;
	private_futexes_move(GW_BLOCKER_USERFAULTFD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_SIGNAL),
		cmocka_unit_test(device_USERFAULTFD),
		cmocka_unit_test(pipe_SIGNAL),
		cmocka_unit_test(pipe_USERFAULTFD),
		cmocka_unit_test(futex_SIGNAL),
		cmocka_unit_test(futex_USERFAULTFD),
		cmocka_unit_test(pi_futex_SIGNAL),
		cmocka_unit_test(pi_futex_USERFAULTFD),
		cmocka_unit_test(private_futex_SIGNAL),
		cmocka_unit_test(private_futex_USERFAULTFD),
	};
	int failed;

	failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (!failed && !ran) {
		printf("held: neither blocker, or neither io_uring, vmsplice nor futexes here\n");
		return SKIP_TEST;
	}
	return failed;
}
