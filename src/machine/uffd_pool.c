// SPDX-License-Identifier: MIT
// The threads that read a userfaultfd: leader and followers.
//
// One thread, the leader, waits for messages and queues the faults among them. When another is
// idle it hands leadership over and serves the first itself: no second context switch in the way
// of the accessor. When every other thread is busy it keeps reading; whoever finishes takes from
// the queue. So there is always a reader. There has to be: serving a fault may move a watched
// mapping, and that mremap() returns only when its event has been read.
//
//   idle ---> leading ---faults read, somebody idle---> serving ---> queue or idle
//                 \------faults read, nobody idle----> leading on
//
// The kernel hands out events only while no fault is left to read. That is never so when a thread
// with a signal pending faults in a system call: it cannot sleep and cannot return, so it faults
// again and again, as fast as it is read. So a thread is in the queue only once, or it would fill
// it, and all others would be sent back to fault again, too, as long as the mover waits. And many
// messages are read at once: in the moment that the kernel takes for one, the next fault of such a
// thread has not come yet, and the events follow.
//
// A hand-over that is lost stops the machine: the old leader may be in that very mremap(). So it is
// made through base/wait.h, not by a condition variable, whose signals glibc can lose (its bug
// 25847).
//
// All signals are blocked in these threads: a handler of the program that touches managed memory
// here would wait for the thread it runs in.
//
// poll() fails where the program has given up descriptors (RLIMIT_NOFILE below 2, as sandboxes set
// it): the leader looks now and then, instead of being told.
//
// A pool is started when its threads run: what the C library or a sanitizer does for a new thread
// before is done, and no fork() that comes next finds it half way, with a lock that the child would
// inherit. (AddressSanitizer's allocator has such a lock and does not look after fork().)
//
// Locks: pool->lock (rank UFFD) around the roles and the queue; never while serving or reading.
// What can fail: starting, with -ENOMEM or -EAGAIN.
#include "machine/uffd.h"

#include "base/list.h"
#include "base/lock.h"
#include "base/mark.h"
#include "base/meta.h"
#include "base/wait.h"
#include "machine/fork_guard.h"
#include "machine/host_calls.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define POOL_THREADS_MAX 64
#define LOOK_NS 100000
#define QUEUE_MAX 256
#define READ_AT_ONCE 16u

struct uffd_pool {
	int fd;
	int stop_fd;
	void (*fault)(void *arg, const struct uffd_msg *msg);
	void *arg;
	unsigned threads;
	pthread_t thread[POOL_THREADS_MAX];
	_Atomic unsigned running;
	atomic_bool stop;	     // before stop_fd says so
	struct mutex lock;
	bool led;		     // lock
	bool stopping;		     // lock
	unsigned idle;		     // lock; its address is what idle threads wait for
	unsigned queue_head, queued; // lock
	struct uffd_msg queue[QUEUE_MAX];
};

// How many were read: 0 when the pool stops.
static unsigned read_messages(struct uffd_pool *p, struct uffd_msg msg[READ_AT_ONCE])
{
	struct pollfd fds[2] = {
		{.fd = p->fd, .events = POLLIN}, {.fd = p->stop_fd, .events = POLLIN}};

	while (!atomic_load(&p->stop)) {
		ssize_t n = read(p->fd, msg, READ_AT_ONCE * sizeof(*msg));

		if (n > 0)
			return (unsigned)((size_t)n / sizeof(*msg));
		if (poll(fds, 2, -1) < 0)
			nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
	return 0;
}

// What the same thread asked for before: it has left that sleep, and is not there any more. (Or a
// thread of the same number in another pid namespace, which read our memory: it asks once more.)
static struct uffd_msg *queue_find(struct uffd_pool *p, uint32_t tid) REQUIRES(p->lock)
{
	for (unsigned i = 0; tid && i < p->queued; i++) {
		struct uffd_msg *msg = &p->queue[(p->queue_head + i) % QUEUE_MAX];

		if (msg->arg.pagefault.feat.ptid == tid)
			return msg;
	}
	return NULL;
}

static void wake_page(struct uffd_pool *p, const struct uffd_msg *msg)
{
	host_uffd_wake(p->fd, ALIGN_DOWN(msg->arg.pagefault.address, PAGE_SIZE), PAGE_SIZE);
}

// With no room the accessor is sent back to fault once more.
static void queue_push(struct uffd_pool *p, const struct uffd_msg *msg) REQUIRES(p->lock)
{
	struct uffd_msg *old = queue_find(p, msg->arg.pagefault.feat.ptid);

	if (old) {
		if (old->arg.pagefault.address != msg->arg.pagefault.address)
			wake_page(p, old);
		*old = *msg;
		return;
	}
	if (p->queued == QUEUE_MAX) {
		MARK(uffd_queue_full);
		wake_page(p, msg);
		return;
	}
	p->queue[(p->queue_head + p->queued++) % QUEUE_MAX] = *msg;
}

static struct uffd_msg queue_pop(struct uffd_pool *p) REQUIRES(p->lock)
{
	struct uffd_msg msg = p->queue[p->queue_head];

	p->queue_head = (p->queue_head + 1) % QUEUE_MAX;
	p->queued--;
	return msg;
}

// Having read an event is all that the mover waits for.
static void queue_faults(struct uffd_pool *p, const struct uffd_msg *msg, unsigned n)
	REQUIRES(p->lock)
{
	for (unsigned i = 0; i < n; i++)
		if (msg[i].event == UFFD_EVENT_PAGEFAULT)
			queue_push(p, &msg[i]);
}

// Reads until there is a fault that this thread can serve while another leads, or the pool stops.
static void lead(struct uffd_pool *p) REQUIRES(p->lock)
{
	struct uffd_msg msg[READ_AT_ONCE];

	p->led = true;
	while (p->led) {
		mutex_unlock(&p->lock);
		unsigned n = read_messages(p, msg);
		mutex_lock(&p->lock);
		queue_faults(p, msg, n);
		p->stopping |= !n;
		p->led = n && !(p->queued && p->idle);
	}
	for (unsigned i = 0; i <= p->queued; i++) // the next leader, and who serves the others
		wake_one(&p->idle);
}

// Queued before the lock is dropped: whoever hands over leadership from then on finds this thread.
static void wait_idle(struct uffd_pool *p) REQUIRES(p->lock)
{
	struct waiter self;

	wait_prepare(&self, &p->idle);
	mutex_unlock(&p->lock);
	(void)!wait_sleep(&self, WAIT_FOREVER);
	mutex_lock(&p->lock);
}

// What this thread does next: false to end.
static bool next_fault(struct uffd_pool *p, struct uffd_msg *ret_msg)
{
	bool go_on;

	mutex_lock(&p->lock);
	p->idle++;
	while (!p->queued && p->led && !p->stopping)
		wait_idle(p);
	p->idle--;
	if (!p->led && !p->stopping)
		lead(p);
	go_on = !p->stopping;
	if (go_on)
		*ret_msg = queue_pop(p);
	else
		wake_all(&p->idle);
	mutex_unlock(&p->lock);
	return go_on;
}

static void *pool_main(void *arg)
{
	struct uffd_pool *p = arg;
	struct uffd_msg msg;

	atomic_fetch_add(&p->running, 1);
	wake_all(&p->running);
	while (next_fault(p, &msg))
		p->fault(p->arg, &msg);
	return NULL;
}

static int start_thread(struct uffd_pool *p)
{
	int err = pthread_create(&p->thread[p->threads], NULL, pool_main, p);

	p->threads += !err;
	return -err;
}

static void pool_free(struct uffd_pool *p)
{
	if (p->stop_fd >= 0)
		close(p->stop_fd);
	mutex_destroy(&p->lock);
	meta_delete(p);
}

int uffd_pool_start(int fd, unsigned threads, void (*fault)(void *arg, const struct uffd_msg *msg),
	void *arg, struct uffd_pool **ret_pool)
{
	struct uffd_pool *p = meta_new(struct uffd_pool);
	sigset_t all, old;
	int err = 0;

	if (!p)
		return -ENOMEM;
	p->fd = fd;
	p->fault = fault;
	p->arg = arg;
	mutex_init(&p->lock, RANK_UFFD);
	p->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->stop_fd < 0)
		err = -EMFILE;
	threads = max(2u, min(threads, (unsigned)POOL_THREADS_MAX)); // one must be free to read
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (!err && p->threads < threads)
		err = start_thread(p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)!wait_until(&p->running, atomic_load(&p->running) == p->threads, WAIT_FOREVER);
	if (err) {
		uffd_pool_stop(&p);
		return err;
	}
	*ret_pool = p;
	return 0;
}

void uffd_pool_stop(struct uffd_pool **pool)
{
	struct uffd_pool *p = *pool;
	uint64_t one = 1;

	atomic_store(&p->stop, true);
	if (p->stop_fd >= 0 && write(p->stop_fd, &one, sizeof(one)) < 0)
		must_hold(0, "eventfd %d", p->stop_fd);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	write_lock(&host_fork_lock); // a child forgets a whole pool, or none
	*pool = NULL;
	pool_free(p);
	write_unlock(&host_fork_lock);
}

void uffd_pool_forget(struct uffd_pool *p)
{
	// Whoever held or waited for these is gone.
	mutex_init(&p->lock, RANK_UFFD);
	close(p->stop_fd);
	p->stop_fd = -1;
	p->threads = 0;
}
