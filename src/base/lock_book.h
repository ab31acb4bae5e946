// SPDX-License-Identifier: MIT
// What each thread holds, for those who print it.
#ifndef GODWIT_BASE_LOCK_BOOK_H
#define GODWIT_BASE_LOCK_BOOK_H

struct lock_book;

// NULL without GODWIT_DEBUG; printing NULL prints nothing.
const struct lock_book *lock_book_self(void);
void lock_book_print(const struct lock_book *book);

#endif
