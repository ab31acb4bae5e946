// SPDX-License-Identifier: MIT
// Page index: which folio an object keeps at a page offset. A large folio fills one slot a page.
// The owner's lock (i_pages) guards everything; a reader holds it too.
#ifndef GODWIT_VIRT_PAGE_INDEX_H
#define GODWIT_VIRT_PAGE_INDEX_H

#include "phys/folio.h"

enum page_index_tag { PAGE_INDEX_DIRTY, PAGE_INDEX_WRITEBACK, PAGE_INDEX_TAGS };

// Offsets are at most this; what cannot be indexed cannot be mapped either.
#define PAGE_INDEX_MAX FRAME_INDEX_MAX

struct page_index_node;

// All zero is an empty index.
struct page_index {
	struct page_index_node *root;
	unsigned height; // levels; 0: no root
};

// The folio now stands at [pgoff, pgoff+nr). -EEXIST: a slot is taken. -ENOMEM. Nothing changes
// then. -EINVAL: beyond PAGE_INDEX_MAX.
must_check int page_index_insert(struct page_index *, uint64_t pgoff, uint64_t nr, struct folio *);
// All slots of the range, each of which holds a folio, hold this one now. Tags stay.
void page_index_replace(struct page_index *, uint64_t pgoff, uint64_t nr, struct folio *);
// Empty the slots of the range, with their tags. Slots may be empty already. Never fails.
void page_index_remove(struct page_index *, uint64_t pgoff, uint64_t nr);
// NULL when there is none.
struct folio *page_index_find(const struct page_index *, uint64_t pgoff);
// The first occupied slot of [first, last], or NULL; *ret_pgoff is that slot (which may be inside
// of a large folio that began before first).
struct folio *page_index_next(const struct page_index *, uint64_t first, uint64_t last,
	uint64_t *ret_pgoff);
// The same among the slots that carry a tag.
struct folio *page_index_next_tagged(const struct page_index *, enum page_index_tag,
	uint64_t first, uint64_t last, uint64_t *ret_pgoff);

// Tags of occupied slots; empty slots of the range are passed over.
void page_index_set_tag(struct page_index *, uint64_t pgoff, uint64_t nr, enum page_index_tag);
void page_index_clear_tag(struct page_index *, uint64_t pgoff, uint64_t nr, enum page_index_tag);
bool page_index_test_tag(const struct page_index *, uint64_t pgoff, enum page_index_tag);

// Frees what is left of the tree; the folios are the caller's.
void page_index_release(struct page_index *);
// 0, or -EINVAL when a node is empty, a summary bit is wrong or the tree is higher than it need be.
must_check int page_index_check(const struct page_index *);

#endif
