// SPDX-License-Identifier: MIT
// The parts of the userfaultfd blocker: changes (block_uffd.c), what is put at a place
// (uffd_place.c), serving one fault in a thread of the pool (uffd_serve.c), and what happens where
// an access is refused (uffd_refuse.c).
#ifndef GODWIT_MACHINE_BLOCK_UFFD_H
#define GODWIT_MACHINE_BLOCK_UFFD_H

#include "machine/mmu.h"

#include <linux/userfaultfd.h>
#include <stdint.h>

// The page whose accessor this thread serves, 0: none. map() wakes everybody but those who wait for
// this page: they are woken when the serving is over, so that what an accessor does next (look at
// what it has got, or end) finds nothing half done.
extern _Thread_local uintptr_t uffd_serving __attribute__((tls_model("initial-exec")));

struct rewire;
struct rewire_call;

// A file's bytes, each first access to which the engine will be asked for.
must_check int uffd_map_watched(
	struct rewire *rw, uintptr_t at, size_t size, int fd, uint64_t offset);
// The pages are absent from now on, whatever they were; under the lock.
void uffd_clear_pages(struct rewire_call *call);
// Frames with a permission at the place (ret_filled as of rewire_place()), or none (uffd_place.c).
// An error leaves what was there.
must_check int uffd_place(
	struct rewire_call *call, struct pfn first, enum mmu_prot prot, bool *ret_filled);
must_check int uffd_place_void(struct rewire_call *call);
// Mappings that a failed call tore down come back as the page states say. Pages that were there are
// absent afterwards: their next access asks the engine, as after any loss.
void uffd_mend(struct rewire_call *call);
// Part of a call: n pages from `page` on.
struct rewire_call uffd_part(const struct rewire_call *call, size_t page, size_t n);
void uffd_serve(void *rewire, const struct uffd_msg *msg);
void uffd_refuse(struct mmu *mmu, const struct mmu_fault *fault, enum mmu_fault_result result);
// In a thread of the pool, its accessor woken: until that one has got the SIGBUS that this thread
// refused its access with, if it did, or does not come for it.
void uffd_refusal_wait(struct rewire *rw);

// What an accessor has met who got SIGSEGV in a window.
enum uffd_met {
	UFFD_MET_NOTHING, // that would concern it: it tries again
	UFFD_MET_SEGV,	  // an access that nobody may make
	UFFD_MET_BUS,	  // its own refusal for want of memory, which it takes along
};
// In its signal handler; may sleep.
enum uffd_met uffd_meet(struct mmu *mmu, const struct mmu_fault *fault);

#endif
