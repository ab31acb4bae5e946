// SPDX-License-Identifier: MIT
// vmas against a slow model: a byte a page that says what is mapped how, whether it is resident
// and what it holds. Random maps, unmaps, protections, moves, flags, writes and drops must agree
// with it after each step, on the engine's side and the host's; also when one allocation of the
// engine or one host call in the middle of an operation fails: then nothing may have changed.
#include "huge_pages.h"

#define MODEL_PAGES 2048u // 8 MiB: four tables
#define MODEL_BASE 0x400000000000ull
#define RW (VM_READ | VM_WRITE)

struct model_page {
	bool mapped, nofork, locked, shared;
	unsigned rwx;
	uint8_t byte; // what a read sees
};

struct model {
	struct virt_test *t;
	struct object *shm;
	uint64_t seed;
	bool armed;
	unsigned nr_failed, nr_moved, nr_huge;
	struct model_page page[MODEL_PAGES];
	uint8_t shm_byte[MODEL_PAGES]; // the object's page n is mapped at page n only
};

static uint64_t addr_of(unsigned page)
{
	return MODEL_BASE + (uint64_t)page * PAGE_SIZE;
}

static unsigned pick(struct model *m, unsigned below)
{
	return (unsigned)(test_random(&m->seed) % below);
}

static void pick_range(struct model *m, unsigned *ret_first, unsigned *ret_nr)
{
	static const unsigned sizes[] = {1, 2, 3, 8, 40, 300, 512, 512, 600, 1024};
	unsigned nr = sizes[pick(m, ARRAY_SIZE(sizes))];

	*ret_first = pick(m, MODEL_PAGES - nr + 1);
	if (pick(m, 3) && nr >= 512)
		*ret_first &= ~511u;
	*ret_nr = nr;
}

static bool all_mapped(const struct model *m, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		if (!m->page[i].mapped)
			return false;
	return true;
}

static bool none_mapped(const struct model *m, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		if (m->page[i].mapped)
			return false;
	return true;
}

// Pages from first on that are mapped without a hole: mprotect and mlock do as much.
static unsigned mapped_run(const struct model *m, unsigned first, unsigned nr)
{
	unsigned n = 0;

	while (n < nr && m->page[first + n].mapped)
		n++;
	return n;
}

// One failure at a random place of the next operation, or none.
static void arm(struct model *m)
{
	m->armed = pick(m, 3) == 0;
	if (m->armed && pick(m, 2))
		fault_arm(FI_META, FI_THREAD, pick(m, 12), 1);
	else if (m->armed)
		m->t->w->fail_at = (long)pick(m, 6);
}

// Did the operation fail because it was told to? Then nothing changed.
static bool told_to_fail(struct model *m, int64_t err)
{
	bool hit = fault_disarm(FI_META);

	hit |= m->t->w->failed;
	m->t->w->failed = false;
	m->t->w->fail_at = -1;
	if (!hit || err != -ENOMEM)
		return false;
	m->nr_failed++;
	return true;
}

// ---- Operations: each on the engine and on the model

static void do_map(struct model *m)
{
	unsigned first, nr;
	pick_range(m, &first, &nr);
	bool shared = pick(m, 3) == 0;
	const struct map_request r = {.addr = addr_of(first),
		.fixed = true,
		.len = (uint64_t)nr << PAGE_SHIFT,
		.flags = shared ? RW | VM_SHARED : RW,
		.object = shared ? m->shm : NULL,
		.pgoff = shared ? first : 0};
	uint64_t got;
	arm(m);
	int err = space_map(m->t->space, &r, &got);

	if (told_to_fail(m, err))
		return;
	assert_int_equal(err, none_mapped(m, first, nr) ? 0 : -EEXIST);
	for (unsigned i = first; !err && i < first + nr; i++)
		m->page[i] = (struct model_page){.mapped = true, .rwx = RW, .shared = shared};
}

static void do_unmap(struct model *m)
{
	unsigned first, nr;
	pick_range(m, &first, &nr);
	arm(m);
	int err = space_unmap(m->t->space, addr_of(first), (uint64_t)nr << PAGE_SHIFT);
	if (told_to_fail(m, err))
		return;
	assert_int_equal(err, 0);
	for (unsigned i = first; i < first + nr; i++)
		m->page[i] = (struct model_page){0};
}

static void do_protect(struct model *m)
{
	static const unsigned prots[] = {0, VM_READ, RW, RW};
	unsigned first, nr, rwx = prots[pick(m, 4)];
	pick_range(m, &first, &nr);
	arm(m);
	int err = space_protect(m->t->space, addr_of(first), (uint64_t)nr << PAGE_SHIFT, rwx);

	// A failure that was asked for and a hole look alike, but only the latter has an effect: once
	// more, without.
	if (told_to_fail(m, err))
		err = space_protect(
			m->t->space, addr_of(first), (uint64_t)nr << PAGE_SHIFT, rwx);
	assert_int_equal(err, all_mapped(m, first, nr) ? 0 : -ENOMEM);
	for (unsigned i = first, end = first + mapped_run(m, first, nr); i < end; i++)
		m->page[i].rwx = rwx;
}

static void do_advise(struct model *m)
{
	unsigned first, nr;
	pick_range(m, &first, &nr);
	bool fork = pick(m, 2);
	int err = space_advise(m->t->space, m->t->task, addr_of(first),
		(uint64_t)nr << PAGE_SHIFT, fork ? 11 : 10);

	assert_int_equal(err, all_mapped(m, first, nr) ? 0 : -ENOMEM);
	for (unsigned i = first; i < first + nr; i++)
		m->page[i].nofork = m->page[i].mapped && !fork;
}

static void do_drop(struct model *m)
{
	unsigned first, nr;
	bool locked = false;
	pick_range(m, &first, &nr);
	for (unsigned i = first; i < first + nr; i++)
		locked |= m->page[i].locked;
	if (locked)
		return;
	int err = space_advise(m->t->space, m->t->task, addr_of(first),
		(uint64_t)nr << PAGE_SHIFT, 4);
	assert_int_equal(err, all_mapped(m, first, nr) ? 0 : -ENOMEM);
	for (unsigned i = first; i < first + nr; i++)
		if (!m->page[i].shared)
			m->page[i].byte = 0;
}

static bool all_accessible(const struct model *m, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		if (!m->page[i].rwx)
			return false;
	return true;
}

static void do_lock(struct model *m)
{
	unsigned first, nr;
	pick_range(m, &first, &nr);
	bool lock = pick(m, 2), mapped = all_mapped(m, first, nr);
	int err = lock ? space_lock(m->t->space, m->t->task, addr_of(first),
				 (uint64_t)nr << PAGE_SHIFT)
		       : space_unlock(m->t->space, addr_of(first), (uint64_t)nr << PAGE_SHIFT);

	assert_int_equal(err,
		mapped && (!lock || all_accessible(m, first, nr)) ? 0 : -ENOMEM);
	for (unsigned i = first, end = first + mapped_run(m, first, nr); i < end; i++)
		m->page[i].locked = lock;
}

static void do_write(struct model *m)
{
	unsigned page = pick(m, MODEL_PAGES);
	uint8_t byte = (uint8_t)(1 + pick(m, 255));
	arm(m);
	int64_t n = space_write(m->t->space, m->t->task, addr_of(page) + 17, &byte, 1);

	if (told_to_fail(m, n))
		return;
	if (!m->page[page].mapped || !(m->page[page].rwx & VM_WRITE)) {
		assert_int_equal(n, -EFAULT);
		return;
	}
	assert_int_equal(n, 1);
	m->page[page].byte = byte;
	if (m->page[page].shared)
		m->shm_byte[page] = byte;
}

static void do_move(struct model *m)
{
	unsigned first, nr, to, to_nr;
	uint64_t got;
	pick_range(m, &first, &nr);
	pick_range(m, &to, &to_nr);
	if (to + nr > MODEL_PAGES)
		to = MODEL_PAGES - nr;
	if (pick(m, 2))
		to = (to & ~511u) | (first & 511u);
	bool overlap = to < first + nr && first < to + nr;
	if (to + nr > MODEL_PAGES || overlap)
		return;
	arm(m);
	int err = space_remap(m->t->space, NULL, addr_of(first), (uint64_t)nr << PAGE_SHIFT,
		(uint64_t)nr << PAGE_SHIFT, addr_of(to), true, &got);

	if (told_to_fail(m, err))
		return;
	// One vma is asked for, and what may be one vma the model does not know: shared pages
	// stay out of it, they would not be at their own offset any more.
	if (err) {
		assert_true(err == -EFAULT || err == -EEXIST);
		assert_true(err != -EEXIST || !none_mapped(m, to, nr));
		return;
	}
	assert_int_equal(got, addr_of(to));
	m->nr_moved++;
	for (unsigned i = 0; i < nr; i++) {
		assert_true(m->page[first + i].mapped);
		m->page[to + i] = m->page[first + i];
		m->page[first + i] = (struct model_page){0};
	}
}

static void do_huge(struct model *m)
{
	unsigned first = pick(m, MODEL_PAGES) & ~511u;
	struct vma *vma = vma_lookup(m->t->space, addr_of(first));

	if (!vma || vma->object || vma->end < addr_of(first + 512) || !(vma->flags & VM_WRITE))
		return;
	space_free_tables(m->t->space, addr_of(first), addr_of(first + 512));
	if (!huge_install(m->t, addr_of(first)))
		m->nr_huge++;
}

// A moved shared mapping shows the object at other places than the model keeps; unmap it again.
static void drop_moved_shared(struct model *m)
{
	struct vma *vma, *next;

	for (vma = vma_find(m->t->space, 0); vma; vma = next) {
		next = vma_next(vma);
		if (!vma->object || vma->pgoff == (vma->start - MODEL_BASE) >> PAGE_SHIFT)
			continue;
		uint64_t start = vma->start, end = vma->end;
		assert_int_equal(space_unmap(m->t->space, start, end - start), 0);
		for (uint64_t a = start; a < end; a += PAGE_SIZE)
			m->page[(a - MODEL_BASE) >> PAGE_SHIFT] = (struct model_page){0};
		next = vma_find(m->t->space, 0);
	}
}

// ---- The comparison

static void check_page(struct model *m, unsigned i)
{
	const struct model_page *p = &m->page[i];
	struct vma *vma = vma_lookup(m->t->space, addr_of(i));

	assert_int_equal(vma != NULL, p->mapped);
	if (!vma)
		return;
	assert_int_equal(vma->flags & (VM_READ | VM_WRITE | VM_EXEC), p->rwx);
	assert_int_equal(!!(vma->flags & VM_DONTFORK), p->nofork);
	assert_int_equal(!!(vma->flags & VM_LOCKED), p->locked);
	assert_int_equal(!!(vma->flags & VM_SHARED), p->shared);
}

static uint8_t byte_of(struct model *m, struct pfn pfn)
{
	return ((uint8_t *)witness_peek(m->t->m.mm.mmu, pfn))[17];
}

// Without a fault: what is resident must hold the byte, what is not must read as nothing written.
static void check_contents(struct model *m, unsigned i)
{
	const struct model_page *p = &m->page[i];
	struct pte e = entry_at(m->t->space, addr_of(i));
	uint8_t want = p->shared ? m->shm_byte[i] : p->byte;

	if (!p->mapped)
		assert_true(pte_none(e));
	else if (pte_present(e))
		assert_int_equal(byte_of(m, pfn_at(m->t->space, addr_of(i))), want);
	else if (!p->shared)
		assert_int_equal(want, 0);
}

static void compare(struct model *m)
{
	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		check_page(m, i);
		check_contents(m, i);
	}
}

static void random_operations_agree_with_the_model(void **state)
{
	static struct model model;
	struct model *m = &model;
	static void (*const ops[])(struct model *) = {do_map, do_map, do_unmap, do_protect,
		do_protect, do_advise, do_drop, do_lock, do_move, do_move, do_huge, do_huge,
		do_write, do_write, do_write, do_write, do_write, do_write};

	memset(m, 0, sizeof(*m));
	m->t = *state;
	m->seed = test_seed();
	m->t->m.mm.up.split_huge_pmd = huge_split_pmd;
	assert_int_equal(object_create_shmem(&m->t->m.mm, "model", MODEL_PAGES * PAGE_SIZE,
				 &m->shm), 0);
	for (unsigned step = 0; step < 4000; step++) {
		ops[pick(m, ARRAY_SIZE(ops))](m);
		drop_moved_shared(m);
		if (step % 8 == 0)
			compare(m);
		if (step % 50 == 0)
			witness_check(m->t->w, &m->t->m.mm);
		else
			space_check(m->t->space);
	}
	compare(m);
	printf("told to fail %u times, %u moves, %u huge pages\n", m->nr_failed, m->nr_moved,
		m->nr_huge);
	task_exit(m->t->task);
	m->t->task = NULL;
	object_put(m->shm);
}

// ---- Split and merge by hand

static struct vma *vma_at(struct virt_test *t, uint64_t addr)
{
	return vma_lookup(t->space, addr);
}

//	|rw rw rw rw|  ->  |rw|r |rw rw|  ->  |rw rw rw rw|
static void a_protection_undone_merges_back(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	soft_fill(t->task, a, 4, 1);
	assert_int_equal(space_protect(t->space, a + 0x1000, 0x1000, VM_READ), 0);
	assert_int_equal(t->space->nr_vmas, 3);
	assert_ptr_equal(vma_at(t, a)->anon_vma, vma_at(t, a + 0x1000)->anon_vma);
	space_check(t->space);
	assert_int_equal(space_protect(t->space, a + 0x1000, 0x1000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_int_equal(vma_at(t, a)->end, a + 0x4000);
}

// Pages that come while the vma is split get an anon_vma the parts can share.
static void parts_touched_apart_still_merge(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, VM_READ), 0);
	soft_fill(t->task, a, 1, 1); // the lower part gets its anon_vma
	assert_int_equal(space_protect(t->space, a, 0x2000, VM_READ), 0);
	assert_int_equal(t->space->nr_vmas, 2); // what was touched does not join what was not
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, RW), 0);
	soft_fill(t->task, a + 0x2000, 1, 2);
	assert_int_equal(space_protect(t->space, a, 0x2000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 1);
	space_check(t->space);
}

static void the_one_with_an_anon_vma_stays(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);

	assert_int_equal(space_protect(t->space, a, 0x2000, VM_READ), 0);
	struct vma *upper = vma_at(t, a + 0x2000);
	soft_fill(t->task, a + 0x3000, 1, 9);
	assert_int_equal(space_protect(t->space, a, 0x2000, RW), 0);
	assert_ptr_equal(vma_at(t, a), upper);
	assert_int_equal(upper->start, a);
	assert_int_equal(soft_byte(t->task, a + 0x3000), 9);
	space_check(t->space);
}

// Three parts of two pages. The one between is set apart, some are touched, each by itself (x), and
// then nothing but that tells them apart any more.
//
//	|  x  |     |  x  |  ->  |  x        |  x  |
static const struct {
	const char *touched;
	unsigned vmas;
	uint64_t first_pages; // of the first
} parts[] = {
	{"---", 1, 6}, {"x--", 1, 6}, {"--x", 1, 6}, {"x-x", 2, 4}, {"-x-", 3, 2}, {"xx-", 3, 2},
	{"-xx", 3, 2}, {"xxx", 3, 2},
};

static void what_was_touched_decides_who_merges(void **state)
{
	struct virt_test *t = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t a = soft_map(t->task, 6, RW, NULL, 0);

		assert_int_equal(space_advise(t->space, t->task, a + 0x2000, 0x2000, 10), 0);
		for (unsigned part = 0; part < 3; part++)
			if (parts[i].touched[part] == 'x')
				soft_fill(t->task, a + part * 0x2000, 2, (uint8_t)(1 + part));
		assert_int_equal(t->space->nr_vmas, 3);
		assert_int_equal(space_advise(t->space, t->task, a + 0x2000, 0x2000, 11), 0);
		if (t->space->nr_vmas != parts[i].vmas)
			fail_msg("%s: %u vmas", parts[i].touched, t->space->nr_vmas);
		assert_int_equal(vma_pages(vma_at(t, a)), parts[i].first_pages);
		space_check(t->space);
		assert_int_equal(space_unmap(t->space, a, 0x6000), 0);
	}
}

// All of them change, one after the other: each looks at what lies beside it at its turn.
//
//	|r    |r  x |r    |  ->  |rw   |rw x       |
static void each_merges_when_its_turn_comes(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 6, RW, NULL, 0);

	assert_int_equal(space_protect(t->space, a, 0x2000, VM_READ), 0);
	assert_int_equal(space_protect(t->space, a + 0x4000, 0x2000, VM_READ), 0);
	soft_fill(t->task, a + 0x2000, 2, 1);
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, VM_READ), 0);
	assert_int_equal(t->space->nr_vmas, 3);
	assert_int_equal(space_protect(t->space, a, 0x6000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 2);
	assert_int_equal(vma_at(t, a)->end, a + 0x2000);
	// What does not change has no turn.
	assert_int_equal(space_protect(t->space, a, 0x6000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 2);
	space_check(t->space);
}

static void what_a_fork_left_takes_nothing_in(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, RW, NULL, 0);
	struct space *child;

	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, VM_READ), 0);
	soft_fill(t->task, a, 2, 1);
	assert_int_equal(space_fork(t->space, t->task, &child), 0);
	assert_int_equal(space_protect(child, a + 0x2000, 0x2000, RW), 0);
	assert_int_equal(child->nr_vmas, 2);
	space_check(child);
	space_put(child);
	assert_int_equal(space_protect(t->space, a + 0x2000, 0x2000, RW), 0);
	assert_int_equal(t->space->nr_vmas, 1);
}

// Memory that was writable once stays apart from what never was, if it may have pages of its own.
static void what_is_accounted_stays_apart(void **state)
{
	struct virt_test *t = *state;
	uint64_t a = soft_map(t->task, 4, VM_READ, NULL, 0);

	for (unsigned touched = 0; touched < 2; touched++) {
		assert_int_equal(space_protect(t->space, a, 0x2000, RW), 0);
		if (touched)
			soft_fill(t->task, a, 2, 1);
		assert_int_equal(space_protect(t->space, a, 0x2000, VM_READ), 0);
		assert_int_equal(t->space->nr_vmas, 1 + touched);
		assert_int_equal(!!(vma_at(t, a)->flags & VM_ACCOUNT), touched);
	}
	// Untouched, but for the account it would join.
	assert_int_equal(space_advise(t->space, t->task, a + 0x2000, 0x2000, 10), 0);
	assert_int_equal(space_advise(t->space, t->task, a + 0x2000, 0x2000, 11), 0);
	assert_int_equal(t->space->nr_vmas, 2);
}

// A hole of an own window that is filled: the new mapping was not touched, and joins on both sides.
static void a_filled_hole_joins_both_sides(void **state)
{
	struct virt_test *t = *state;
	struct map_request r = {.len = 0x6000, .flags = RW, .own = true};
	uint64_t a, got;

	assert_int_equal(space_map(t->space, &r, &a), 0);
	assert_int_equal(space_unmap(t->space, a + 0x2000, 0x2000), 0);
	soft_fill(t->task, a + 0x4000, 2, 1);
	r.addr = a + 0x2000;
	r.len = 0x2000;
	r.fixed = true;
	assert_int_equal(space_map(t->space, &r, &got), 0);
	assert_int_equal(t->space->nr_vmas, 1);
	assert_int_equal(space_unmap(t->space, a + 0x2000, 0x2000), 0);
	soft_fill(t->task, a, 2, 2);
	soft_fill(t->task, a + 0x4000, 2, 3);
	assert_int_equal(space_map(t->space, &r, &got), 0);
	assert_int_equal(t->space->nr_vmas, 1); // they share what they had
	space_check(t->space);
}

static void mappings_of_two_calls_do_not_merge(void **state)
{
	struct virt_test *t = *state;
	uint64_t got;
	struct map_request r = {
		.addr = 0x500000000000, .fixed = true, .len = 0x2000, .flags = RW};

	assert_int_equal(space_map(t->space, &r, &got), 0);
	r.addr += 0x2000;
	assert_int_equal(space_map(t->space, &r, &got), 0);
	assert_int_equal(t->space->nr_vmas, 2); // two windows
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		virt_unit_test(random_operations_agree_with_the_model),
		virt_unit_test(a_protection_undone_merges_back),
		virt_unit_test(parts_touched_apart_still_merge),
		virt_unit_test(the_one_with_an_anon_vma_stays),
		virt_unit_test(what_was_touched_decides_who_merges),
		virt_unit_test(each_merges_when_its_turn_comes),
		virt_unit_test(what_a_fork_left_takes_nothing_in),
		virt_unit_test(what_is_accounted_stays_apart),
		virt_unit_test(a_filled_hole_joins_both_sides),
		virt_unit_test(mappings_of_two_calls_do_not_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
