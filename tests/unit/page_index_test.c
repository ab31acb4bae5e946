// SPDX-License-Identifier: MIT
// The page index against a model that is an array, and its failures.
#include "unit.h"

#include "base/fault_inject.h"
#include "base/meta.h"
#include "virt/page_index.h"

#include <errno.h>

#define MODEL_SLOTS 9000u

// Frames are only numbers here: a folio is its place in the frame array.
static struct folio *folio_number(uint64_t n)
{
	return (struct folio *)pfn_frame(pfn_of(n));
}

struct model {
	uint32_t folio[MODEL_SLOTS]; // 0: none
	bool tag[PAGE_INDEX_TAGS][MODEL_SLOTS];
};

static bool model_is_free(const struct model *m, uint64_t at, uint64_t nr)
{
	for (uint64_t i = at; i < at + nr; i++)
		if (m->folio[i])
			return false;
	return true;
}

static int model_next(const struct model *m, int tag, uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i <= last && i < MODEL_SLOTS; i++)
		if (m->folio[i] && (tag < 0 || m->tag[tag][i]))
			return (int)i;
	return -1;
}

// The model's slots lie at a far offset too, so that the tree is high.
static void compare(const struct page_index *index, const struct model *m, uint64_t base,
	uint64_t *random)
{
	assert_int_equal(page_index_check(index), 0);
	for (unsigned round = 0; round < 40; round++) {
		uint64_t first = test_random(random) % MODEL_SLOTS, at = 0;
		uint64_t last = first + test_random(random) % 300;
		int tag = (int)(test_random(random) % (PAGE_INDEX_TAGS + 1)) - 1;
		int expected = model_next(m, tag, first, last);
		struct folio *folio =
			tag < 0 ? page_index_next(index, base + first, base + last, &at)
				: page_index_next_tagged(index, (enum page_index_tag)tag,
					  base + first, base + last, &at);

		if (expected < 0) {
			assert_null(folio);
			continue;
		}
		assert_ptr_equal(folio, folio_number(m->folio[expected]));
		assert_int_equal(at, base + (uint64_t)expected);
		assert_ptr_equal(page_index_find(index, at), folio);
		for (int t = 0; t < PAGE_INDEX_TAGS; t++)
			assert_int_equal(page_index_test_tag(index, at, (enum page_index_tag)t),
				m->tag[t][expected]);
	}
}

static void one_operation(struct page_index *index, struct model *m, uint64_t base,
	uint64_t *random)
{
	static const uint64_t lengths[] = {1, 1, 1, 4, 16, 64, 512};
	uint64_t nr = lengths[test_random(random) % ARRAY_SIZE(lengths)];
	uint64_t at = test_random(random) % (MODEL_SLOTS - nr);
	uint32_t number = 1 + (uint32_t)(test_random(random) % 100000);
	enum page_index_tag tag = test_random(random) % PAGE_INDEX_TAGS;
	bool set = false;

	switch (test_random(random) % 6) {
	case 0:
	case 1: {
		bool is_free = model_is_free(m, at, nr);
		int err = page_index_insert(index, base + at, nr, folio_number(number));
		assert_int_equal(err, is_free ? 0 : -EEXIST);
		for (uint64_t i = at; is_free && i < at + nr; i++)
			m->folio[i] = number;
		break;
	}
	case 2:
		page_index_remove(index, base + at, nr);
		for (uint64_t i = at; i < at + nr; i++) {
			m->folio[i] = 0;
			for (unsigned t = 0; t < PAGE_INDEX_TAGS; t++)
				m->tag[t][i] = false;
		}
		break;
	case 3: {
		int found = model_next(m, -1, at, MODEL_SLOTS);
		if (found < 0)
			break;
		page_index_replace(index, base + (uint64_t)found, 1, folio_number(number));
		m->folio[found] = number;
		break;
	}
	case 4:
		set = true;
		page_index_set_tag(index, base + at, nr, tag);
		fallthrough;
	case 5:
		if (!set)
			page_index_clear_tag(index, base + at, nr, tag);
		for (uint64_t i = at; i < at + nr; i++)
			m->tag[tag][i] = set && m->folio[i];
		break;
	}
}

static void random_against_model(void **state)
{
	uint64_t random = test_seed();
	static const uint64_t bases[] = {0, 1000, 1ull << 33};

	(void)state;
	for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
		struct model *m = calloc(1, sizeof(*m));
		struct page_index index = {0};
		size_t before = meta_in_use();

		for (unsigned i = 0; i < 3000; i++) {
			one_operation(&index, m, bases[b], &random);
			if (i % 50 == 0)
				compare(&index, m, bases[b], &random);
		}
		compare(&index, m, bases[b], &random);
		page_index_remove(&index, bases[b], MODEL_SLOTS);
		assert_null(index.root);
		assert_int_equal(meta_in_use(), before);
		free(m);
	}
}

static void limits(void **state)
{
	struct page_index index = {0};
	uint64_t at;

	(void)state;
	assert_int_equal(page_index_insert(&index, PAGE_INDEX_MAX + 1, 1, folio_number(1)), -EINVAL);
	assert_int_equal(page_index_insert(&index, PAGE_INDEX_MAX, 2, folio_number(1)), -EINVAL);
	assert_int_equal(page_index_insert(&index, PAGE_INDEX_MAX, 1, folio_number(7)), 0);
	assert_ptr_equal(page_index_next(&index, 0, UINT64_MAX, &at), folio_number(7));
	assert_int_equal(at, PAGE_INDEX_MAX);
	assert_int_equal(page_index_insert(&index, 0, 1, folio_number(8)), 0);
	assert_int_equal(page_index_check(&index), 0);
	assert_null(page_index_find(&index, UINT64_MAX));
	page_index_remove(&index, PAGE_INDEX_MAX, 1);
	assert_int_equal(index.height, 1);
	page_index_release(&index);
	assert_null(index.root);
}

// Insertion fails at each allocation in turn; nothing is left behind.
static void insertion_fails(void **state)
{
	static const struct {
		uint64_t there; // 0: empty index
		uint64_t at, nr;
	} rows[] = {{0, 5, 1}, {0, 100000, 1}, {3, 1ull << 30, 512}, {4000, 60, 512}};

	(void)state;
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
		bool failed = true;
		for (uint64_t n = 0; failed; n++) {
			struct page_index index = {0};
			size_t empty = meta_in_use();

			if (rows[r].there)
				assert_int_equal(page_index_insert(&index, rows[r].there, 1,
							 folio_number(9)),
					0);
			size_t before = meta_in_use();
			fault_arm(FI_META, FI_THREAD, n, 1);
			int err = page_index_insert(&index, rows[r].at, rows[r].nr,
				folio_number(10));
			failed = fault_disarm(FI_META);
			assert_int_equal(err, failed ? -ENOMEM : 0);
			assert_int_equal(page_index_check(&index), 0);
			if (failed)
				assert_int_equal(meta_in_use(), before);
			page_index_release(&index);
			assert_int_equal(meta_in_use(), empty);
		}
	}
}

static int setup(void **state)
{
	(void)state;
	return vmemmap_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_against_model),
		cmocka_unit_test(limits),
		cmocka_unit_test(insertion_fails),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
