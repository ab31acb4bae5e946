// SPDX-License-Identifier: MIT
// Shared memory: an object whose pages start as zeros and live nowhere but in memory.
//
// Its folios are SWAPBACKED, so they are on the anonymous LRU lists, count as nr_shmem, and are
// never dropped or written (there is no swap). Any of them can be moved as it is. Its policy is the
// object's (object_policy.c), whoever maps it.
// Held: the folio lock, in read_folio(). Fails: creating (-ENOMEM).
#include "base/assert.h"
#include "machine/mmu.h"
#include "virt/mm.h"
#include "virt/object.h"

#include <errno.h>
#include <string.h>

static int shmem_read_folio(struct object *object, struct folio *folio)
{
	struct mmu *mmu = object->mm->mmu;

	for (unsigned long i = 0; i < folio_nr(folio); i++) {
		void *bytes = mmu->ops->peek(mmu, pfn_add(folio_pfn(folio), i));
		if (!bytes)
			return -EIO;
		memset(bytes, 0, PAGE_SIZE);
	}
	return 0;
}

static const struct object_ops shmem_ops = {
	.kind = OBJECT_SHMEM,
	.migrate_plain = true,
	.read_folio = shmem_read_folio,
};

int object_create_shmem(struct mm_core *mm, const char *name, uint64_t size, struct object **ret)
{
	return object_create(mm, &shmem_ops, name, size, ret);
}
