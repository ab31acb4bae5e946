// SPDX-License-Identifier: MIT
// What a call for a range, or for a whole task, left where it was, and why: see stayed.c.
#ifndef GODWIT_MIGRATE_STAYED_H
#define GODWIT_MIGRATE_STAYED_H

#include "migrate/migrate.h"
#include "virt/pte.h"

#define STAYED_NOWHERE (-1) // nid of what lies on no node

// Neighbouring pages of one size, on one node, that stayed for one reason.
struct stayed_run {
	uint64_t address; // of the first
	uint64_t nr;	  // of them, each of PAGE_SIZE << order
	unsigned order;
	int nid;
	enum migrate_why why;
	char detail[60];
};

struct stayed_folio;

struct stayed {
	size_t max;		// no more runs than this in the end
	uint64_t nr_more;	// pages of 4 KiB that there was no room for
	struct stayed_run *run; // [nr]
	size_t nr, room;
	struct stayed_folio *folio; // [nr_folios], to be found at their addresses
	size_t nr_folios, folio_room;
	const struct folio *last; // large, found just before
};

// Memory is the engine's, so that any lock may be held; who calls releases it.
void stayed_release(struct stayed *);
// That run stayed.
void stayed_add(struct stayed *, const struct stayed_run *);
// The pages of this entry did, which has no folio, or one that is not taken up.
void stayed_add_entry(struct stayed *, uint64_t address, struct pte, enum migrate_why);
void stayed_add_folio(struct stayed *, uint64_t address, const struct folio *, enum migrate_why,
	const char *detail);
// The same of a folio that another has isolated, or that we have, by another address: it stayed
// if it is at the address in the end.
void stayed_doubt(struct stayed *, uint64_t address, const struct folio *, enum migrate_why);
// migrate_pages() leaves it, isolated by us: it stayed at whichever address it is found.
void stayed_leave(struct stayed *, const struct folio *, enum migrate_why, const char *detail);
// Whether there are folios to be met in a second walk, before they are put back. No lock is held.
bool stayed_begin_walk(struct stayed *);
// This entry is at the address, and its table is locked. Addresses rise.
void stayed_meet(struct stayed *, uint64_t address, struct pte);
// What was not met is not there any more.
void stayed_end_walk(struct stayed *);
// In order of address, each once, neighbours together, no more than max.
void stayed_finish(struct stayed *);
// What a shared page is called: "mapped 2 times".
void stayed_describe_shared(const struct folio *, char *buf, size_t size);

#endif
