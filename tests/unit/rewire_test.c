// SPDX-License-Identifier: MIT
// Both blockers of the rewire backend, under real threads that use raw pointers and system calls.
// What cannot be had here (userfaultfd) is skipped with the reason.
#include "mini_run.h"

#include "machine/block_uffd.h"
#include "machine/rewire.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define MS 1000000ul

static uint64_t now_ns(void)
{
	return wait_clock_ns();
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_nsec = (long)(ms * MS)};

	nanosleep(&t, NULL);
}

static void first_touch(void)
{
	assert_int_equal(*mini_byte(&mini, 5), 0);
	*mini_byte(&mini, 5) = 7;
	*mini_byte(&mini, 9) = 9;
	assert_int_equal(*mini_byte(&mini, 5), 7);
	assert_int_equal(*(uint8_t *)mini.mmu->ops->peek(mini.mmu, mini_pfn(&mini, 5)), 7);
	assert_int_equal(*(uint8_t *)mini.mmu->ops->peek(mini.mmu, mini_pfn(&mini, 9)), 9);
	assert_int_equal(mini.faults, 2);
}

static void map_move_clear(void)
{
	static const unsigned sizes[] = {1, 3, 16, 100, 512};

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++)
		for (unsigned readers = 0; readers < 2; readers++) {
			unsigned nr = sizes[s];
			uint64_t faults = mini.faults;

			mini_fill(&mini, 512, nr, 0, MMU_WRITE);
			for (unsigned n = 1; n < 5; n++) {
				assert_int_equal(mini_move(&mini, 512, nr, n & 1, readers), 0);
				for (unsigned i = 0; i < nr; i++) {
					volatile uint8_t *p = mini_byte(&mini, 512 + i);

					assert_int_equal(p[n - 1], n > 1 ? 0x90 + n - 1 : i & 0xff);
					p[n] = (uint8_t)(0x90 + n);
				}
			}
			assert_int_equal(mini.faults, faults); // all served by the mapping itself
			mini_clear(&mini, 512, nr);
			assert_int_equal(*mini_byte(&mini, 512 + nr - 1), 0); // a new frame
			assert_int_equal(mini.faults, faults + 1);
			mini_clear(&mini, 512, nr);
		}
}

static void unblock_restores(void)
{
	static const unsigned sizes[] = {1, 64, 512};

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		unsigned nr = sizes[s];

		mini_fill(&mini, 0, nr, 0, MMU_WRITE);
		for (unsigned round = 0; round < 3; round++) {
			uint64_t faults = mini.faults;

			assert_int_equal(mini_block(&mini, 0, nr, round & 1), 0);
			mutex_lock(&mini.lock);
			mini.mmu->ops->unblock(
				mini.mmu, mini_at(&mini, 0), mini.page[0].pfn, nr, MMU_WRITE);
			mini_moved(&mini, 0, nr);
			mutex_unlock(&mini.lock);
			for (unsigned i = 0; i < nr; i++) {
				assert_int_equal(mini_byte(&mini, i)[1], i & 0xff);
				mini_byte(&mini, i)[0] = 1;
			}
			assert_int_equal(mini.faults, faults);
		}
		mini_clear(&mini, 0, nr);
	}
}

// A page that was cleared while it was blocked is a gap: the others come back around it.
static void unblock_around_a_gap(void)
{
	static const unsigned sizes[] = {16, 64, 512}, gaps[] = {0, 5, 48, 256};

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++)
		for (unsigned g = 0; g < ARRAY_SIZE(gaps); g++) {
			unsigned nr = sizes[s], gap = gaps[g] % nr;
			struct pfn first;
			uint64_t faults;

			mini_fill(&mini, 0, nr, 0, MMU_WRITE);
			first = mini_pfn(&mini, 0);
			assert_int_equal(mini_block(&mini, 0, nr, g & 1), 0);
			mini_clear(&mini, gap, 1);
			faults = mini.faults;
			mutex_lock(&mini.lock);
			mini.mmu->ops->unblock(mini.mmu, mini_at(&mini, 0), first, nr, MMU_WRITE);
			mini_moved(&mini, 0, nr);
			mutex_unlock(&mini.lock);
			for (unsigned i = 0; i < nr; i++)
				assert_int_equal(*mini_byte(&mini, i), i == gap ? 0 : i & 0xff);
			assert_int_equal(mini.faults, faults + 1); // the gap's
			mini_clear(&mini, 0, nr);
		}
}

static atomic_bool stop;

static void *clear_main(void *arg maybe_unused)
{
	for (unsigned i = 0; !stop; i++)
		mini.mmu->ops->clear(mini.mmu, mini_at(&mini, i * 16 % 512), 1);
	return NULL;
}

// The engine's own threads never sleep in a fault: they would hold the locks that serving it needs.
// Here nobody but they is about, so there is no fault at all, whatever comes between two steps of
// a map.
static void maps_without_a_fault(void)
{
	uint64_t end = now_ns() + 300 * MS;
	pthread_t thread;
	struct pfn first;

	mini_fill(&mini, 0, 512, 0, MMU_WRITE);
	first = mini_pfn(&mini, 0);
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, clear_main, NULL), 0);
	for (unsigned n = 0; now_ns() < end; n++) {
		unsigned nr = 1u << n % 10;
		enum mmu_prot prot = n % 3 ? MMU_WRITE : MMU_READ;

		assert_int_equal(
			mini.mmu->ops->map(mini.mmu, mini_at(&mini, 0), first, nr, prot), 0);
		if (n & 1 || mini.mmu->ops->block(mini.mmu, mini_at(&mini, 0), first, nr, true))
			continue;
		mini.mmu->ops->unblock(mini.mmu, mini_at(&mini, 0), first, nr, prot);
	}
	stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(mini.faults, 0);
}

// --- threads that write while their pages move -------------------------------------------------

#define WRITERS 3

struct writer {
	pthread_t thread;
	unsigned id;
	uint64_t stores; // of each page
	unsigned long bad;
};

static volatile uint64_t *stamp(size_t page, unsigned id)
{
	return (volatile uint64_t *)(mini_at(&mini, page) + 64ul * (id + 1));
}

// Each writer has a word in each page and adds one to all of them, again and again: a store that
// went to the old frame after the copy is missing at once.
static void *writer_main(void *arg)
{
	struct writer *w = arg;

	if (mmu_thread_enter(mini.mmu))
		abort();
	do {
		for (size_t page = 0; page < 1024; page++) {
			volatile uint64_t *p = stamp(page, w->id);

			w->bad += *p != w->stores;
			*p = w->stores + 1;
		}
		w->stores++;
	} while (!stop);
	mmu_thread_leave(mini.mmu);
	return NULL;
}

static void moves_under_writers(void)
{
	static const unsigned sizes[] = {512, 512, 128, 16, 4, 1};
	struct writer w[WRITERS] = {0};
	uint64_t end = now_ns() + 700 * MS;
	unsigned moves = 0, node = 0;

	for (size_t page = 0; page < 1024; page += 512) {
		mini_fill(&mini, page, 512, 0, MMU_WRITE);
		memset(mini.mmu->ops->peek(mini.mmu, mini_pfn(&mini, page)), 0, 512 * PAGE_SIZE);
	}
	stop = false;
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i].id = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, writer_main, &w[i]), 0);
	}
	while (now_ns() < end) {
		node = !node;
		for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++)
			for (size_t page = 0; page < 1024; page += 512) {
				assert_int_equal(mini_move(&mini, page, sizes[s], node, s & 1), 0);
				moves++;
			}
		for (size_t page = 0; page < 1024; page += 512) // consecutive again
			for (size_t i = 0; i < 512; i += 128)
				for (unsigned one = 0; one < 128; one += 1 + moves % 127)
					assert_int_equal(
						mini_move(&mini, page + i + one, 1, node, false),
						0);
		for (size_t page = 0; page < 1024; page += 512) {
			struct pfn to = mini_frames(&mini, !node, 512);

			for (unsigned i = 0; i < 512; i++) { // gather into one run of frames
				struct pfn from = mini.page[page + i].pfn;

				assert_int_equal(mini_block(&mini, page + i, 1, true), 0);
				memcpy(mini.mmu->ops->peek(mini.mmu, pfn_add(to, i)),
					mini.mmu->ops->peek(mini.mmu, from), PAGE_SIZE);
				assert_int_equal(
					mini_finish(&mini, page + i, 1, pfn_add(to, i)), 0);
			}
		}
	}
	stop = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	for (unsigned i = 0; i < WRITERS; i++) {
		assert_int_equal(w[i].bad, 0);
		for (size_t page = 0; page < 1024; page++)
			assert_int_equal(*stamp(page, i), w[i].stores);
	}
	print_message("%s: %u batches moved, %lu waits\n", blocker_name, moves, mini.waits);
}

// --- permissions --------------------------------------------------------------------------------

static void read_only_is_copied_on_write(void)
{
	static const unsigned sizes[] = {1, 64, 512};

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++)
		for (int in_place = 0; in_place < 2; in_place++) {
			unsigned nr = sizes[s];
			struct pfn old;

			mini_fill(&mini, 1024, nr, 0, in_place ? MMU_WRITE : MMU_READ);
			if (in_place)
				assert_int_equal(mini_protect(&mini, 1024, nr, MMU_READ, true), 0);
			old = mini_pfn(&mini, 1024);
			assert_int_equal(mini_move(&mini, 1024, nr, 1, false), 0);
			assert_int_not_equal(old.n, mini_pfn(&mini, 1024).n);
			old = mini_pfn(&mini, 1024 + nr - 1);
			assert_int_equal(*mini_byte(&mini, 1024 + nr - 1), (nr - 1) & 0xff);
			*mini_byte(&mini, 1024 + nr - 1) = 0xee;
			assert_int_equal(*mini_byte(&mini, 1024 + nr - 1), 0xee);
			assert_int_not_equal(old.n, mini_pfn(&mini, 1024 + nr - 1).n);
			assert_int_equal(
				*(uint8_t *)mini.mmu->ops->peek(mini.mmu, old), (nr - 1) & 0xff);
			mini_clear(&mini, 1024, nr);
		}
}

static void protect_back_and_forth(void)
{
	mini_fill(&mini, 0, 64, 0, MMU_WRITE);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(mini_protect(&mini, 8, 16, MMU_READ, false), 0);
		assert_int_equal(signal_of(10, false), 0);
		assert_int_equal(signal_of(10, true), SIGSEGV);
		assert_int_equal(signal_of(10, false), 0); // a refused store leaves it readable
		assert_int_equal(signal_of(7, true), 0);
		assert_int_equal(mini_protect(&mini, 8, 16, MMU_NONE, false), 0);
		assert_int_equal(signal_of(10, false), SIGSEGV);
		assert_int_equal(mini_protect(&mini, 8, 16, MMU_READ, false), 0);
		assert_int_equal(signal_of(10, false), 0);
		assert_int_equal(signal_of(12, true), SIGSEGV);
		assert_int_equal(mini_protect(&mini, 8, 16, MMU_NONE, false), 0);
		assert_int_equal(mini_protect(&mini, 8, 16, MMU_WRITE, false), 0);
		assert_int_equal(signal_of(10, true), 0);
		*mini_byte(&mini, 10) = 10;
		assert_int_equal(*mini_byte(&mini, 9), 9);
	}
}

static void set_kind(size_t page, enum mini_kind kind)
{
	mutex_lock(&mini.lock);
	mini.page[page].kind = kind;
	mutex_unlock(&mini.lock);
}

static void refused_and_broken(void)
{
	set_kind(3, MINI_NOTHING);
	assert_int_equal(signal_of(3, false), SIGSEGV);
	assert_int_equal(signal_of(3, true), SIGSEGV);
	set_kind(3, MINI_AREA); // an area begins to exist
	mini_clear(&mini, 3, 1);
	assert_int_equal(signal_of(3, true), 0);
	set_kind(4, MINI_BROKEN);
	assert_int_equal(signal_of(4, true), SIGBUS);
	assert_int_equal(caught_code, BUS_ADRERR);
	assert_int_equal(signal_of(4, false), SIGBUS);
	set_kind(4, MINI_AREA);
	mini_clear(&mini, 4, 1);
	assert_int_equal(signal_of(4, true), 0);
}

static void *late_main(void *arg maybe_unused)
{
	struct uffd_msg msg = {.event = UFFD_EVENT_PAGEFAULT};

	msg.arg.pagefault.address = mini_at(&mini, 3);
	msg.arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_WRITE;
	while (!stop)
		uffd_serve(container_of(mini.mmu, struct rewire, mmu), &msg);
	return NULL;
}

// A message may be read late, when its accessor has long been served: while it is, another access,
// permitted since, meets no refusal.
static void a_late_message_hurts_nobody(void)
{
	uint64_t end = now_ns() + 300 * MS;
	pthread_t thread;

	if (strncmp(blocker_name, "userfaultfd", 11) != 0)
		return;
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, late_main, NULL), 0);
	while (now_ns() < end) {
		set_kind(3, MINI_NOTHING);
		mini_clear(&mini, 3, 1);
		assert_int_equal(signal_of(3, true), SIGSEGV);
		set_kind(3, MINI_AREA);
		mini_clear(&mini, 3, 1);
		assert_int_equal(signal_of(3, true), 0);
	}
	stop = true;
	pthread_join(thread, NULL);
}

static void foreign_faults_reach_the_program(void)
{
	volatile uint8_t *p = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int round = 0; round < 2; round++) {
		caught = 0;
		expecting = true;
		if (!sigsetjmp(escape, 1))
			*p = 1;
		assert_int_equal(caught, SIGSEGV);
		assert_ptr_equal(caught_at, (void *)p);
		assert_int_equal(caught_code, SEGV_ACCERR);
	}
	munmap((void *)p, PAGE_SIZE);
}

static volatile sig_atomic_t interrupted;

static void on_usr1(int sig maybe_unused)
{
	interrupted = *mini_byte(&mini, 20) + 1; // moving: waits inside the handler
}

static void *mover_main(void *arg)
{
	for (int ms = 0; arg && ms < 10000 && !mini.waits; ms++) // until somebody waits for it
		sleep_ms(1);
	return (void *)(intptr_t)mini_finish(&mini, 20, 1, mini_pfn(&mini, 20));
}

static void handler_that_touches_a_moving_page(void)
{
	struct sigaction act = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK}, old;
	pthread_t mover;
	void *err;

	if (HAVE_TSAN && config.blocker == MMU_BLOCKER_SIGNAL)
		return; // ThreadSanitizer runs SIGUSR1 handlers with SIGSEGV blocked
	sigaction(SIGUSR1, &act, &old);
	mini_fill(&mini, 20, 1, 0, MMU_WRITE);
	interrupted = 0;
	assert_int_equal(mini_block(&mini, 20, 1, true), 0);
	pthread_create(&mover, NULL, mover_main, &mini);
	raise(SIGUSR1);
	assert_int_equal(interrupted, 21);
	pthread_join(mover, &err);
	assert_null(err);
	sigaction(SIGUSR1, &old, NULL);
}

// --- system calls -------------------------------------------------------------------------------

static void read_into_untouched(void)
{
	int fd[2];
	ssize_t n;

	assert_int_equal(pipe(fd), 0);
	assert_int_equal(write(fd[1], "abcd", 4), 4);
	n = read(fd[0], (void *)mini_at(&mini, 30), 4);
	if (syscall_safe()) {
		assert_int_equal(n, 4);
		assert_memory_equal((void *)mini_at(&mini, 30), "abcd", 4);
	} else { // what docs say of signals: fails, unless touched first
		assert_int_equal(n, -1);
		assert_int_equal(errno, EFAULT);
		*mini_byte(&mini, 30) = 0;
		assert_int_equal(write(fd[1], "abcd", 4), 4);
		assert_true(read(fd[0], (void *)mini_at(&mini, 30), 4) > 0);
	}
	close(fd[0]);
	close(fd[1]);
}

static void recv_into_moving(void)
{
	pthread_t mover;
	int fd[2];
	ssize_t n;

	mini_fill(&mini, 20, 1, 0, MMU_WRITE);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
	assert_int_equal(send(fd[1], "datagram", 8, 0), 8);
	assert_int_equal(mini_block(&mini, 20, 1, true), 0);
	if (syscall_safe())
		pthread_create(&mover, NULL, mover_main, &mini);
	n = recv(fd[0], (void *)mini_at(&mini, 20), 8, 0);
	if (syscall_safe()) {
		assert_int_equal(n, 8);
		pthread_join(mover, NULL);
		assert_memory_equal((void *)mini_at(&mini, 20), "datagram", 8);
	} else {
		assert_int_equal(n, -1);
		assert_int_equal(errno, EFAULT);
		assert_null(mover_main(NULL));
	}
	close(fd[0]);
	close(fd[1]);
}

struct reader {
	pthread_t thread;
	unsigned long calls, failed;
};

// Stores through system calls, into a page that is made read-only again and again.
static void *reader_main(void *arg)
{
	struct reader *r = arg;
	int fd[2];

	if (pipe(fd))
		abort();
	while (!stop) {
		if (write(fd[1], "stamp", 5) != 5)
			abort();
		r->calls++;
		r->failed += read(fd[0], (void *)(mini_at(&mini, 40) + 256), 5) != 5;
		r->failed += write(fd[1], (void *)mini_at(&mini, 40), 5) != 5;
		r->failed += read(fd[0], (void *)(mini_at(&mini, 40) + 512), 5) != 5;
	}
	close(fd[0]);
	close(fd[1]);
	return NULL;
}

static bool is_shared(size_t page)
{
	bool shared;

	mutex_lock(&mini.lock);
	shared = mini.page[page].shared;
	mutex_unlock(&mini.lock);
	return shared;
}

// The frame is mapped read-only, watched for 20 us, and must not change: the store has to become a
// fault, never go through, and never fail with EFAULT.
static void read_only_has_no_gap(void)
{
	uint64_t end = now_ns() + 500 * MS;
	static uint8_t before[PAGE_SIZE];
	struct reader r = {0};
	unsigned rounds = 0;

	if (!syscall_safe()) {
		print_message("%s is not syscall-safe\n", blocker_name);
		return;
	}
	mini_fill(&mini, 40, 1, 0, MMU_WRITE);
	stop = false;
	pthread_create(&r.thread, NULL, reader_main, &r);
	// However late the reader begins.
	for (; now_ns() < end || !atomic_load(&mini.copies); rounds++) {
		struct pfn to = mini_frames(&mini, rounds & 1, 1);
		uint8_t *frame = mini.mmu->ops->peek(mini.mmu, to);
		unsigned spin = 0;

		assert_int_equal(mini_block(&mini, 40, 1, true), 0);
		memcpy(frame, mini.mmu->ops->peek(mini.mmu, mini_pfn(&mini, 40)), PAGE_SIZE);
		memcpy(before, frame, PAGE_SIZE);
		mutex_lock(&mini.lock);
		mini.page[40].prot = MMU_READ;
		mini.page[40].shared = true;
		mutex_unlock(&mini.lock);
		assert_int_equal(mini_finish(&mini, 40, 1, to), 0);
		while (spin++ < 30)
			assert_memory_equal(frame, before, PAGE_SIZE);
		for (int ms = 0; rounds % 16 == 0 && ms < 5000 && is_shared(40); ms++)
			sleep_ms(1);	// somebody's store has it copied;
		mutex_lock(&mini.lock); // or it is made writable
		if (mini.page[40].shared) {
			mini.page[40].shared = false;
			mini.page[40].prot = MMU_WRITE;
			assert_int_equal(mini.mmu->ops->protect(mini.mmu, mini_at(&mini, 40),
						 mini.page[40].pfn, 1, MMU_WRITE),
				0);
		}
		mutex_unlock(&mini.lock);
		if (rounds % 4 == 0)
			sleep_ms(1);
	}
	stop = true;
	pthread_join(r.thread, NULL);
	print_message("%s: %u rounds, %lu calls, %lu copies\n", blocker_name, rounds, r.calls,
		mini.copies);
	assert_true(r.calls > 0);
	assert_int_equal(r.failed, 0);
	assert_true(mini.copies > 0);
}

static void aliases_are_coherent(void)
{
	struct mmu_window *other;
	struct pfn frame, to;

	if (!(mini.mmu->caps & MMU_ALIAS))
		return;
	mini_fill(&mini, 0, 1, 0, MMU_WRITE);
	frame = mini_pfn(&mini, 0);
	assert_int_equal(
		mini.mmu->ops->window_open(mini.mmu, PMD_SIZE, PMD_SIZE, NULL, &mini, &other), 0);
	assert_int_equal(mini.mmu->ops->map(mini.mmu, other->start, frame, 1, MMU_WRITE), 0);
	*(volatile uint8_t *)other->start = 77;
	assert_int_equal(*mini_byte(&mini, 0), 77);
	assert_int_equal(mini.mmu->ops->block(mini.mmu, other->start, frame, 1, true), 0);
	assert_int_equal(mini_block(&mini, 0, 1, true), 0);
	to = mini_frames(&mini, 1, 1);
	memcpy(mini.mmu->ops->peek(mini.mmu, to), mini.mmu->ops->peek(mini.mmu, frame), PAGE_SIZE);
	assert_int_equal(mini.mmu->ops->map(mini.mmu, other->start, to, 1, MMU_WRITE), 0);
	assert_int_equal(mini_finish(&mini, 0, 1, to), 0);
	*mini_byte(&mini, 0) = 78;
	assert_int_equal(*(volatile uint8_t *)other->start, 78);
	mini.mmu->ops->window_close(mini.mmu, other);
}

#define ALL_TESTS(X)                                                                               \
	X(first_touch)                                                                             \
	X(map_move_clear)                                                                          \
	X(unblock_restores)                                                                        \
	X(unblock_around_a_gap)                                                                    \
	X(maps_without_a_fault)                                                                        \
	X(moves_under_writers)                                                                     \
	X(read_only_is_copied_on_write)                                                            \
	X(protect_back_and_forth)                                                                  \
	X(refused_and_broken)                                                                      \
	X(a_late_message_hurts_nobody)                                                             \
	X(foreign_faults_reach_the_program)                                                        \
	X(handler_that_touches_a_moving_page)                                                      \
	X(read_into_untouched)                                                                     \
	X(recv_into_moving)                                                                        \
	X(read_only_has_no_gap)                                                                    \
	X(aliases_are_coherent)

MINI_MAIN(ALL_TESTS)
