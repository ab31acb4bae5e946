// SPDX-License-Identifier: MIT
// A driver's own pages move while its users go on using what is on them (store.c).
//
//	driver [OBJECTS]
//
// Fills a store on node 0, then two threads read and write objects by number while the pages travel
// over all nodes. Every object must hold what was last written to it.
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES 96
#define NODES 3
#define ROUNDS 30
#define OBJECTS_MAX 100000000

static struct store *store;
static long objects = 20000;
static long *numbers;
static atomic_bool done;
static atomic_ulong checked, lost;

static void fill(unsigned char *bytes, long i, unsigned round)
{
	for (unsigned b = 0; b < BYTES; b++)
		bytes[b] = (unsigned char)((unsigned long)i * 31 + round * 7 + b);
}

// Each thread has its own half of the objects.
static void *user(void *arg)
{
	unsigned char want[BYTES], found[BYTES];
	long half = (long)(intptr_t)arg;

	for (unsigned round = 0; !atomic_load(&done); round++) {
		for (long i = half; i < objects && !atomic_load(&done); i += 2) {
			unsigned last = (unsigned)(round ? round - 1 : 0);

			fill(want, i, last);
			if (!store_read(store, numbers[i], found) || memcmp(want, found, BYTES))
				atomic_fetch_add(&lost, 1);
			fill(want, i, round);
			store_write(store, numbers[i], want);
			atomic_fetch_add(&checked, 1);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct gw_machine_config config = {.size = sizeof config, .nr_nodes = NODES};
	struct gw_machine *machine;
	unsigned char bytes[BYTES];
	unsigned long moved = 0;
	pthread_t thread[2];
	long stayed = 0, all_stayed = 0;
	unsigned long pages;
	char *end = "";

	if (argc > 1)
		objects = strtol(argv[1], &end, 10);
	if (argc > 2 || *end || objects < 1 || objects > OBJECTS_MAX) {
		fprintf(stderr, "usage: driver [OBJECTS]\n");
		return 2;
	}
	numbers = calloc((size_t)objects + 1, sizeof *numbers);
	if (!numbers || gw_machine_create(&config, &machine) ||
		store_create(machine, BYTES, &store)) {
		fprintf(stderr, "driver: cannot start: %s\n", gw_machine_error());
		return 2;
	}
	for (long i = 0; i < objects; i++) {
		fill(bytes, i, 0);
		numbers[i] = store_add(store, 0, bytes);
		if (numbers[i] < 0) {
			fprintf(stderr, "driver: no room for object %ld\n", i);
			return 2;
		}
	}
	pages = store_pages_on(store, 0);
	printf("%ld objects of %d bytes on %lu pages of node 0\n", objects, BYTES, pages);
	for (long t = 0; t < 2; t++)
		if (pthread_create(&thread[t], NULL, user, (void *)(intptr_t)t))
			return 2;
	for (unsigned round = 0; round < ROUNDS && stayed >= 0; round++) {
		unsigned from = round % NODES, to = (round + 1) % NODES;

		stayed = store_move(store, from, to);
		all_stayed += stayed;
		moved += store_pages_on(store, to);
	}
	atomic_store(&done, true);
	for (int t = 0; t < 2; t++)
		pthread_join(thread[t], NULL);
	printf("%lu pages moved in %d rounds while %lu objects were checked; %lu lost\n", moved,
		ROUNDS, atomic_load(&checked), atomic_load(&lost));
	for (unsigned node = 0; node < NODES; node++)
		printf("  node %u: %lu pages\n", node, store_pages_on(store, node));
	if (!all_stayed && store_pages_on(store, ROUNDS % NODES) != pages) {
		fprintf(stderr, "driver: pages were left behind\n");
		return 1;
	}
	store_destroy(store);
	gw_machine_check(machine);
	gw_machine_destroy(machine);
	free(numbers);
	return stayed < 0 || atomic_load(&lost) ? 1 : 0;
}
