// SPDX-License-Identifier: MIT
// Demotion within the pools: free pages of 1 GiB become pages of 2 MiB, which stay in a pool.
//
//	hugetlb_demote()	so many of them, of all nodes in turn or of one; all that are free
//				on a node before the next is asked
//
// A page leaves its list, is counted no more, and is nobody's while it is taken apart; its pieces
// enter the list of the smaller size as free persistent pages of the same node. Nothing is
// allocated. A page that was promised to a mapping stays (Linux 6.12 asks for one that was not
// promised, and then takes as many as it was told); so does a damaged one.
//
// Locks: hugetlb->lock, given up while a page is taken apart, which writes a quarter of a million
// frames. What can fail: -EBUSY, every free page is damaged.
#include "hugetlb/internal.h"

#include <errno.h>

// A free page of node *nid or those after it, counted no more; NULL: none but damaged ones. H
static struct folio *take_page(struct hugetlb_pool *from, struct nodemask allowed, int *nid)
{
	struct folio *folio;

	for (unsigned left = nodemask_weight(allowed); left; left--) {
		if (*nid == NO_NODE)
			*nid = hugetlb_next_in_turn(&from->next_free, allowed);
		folio = hugetlb_take_from_list(from, (unsigned)*nid);
		if (folio) {
			hugetlb_count_page(from, (unsigned)*nid, -1);
			return folio;
		}
		*nid = NO_NODE;
	}
	return NULL;
}

// H
static void list_pieces(struct hugetlb_pool *to, struct folio *folio, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++) {
		struct folio *piece = (struct folio *)(&folio->page + (i << to->order));

		folio_set_index(piece, 0);
		hugetlb_count_page(to, folio_nid(piece), 1);
		hugetlb_put_on_list(to, piece);
	}
}

// What there is now is what the pool shall have. H
static void note_size(struct hugetlb_pool *pool)
{
	atomic_store_explicit(&pool->max, hugetlb_persistent(pool), memory_order_relaxed);
}

int hugetlb_demote(struct hugetlb *h, struct hugetlb_pool *from, struct hugetlb_pool *to,
	unsigned long count, struct nodemask allowed)
{
	int nid = NO_NODE, err = 0;
	struct folio *folio;

	mutex_lock(&h->lock);
	for (; count; count--) {
		if (hugetlb_free_within(from, allowed) <= hugetlb_read(&from->reserved))
			break;
		folio = take_page(from, allowed, &nid);
		if (!folio) {
			err = -EBUSY;
			break;
		}
		mutex_unlock(&h->lock);
		folio_dissolve(folio, to->order, 1u << PG_HUGETLB);
		mutex_lock(&h->lock);
		list_pieces(to, folio, 1ul << (from->order - to->order));
	}
	note_size(from);
	note_size(to);
	mutex_unlock(&h->lock);
	return err;
}
