// SPDX-License-Identifier: MIT
// The threads that read a userfaultfd, with a pipe in its place.
#include "machine/uffd.h"

#include "base/fault_inject.h"
#include "base/mark.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define IN_SERVICE 1u // of two threads one serves, and one reads
#define QUEUE 256u
#define PATIENCE_MS 100000u // a busy machine lets a thread wait

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint in_service, served;
static atomic_ulong sum;

static void serve(void *arg, const struct uffd_msg *msg)
{
	(void)arg;
	in_service++;
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	sum += msg->arg.pagefault.address >> 12;
	served++;
}

static void send_fault(int fd, unsigned tid, unsigned long page)
{
	struct uffd_msg msg = {.event = UFFD_EVENT_PAGEFAULT};

	msg.arg.pagefault.address = page << 12;
	msg.arg.pagefault.feat.ptid = tid;
	assert_int_equal(write(fd, &msg, sizeof(msg)), sizeof(msg));
}

static void wait_for(const atomic_uint *what, unsigned value)
{
	for (unsigned ms = 0; ms < PATIENCE_MS && *what < value; ms++)
		usleep(1000);
	assert_int_equal(*what, value);
}

// What the program has for each of its threads lies on their stacks, as glibc makes them: the pool's
// have to be large enough for it.
static _Thread_local volatile char large[1 << 20];

static void start(struct uffd_pool **ret_pool, int fds[2])
{
	large[sizeof(large) / 2] = 1;
	in_service = served = 0;
	sum = 0;
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(uffd_pool_start(fds[0], 2, serve, NULL, ret_pool), 0);
}

static void stop(struct uffd_pool **pool, const int fds[2])
{
	uffd_pool_stop(pool);
	close(fds[0]);
	close(fds[1]);
}

// poll() fails then; the threads serve, and end, all the same.
static void a_program_without_descriptors(void **state)
{
	struct rlimit all, none;
	struct uffd_pool *pool;
	int fds[2];

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = all.rlim_max};
	start(&pool, fds);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (unsigned long page = 1; page <= 3; page++) {
		send_fault(fds[1], 0, page);
		wait_for(&served, (unsigned)page);
	}
	stop(&pool, fds);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
}

// Faults come in faster than they are served. What finds room in the queue is served once; what
// does not is sent back to fault again, and is not served.
static void a_full_queue_sends_back(void **state)
{
	unsigned long last = IN_SERVICE + QUEUE;
	struct uffd_pool *pool;
	int fds[2];

	(void)state;
	if (!FAULTS_BUILT_IN)
		skip(); // nobody says when the last one was read
	pthread_mutex_lock(&gate);
	start(&pool, fds);
	send_fault(fds[1], 0, 1);
	wait_for(&in_service, IN_SERVICE);
	for (unsigned long page = 2; page <= last + 1; page++)
		send_fault(fds[1], 0, page);
	for (unsigned ms = 0; ms < PATIENCE_MS && !mark_was_hit("uffd_queue_full"); ms++)
		usleep(1000);
	assert_true(mark_was_hit("uffd_queue_full"));
	pthread_mutex_unlock(&gate);
	wait_for(&served, (unsigned)last);
	stop(&pool, fds);
	assert_int_equal(served, last);
	assert_int_equal(sum, last * (last + 1) / 2);
}

// What was sent before has been queued: it was read in a call before the one that read the event.
static void wait_for_queue(const int fds[2])
{
	const struct uffd_msg event = {.event = UFFD_EVENT_REMAP};

	for (int left = 1, sent = 0; left || sent < 2; usleep(1000)) {
		if (!left) {
			assert_int_equal(write(fds[1], &event, sizeof(event)), sizeof(event));
			sent++;
		}
		assert_int_equal(ioctl(fds[0], FIONREAD, &left), 0);
	}
}

// Who faults again has left the sleep before: of what is queued for a thread only the last counts.
static void a_thread_is_queued_once(void **state)
{
	struct uffd_pool *pool;
	int fds[2];

	(void)state;
	pthread_mutex_lock(&gate);
	start(&pool, fds);
	send_fault(fds[1], 7, 1);
	wait_for(&in_service, IN_SERVICE);
	send_fault(fds[1], 8, 1000);
	for (unsigned long page = 1; page <= 2 * QUEUE; page++)
		send_fault(fds[1], 9, page);
	wait_for_queue(fds);
	pthread_mutex_unlock(&gate);
	wait_for(&served, 3);
	stop(&pool, fds);
	assert_int_equal(served, 3);
	assert_int_equal(sum, 1 + 1000 + 2 * QUEUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_without_descriptors),
		cmocka_unit_test(a_full_queue_sends_back),
		cmocka_unit_test(a_thread_is_queued_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
