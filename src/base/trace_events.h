// SPDX-License-Identifier: MIT
// The trace events: the names and field names of Linux 6.12's tracepoints, plus the symbols that
// stand for the values of some fields, with the kernel's numbers.
//   E(name, fields), fields: F(type, name) ...
// Types: D signed decimal, U unsigned decimal, H hexadecimal with 0x, P an address in hexadecimal
// without it, S text (one a event at most, 31 bytes kept), L a power of two, given as its exponent,
// and the symbols: MODE, REASON, SCAN, COMPACT, FEEDBACK, PRIORITY, ZONE, SYNC, SKIP.
// Events are printed as "name=value ...", or as Linux prints them, where that is another text.
#ifndef GODWIT_BASE_TRACE_EVENTS_H
#define GODWIT_BASE_TRACE_EVENTS_H

// clang-format off
#define GODWIT_TRACE_EVENTS(E, F) \
	E(mm_migrate_pages, F(U, succeeded) F(U, failed) F(U, thp_succeeded) F(U, thp_failed) \
		F(U, thp_split) F(U, large_folio_split) F(MODE, mode) F(REASON, reason)) \
	E(mm_migrate_pages_start, F(MODE, mode) F(REASON, reason)) \
	E(set_migration_pte, F(P, addr) F(P, pte) F(D, order)) \
	E(remove_migration_pte, F(P, addr) F(P, pte) F(D, order)) \
	E(set_migration_pmd, F(P, addr) F(P, pmd)) \
	E(remove_migration_pmd, F(P, addr) F(P, pmd)) \
	E(mm_compaction_isolate_migratepages, \
		F(H, start_pfn) F(H, end_pfn) F(U, nr_scanned) F(U, nr_taken)) \
	E(mm_compaction_isolate_freepages, \
		F(H, start_pfn) F(H, end_pfn) F(U, nr_scanned) F(U, nr_taken)) \
	E(mm_compaction_fast_isolate_freepages, \
		F(H, start_pfn) F(H, end_pfn) F(U, nr_scanned) F(U, nr_taken)) \
	E(mm_compaction_migratepages, F(U, nr_migrated) F(U, nr_failed)) \
	E(mm_compaction_begin, F(H, zone_start) F(H, migrate_pfn) F(H, free_pfn) F(H, zone_end) \
		F(SYNC, sync)) \
	E(mm_compaction_end, F(H, zone_start) F(H, migrate_pfn) F(H, free_pfn) F(H, zone_end) \
		F(SYNC, sync) F(COMPACT, status)) \
	E(mm_compaction_try_to_compact_pages, F(D, order) F(H, gfp_mask) F(D, prio)) \
	E(mm_compaction_finished, F(D, nid) F(ZONE, idx) F(D, order) F(COMPACT, ret)) \
	E(mm_compaction_suitable, F(D, nid) F(ZONE, idx) F(D, order) F(COMPACT, ret)) \
	E(mm_compaction_deferred, F(D, nid) F(ZONE, idx) F(D, order) F(U, considered) \
		F(L, defer_shift) F(D, order_failed)) \
	E(mm_compaction_defer_compaction, F(D, nid) F(ZONE, idx) F(D, order) F(U, considered) \
		F(L, defer_shift) F(D, order_failed)) \
	E(mm_compaction_defer_reset, F(D, nid) F(ZONE, idx) F(D, order) F(U, considered) \
		F(L, defer_shift) F(D, order_failed)) \
	E(mm_compaction_kcompactd_sleep, F(D, nid)) \
	E(mm_compaction_wakeup_kcompactd, F(D, nid) F(D, order) F(ZONE, highest_zoneidx)) \
	E(mm_compaction_kcompactd_wake, F(D, nid) F(D, order) F(ZONE, highest_zoneidx)) \
	E(compact_retry, F(D, order) F(PRIORITY, priority) F(FEEDBACK, result) F(D, retries) \
		F(D, max_retries) F(D, ret)) \
	E(mm_khugepaged_scan_pmd, F(P, mm) F(H, pfn) F(D, writable) F(D, referenced) \
		F(D, none_or_zero) F(SCAN, status) F(D, unmapped)) \
	E(mm_khugepaged_scan_file, F(P, mm) F(H, pfn) F(S, filename) F(D, present) F(D, swap) \
		F(SCAN, result)) \
	E(mm_khugepaged_collapse_file, F(P, mm) F(H, hpfn) F(U, index) F(P, addr) F(D, is_shmem) \
		F(S, filename) F(D, nr) F(SCAN, result)) \
	E(mm_collapse_huge_page, F(P, mm) F(D, isolated) F(SCAN, status)) \
	E(mm_collapse_huge_page_isolate, F(H, pfn) F(D, none_or_zero) F(D, referenced) \
		F(D, writable) F(SCAN, status)) \
	E(mm_collapse_huge_page_swapin, F(P, mm) F(D, swapped_in) F(D, referenced) F(D, ret)) \
	E(mm_page_alloc_extfrag, F(H, pfn) F(D, alloc_order) F(D, fallback_order) \
		F(D, alloc_migratetype) F(D, fallback_migratetype) F(D, change_ownership)) \
	E(test_pages_isolated, F(H, start_pfn) F(H, end_pfn) F(H, fin_pfn)) \
	E(cma_alloc_start, F(S, name) F(U, count) F(U, align)) \
	E(cma_alloc_finish, F(S, name) F(H, pfn) F(P, page) F(U, count) F(U, align) F(D, errorno)) \
	E(cma_alloc_busy_retry, F(S, name) F(H, pfn) F(P, page) F(U, count) F(U, align)) \
	E(cma_release, F(S, name) F(H, pfn) F(P, page) F(U, count)) \
	E(ksm_start_scan, F(D, seq) F(U, rmap_entries)) \
	E(ksm_stop_scan, F(D, seq) F(U, rmap_entries)) \
	E(ksm_enter, F(P, mm)) \
	E(ksm_exit, F(P, mm)) \
	E(ksm_merge_one_page, F(H, pfn) F(P, rmap_item) F(P, mm) F(D, err)) \
	E(ksm_merge_with_ksm_page, F(P, ksm_page) F(H, pfn) F(P, rmap_item) F(P, mm) F(D, err)) \
	E(ksm_remove_ksm_page, F(H, pfn)) \
	E(ksm_remove_rmap_item, F(H, pfn) F(P, rmap_item) F(P, mm)) \
	E(ksm_advisor, F(D, scan_time) F(U, pages_to_scan) F(U, cpu_percent)) \
	E(sched_move_numa, F(D, pid) F(D, tgid) F(D, ngid) F(D, src_cpu) F(D, src_nid) \
		F(D, dst_cpu) F(D, dst_nid)) \
	E(sched_stick_numa, F(D, src_pid) F(D, src_tgid) F(D, src_ngid) F(D, src_cpu) \
		F(D, src_nid) F(D, dst_pid) F(D, dst_tgid) F(D, dst_ngid) F(D, dst_cpu) \
		F(D, dst_nid)) \
	E(sched_swap_numa, F(D, src_pid) F(D, src_tgid) F(D, src_ngid) F(D, src_cpu) \
		F(D, src_nid) F(D, dst_pid) F(D, dst_tgid) F(D, dst_ngid) F(D, dst_cpu) \
		F(D, dst_nid)) \
	E(sched_skip_vma_numa, F(P, numa_scan_offset) F(P, vm_start) F(P, vm_end) F(SKIP, reason))

// T(name, text): $field stands for its value.
#define GODWIT_TRACE_TEXTS(T) \
	T(mm_migrate_pages, "nr_succeeded=$succeeded nr_failed=$failed " \
		"nr_thp_succeeded=$thp_succeeded nr_thp_failed=$thp_failed " \
		"nr_thp_split=$thp_split nr_split=$large_folio_split mode=$mode reason=$reason") \
	T(set_migration_pte, "addr=$addr, pte=$pte order=$order") \
	T(remove_migration_pte, "addr=$addr, pte=$pte order=$order") \
	T(set_migration_pmd, "addr=$addr, pmd=$pmd") \
	T(remove_migration_pmd, "addr=$addr, pmd=$pmd") \
	T(mm_compaction_isolate_migratepages, \
		"range=($start_pfn ~ $end_pfn) nr_scanned=$nr_scanned nr_taken=$nr_taken") \
	T(mm_compaction_isolate_freepages, \
		"range=($start_pfn ~ $end_pfn) nr_scanned=$nr_scanned nr_taken=$nr_taken") \
	T(mm_compaction_fast_isolate_freepages, \
		"range=($start_pfn ~ $end_pfn) nr_scanned=$nr_scanned nr_taken=$nr_taken") \
	T(mm_compaction_begin, "zone_start=$zone_start migrate_pfn=$migrate_pfn " \
		"free_pfn=$free_pfn zone_end=$zone_end, mode=$sync") \
	T(mm_compaction_end, "zone_start=$zone_start migrate_pfn=$migrate_pfn " \
		"free_pfn=$free_pfn zone_end=$zone_end, mode=$sync status=$status") \
	T(mm_compaction_try_to_compact_pages, \
		"order=$order gfp_mask=$gfp_mask priority=$prio") \
	T(mm_compaction_finished, "node=$nid zone=$idx order=$order ret=$ret") \
	T(mm_compaction_suitable, "node=$nid zone=$idx order=$order ret=$ret") \
	T(mm_compaction_deferred, "node=$nid zone=$idx order=$order " \
		"order_failed=$order_failed consider=$considered limit=$defer_shift") \
	T(mm_compaction_defer_compaction, "node=$nid zone=$idx order=$order " \
		"order_failed=$order_failed consider=$considered limit=$defer_shift") \
	T(mm_compaction_defer_reset, "node=$nid zone=$idx order=$order " \
		"order_failed=$order_failed consider=$considered limit=$defer_shift") \
	T(mm_compaction_wakeup_kcompactd, "nid=$nid order=$order classzone_idx=$highest_zoneidx") \
	T(mm_compaction_kcompactd_wake, "nid=$nid order=$order classzone_idx=$highest_zoneidx") \
	T(compact_retry, "order=$order priority=$priority compaction_result=$result " \
		"retries=$retries max_retries=$max_retries should_retry=$ret") \
	T(mm_khugepaged_scan_pmd, "mm=$mm, scan_pfn=$pfn, writable=$writable, " \
		"referenced=$referenced, none_or_zero=$none_or_zero, status=$status, " \
		"unmapped=$unmapped") \
	T(mm_khugepaged_scan_file, "mm=$mm, scan_pfn=$pfn, filename=$filename, " \
		"present=$present, swap=$swap, result=$result") \
	T(mm_khugepaged_collapse_file, "mm=$mm, hpage_pfn=$hpfn, index=$index, addr=$addr, " \
		"is_shmem=$is_shmem, filename=$filename, nr=$nr, result=$result") \
	T(mm_collapse_huge_page, "mm=$mm, isolated=$isolated, status=$status") \
	T(mm_collapse_huge_page_isolate, "scan_pfn=$pfn, none_or_zero=$none_or_zero, " \
		"referenced=$referenced, writable=$writable, status=$status") \
	T(mm_collapse_huge_page_swapin, \
		"mm=$mm, swapped_in=$swapped_in, referenced=$referenced, ret=$ret") \
	T(ksm_start_scan, "seq $seq rmap size $rmap_entries") \
	T(ksm_stop_scan, "seq $seq rmap size $rmap_entries") \
	T(ksm_enter, "mm $mm") \
	T(ksm_exit, "mm $mm")

// S(value, text): numbered from 0.
#define GODWIT_COMPACT_SYNCS(S) \
	S(COMPACT_MODE_ASYNC, "async") \
	S(COMPACT_MODE_SYNC, "sync")

#define GODWIT_MIGRATE_MODES(S) \
	S(MIGRATE_ASYNC, "MIGRATE_ASYNC") \
	S(MIGRATE_SYNC_LIGHT, "MIGRATE_SYNC_LIGHT") \
	S(MIGRATE_SYNC, "MIGRATE_SYNC")

#define GODWIT_MIGRATE_REASONS(S) \
	S(MR_COMPACTION, "compaction") \
	S(MR_MEMORY_FAILURE, "memory_failure") \
	S(MR_MEMORY_HOTPLUG, "memory_hotplug") \
	S(MR_SYSCALL, "syscall_or_cpuset") \
	S(MR_MEMPOLICY_MBIND, "mempolicy_mbind") \
	S(MR_NUMA_MISPLACED, "numa_misplaced") \
	S(MR_CONTIG_RANGE, "contig_range") \
	S(MR_LONGTERM_PIN, "longterm_pin") \
	S(MR_DEMOTION, "demotion") \
	S(MR_DAMON, "damon")

#define GODWIT_SCAN_RESULTS(S) \
	S(SCAN_FAIL, "failed") \
	S(SCAN_SUCCEED, "succeeded") \
	S(SCAN_PMD_NULL, "pmd_null") \
	S(SCAN_PMD_NONE, "pmd_none") \
	S(SCAN_PMD_MAPPED, "page_pmd_mapped") \
	S(SCAN_EXCEED_NONE_PTE, "exceed_none_pte") \
	S(SCAN_EXCEED_SWAP_PTE, "exceed_swap_pte") \
	S(SCAN_EXCEED_SHARED_PTE, "exceed_shared_pte") \
	S(SCAN_PTE_NON_PRESENT, "pte_non_present") \
	S(SCAN_PTE_UFFD_WP, "pte_uffd_wp") \
	S(SCAN_PTE_MAPPED_HUGEPAGE, "pte_mapped_hugepage") \
	S(SCAN_PAGE_RO, "no_writable_page") \
	S(SCAN_LACK_REFERENCED_PAGE, "lack_referenced_page") \
	S(SCAN_PAGE_NULL, "page_null") \
	S(SCAN_SCAN_ABORT, "scan_aborted") \
	S(SCAN_PAGE_COUNT, "not_suitable_page_count") \
	S(SCAN_PAGE_LRU, "page_not_in_lru") \
	S(SCAN_PAGE_LOCK, "page_locked") \
	S(SCAN_PAGE_ANON, "page_not_anon") \
	S(SCAN_PAGE_COMPOUND, "page_compound") \
	S(SCAN_ANY_PROCESS, "no_process_for_page") \
	S(SCAN_VMA_NULL, "vma_null") \
	S(SCAN_VMA_CHECK, "vma_check_failed") \
	S(SCAN_ADDRESS_RANGE, "not_suitable_address_range") \
	S(SCAN_DEL_PAGE_LRU, "could_not_delete_page_from_lru") \
	S(SCAN_ALLOC_HUGE_PAGE_FAIL, "alloc_huge_page_failed") \
	S(SCAN_CGROUP_CHARGE_FAIL, "ccgroup_charge_failed") \
	S(SCAN_TRUNCATED, "truncated") \
	S(SCAN_PAGE_HAS_PRIVATE, "page_has_private") \
	S(SCAN_STORE_FAILED, "store_failed") \
	S(SCAN_COPY_MC, "copy_poisoned_page") \
	S(SCAN_PAGE_FILLED, "page_filled")

#define GODWIT_COMPACT_RESULTS(S) \
	S(COMPACT_NOT_SUITABLE_ZONE, "not_suitable_zone") \
	S(COMPACT_SKIPPED, "skipped") \
	S(COMPACT_DEFERRED, "deferred") \
	S(COMPACT_NO_SUITABLE_PAGE, "no_suitable_page") \
	S(COMPACT_CONTINUE, "continue") \
	S(COMPACT_COMPLETE, "complete") \
	S(COMPACT_PARTIAL_SKIPPED, "partial_skipped") \
	S(COMPACT_CONTENDED, "contended") \
	S(COMPACT_SUCCESS, "success")

#define GODWIT_COMPACT_FEEDBACKS(S) \
	S(COMPACTION_NO_FEEDBACK, "none") \
	S(COMPACTION_FAILED, "failed") \
	S(COMPACTION_WITHDRAWN, "withdrawn") \
	S(COMPACTION_PROGRESS, "progress")

#define GODWIT_COMPACT_PRIORITIES(S) \
	S(COMPACT_PRIO_SYNC_FULL, "COMPACT_PRIO_SYNC_FULL") \
	S(COMPACT_PRIO_SYNC_LIGHT, "COMPACT_PRIO_SYNC_LIGHT") \
	S(COMPACT_PRIO_ASYNC, "COMPACT_PRIO_ASYNC")

#define GODWIT_ZONE_TYPES(S) \
	S(ZONE_DMA, "DMA") \
	S(ZONE_DMA32, "DMA32") \
	S(ZONE_NORMAL, "Normal") \
	S(ZONE_MOVABLE, "Movable") \
	S(ZONE_DEVICE, "Device")

#define GODWIT_NUMAB_SKIPS(S) \
	S(NUMAB_SKIP_UNSUITABLE, "unsuitable") \
	S(NUMAB_SKIP_SHARED_RO, "shared_ro") \
	S(NUMAB_SKIP_INACCESSIBLE, "inaccessible") \
	S(NUMAB_SKIP_SCAN_DELAY, "scan_delay") \
	S(NUMAB_SKIP_PID_INACTIVE, "pid_inactive") \
	S(NUMAB_SKIP_IGNORE_PID, "ignore_pid_inactive") \
	S(NUMAB_SKIP_SEQ_COMPLETED, "seq_completed")

// Y(TYPE, table, enum tag)
#define GODWIT_TRACE_SYMBOLS(Y) \
	Y(MODE, GODWIT_MIGRATE_MODES, migrate_mode) \
	Y(REASON, GODWIT_MIGRATE_REASONS, migrate_reason) \
	Y(SCAN, GODWIT_SCAN_RESULTS, scan_result) \
	Y(COMPACT, GODWIT_COMPACT_RESULTS, compact_result) \
	Y(FEEDBACK, GODWIT_COMPACT_FEEDBACKS, compact_feedback) \
	Y(PRIORITY, GODWIT_COMPACT_PRIORITIES, compact_priority) \
	Y(ZONE, GODWIT_ZONE_TYPES, zone_type) \
	Y(SYNC, GODWIT_COMPACT_SYNCS, compact_sync) \
	Y(SKIP, GODWIT_NUMAB_SKIPS, numa_vmaskip_reason)
// clang-format on

#endif
