// SPDX-License-Identifier: MIT
// include/godwit/movable.h: drivers with pages of their own that can be moved.
//
// Each page has a small record (struct page_record) that its folio's mapping leads to: the methods,
// the driver, the driver's word. The record goes along when the page moves; the folio that is left
// behind is cleared, which tells migration that its owner has let go of it. While migrate_page()
// runs, both folios lead to the record, and each has a word of its own there: what the driver does
// to the target's does not matter if it then gives up.
//
// gw_driver_migrate() finds the driver's pages by looking at every frame of the node, as compaction
// does: there is no list, since the links of an isolated page are migration's.
#include <godwit/movable.h>

#include "base/assert.h"
#include "base/meta.h"
#include "engine/engine.h"
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "phys/alloc.h"

#include <errno.h>
#include <stdio.h>

struct gw_driver {
	struct list_head node; // in machine->drivers
	struct gw_machine *machine;
	const struct gw_movable_operations *ops;
	void *owner;
	_Atomic unsigned long nr_pages;
	char name[32];
};

struct page_record {
	struct movable_driver movable; // first: what the folio's mapping leads to
	struct gw_driver *driver;
	// The page and, while it moves, its target; in either order. The other place is stale.
	_Atomic(struct folio *) folio[2];
	_Atomic uint64_t private[2]; // of the folio at that place
};

static struct folio *folio_of(const struct gw_page *page)
{
	return (struct folio *)(uintptr_t)page;
}

static struct gw_page *page_of(struct folio *folio)
{
	return (struct gw_page *)folio;
}

static bool page_is_dead(const struct gw_page *page)
{
	return mm_is_dead(&container_of(folio_phys(folio_of(page)), struct gw_machine, phys)->mm);
}

static struct page_record *record_of(const struct folio *folio)
{
	struct movable_driver *movable = folio_movable_driver(folio);

	return movable ? container_of(movable, struct page_record, movable) : NULL;
}

static unsigned place_of(const struct page_record *record, const struct folio *folio)
{
	return atomic_load(&record->folio[1]) == folio;
}

static _Atomic uint64_t *word_of(const struct gw_page *page)
{
	struct folio *folio = folio_of(page);
	struct page_record *record = record_of(folio);

	return &record->private[place_of(record, folio)];
}

// ---- The engine's methods: the user's, and the record's move ------------------------------------

static bool isolate(struct folio *folio, enum migrate_mode mode, void *arg)
{
	struct page_record *record = arg;
	struct gw_driver *driver = record->driver;

	return driver->ops->isolate_page(page_of(folio), (enum gw_migrate_mode)mode, driver->owner);
}

static int migrate(struct folio *dst, struct folio *src, enum migrate_mode mode, void *arg)
{
	struct page_record *record = arg;
	struct gw_driver *driver = record->driver;
	unsigned from = place_of(record, src);
	int err;

	atomic_store(&record->private[!from], atomic_load(&record->private[from]));
	atomic_store(&record->folio[!from], dst);
	folio_set_movable(dst, &record->movable);
	err = driver->ops->migrate_page(page_of(dst), page_of(src), (enum gw_migrate_mode)mode,
		driver->owner);
	if (err) {
		folio_clear_mapping(dst); // no page of a driver, not even a former one
		return err;
	}
	folio_get(dst);
	folio_clear_movable(src);
	folio_put(src); // the owner's; migration still has its own
	return 0;
}

static void putback(struct folio *folio, void *arg)
{
	struct page_record *record = arg;

	record->driver->ops->putback_page(page_of(folio), record->driver->owner);
}

static const struct movable_ops record_ops = {isolate, migrate, putback};

// ---- The doors ----------------------------------------------------------------------------------

int gw_driver_register(struct gw_machine *machine, const char *name,
	const struct gw_movable_operations *ops, void *owner, struct gw_driver **ret_driver)
{
	struct gw_driver *driver;

	if (machine_refused(machine))
		return machine_refused(machine);
	if (!ret_driver || !ops || !ops->isolate_page || !ops->migrate_page || !ops->putback_page)
		return -EINVAL;
	driver = meta_new(struct gw_driver);
	if (!driver)
		return -ENOMEM;
	driver->machine = machine;
	driver->ops = ops;
	driver->owner = owner;
	snprintf(driver->name, sizeof driver->name, "%s", name ? name : "");
	mutex_lock(&machine->fill_lock);
	list_add_tail(&driver->node, &machine->drivers);
	mutex_unlock(&machine->fill_lock);
	*ret_driver = driver;
	return 0;
}

void gw_driver_unregister(struct gw_driver *driver)
{
	if (!driver || machine_is_dead(driver->machine))
		return;
	must_hold(!atomic_load(&driver->nr_pages), "driver '%s' still has %lu pages", driver->name,
		atomic_load(&driver->nr_pages));
	mutex_lock(&driver->machine->fill_lock);
	list_del(&driver->node);
	mutex_unlock(&driver->machine->fill_lock);
	meta_delete(driver);
}

int gw_page_alloc(struct gw_driver *driver, int node, struct gw_page **ret_page)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE | GFP_ZERO | (node < 0 ? 0 : GFP_THISNODE);
	struct page_record *record;
	struct folio *folio;

	if (!driver || !ret_page)
		return -EINVAL;
	if (machine_is_dead(driver->machine))
		return -EOWNERDEAD;
	if (node < -1 || node >= (int)driver->machine->phys.nr_nodes)
		return -EINVAL;
	record = meta_new(struct page_record);
	if (!record)
		return -ENOMEM;
	folio = folio_alloc(&driver->machine->phys, gfp, 0, node, NULL, 0);
	if (!folio) {
		meta_delete(record);
		return -ENOMEM;
	}
	record->movable.ops = record_ops;
	record->movable.arg = record;
	record->driver = driver;
	atomic_store(&record->folio[0], folio);
	folio_lock(folio);
	folio_set_movable(folio, &record->movable);
	folio_unlock(folio);
	atomic_fetch_add(&driver->nr_pages, 1);
	*ret_page = page_of(folio);
	return 0;
}

void gw_page_free(struct gw_page *page)
{
	struct folio *folio = folio_of(page);
	struct page_record *record;

	if (!page || page_is_dead(page))
		return;
	folio_lock(folio);
	record = record_of(folio);
	folio_clear_movable(folio);
	folio_unlock(folio);
	atomic_fetch_sub(&record->driver->nr_pages, 1);
	meta_delete(record);
	folio_put(folio);
}

void *gw_page_bytes(struct gw_page *page)
{
	if (!page || page_is_dead(page))
		return NULL;
	struct folio *folio = folio_of(page);
	struct mmu *mmu = container_of(folio_phys(folio), struct gw_machine, phys)->mmu;
	return mmu->ops->peek(mmu, folio_pfn(folio));
}

int gw_page_node(const struct gw_page *page)
{
	if (!page)
		return -EINVAL;
	if (page_is_dead(page))
		return -EOWNERDEAD;
	return (int)folio_nid(folio_of(page));
}

void gw_page_set_private(struct gw_page *page, uint64_t word)
{
	if (!page || page_is_dead(page))
		return;
	atomic_store(word_of(page), word);
}

uint64_t gw_page_private(const struct gw_page *page)
{
	if (!page || page_is_dead(page))
		return 0;
	return atomic_load(word_of(page));
}

void gw_page_lock(struct gw_page *page)
{
	if (!page || page_is_dead(page))
		return;
	folio_lock(folio_of(page));
}

void gw_page_unlock(struct gw_page *page)
{
	if (!page || page_is_dead(page))
		return;
	folio_unlock(folio_of(page));
}

// Whether the folio, to which a reference is held, is the driver's.
static bool is_page_of(struct folio *folio, const struct gw_driver *driver)
{
	struct page_record *record;
	bool is;

	if (!folio_test_movable_type(folio)) // a hint: most locks are not touched
		return false;
	folio_lock(folio); // the record is freed under it
	record = record_of(folio);
	is = record && record->movable.ops.isolate == isolate && record->driver == driver;
	folio_unlock(folio);
	return is;
}

// The driver's pages on a node, isolated, at most one batch at a time; and how many could not be.
static unsigned isolate_pages(struct gw_driver *driver, struct node *node, uint64_t *at,
	struct folio_list *list, long *refused)
{
	uint64_t end = node->start_pfn + node->nr_present;
	unsigned nr = 0;

	for (; *at < end && nr < PTRS_PER_TABLE; ++*at) {
		struct frame *frame = pfn_frame(pfn_of(*at));
		struct folio *folio;

		if (!folio_test_movable_type(frame_folio(frame)))
			continue;
		folio = folio_try_get_frame(frame);
		if (!folio)
			continue;
		if (is_page_of(folio, driver) && !movable_isolate(folio, MIGRATE_SYNC)) {
			folio_list_add_tail(list, folio);
			nr++;
		} else if (is_page_of(folio, driver)) { // still: neither freed nor moved meanwhile
			++*refused;
		}
		folio_put(folio);
	}
	return nr;
}

long gw_driver_migrate(struct gw_driver *driver, unsigned from, unsigned to)
{
	if (!driver)
		return -EINVAL;
	if (machine_is_dead(driver->machine))
		return -EOWNERDEAD;
	struct gw_machine *machine = driver->machine;
	struct node_target target = {
		.mm = &machine->mm,
		.nid = (int)to,
		.gfp = GFP_HIGHUSER_MOVABLE | GFP_THISNODE,
		.reason = MR_SYSCALL,
	};
	struct migrate_control mc = {
		.mm = &machine->mm,
		.mode = MIGRATE_SYNC,
		.reason = MR_SYSCALL,
	};
	struct folio_list list = {0};
	long left = 0, stayed = 0;
	uint64_t at;

	if (from >= machine->phys.nr_nodes || to >= machine->phys.nr_nodes)
		return -EINVAL;
	if (!nodemask_test(machine->phys.has_memory, to))
		return -ENODEV;
	if (!nodemask_test(machine->phys.has_memory, from) || from == to)
		return 0;
	migrate_target_on_node(&mc.target, &target);
	at = phys_node(&machine->phys, from)->start_pfn;
	while (left >= 0 &&
		isolate_pages(driver, phys_node(&machine->phys, from), &at, &list, &stayed)) {
		left = migrate_pages(&list, &mc);
		putback_movable_pages(&machine->mm, &list);
		stayed += left;
	}
	return left < 0 ? left : stayed;
}
