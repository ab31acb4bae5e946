// SPDX-License-Identifier: MIT
// Memory that real threads write and read all the time, through plain pointers, while its pages
// move: each writer adds one to its own word of one page after another and finds what it left there;
// a reader never sees a word go back; at the end every word is what was written last.
//
// The words are relaxed atomics: they are shared on purpose.
#ifndef GODWIT_TESTS_WORDS_H
#define GODWIT_TESTS_WORDS_H

#include "../unit/unit.h"

#include <godwit/space.h>

#include <pthread.h>
#include <stdatomic.h>

#define WORD_WRITERS 2u

struct words {
	struct gw_task *task;
	char *buf;
	unsigned long pages, step; // those used, and how many pages it is from one to the next
	atomic_bool stop;
	uint64_t *written[WORD_WRITERS];
};

// A thread of the test; of a writer the index says whose words are its own.
struct actor {
	struct words *words;
	unsigned index;
	pthread_t thread;
};

// In threads, where cmocka's own cannot be used.
static inline void hold(bool cond, const char *what)
{
	if (cond)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static inline _Atomic uint64_t *word(struct words *w, unsigned writer, unsigned long page)
{
	return (_Atomic uint64_t *)(w->buf + page * w->step * GW_PAGE_SIZE + 128 + writer * 2048);
}

static inline void words_init(struct words *w, struct gw_task *task, char *buf, unsigned long pages,
	unsigned long step)
{
	*w = (struct words){.task = task, .buf = buf, .pages = pages, .step = step};
	for (unsigned i = 0; i < WORD_WRITERS; i++)
		w->written[i] = calloc(pages, sizeof(*w->written[i]));
}

static inline void *write_words(void *arg)
{
	struct actor *a = arg;
	struct words *w = a->words;
	uint64_t *written = w->written[a->index];

	hold(!gw_task_attach(w->task), "attach");
	for (uint64_t n = 0; !atomic_load(&w->stop); n++) {
		unsigned long page = n * 7919 % w->pages;
		_Atomic uint64_t *p = word(w, a->index, page);
		uint64_t next = written[page] + 1;

		hold(atomic_load_explicit(p, memory_order_relaxed) == next - 1, "a store was lost");
		atomic_store_explicit(p, next, memory_order_relaxed);
		written[page] = next;
	}
	hold(!gw_task_attach(NULL), "detach");
	return NULL;
}

static inline void *read_words(void *arg)
{
	struct actor *a = arg;
	struct words *w = a->words;
	uint64_t *seen = calloc(w->pages, sizeof(*seen));

	hold(!gw_task_attach(w->task), "attach");
	for (uint64_t n = 0; !atomic_load(&w->stop); n++) {
		unsigned long page = n * 6007 % w->pages;
		uint64_t now = atomic_load_explicit(word(w, 0, page), memory_order_relaxed);

		hold(now >= seen[page], "a word went back");
		seen[page] = now;
	}
	hold(!gw_task_attach(NULL), "detach");
	free(seen);
	return NULL;
}

static inline void start_actors(struct actor *actor, unsigned nr, void *(*const *role)(void *),
	struct words *w)
{
	for (unsigned i = 0; i < nr; i++) {
		actor[i] = (struct actor){.words = w, .index = i};
		assert_int_equal(pthread_create(&actor[i].thread, NULL, role[i], &actor[i]), 0);
	}
}

// How many writes there were.
static inline unsigned long stop_and_verify(struct actor *actor, unsigned nr, struct words *w)
{
	unsigned long writes = 0;

	atomic_store(&w->stop, true);
	for (unsigned i = 0; i < nr; i++)
		pthread_join(actor[i].thread, NULL);
	for (unsigned i = 0; i < WORD_WRITERS; i++) {
		for (unsigned long p = 0; p < w->pages; p++) {
			assert_int_equal(atomic_load_explicit(word(w, i, p), memory_order_relaxed),
				w->written[i][p]);
			writes += w->written[i][p];
		}
		free(w->written[i]);
	}
	return writes;
}

#endif
