// SPDX-License-Identifier: MIT
// The allocator of the engine's own data.
//
// The region is reserved once, without access and without memory, and made accessible from the
// bottom up as far as it has ever been used (`top`). It is divided into chunks of 256 KiB; the
// first ones hold the table of chunks itself, so that no object has handle 0.
//
// States of a chunk: EMPTY → SLAB (objects of one size class) → EMPTY; EMPTY → LARGE, followed by
// LARGE_TAILs (one object of several chunks) → EMPTY. A slab hands out objects it had back before
// (a list threaded through them) and after that objects never used. A slab with room is on the list
// of its class; one that becomes empty leaves it. A few empty chunks are kept as they are, the
// others go back to the system and are zero again; `zero` remembers which, for only used memory
// must be cleared before it is handed out.
//
// One mutex of rank META, a leaf, protects all of it; it may be taken in a SIGSEGV handler. What is
// not handed out is poisoned for AddressSanitizer, to the byte: the tail of a size class too. The
// freed object's first words are the list link and, in debug builds, a mark that reveals a second
// free. meta_alloc() fails when the region or the system's memory is used up or when FI_META says
// so; nothing else fails.
#include "base/meta.h"

#include "base/assert.h"
#include "base/fault_inject.h"
#include "base/lock.h"
#include "base/mark.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_SHIFT 18
#define CHUNK_SIZE (1UL << CHUNK_SHIFT)
#define CHUNKS_MAX (META_REGION_SIZE >> CHUNK_SHIFT)
#define REGION_MIN (1ULL << 30)
#define GROW_CHUNKS 16 // made accessible at a time
#define KEEP_EMPTY 8   // chunks that are empty but not given back
#define CLASSES 36
#define NO_CHUNK 0 // chunk 0 holds the table, so it is on no list

build_assert(META_REGION_SIZE >> META_GRANULE_SHIFT == 1ULL << META_HANDLE_BITS, "handles");

enum chunk_state { EMPTY, TABLE, SLAB, LARGE, LARGE_TAIL };

struct chunk {
	uint8_t state;
	uint8_t class;
	bool zero;	// what was never handed out of it is zero
	bool listed;	// on its class's list
	uint32_t used;	// objects handed out
	uint32_t fresh; // objects never handed out
	uint32_t run;	// LARGE: chunks
	uint32_t next, prev;
	void *freed; // objects that came back
};

#define TABLE_CHUNKS DIV_ROUND_UP(CHUNKS_MAX * sizeof(struct chunk), CHUNK_SIZE)

// A freed object.
struct freed {
	struct freed *next;
	uintptr_t mark;
};

static struct mutex meta_lock = MUTEX_INIT(META);
static struct {
	char *base;
	struct chunk *chunks; // at base
	uint32_t top;	      // chunks that were ever used
	uint32_t accessible;  // chunks
	uint32_t max;	      // chunks
	uint32_t first_empty; // no chunk below is EMPTY
	uint32_t kept;	      // EMPTY chunks below top that are not zero
	uint32_t given;	      // EMPTY chunks below top that are
	uint32_t partial[CLASSES];
	size_t objects, bytes;
} meta;

// Sizes are those of 1-4 granules, then four in each doubling: 5 6 7 8, 10 12 14 16, 20...
static unsigned class_of(size_t size)
{
	size_t x = DIV_ROUND_UP(size, META_GRANULE) - 1;
	unsigned log2;

	if (x < 4)
		return (unsigned)x;
	log2 = 63 - (unsigned)__builtin_clzl(x);
	return 4 * (log2 - 1) + (x >> (log2 - 2) & 3);
}

static size_t class_size(unsigned class)
{
	if (class < 4)
		return (class + 1) * META_GRANULE;
	return (size_t)(5 + class % 4) << (class / 4 - 1) << META_GRANULE_SHIFT;
}

static uint32_t class_capacity(unsigned class)
{
	return (uint32_t)(CHUNK_SIZE / class_size(class));
}

static char *chunk_start(uint32_t i)
{
	return meta.base + ((size_t)i << CHUNK_SHIFT);
}

static uint32_t chunk_index(const void *p)
{
	return (uint32_t)(((const char *)p - meta.base) >> CHUNK_SHIFT);
}

// The callers' errno stays as it is, here and below.
static bool open_to_use(void *start, size_t size)
{
	int saved = errno;
	bool ok = mprotect(start, size, PROT_READ | PROT_WRITE) == 0;

	errno = saved;
	return ok;
}

static bool make_accessible(uint32_t chunks)
{
	uint32_t want = min(max(chunks, meta.accessible + GROW_CHUNKS), meta.max);

	if (chunks <= meta.accessible)
		return true;
	if (chunks > meta.max)
		return false;
	if (!open_to_use(chunk_start(meta.accessible),
		    (size_t)(want - meta.accessible) << CHUNK_SHIFT))
		return false;
	meta.accessible = want;
	return true;
}

static bool reserve(void)
{
	size_t size = META_REGION_SIZE;
	int saved = errno;
	void *p;

	if (meta.base)
		return true;
	do {
		p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	} while (p == MAP_FAILED && (size /= 2) >= REGION_MIN);
	errno = saved;
	if (p == MAP_FAILED)
		return false;
	if (!open_to_use(p, TABLE_CHUNKS << CHUNK_SHIFT)) {
		munmap(p, size);
		return false;
	}
	meta.chunks = p;
	meta.max = (uint32_t)(size >> CHUNK_SHIFT);
	meta.accessible = TABLE_CHUNKS;
	meta.top = TABLE_CHUNKS;
	meta.first_empty = TABLE_CHUNKS;
	for (uint32_t i = 0; i < TABLE_CHUNKS; i++)
		meta.chunks[i].state = TABLE;
	__atomic_store_n(&meta.base, p, __ATOMIC_RELEASE);
	return true;
}

// The first of n adjacent EMPTY chunks, below top or from there on; NO_CHUNK.
static uint32_t find_empty(uint32_t n)
{
	uint32_t run = 0, i;

	for (i = meta.first_empty; i < meta.top && run < n; i++)
		run = meta.chunks[i].state == EMPTY ? run + 1 : 0;
	return make_accessible(i - run + n) ? i - run : NO_CHUNK;
}

static uint32_t take_empty(uint32_t n, enum chunk_state state)
{
	uint32_t first = find_empty(n);

	if (first == NO_CHUNK)
		return NO_CHUNK;
	for (uint32_t i = first; i < first + n; i++) {
		struct chunk *c = &meta.chunks[i];

		if (i >= meta.top)
			c->zero = true;
		else if (c->zero)
			meta.given--;
		else
			meta.kept--;
		c->state = i == first ? state : LARGE_TAIL;
	}
	meta.top = max(meta.top, first + n);
	while (meta.first_empty < meta.top && meta.chunks[meta.first_empty].state != EMPTY)
		meta.first_empty++;
	ASAN_POISON(chunk_start(first), (size_t)n << CHUNK_SHIFT);
	return first;
}

// The host refuses to take back what the program has locked in memory.
static void give_back(uint32_t first, uint32_t n, bool may_keep)
{
	bool keep = may_keep && meta.kept < KEEP_EMPTY;
	int saved = errno;
	bool zero = !keep && madvise(chunk_start(first), (size_t)n << CHUNK_SHIFT,
				     MADV_DONTNEED) == 0;

	errno = saved;
	for (uint32_t i = first; i < first + n; i++)
		meta.chunks[i] = (struct chunk){.state = EMPTY, .zero = zero};
	if (zero)
		meta.given += n;
	else
		meta.kept += n;
	meta.first_empty = min(meta.first_empty, first);
}

static void list_chunk(uint32_t i)
{
	struct chunk *c = &meta.chunks[i];
	uint32_t head = meta.partial[c->class];

	c->listed = true;
	c->prev = NO_CHUNK;
	c->next = head;
	if (head != NO_CHUNK)
		meta.chunks[head].prev = i;
	meta.partial[c->class] = i;
}

static void unlist_chunk(uint32_t i)
{
	struct chunk *c = &meta.chunks[i];

	c->listed = false;
	if (c->prev != NO_CHUNK)
		meta.chunks[c->prev].next = c->next;
	else
		meta.partial[c->class] = c->next;
	if (c->next != NO_CHUNK)
		meta.chunks[c->next].prev = c->prev;
}

// Freed objects are poisoned, but their links are ours.
__attribute__((no_sanitize("address"))) noinline static struct freed *pop_freed(struct chunk *c)
{
	struct freed *f = c->freed;

	c->freed = f->next;
	f->mark = 0;
	return f;
}

static uintptr_t freed_mark(const void *p)
{
	return (uintptr_t)p ^ 0xdead0b1ec7ed5dea;
}

__attribute__((no_sanitize("address"))) noinline static void push_freed(struct chunk *c, void *p)
{
	struct freed *f = p;

	f->next = c->freed;
	f->mark = freed_mark(p);
	c->freed = f;
}

// The mark may be the caller's data by chance, so the list decides.
__attribute__((no_sanitize("address"))) noinline maybe_unused static bool is_freed(
	const struct chunk *c, const void *p)
{
	if (((const struct freed *)p)->mark != freed_mark(p))
		return false;
	for (const struct freed *f = c->freed; f; f = f->next)
		if (f == p)
			return true;
	return false;
}

__attribute__((no_sanitize("address"))) noinline static uint32_t count_freed(const struct chunk *c)
{
	uint32_t n = 0;

	for (const struct freed *f = c->freed; f && n <= CHUNK_SIZE / META_GRANULE; f = f->next)
		n++;
	return n;
}

// A chunk of the class with room, on the list.
static uint32_t find_slab(unsigned class)
{
	uint32_t i = meta.partial[class];

	if (i != NO_CHUNK)
		return i;
	i = take_empty(1, SLAB);
	if (i == NO_CHUNK)
		return NO_CHUNK;
	meta.chunks[i].class = (uint8_t)class;
	meta.chunks[i].fresh = class_capacity(class);
	list_chunk(i);
	return i;
}

static void *alloc_small(size_t size)
{
	unsigned class = class_of(size);
	uint32_t i = find_slab(class);
	struct chunk *c = &meta.chunks[i];
	bool zero = false;
	void *p;

	if (i == NO_CHUNK)
		return NULL;
	if (c->freed) {
		p = pop_freed(c);
	} else {
		p = chunk_start(i) + (class_capacity(class) - c->fresh--) * class_size(class);
		zero = c->zero;
	}
	c->used++;
	if (!c->freed && c->fresh == 0)
		unlist_chunk(i);
	ASAN_UNPOISON(p, size);
	if (!zero)
		memset(p, 0, size);
	return p;
}

static void *alloc_large(size_t size)
{
	uint32_t n, first;

	if (size > META_REGION_SIZE)
		return NULL;
	n = (uint32_t)DIV_ROUND_UP(size, CHUNK_SIZE);
	first = take_empty(n, LARGE);
	if (first == NO_CHUNK)
		return NULL;
	meta.chunks[first].run = n;
	meta.chunks[first].used = 1;
	ASAN_UNPOISON(chunk_start(first), size);
	for (uint32_t i = first; i < first + n; i++) {
		size_t done = (size_t)(i - first) << CHUNK_SHIFT;

		if (!meta.chunks[i].zero)
			memset(chunk_start(i), 0, min(size - done, CHUNK_SIZE));
	}
	return chunk_start(first);
}

void *meta_alloc(size_t size)
{
	void *p = NULL;

	if (size == 0 || fault_should_fail(FI_META))
		return NULL;
	mutex_lock(&meta_lock);
	if (reserve())
		p = size <= META_CLASS_MAX ? alloc_small(size) : alloc_large(size);
	if (p) {
		meta.objects++;
		meta.bytes += size;
	} else {
		MARK(meta_exhausted);
	}
	mutex_unlock(&meta_lock);
	return p;
}

static void free_small(uint32_t i, void *p, size_t size)
{
	struct chunk *c = &meta.chunks[i];
	size_t offset = (size_t)((char *)p - chunk_start(i));

	must_hold(c->state == SLAB && c->class == class_of(size) &&
			  offset % class_size(c->class) == 0 && c->used > 0,
		"meta_free(%p, %zu): state %d class %d used %u", p, size, c->state, c->class,
		c->used);
	assert_that(!is_freed(c, p), "meta_free(%p, %zu): freed before", p, size);
	ASAN_POISON(p, class_size(c->class));
	push_freed(c, p);
	if (!c->listed)
		list_chunk(i);
	if (--c->used == 0) {
		unlist_chunk(i);
		give_back(i, 1, true);
	}
}

static void free_large(uint32_t i, void *p, size_t size)
{
	struct chunk *c = &meta.chunks[i];

	must_hold(c->state == LARGE && p == chunk_start(i) &&
			  c->run == DIV_ROUND_UP(size, CHUNK_SIZE),
		"meta_free(%p, %zu): state %d, %u chunks", p, size, c->state, c->run);
	ASAN_POISON(p, (size_t)c->run << CHUNK_SHIFT);
	give_back(i, c->run, false);
}

void meta_free(void *p, size_t size)
{
	if (!p)
		return;
	mutex_lock(&meta_lock);
	must_hold(meta.base && meta_contains(p) && chunk_index(p) < meta.top,
		"meta_free(%p, %zu): not of the region", p, size);
	if (size <= META_CLASS_MAX)
		free_small(chunk_index(p), p, size);
	else
		free_large(chunk_index(p), p, size);
	meta.objects--;
	meta.bytes -= size;
	mutex_unlock(&meta_lock);
}

// The base never changes once an object exists, and who asks has one.
uint32_t meta_handle(const void *p)
{
	if (!p)
		return 0;
	assert_that(meta_contains(p) && IS_ALIGNED((uintptr_t)p, META_GRANULE), "handle of %p", p);
	return (uint32_t)(((const char *)p - meta.base) >> META_GRANULE_SHIFT);
}

void *meta_pointer(uint32_t handle)
{
	return handle ? meta.base + ((size_t)handle << META_GRANULE_SHIFT) : NULL;
}

bool meta_contains(const void *p)
{
	const char *base = __atomic_load_n(&meta.base, __ATOMIC_ACQUIRE);

	return base && (const char *)p >= base &&
	       (const char *)p < base + ((size_t)meta.max << CHUNK_SHIFT);
}

static size_t read_locked(const size_t *value)
{
	size_t copy;

	mutex_lock(&meta_lock);
	copy = *value;
	mutex_unlock(&meta_lock);
	return copy;
}

size_t meta_in_use(void)
{
	return read_locked(&meta.objects);
}

size_t meta_in_use_bytes(void)
{
	return read_locked(&meta.bytes);
}

size_t meta_resident_bytes(void)
{
	size_t bytes;

	mutex_lock(&meta_lock);
	bytes = !meta.base ? 0 : (size_t)(meta.top - TABLE_CHUNKS - meta.given) << CHUNK_SHIFT;
	mutex_unlock(&meta_lock);
	return bytes;
}

static bool slab_is_consistent(const struct chunk *c)
{
	bool has_room = c->freed || c->fresh > 0;

	return c->used > 0 && c->listed == has_room &&
	       c->used + c->fresh + count_freed(c) == class_capacity(c->class);
}

static bool run_is_consistent(uint32_t first)
{
	for (uint32_t i = 1; i < meta.chunks[first].run; i++)
		if (first + i >= meta.top || meta.chunks[first + i].state != LARGE_TAIL)
			return false;
	return meta.chunks[first].run > 0;
}

static bool books_balance(void)
{
	size_t objects = 0, kept = 0, given = 0;

	for (uint32_t i = TABLE_CHUNKS; i < meta.top; i++) {
		const struct chunk *c = &meta.chunks[i];

		objects += c->state == EMPTY ? 0 : c->used;
		kept += c->state == EMPTY && !c->zero;
		given += c->state == EMPTY && c->zero;
		if (c->state == EMPTY && i < meta.first_empty)
			return false;
		if (c->state == SLAB && !slab_is_consistent(c))
			return false;
		if (c->state == LARGE && !run_is_consistent(i))
			return false;
	}
	return objects == meta.objects && kept == meta.kept && given == meta.given;
}

int meta_check(void)
{
	bool ok;

	mutex_lock(&meta_lock);
	ok = books_balance();
	mutex_unlock(&meta_lock);
	return ok ? 0 : -EINVAL;
}

NO_THREAD_SAFETY_ANALYSIS void meta_fork_prepare(void)
{
	mutex_lock(&meta_lock);
}

NO_THREAD_SAFETY_ANALYSIS void meta_fork_parent(void)
{
	mutex_unlock(&meta_lock);
}

NO_THREAD_SAFETY_ANALYSIS void meta_fork_child(void)
{
	mutex_unlock(&meta_lock);
}
