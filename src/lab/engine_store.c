// SPDX-License-Identifier: MIT
// store: the example driver (examples/store.c) in a story. Each object is filled with bytes made
// from its number, so that check needs no memory of its own.
#include "lab/engine_machine.h"

#include "store.h" // examples/

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine_store {
	struct store *store;
	unsigned bytes;
	long count;
	long *numbers;
};

static void pattern(unsigned char *bytes, unsigned n, long object)
{
	for (unsigned i = 0; i < n; i++)
		bytes[i] = (unsigned char)((unsigned long)object * 131 + i * 7 + 3);
}

void engine_store_free(struct engine_store *s)
{
	if (!s)
		return;
	if (s->store)
		store_destroy(s->store);
	free(s->numbers);
	free(s);
}

static int make(struct engine_machine *m, const struct operand_store *want,
	struct lab_result *result)
{
	struct engine_store *s = calloc(1, sizeof *s);
	unsigned char bytes[STORY_PAGE_SIZE];
	int err;

	if (!s)
		return lab_machine_fail(&m->base, -ENOMEM, "out of memory");
	m->stores[want->index] = s;
	s->bytes = (unsigned)want->object;
	s->count = (long)(want->size / want->object);
	s->numbers = calloc((size_t)s->count, sizeof *s->numbers);
	err = s->numbers ? store_create(m->machine, s->bytes, &s->store) : -ENOMEM;
	for (long i = 0; !err && i < s->count; i++) {
		pattern(bytes, s->bytes, i);
		s->numbers[i] = store_add(s->store, want->node, bytes);
		err = s->numbers[i] < 0 ? (int)s->numbers[i] : 0;
	}
	return engine_result(result, err);
}

static int check(struct engine_store *s, struct lab_result *result)
{
	unsigned char want[STORY_PAGE_SIZE], found[STORY_PAGE_SIZE];

	for (long i = 0; i < s->count; i++) {
		pattern(want, s->bytes, i);
		if (store_read(s->store, s->numbers[i], found) && !memcmp(want, found, s->bytes))
			continue;
		result->mismatch = true;
		result->address = (uint64_t)i;
		for (unsigned b = 0; b < s->bytes; b++) {
			if (want[b] != found[b]) {
				result->found = found[b];
				break;
			}
		}
		break;
	}
	return 0;
}

static int where(struct engine_machine *m, struct engine_store *s, struct lab_result *result)
{
	char text[GW_MAX_NODES * 16] = "";
	size_t n = 0;

	for (unsigned node = 0; node < gw_machine_nodes(m->machine); node++) {
		unsigned long pages = store_pages_on(s->store, node);

		if (pages)
			n += (size_t)snprintf(text + n, sizeof text - n, "%sN%u=%lu",
				n ? " " : "", node, pages);
	}
	return lab_result_text(result, text);
}

int engine_store(struct lab_machine *machine, const struct command *c, struct lab_result *result)
{
	struct engine_machine *m = engine_of(machine);
	struct engine_store *s = m->stores[c->store.index];

	switch (c->store.verb) {
	case STORE_NEW:
		return make(m, &c->store, result);
	case STORE_MOVE:
		return engine_result(result, store_move(s->store, c->store.from, c->store.to));
	case STORE_CHECK:
		return check(s, result);
	case STORE_WHERE:
		break;
	}
	return where(m, s, result);
}
