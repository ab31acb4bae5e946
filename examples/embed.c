// SPDX-License-Identifier: MIT
// A program on the library: sort and hash a file whose pages never stay where they are.
//
//	embed [--plain] [--show] [--nodes N] [--threads N] INPUT OUTPUT
//
// It reads INPUT into memory with read(2), sorts its 16-byte records with several threads, hashes
// the result, and writes it to OUTPUT with write(2). Without --plain the memory is Godwit's, and one
// more thread moves every page from node to node for as long as the others work. With --plain it is
// malloc's. The two must give the same bytes; the demo compares them. --show prints, as it runs, on
// which nodes the pages are.
//
// What a program has to do for this: make a machine and a task, get memory from gw_alloc() instead
// of malloc(), attach its threads, and, where this host gives only the signal blocker, pin what a
// system call is about to fill (gw_machine_syscall_safe() tells).
#include <godwit/machine.h>
#include <godwit/migrate.h>
#include <godwit/space.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define RECORD 16
#define THREADS_MAX 16
#define PAGE GW_PAGE_SIZE
#define MOVE_AT_ONCE 512

struct job {
	bool plain, show;
	unsigned nodes, threads;
	const char *input, *output;
	size_t bytes; // of the file
	char *data, *sorted;
	struct gw_machine *machine;
	struct gw_task *task;
	atomic_bool done;
	atomic_ulong moved, calls; // the mover's
};

struct slice {
	struct job *job;
	char *start;
	size_t records;
	pthread_t thread;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "embed: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

// ---- Memory: the only part that differs ---------------------------------------------------------

static void memory_open(struct job *job)
{
	struct gw_machine_config config = {.size = sizeof config, .nr_nodes = job->nodes};
	uint64_t bytes[GW_MAX_NODES];
	int err;

	if (job->plain)
		return;
	for (unsigned i = 0; i < job->nodes; i++) // each node could hold both buffers
		bytes[i] = ((2 * job->bytes >> 21) + 32) << 21;
	config.node_bytes = bytes;
	err = gw_machine_create(&config, &job->machine);
	if (!err)
		err = gw_task_create(job->machine, NULL, &job->task);
	if (!err)
		err = gw_task_attach(job->task);
	if (err)
		die(gw_machine_error(), err);
}

static char *memory_get(struct job *job, size_t bytes)
{
	void *p = NULL;
	int err;

	if (job->plain) {
		p = malloc(bytes);
		return p ? p : (die("malloc", ENOMEM), NULL);
	}
	err = gw_alloc(job->task, bytes, &p);
	if (err)
		die("gw_alloc", err);
	return p;
}

// Around a system call that writes to or reads from managed memory.
static struct gw_pin *io_begin(struct job *job, char *p, size_t bytes)
{
	struct gw_pin *pin = NULL;
	int err;

	if (job->plain || gw_machine_syscall_safe(job->machine))
		return NULL;
	err = gw_pin(job->task, (uint64_t)(uintptr_t)p, bytes, "embed file I/O", &pin);
	if (err)
		die("gw_pin", err);
	return pin;
}

static void io_end(struct gw_pin *pin)
{
	if (pin)
		gw_unpin(pin);
}

// The pages' life: from node to node, all the time.
static void *mover(void *arg)
{
	static uint64_t pages[MOVE_AT_ONCE];
	static int nodes[MOVE_AT_ONCE], status[MOVE_AT_ONCE];
	struct job *job = arg;
	char *buffers[2] = {job->data, job->sorted};

	for (unsigned to = 1; !atomic_load(&job->done); to = (to + 1) % job->nodes) {
		for (size_t at = 0; at < 2 * job->bytes && !atomic_load(&job->done);) {
			char *buffer = buffers[at >= job->bytes];
			size_t offset = at % job->bytes;
			unsigned long n = 0;
			long stayed;

			for (; n < MOVE_AT_ONCE && offset < job->bytes; offset += PAGE, n++) {
				pages[n] = (uint64_t)(uintptr_t)(buffer + offset);
				nodes[n] = (int)to;
				status[n] = -EAGAIN;
			}
			at += n * PAGE;
			stayed = gw_move_pages(job->task, 0, n, pages, nodes, status,
				GW_MPOL_MF_MOVE);
			atomic_fetch_add(&job->calls, 1);
			for (unsigned long i = 0; i < n && stayed >= 0; i++)
				if (status[i] == (int)to)
					atomic_fetch_add(&job->moved, 1);
		}
	}
	return NULL;
}

// ---- Looking: where the pages are right now ------------------------------------------------------

static void count_nodes(struct job *job, const char *buffer, unsigned long *pages_on)
{
	static uint64_t pages[MOVE_AT_ONCE];
	static int status[MOVE_AT_ONCE];

	for (size_t offset = 0; offset < job->bytes;) {
		unsigned long n = 0;

		for (; n < MOVE_AT_ONCE && offset < job->bytes; offset += PAGE, n++)
			pages[n] = (uint64_t)(uintptr_t)(buffer + offset);
		if (gw_move_pages(job->task, 0, n, pages, NULL, status, 0))
			return;
		for (unsigned long i = 0; i < n; i++)
			if (status[i] >= 0)
				pages_on[status[i]]++;
	}
}

#define BAR_MAX 12

// How wide a node's bar can be, so that a line fits the terminal (80 columns where there is none).
static unsigned bar_width(const struct job *job)
{
	struct winsize size = {0};
	unsigned columns = 80, room;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		columns = size.ws_col;
	room = columns > 19 ? (columns - 19) / job->nodes : 0;
	if (room < 9)
		return 3;
	return room - 6 < BAR_MAX ? room - 6 : BAR_MAX;
}

// Whether the terminal's language has block characters.
static bool has_blocks(void)
{
	const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (unsigned i = 0; i < 3; i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
	}
	return false;
}

static void print_bar(unsigned width, bool blocks, unsigned long pages, unsigned long all)
{
	unsigned filled = (unsigned)((pages * width + all - 1) / all);

	for (unsigned i = 0; i < width; i++)
		fputs(i < filled ? (blocks ? "\u2588" : "#") : (blocks ? "\u00b7" : "."), stdout);
	printf(" %4lu ", pages * PAGE >> 20);
}

static void print_where(struct job *job, double seconds)
{
	unsigned long pages_on[GW_MAX_NODES] = {0};
	unsigned long all = 2 * ((job->bytes + PAGE - 1) / PAGE);
	unsigned width = bar_width(job);
	bool blocks = has_blocks();

	count_nodes(job, job->data, pages_on);
	count_nodes(job, job->sorted, pages_on);
	printf("%6.1f s  ", seconds);
	for (unsigned node = 0; node < job->nodes; node++)
		print_bar(width, blocks, pages_on[node], all);
	printf("%9lu\n", atomic_load(&job->moved));
	fflush(stdout);
}

static double seconds_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

static void *watcher(void *arg)
{
	struct job *job = arg;
	struct timespec from;

	clock_gettime(CLOCK_MONOTONIC, &from);
	printf("MiB on each node, and pages moved so far:\n%8s  ", "time");
	for (unsigned node = 0; node < job->nodes; node++) {
		char title[32];

		snprintf(title, sizeof title, "node %u", node);
		printf("%-*s", (int)bar_width(job) + 6, title);
	}
	printf("%9s\n", "moves");
	// Twice a second, later less often: a long run stays readable.
	for (unsigned tick = 0, next = 0, rows = 0; !atomic_load(&job->done); tick++) {
		if (tick == next) {
			print_where(job, seconds_since(&from));
			next += 5u << rows++ / 8;
		}
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
	print_where(job, seconds_since(&from));
	return NULL;
}

// ---- The work: the same for both ----------------------------------------------------------------

static void read_input(struct job *job)
{
	int fd = open(job->input, O_RDONLY);
	size_t done = 0;

	if (fd < 0)
		die(job->input, errno);
	while (done < job->bytes) {
		size_t want = job->bytes - done < (1u << 20) ? job->bytes - done : 1u << 20;
		struct gw_pin *pin = io_begin(job, job->data + done, want);
		ssize_t got = read(fd, job->data + done, want);

		if (got <= 0)
			die("read", got ? errno : EIO);
		io_end(pin);
		done += (size_t)got;
	}
	close(fd);
}

static void write_output(struct job *job)
{
	int fd = open(job->output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	size_t done = 0;

	if (fd < 0)
		die(job->output, errno);
	while (done < job->bytes) {
		size_t want = job->bytes - done < (1u << 20) ? job->bytes - done : 1u << 20;
		struct gw_pin *pin = io_begin(job, job->sorted + done, want);
		ssize_t put = write(fd, job->sorted + done, want);

		if (put <= 0)
			die("write", errno);
		io_end(pin);
		done += (size_t)put;
	}
	if (close(fd))
		die("close", errno);
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, RECORD);
}

// Heapsort: in place, so that every access is to memory that may be moving.
static void sift(char *base, size_t root, size_t n)
{
	char tmp[RECORD];
	size_t child;

	while ((child = 2 * root + 1) < n) {
		if (child + 1 < n &&
			by_bytes(base + child * RECORD, base + (child + 1) * RECORD) < 0)
			child++;
		if (by_bytes(base + root * RECORD, base + child * RECORD) >= 0)
			return;
		memcpy(tmp, base + root * RECORD, RECORD);
		memcpy(base + root * RECORD, base + child * RECORD, RECORD);
		memcpy(base + child * RECORD, tmp, RECORD);
		root = child;
	}
}

static void *sort_slice(void *arg)
{
	struct slice *slice = arg;
	struct job *job = slice->job;
	char *base = slice->start, tmp[RECORD];
	int err = job->plain ? 0 : gw_task_attach(job->task);

	if (err)
		die("gw_task_attach", err);
	for (size_t i = slice->records / 2; i-- > 0;)
		sift(base, i, slice->records);
	for (size_t n = slice->records; n-- > 1;) {
		memcpy(tmp, base, RECORD);
		memcpy(base, base + n * RECORD, RECORD);
		memcpy(base + n * RECORD, tmp, RECORD);
		sift(base, 0, n);
	}
	if (!job->plain && gw_task_attach(NULL))
		die("gw_task_attach", EINVAL);
	return NULL;
}

static void merge(struct job *job, struct slice *slice)
{
	size_t at[THREADS_MAX] = {0}, records = job->bytes / RECORD;

	for (size_t i = 0; i < records; i++) {
		unsigned best = job->threads;

		for (unsigned t = 0; t < job->threads; t++) {
			if (at[t] == slice[t].records)
				continue;
			if (best == job->threads || by_bytes(slice[t].start + at[t] * RECORD,
							    slice[best].start + at[best] * RECORD) < 0)
				best = t;
		}
		memcpy(job->sorted + i * RECORD, slice[best].start + at[best]++ * RECORD, RECORD);
	}
	// What does not fill a record stays at the end.
	memcpy(job->sorted + records * RECORD, job->data + records * RECORD, job->bytes % RECORD);
}

static void sort(struct job *job)
{
	size_t records = job->bytes / RECORD, first = 0;
	struct slice slice[THREADS_MAX];

	for (unsigned t = 0; t < job->threads; t++) {
		size_t end = records * (t + 1) / job->threads;

		slice[t] = (struct slice){.job = job, .start = job->data + first * RECORD,
			.records = end - first};
		first = end;
		if (pthread_create(&slice[t].thread, NULL, sort_slice, &slice[t]))
			die("pthread_create", EAGAIN);
	}
	for (unsigned t = 0; t < job->threads; t++)
		pthread_join(slice[t].thread, NULL);
	merge(job, slice);
}

// ---- Main ---------------------------------------------------------------------------------------

static void usage(void)
{
	fprintf(stderr, "usage: embed [--plain] [--show] [--nodes N] [--threads N] INPUT OUTPUT\n");
	exit(2);
}

static void options(int argc, char **argv, struct job *job)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--plain"))
			job->plain = true;
		else if (!strcmp(argv[i], "--show"))
			job->show = true;
		else if (!strcmp(argv[i], "--nodes") && i + 1 < argc)
			job->nodes = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
			job->threads = (unsigned)atoi(argv[++i]);
		else
			usage();
	}
	if (argc - i != 2 || job->nodes < 2 || job->nodes > GW_MAX_NODES || !job->threads ||
		job->threads > THREADS_MAX)
		usage();
	job->input = argv[i];
	job->output = argv[i + 1];
}

static void report(struct job *job, double seconds)
{
	struct gw_waits waits;

	printf("%016llx  %.1f MiB in %.2f s\n",
		(unsigned long long)XXH3_64bits(job->sorted, job->bytes),
		(double)job->bytes / 1048576.0, seconds);
	if (job->plain)
		return;
	gw_migration_waits(job->machine, &waits);
	printf("meanwhile %lu page moves (%.1f GiB) between %u nodes in %lu calls,\n"
	       "with the %s blocker\n",
		atomic_load(&job->moved), (double)atomic_load(&job->moved) * PAGE / (1 << 30),
		job->nodes, atomic_load(&job->calls),
		gw_machine_blocker(job->machine));
	printf("accesses that met a moving page: %llu;\n"
	       "they waited p50 %.0f us, p99 %.0f us, at most %.0f us\n",
		(unsigned long long)waits.count, (double)waits.p50_ns / 1e3,
		(double)waits.p99_ns / 1e3, (double)waits.max_ns / 1e3);
}

int main(int argc, char **argv)
{
	struct job job = {.nodes = 4, .threads = 2};
	struct timespec from;
	pthread_t thread, watch;
	double seconds;
	struct stat st;

	options(argc, argv, &job);
	if (stat(job.input, &st))
		die(job.input, errno);
	if (!S_ISREG(st.st_mode) || !st.st_size) {
		fprintf(stderr, "embed: %s is %s; expected a file with something in it\n", job.input,
			S_ISREG(st.st_mode) ? "empty" : "not an ordinary file");
		exit(1);
	}
	job.bytes = (size_t)st.st_size;
	memory_open(&job);
	job.data = memory_get(&job, job.bytes);
	job.sorted = memory_get(&job, job.bytes);
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (!job.plain && pthread_create(&thread, NULL, mover, &job))
		die("pthread_create", EAGAIN);
	if (!job.plain && job.show && pthread_create(&watch, NULL, watcher, &job))
		die("pthread_create", EAGAIN);
	read_input(&job);
	sort(&job);
	write_output(&job);
	seconds = seconds_since(&from);
	atomic_store(&job.done, true);
	if (!job.plain && job.show)
		pthread_join(watch, NULL);
	if (!job.plain)
		pthread_join(thread, NULL);
	report(&job, seconds);
	if (!job.plain) {
		gw_machine_check(job.machine);
		gw_task_exit(job.task);
		gw_machine_destroy(job.machine);
	}
	return 0;
}
