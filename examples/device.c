// SPDX-License-Identifier: MIT
// A device with a translation cache of its own, coherent with memory that moves.
//
//	device [ROUNDS]
//
// The device adds 1 to 64-bit counters in the memory of a task, by addresses of that task and
// through translations that it keeps (godwit/notifier.h). Meanwhile the memory is moved from node
// to node, collapsed into huge pages, split, and forked; and the program adds to counters of its
// own in the same pages. In the end every counter must hold what was added to it: an addition
// through a stale translation would be missing. Each round begins when the device is at work: a run
// in which it had no translation to lose says nothing, and fails.
#include <godwit/huge.h>
#include <godwit/migrate.h>
#include <godwit/notifier.h>
#include <godwit/space.h>
#include <godwit/stats.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096ul
#define BYTES (4ul << 20)
#define PAGES (BYTES / PAGE)
#define SLOTS 256 // of the cache: fewer than there are pages, so that it is filled again and again
#define COLLAPSE 25
#define STAYS 5000 // additions, until the device is taken away
#define ADDS 500   // at least, of the device in each round

#define must(call)                                                                                 \
	do {                                                                                       \
		long must_ret = (call);                                                            \
		if (must_ret < 0) {                                                                \
			fprintf(stderr, "%s: %s\n", #call, strerror((int)-must_ret));              \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

// ---- The device

struct slot {
	uint64_t page; // address; 0: empty
	char *bytes;
};

struct device {
	struct gw_task *task;
	pthread_mutex_t lock; // everything below
	struct slot cache[SLOTS];
	unsigned under_way;	// invalidations between start and end
	unsigned long happened; // invalidations that have ended
	unsigned long hits, misses, dropped, again, plugged, unpaired;
	unsigned long by_reason[8];
};

static struct slot *slot_of(struct device *d, uint64_t page)
{
	return &d->cache[page / PAGE % SLOTS];
}

// When this returns nobody uses a translation of the range: uses happen under the lock.
static void invalidate_start(uint64_t start, uint64_t end, enum gw_invalidate_reason reason,
	void *arg)
{
	struct device *d = arg;

	pthread_mutex_lock(&d->lock);
	d->under_way++;
	d->by_reason[reason]++;
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &d->cache[i];

		if (s->page && s->page + PAGE > start && s->page < end) {
			s->page = 0;
			d->dropped++;
		}
	}
	pthread_mutex_unlock(&d->lock);
}

static void invalidate_end(uint64_t start, uint64_t end, enum gw_invalidate_reason reason,
	void *arg)
{
	struct device *d = arg;

	(void)start;
	(void)end;
	(void)reason;
	pthread_mutex_lock(&d->lock);
	if (d->under_way)
		d->under_way--;
	else
		d->unpaired++;
	d->happened++;
	pthread_mutex_unlock(&d->lock);
}

// The page's bytes, with the lock held.
static char *translated(struct device *d, uint64_t page)
{
	pthread_mutex_lock(&d->lock);
	while (slot_of(d, page)->page != page) {
		unsigned long before = d->happened;
		uint64_t length;
		void *bytes;

		d->misses++;
		pthread_mutex_unlock(&d->lock);
		must(gw_translate(d->task, page, 1, &bytes, &length));
		pthread_mutex_lock(&d->lock);
		if (d->under_way || d->happened != before) {
			d->again++;
			continue; // it may be stale already
		}
		*slot_of(d, page) = (struct slot){page, bytes};
		return bytes;
	}
	d->hits++;
	return slot_of(d, page)->bytes;
}

static void device_add(struct device *d, uint64_t address)
{
	char *bytes = translated(d, address & ~(PAGE - 1));

	(*(uint64_t *)(bytes + address % PAGE))++;
	pthread_mutex_unlock(&d->lock);
}

static const struct gw_notifier_ops ops = {invalidate_start, invalidate_end};

// No lock is held here that a callback takes: both calls wait for callbacks.
static struct gw_notifier *plug_in(struct device *d)
{
	struct gw_notifier *notifier;

	d->plugged++;
	must(gw_notifier_register(d->task, &ops, d, &notifier));
	return notifier;
}

static void take_away(struct device *d, struct gw_notifier *notifier)
{
	gw_notifier_unregister(notifier);
	pthread_mutex_lock(&d->lock); // the program looks on
	d->unpaired += d->under_way;
	d->under_way = 0;
	memset(d->cache, 0, sizeof d->cache);
	pthread_mutex_unlock(&d->lock);
}

// ---- The program

static struct device device = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct gw_task *task;
static char *memory;
static atomic_bool done;
static uint64_t device_added[PAGES], program_added[PAGES];

static void *device_main(void *arg)
{
	struct gw_notifier *notifier = plug_in(&device);
	uint64_t seed = 1;

	(void)arg;
	for (unsigned long n = 1; !atomic_load(&done); n++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		uint64_t page = seed >> 33 & (PAGES - 1);

		device_add(&device, (uint64_t)(uintptr_t)memory + page * PAGE);
		device_added[page]++;
		if (n % STAYS == 0) {
			take_away(&device, notifier);
			notifier = plug_in(&device);
		}
	}
	take_away(&device, notifier);
	return NULL;
}

static void *program_main(void *arg)
{
	uint64_t seed = 2;

	(void)arg;
	must(gw_task_attach(task));
	while (!atomic_load(&done)) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		uint64_t page = seed >> 33 & (PAGES - 1);

		(*(volatile uint64_t *)(memory + page * PAGE + 2048))++;
		program_added[page]++;
	}
	must(gw_task_attach(NULL));
	return NULL;
}

static void move(int node)
{
	static uint64_t pages[PAGES];
	static int nodes[PAGES], status[PAGES];

	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = (uint64_t)(uintptr_t)memory + i * PAGE;
		nodes[i] = node;
	}
	must(gw_move_pages(task, 0, PAGES, pages, nodes, status, GW_MPOL_MF_MOVE_ALL));
}

static void split(struct gw_machine *machine)
{
	char text[80];

	snprintf(text, sizeof text, "%d,0x%lx,0x%lx", gw_task_pid(task),
		(unsigned long)(uintptr_t)memory, (unsigned long)(uintptr_t)memory + BYTES);
	must(gw_tunable_set(machine, "sys/kernel/debug/split_huge_pages", text));
}

static unsigned long additions(bool *ret_in_use)
{
	unsigned long n;

	*ret_in_use = false;
	pthread_mutex_lock(&device.lock);
	n = device.hits + device.misses - device.again;
	for (unsigned i = 0; i < SLOTS; i++)
		*ret_in_use |= device.cache[i].page != 0;
	pthread_mutex_unlock(&device.lock);
	return n;
}

// Its thread may not have run since the last round, or at all.
static void wait_for_device(void)
{
	bool in_use;
	unsigned long until = additions(&in_use) + ADDS;

	while (additions(&in_use) < until || !in_use)
		usleep(100);
}

static void torment(struct gw_machine *machine, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		struct gw_task *child;

		wait_for_device();
		// Somebody may be using a page just now: it is tried again in the next round.
		(void)!gw_advise(task, (uint64_t)(uintptr_t)memory, BYTES, COLLAPSE);
		move((int)(i + 1) % 2);
		if (i % 3 == 0)
			split(machine);
		if (i % 5 == 0) {
			must(gw_task_fork(task, &child));
			gw_task_exit(child);
		}
		move((int)i % 2);
	}
}

static unsigned long lost(void)
{
	unsigned long n = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t *counter = (uint64_t *)(memory + i * PAGE);

		n += counter[0] != device_added[i];
		n += counter[2048 / sizeof *counter] != program_added[i];
	}
	return n;
}

static long rounds_of(int argc, char **argv)
{
	char *end = NULL;
	long rounds = argc > 1 ? strtol(argv[1], &end, 10) : 20;

	if (argc > 2 || (end && *end) || rounds < 1 || rounds > 1000000) {
		fprintf(stderr, "usage: device [ROUNDS]\n");
		exit(2);
	}
	return rounds;
}

int main(int argc, char **argv)
{
	const unsigned rounds = (unsigned)rounds_of(argc, argv);
	struct gw_machine_config config = {.size = sizeof config, .nr_nodes = 2};
	struct gw_machine *machine;
	pthread_t thread[2];
	unsigned long wrong;

	must(gw_machine_create(&config, &machine));
	must(gw_task_create(machine, NULL, &task));
	must(gw_task_attach(task));
	must(gw_alloc(task, BYTES, (void **)&memory));
	device.task = task;
	pthread_create(&thread[0], NULL, device_main, NULL);
	pthread_create(&thread[1], NULL, program_main, NULL);
	torment(machine, rounds);
	atomic_store(&done, true);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	wrong = lost();
	printf("device: %lu hits, %lu misses, %lu of them in vain, %lu translations dropped\n",
		device.hits, device.misses, device.again, device.dropped);
	for (unsigned i = 0; i < 8; i++)
		if (device.by_reason[i])
			printf("  %-14s %lu invalidations\n",
				gw_invalidate_reason_text((enum gw_invalidate_reason)i),
				device.by_reason[i]);
	printf("plugged in %lu times; %lu invalidations had no start or no end\n", device.plugged,
		device.unpaired);
	printf("%lu counters are wrong\n", wrong);
	must(gw_task_attach(NULL));
	gw_task_exit(task);
	gw_machine_destroy(machine);
	if (!device.hits || !device.dropped) {
		fprintf(stderr, "device: nothing happened to it\n");
		return 1;
	}
	return wrong || device.unpaired;
}
