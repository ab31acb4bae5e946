// SPDX-License-Identifier: MIT
// A small slab-like store whose objects can move: the example of a driver with migration callbacks.
//
// Objects of one size lie side by side on pages of the driver's. A user never has an object's
// address, only its number; the store knows on which page the number lies, so it can follow when
// the page moves.
#ifndef EXAMPLES_STORE_H
#define EXAMPLES_STORE_H

#include <godwit/machine.h>
#include <stdbool.h>

struct store;

// Objects of `bytes` each (1..4096). The machine must outlive the store.
int store_create(struct gw_machine *machine, unsigned bytes, struct store **ret_store);
void store_destroy(struct store *store);

// A new object with these contents, on a page of that node (-1: any). Returns its number, or a
// negative errno.
long store_add(struct store *store, int node, const void *bytes);
void store_remove(struct store *store, long number);
bool store_read(struct store *store, long number, void *bytes); // false: no such object
bool store_write(struct store *store, long number, const void *bytes);

// All objects on node `from` to node `to`. Returns pages that stayed, or a negative errno.
long store_move(struct store *store, unsigned from, unsigned to);
unsigned long store_pages_on(struct store *store, unsigned node);

#endif
