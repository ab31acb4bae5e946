// SPDX-License-Identifier: MIT
// The store of store.h, and what its three callbacks have to do:
//
//	isolate_page	agree, and from then on neither free the page nor put new objects on it
//	migrate_page	copy the bytes, and point the slab at the new page: objects are found by number,
//			through the slab, so that is all that refers to it
//	putback_page	the page stays: use it again
//
// One mutex guards everything of the store. The engine calls back with its page lock held, so the
// store never takes a page lock, nor calls anything that moves or frees a page, under its mutex.
#include "store.h"

#include <godwit/movable.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX GW_PAGE_SIZE

struct slab {
	struct gw_page *page; // NULL: no objects, no page
	unsigned used;
	bool isolated;
	unsigned char taken[SLOTS_MAX / 8]; // a bit for each slot
};

struct store {
	pthread_mutex_t lock;
	struct gw_machine *machine;
	struct gw_driver *driver;
	unsigned bytes, slots; // of an object; on a page
	struct slab **slabs;
	size_t count;
};

// ---- The callbacks ------------------------------------------------------------------------------

static struct slab *slab_of(struct store *store, const struct gw_page *page)
{
	return store->slabs[gw_page_private(page)];
}

static bool isolate_page(struct gw_page *page, enum gw_migrate_mode mode, void *owner)
{
	struct store *store = owner;
	struct slab *slab;
	bool agreed;

	(void)mode;
	pthread_mutex_lock(&store->lock);
	slab = slab_of(store, page);
	agreed = slab->page == page && slab->used && !slab->isolated;
	if (agreed)
		slab->isolated = true;
	pthread_mutex_unlock(&store->lock);
	return agreed;
}

static int migrate_page(struct gw_page *dst, struct gw_page *src, enum gw_migrate_mode mode,
	void *owner)
{
	struct store *store = owner;
	struct slab *slab;

	(void)mode;
	pthread_mutex_lock(&store->lock);
	slab = slab_of(store, src);
	memcpy(gw_page_bytes(dst), gw_page_bytes(src), GW_PAGE_SIZE);
	slab->page = dst;
	slab->isolated = false;
	pthread_mutex_unlock(&store->lock);
	return 0;
}

static void putback_page(struct gw_page *page, void *owner)
{
	struct store *store = owner;

	pthread_mutex_lock(&store->lock);
	slab_of(store, page)->isolated = false;
	pthread_mutex_unlock(&store->lock);
}

static const struct gw_movable_operations operations = {isolate_page, migrate_page, putback_page};

// ---- Objects ------------------------------------------------------------------------------------

int store_create(struct gw_machine *machine, unsigned bytes, struct store **ret_store)
{
	struct store *store;
	int err;

	if (!bytes || bytes > GW_PAGE_SIZE)
		return -EINVAL;
	store = calloc(1, sizeof *store);
	if (!store)
		return -ENOMEM;
	pthread_mutex_init(&store->lock, NULL);
	store->machine = machine;
	store->bytes = bytes;
	store->slots = GW_PAGE_SIZE / bytes;
	err = gw_driver_register(machine, "store", &operations, store, &store->driver);
	if (err) {
		free(store);
		return err;
	}
	*ret_store = store;
	return 0;
}

void store_destroy(struct store *store)
{
	for (size_t i = 0; i < store->count; i++) {
		if (store->slabs[i]->page)
			gw_page_free(store->slabs[i]->page);
		free(store->slabs[i]);
	}
	gw_driver_unregister(store->driver);
	pthread_mutex_destroy(&store->lock);
	free(store->slabs);
	free(store);
}

static int free_slot(const struct store *store, const struct slab *slab)
{
	for (unsigned i = 0; i < store->slots; i++)
		if (!(slab->taken[i / 8] & 1u << i % 8))
			return (int)i;
	return -1;
}

static char *object_at(const struct store *store, const struct slab *slab, unsigned slot)
{
	return (char *)gw_page_bytes(slab->page) + (size_t)slot * store->bytes;
}

// A slab with a free slot on the node, or a new one. Lock held.
static long find_slab(struct store *store, int node)
{
	struct slab **slabs;
	struct slab *slab;
	int err;

	for (size_t i = 0; i < store->count; i++) {
		slab = store->slabs[i];
		if (slab->page && !slab->isolated && slab->used < store->slots &&
			(node < 0 || gw_page_node(slab->page) == node))
			return (long)i;
	}
	slabs = realloc(store->slabs, (store->count + 1) * sizeof(*slabs));
	if (!slabs)
		return -ENOMEM;
	store->slabs = slabs;
	slab = calloc(1, sizeof *slab);
	if (!slab)
		return -ENOMEM;
	err = gw_page_alloc(store->driver, node, &slab->page);
	if (err) {
		free(slab);
		return err;
	}
	gw_page_set_private(slab->page, store->count);
	store->slabs[store->count] = slab;
	return (long)store->count++;
}

long store_add(struct store *store, int node, const void *bytes)
{
	long number, i;

	pthread_mutex_lock(&store->lock);
	number = i = find_slab(store, node);
	if (i >= 0) {
		struct slab *slab = store->slabs[i];
		unsigned slot = (unsigned)free_slot(store, slab);

		memcpy(object_at(store, slab, slot), bytes, store->bytes);
		slab->taken[slot / 8] |= (unsigned char)(1u << slot % 8);
		slab->used++;
		number = i * (long)store->slots + slot;
	}
	pthread_mutex_unlock(&store->lock);
	return number;
}

// The object's slab and slot, when there is such an object. Lock held.
static struct slab *find(struct store *store, long number, unsigned *ret_slot)
{
	size_t i = (size_t)number / store->slots;
	unsigned slot = (unsigned)((size_t)number % store->slots);

	if (number < 0 || i >= store->count ||
		!(store->slabs[i]->taken[slot / 8] & 1u << slot % 8))
		return NULL;
	*ret_slot = slot;
	return store->slabs[i];
}

void store_remove(struct store *store, long number)
{
	struct slab *slab;
	unsigned slot;

	pthread_mutex_lock(&store->lock);
	slab = find(store, number, &slot);
	if (slab) {
		// An empty page is kept for the next object: it may be isolated just now.
		slab->taken[slot / 8] &= (unsigned char)~(1u << slot % 8);
		slab->used--;
	}
	pthread_mutex_unlock(&store->lock);
}

bool store_read(struct store *store, long number, void *bytes)
{
	struct slab *slab;
	unsigned slot;

	pthread_mutex_lock(&store->lock);
	slab = find(store, number, &slot);
	if (slab)
		memcpy(bytes, object_at(store, slab, slot), store->bytes);
	pthread_mutex_unlock(&store->lock);
	return slab;
}

bool store_write(struct store *store, long number, const void *bytes)
{
	struct slab *slab;
	unsigned slot;

	pthread_mutex_lock(&store->lock);
	slab = find(store, number, &slot);
	if (slab)
		memcpy(object_at(store, slab, slot), bytes, store->bytes);
	pthread_mutex_unlock(&store->lock);
	return slab;
}

long store_move(struct store *store, unsigned from, unsigned to)
{
	return gw_driver_migrate(store->driver, from, to);
}

unsigned long store_pages_on(struct store *store, unsigned node)
{
	unsigned long pages = 0;

	pthread_mutex_lock(&store->lock);
	for (size_t i = 0; i < store->count; i++)
		pages += store->slabs[i]->page &&
			 gw_page_node(store->slabs[i]->page) == (int)node;
	pthread_mutex_unlock(&store->lock);
	return pages;
}
