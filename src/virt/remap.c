// SPDX-License-Identifier: MIT
// mremap: a mapping grows, shrinks, or moves to other addresses with its pages.
//
// Shrinking unmaps the tail. Growing happens in place when the addresses behind are free and the
// region's window reaches that far. Otherwise, and when neither length nor place are new, the
// mapping moves:
//
//	1  a region for the new place, splits at the ends of the old one, page tables for whatever
//	   has to go there: everything that can fail
//	2  under the rmap locks for write, table by table under both page-table locks: entries leave
//	   the old place, the host loses it, entries arrive, the host gets them
//	3  the vma itself gets its new place; its page offset, by which rmap finds it, stays
//
// As the rmap locks are held throughout step 2, a walk sees the mapping at one place or the other.
// Migration entries move like others: who restores them finds them by rmap at the new place, and
// who waits at the old one wakes up to find nothing there.
//
// Where old and new place lie alike in their 2 MiB, PMD entries move whole, be they huge entries or
// tables; otherwise huge entries are split first. A host that cannot map a page at the new place
// is asked again by the first access.
//
// Locks: mmap_lock for write, the vma's rmap locks, two page-table locks of one level.
// What can fail: -EINVAL, -EFAULT (not one vma, or one that may not grow), -EEXIST, -ENOMEM; with
// nothing changed.
#include "virt/vma.h"

#include "base/assert.h"
#include "virt/rmap.h"

#include <errno.h>

struct move {
	struct space *space;
	struct task *task; // whose tables they are
	struct vma *vma;
	struct region *to;
	uint64_t from_addr, to_addr, len;
	uint64_t tail_end;     // what lies behind the part that moves is unmapped up to here
	struct gather out, in; // of the old and the new place
};

// The next stretch that lies in one table at both places.
static uint64_t stretch(const struct move *m, uint64_t done)
{
	uint64_t from_left = PMD_SIZE - ((m->from_addr + done) & ~PMD_MASK);
	uint64_t to_left = PMD_SIZE - ((m->to_addr + done) & ~PMD_MASK);

	return min(min(from_left, to_left), m->len - done);
}

static struct vaddr at(uint64_t addr)
{
	return vaddr_of(addr);
}

static struct pte pmd_entry(struct space *space, uint64_t addr)
{
	struct page_table *pmd = pmd_table_lock(space, at(addr));
	struct pte e = {0};

	if (pmd) {
		e = table_entry(pmd, pmd_index(at(addr)));
		page_table_unlock(pmd);
	}
	return e;
}

// ---- 1: what can fail

// A huge entry can move as a whole or not at all; then it is split before anything else.
static int prepare_stretch(struct move *m, uint64_t done, uint64_t size)
{
	uint64_t from = m->from_addr + done, to = m->to_addr + done;
	struct pte e = pmd_entry(m->space, from);
	struct page_table *table;
	int err = 0;

	if (pte_none(e))
		return 0;
	if (size == PMD_SIZE) {
		table = pmd_table_alloc_lock(m->space, m->task, at(to), &err);
	} else {
		if (pte_huge(e))
			err = vma_split_huge_at(m->vma, from & ~PMD_MASK ? from : from + size);
		if (err)
			return err;
		table = pte_table_alloc_lock(m->space, m->task, at(to), &err);
	}
	if (table)
		page_table_unlock(table);
	return err;
}

static int prepare_tables(struct move *m)
{
	uint64_t size;

	for (uint64_t done = 0; done < m->len; done += size) {
		size = stretch(m, done);
		int err = prepare_stretch(m, done, size);
		if (err)
			return err;
	}
	return 0;
}

// ---- 2: moving

// Two tables of one level in the order of their addresses, or one table once, for both gathers.
static void adopt_pair(struct move *m, struct page_table *from, struct page_table *to)
	NO_THREAD_SAFETY_ANALYSIS
{
	struct page_table *first = from < to ? from : to, *second = from < to ? to : from;

	mutex_lock(&first->lock);
	if (second != first)
		mutex_lock(&second->lock);
	gather_adopt(&m->out, m->space, from);
	gather_adopt(&m->in, m->space, to);
}

static void release_pair(struct move *m)
{
	(void)gather_flush(&m->in);
	if (m->in.table == m->out.table)
		m->in.table = NULL;
	gather_release(&m->in);
	gather_release(&m->out);
}

// The tables of a level at both places stay where they are: mmap_lock and the rmap locks are ours.
static struct page_table *find(struct page_table *locked)
{
	if (locked)
		page_table_unlock(locked);
	return locked;
}

// Both tables locked, here and below.
static void host_clear(struct move *m, uint64_t done, unsigned nr)
{
	gather_clear(&m->out, vma_host(m->vma, m->from_addr + done), nr);
	(void)gather_flush(&m->out);
}

static void host_map(struct move *m, struct pte e, uint64_t done, unsigned nr)
{
	if (pte_present(e))
		gather_map(&m->in, region_host(m->to, m->to_addr + done), pte_pfn(e), nr,
			vma_pte_prot(m->vma, e));
}

static void move_entries(struct move *m, struct page_table *from, struct page_table *to,
	uint64_t done, unsigned nr)
{
	unsigned from_index = pte_index(at(m->from_addr + done));
	unsigned to_index = pte_index(at(m->to_addr + done));

	host_clear(m, done, nr);
	for (unsigned i = 0; i < nr; i++) {
		struct pte e = table_entry(from, from_index + i);
		if (pte_none(e))
			continue;
		table_set_entry(from, from_index + i, (struct pte){0});
		table_set_entry(to, to_index + i, e);
		host_map(m, e, done + i * PAGE_SIZE, 1);
	}
}

// PTE by PTE, between two tables.
static void move_stretch(struct move *m, uint64_t done, uint64_t size)
{
	struct page_table *from = find(pte_table_lock(m->space, at(m->from_addr + done)));
	struct page_table *to = find(pte_table_lock(m->space, at(m->to_addr + done)));

	if (!from)
		return;
	assert_that(to, "no table at %#lx", (unsigned long)(m->to_addr + done));
	adopt_pair(m, from, to);
	move_entries(m, from, to, done, (unsigned)(size >> PAGE_SHIFT));
	release_pair(m);
}

static void host_map_table(struct move *m, const struct page_table *table, uint64_t done)
{
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		host_map(m, table_entry(table, i), done + i * PAGE_SIZE, 1);
}

// The entry and, if it leads to one, its table, which is locked from here on: a walker that waits
// for it must look again.
static void move_pmd_entry(struct move *m, struct page_table *from, struct page_table *to,
	uint64_t done) NO_THREAD_SAFETY_ANALYSIS
{
	unsigned from_index = pmd_index(at(m->from_addr + done));
	unsigned to_index = pmd_index(at(m->to_addr + done));
	struct pte e = table_entry(from, from_index);
	struct page_table *table = pmd_entry_table(e);

	if (pte_none(e))
		return;
	assert_that(pte_none(table_entry(to, to_index)), "%#lx is in use",
		(unsigned long)(m->to_addr + done));
	if (table)
		mutex_lock_nested(&table->lock);
	host_clear(m, done, PTRS_PER_TABLE);
	table_set_entry(from, from_index, (struct pte){0});
	table_set_entry(to, to_index, e);
	if (table) {
		table->base = m->to_addr + done;
		host_map_table(m, table, done);
		(void)gather_flush(&m->in);
		mutex_unlock(&table->lock);
	} else {
		host_map(m, e, done, PTRS_PER_TABLE);
	}
}

static void move_whole_pmd(struct move *m, uint64_t done)
{
	struct page_table *from = find(pmd_table_lock(m->space, at(m->from_addr + done)));
	struct page_table *to = find(pmd_table_lock(m->space, at(m->to_addr + done)));

	if (!from || !to) // nothing there; or nothing was there when tables were prepared
		return;
	adopt_pair(m, from, to);
	move_pmd_entry(m, from, to, done);
	release_pair(m);
}

static void move_all(struct move *m)
{
	uint64_t size;

	gather_init(&m->out, m->space->mm);
	gather_init(&m->in, m->space->mm);
	for (uint64_t done = 0; done < m->len; done += size) {
		size = stretch(m, done);
		if (size == PMD_SIZE)
			move_whole_pmd(m, done);
		else
			move_stretch(m, done, size);
	}
	(void)gather_finish(&m->in); // what the host refused is asked for again by faults
	(void)gather_finish(&m->out);
}

// ---- 3: the vma

// rmap locks held for write. Without pages of its own nothing is keyed by its old offset.
static void move_vma(struct move *m, uint64_t new_len)
{
	struct vma *vma = m->vma;

	vma_rmap_remove(vma);
	vma->start = m->to_addr;
	vma->end = m->to_addr + new_len;
	vma->host = region_host(m->to, m->to_addr);
	if (!vma->object && !vma->anon_vma && !(vma->flags & VM_HUGETLB))
		vma->pgoff = m->to_addr >> PAGE_SHIFT;
	vma_rmap_insert(vma);
}

static void count_growth(struct vma *vma, uint64_t old_len, uint64_t new_len)
{
	if (vma->flags & VM_LOCKED)
		vma->space->locked_vm += ((long)new_len - (long)old_len) / (long)PAGE_SIZE;
}

static void commit(struct move *m, uint64_t new_len)
{
	struct region *old = m->vma->region;
	struct mm_invalidation inv;

	mm_notify_start(&inv, m->space, m->from_addr, m->from_addr + m->len, MM_INVALIDATE_UNMAP);
	vma_rmap_lock(m->vma);
	move_all(m);
	move_vma(m, new_len);
	vma_rmap_unlock(m->vma);
	m->vma->region = m->to;
	region_get(m->to);
	region_put(old, m->space);
	vma_replace(m->vma);
	count_growth(m->vma, m->len, new_len);
	mm_notify_end(&inv);
	space_free_tables(m->space, m->from_addr, m->from_addr + m->len);
	vma_merge_around(m->vma); // a hole in a region that it filled
}

// ---- The system call

// Where tables can move whole, the new place lies in its 2 MiB as the old one does.
static int open_target(struct move *m, uint64_t new_len, uint64_t new_addr, bool fixed)
{
	struct space *space = m->space;
	bool own = region_is_own(m->vma->region), big = new_len >= PMD_SIZE;
	uint64_t align = big ? PMD_SIZE : PAGE_SIZE, pad = big ? m->from_addr & ~PMD_MASK : 0;
	int err;

	m->to_addr = new_addr;
	if (fixed && !space_range_free(space, new_addr, new_addr + new_len))
		return -EEXIST;
	if (fixed)
		return region_open(space, &m->to_addr, new_len, PAGE_SIZE, own, &m->to);
	m->to_addr = 0;
	if (own) {
		err = region_open(space, &m->to_addr, pad + new_len, align, true, &m->to);
		m->to_addr += pad;
		return err;
	}
	m->to_addr = space_find_room(space, pad + new_len, align);
	if (!m->to_addr)
		return -ENOMEM;
	m->to_addr += pad;
	return region_open(space, &m->to_addr, new_len, align, false, &m->to);
}

static int split_old(struct move *m, uint64_t end)
{
	int err = space_split_range(m->space, m->from_addr, m->tail_end);

	if (!err && end < m->tail_end)
		err = space_split_range(m->space, m->from_addr, end);
	return err;
}

static int move_mapping(struct move *m, uint64_t new_len, uint64_t new_addr, bool fixed)
{
	struct space *space = m->space;
	uint64_t end = m->from_addr + m->len;
	int err = open_target(m, new_len, new_addr, fixed);

	if (err)
		return err;
	space_free_tables(space, m->to_addr, m->to_addr + new_len);
	err = split_old(m, end);
	if (!err) {
		m->vma = vma_lookup(space, m->from_addr);
		err = prepare_tables(m);
	}
	if (err) {
		space_free_tables(space, m->to_addr, m->to_addr + new_len);
		space_unsplit(space, m->from_addr);
		space_unsplit(space, end);
		space_unsplit(space, m->tail_end);
		region_discard(m->to, space);
		return err;
	}
	commit(m, new_len); // from here on nothing can fail
	if (end < m->tail_end)
		space_remove_range(space, end, m->tail_end);
	return 0;
}

static bool grow_in_place(struct vma *vma, uint64_t end, uint64_t more)
{
	if (vma->end != end || !region_covers(vma->region, vma->start, vma_pages(vma) * PAGE_SIZE +
								    more) ||
		!space_range_free(vma->space, end, end + more))
		return false;
	vma_rmap_lock(vma);
	vma_rmap_remove(vma);
	vma->end += more;
	vma_rmap_insert(vma);
	vma_rmap_unlock(vma);
	vma_replace(vma);
	vma_forget_refusals(vma, end, end + more);
	count_growth(vma, 0, more);
	vma_merge_next(vma);
	return true;
}

static int shrink_in_place(struct move *m, uint64_t new_len)
{
	uint64_t keep_end = m->from_addr + new_len;
	int err = space_split_range(m->space, keep_end, m->tail_end);

	if (!err)
		space_remove_range(m->space, keep_end, m->tail_end);
	m->to_addr = m->from_addr;
	return err;
}

static int remap(struct move *m, uint64_t new_len, uint64_t new_addr, bool fixed)
{
	if (!fixed && new_len < m->len)
		return shrink_in_place(m, new_len);
	if (!fixed && new_len > m->len &&
		grow_in_place(m->vma, m->tail_end, new_len - m->len)) {
		m->to_addr = m->from_addr;
		return 0;
	}
	m->len = min(m->len, new_len);
	return move_mapping(m, new_len, new_addr, fixed);
}

// What of hugetlb is remapped: whole huge pages.
static int round_to_huge(struct move *m, uint64_t size, uint64_t *new_len, uint64_t new_addr)
{
	if ((m->from_addr | new_addr) & (size - 1))
		return -EINVAL;
	m->len = ALIGN_UP(m->len, size);
	m->tail_end = m->from_addr + m->len;
	*new_len = ALIGN_UP(*new_len, size);
	return *new_len > m->len ? -EINVAL : 0;
}

// The vma of the old range, if it may be remapped so; all of it, unless it only loses its tail.
// new_addr: 0 for any.
static int check_old(struct move *m, uint64_t *new_len, uint64_t new_addr)
{
	struct vma *vma = vma_lookup(m->space, m->from_addr);
	int err = 0;

	if (!vma)
		return -EFAULT;
	if (vma->flags & VM_HUGETLB)
		err = round_to_huge(m, vma_page_size(vma), new_len, new_addr);
	if (!err && new_addr && new_addr < m->tail_end && m->from_addr < new_addr + *new_len)
		err = -EINVAL;
	if (err)
		return err;
	m->vma = vma;
	if (!new_addr && *new_len < m->len)
		return 0; // munmap() of the tail, whatever lies there
	if (m->tail_end > vma->end ||
		(*new_len > m->len && vma->flags & (VM_DONTEXPAND | VM_PFNMAP)))
		return -EFAULT;
	return 0;
}

int space_remap(struct space *space, struct task *task, uint64_t addr, uint64_t len,
	uint64_t new_len, uint64_t new_addr, bool fixed, uint64_t *ret_addr)
{
	struct move m = {.space = space, .task = task, .from_addr = addr};
	uint64_t end, new_end;
	int err = len && new_len ? space_range(addr, len, &end) : -EINVAL;

	if (!err && !fixed && new_len > SPACE_END && ALIGN_UP(new_len, PAGE_SIZE))
		return -ENOMEM; // no room is that large
	if (!err)
		err = space_range(fixed ? new_addr : 0, new_len, &new_end);
	if (!err && fixed && new_addr < SPACE_START)
		err = -EINVAL;
	if (err)
		return err;
	m.len = end - addr;
	m.tail_end = end;
	new_len = ALIGN_UP(new_len, PAGE_SIZE);
	// The items by which KSM finds its pages' mappings are keyed by address.
	err = space_break_ksm(space, addr, end);
	if (err)
		return err;
	write_lock(&space->mmap_lock);
	err = check_old(&m, &new_len, fixed ? new_addr : 0);
	if (!err)
		err = remap(&m, new_len, new_addr, fixed);
	space_write_unlock(space);
	if (!err)
		*ret_addr = m.to_addr;
	return err;
}
