// SPDX-License-Identifier: MIT
// The book of what each thread holds, and the check of the lock order.
//
// A thread takes locks in increasing rank (base/lock_rank.h). Before it may block on a lock, every
// lock in its book is looked at: one of a higher rank, or of the same rank unless the rank may nest
// and the addresses increase, is an inversion, whichever way it was taken. Both locks are printed
// and the process aborts: at the first time the wrong order is used, not at the first deadlock.
// A trylock cannot deadlock, so it is only entered in the book.
//
// A book is an array in static TLS (initial-exec: a SIGSEGV handler must not allocate TLS), with a
// count per rank so that the usual check is one look at a mask. It is as large as the largest set
// of locks that anyone holds: both folios of every pair in one batch of migration, and a few more.
// Without GODWIT_DEBUG there is no book.
#include "base/lock_book.h"

#include "base/assert.h"
#include "base/lock.h"

#define X(name, nest) [RANK_##name] = #name,
static const char *const rank_names[RANK_COUNT] = {GODWIT_LOCK_RANKS(X)};
#undef X

const char *lock_rank_name(enum lock_rank rank)
{
	return rank < RANK_COUNT ? rank_names[rank] : "?";
}

#ifdef GODWIT_DEBUG

#define BOOK_MAX 1088
#define SHARED 0x80 // held for reading
build_assert(RANK_COUNT <= 32, "ranks are bits of `ranks`");

struct lock_book {
	uint32_t ranks; // bit a rank that is held
	uint32_t n;
	uint16_t count[RANK_COUNT];
	uint64_t held[BOOK_MAX]; // address << 8 | SHARED | rank
};

#define X(name, nest) [RANK_##name] = (nest),
static const bool may_nest[RANK_COUNT] = {GODWIT_LOCK_RANKS(X)};
#undef X

static __thread struct lock_book book __attribute__((tls_model("initial-exec")));

static uint64_t pack(enum lock_rank rank, const void *addr)
{
	return (uint64_t)(uintptr_t)addr << 8 | rank;
}

static enum lock_rank packed_rank(uint64_t entry)
{
	return (enum lock_rank)(entry & (SHARED - 1));
}

static const void *packed_addr(uint64_t entry)
{
	return (const void *)(uintptr_t)(entry >> 8);
}

const struct lock_book *lock_book_self(void)
{
	return &book;
}

void lock_book_print(const struct lock_book *b)
{
	for (uint32_t i = 0; b && i < b->n; i++)
		assert_print("    %s %p\n", lock_rank_name(packed_rank(b->held[i])),
			packed_addr(b->held[i]));
}

static void check_entry(uint64_t entry, enum lock_rank rank, const void *addr, bool by_structure)
{
	enum lock_rank held = packed_rank(entry);
	bool ordered = held < rank;

	if (held == rank && may_nest[rank])
		ordered = packed_addr(entry) != addr &&
			  (by_structure || packed_addr(entry) < addr);
	if (ordered)
		return;
	lock_book_print(&book);
	must_hold(ordered, "lock order: takes %s %p while it holds %s %p", lock_rank_name(rank),
		addr, lock_rank_name(held), packed_addr(entry));
}

static void check_order(enum lock_rank rank, const void *addr, bool by_structure)
{
	if (likely(book.ranks >> rank == 0))
		return;
	for (uint32_t i = 0; i < book.n; i++)
		check_entry(book.held[i], rank, addr, by_structure);
}

void lock_rank_check(enum lock_rank rank, const void *addr)
{
	check_order(rank, addr, false);
}

void lock_rank_check_nested(enum lock_rank rank, const void *addr)
{
	check_order(rank, addr, true);
}

static void enter(enum lock_rank rank, const void *addr, uint64_t shared)
{
	must_hold(book.n < BOOK_MAX, "%u locks held, takes %s %p", book.n, lock_rank_name(rank),
		addr);
	book.held[book.n++] = pack(rank, addr) | shared;
	book.count[rank]++;
	book.ranks |= 1U << rank;
}

void lock_rank_acquired(enum lock_rank rank, const void *addr)
{
	enter(rank, addr, 0);
}

void lock_rank_acquired_shared(enum lock_rank rank, const void *addr)
{
	enter(rank, addr, SHARED);
}

// The index of an entry, or book.n; the latest is the likeliest.
static uint32_t find_entry(enum lock_rank rank, const void *addr)
{
	uint64_t wanted = pack(rank, addr);

	for (uint32_t i = book.n; i-- > 0;)
		if ((book.held[i] & ~(uint64_t)SHARED) == wanted)
			return i;
	return book.n;
}

void lock_rank_released(enum lock_rank rank, const void *addr)
{
	uint32_t i = find_entry(rank, addr);

	must_hold(i < book.n, "releases %s %p, which it does not hold", lock_rank_name(rank), addr);
	book.held[i] = book.held[--book.n];
	if (--book.count[rank] == 0)
		book.ranks &= ~(1U << rank);
}

bool lock_rank_is_held(enum lock_rank rank, const void *addr)
{
	return book.count[rank] > 0 && find_entry(rank, addr) < book.n;
}

bool lock_rank_is_held_exclusive(enum lock_rank rank, const void *addr)
{
	uint32_t i = find_entry(rank, addr);

	return i < book.n && !(book.held[i] & SHARED);
}

unsigned lock_rank_held_count(void)
{
	return book.n;
}

void lock_assert_none_held(void)
{
	if (likely(book.n == 0))
		return;
	lock_book_print(&book);
	must_hold(book.n == 0, "%u locks are held where none may be", book.n);
}

#else

const struct lock_book *lock_book_self(void)
{
	return NULL;
}

void lock_book_print(const struct lock_book *b maybe_unused)
{
}

void lock_assert_none_held(void)
{
}

#endif
