// SPDX-License-Identifier: MIT
// A story: what a *.gw file says, parsed, checked and resolved (godwit-story(5)).
//
// A story that story_parse() returns has been checked as a whole: every task and mapping that a
// command names exists at that point, every range lies inside its mapping, and every name has been
// replaced by a pointer. A machine never looks anything up by name: tasks and mappings carry an
// index that it may use for tables of its own. Everything belongs to the story and lives until
// story_free(); nothing in it changes while it is played.
#ifndef GODWIT_LAB_STORY_H
#define GODWIT_LAB_STORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define STORY_PAGE_SIZE	  4096u
#define STORY_MAP_BASE	  0x200000000000ull
#define STORY_MAP_STRIDE  (64ull << 30)
#define STORY_NODES_MAX	  64
#define STORY_CPUS_MAX	  256
#define STORY_ERRORS_MAX  20 /* bad lines reported before the parser gives up */

// An entry of a status list that the system call did not write ("?").
#define STATUS_UNWRITTEN INT32_MIN

// X(KIND, "words", who): who is TASK for "A word ...", WORLD for a line that starts with the word.
#define STORY_COMMANDS(X)                                                                          \
	X(TASK, "task", WORLD)                                                                     \
	X(FORK, "fork", WORLD)                                                                     \
	X(EXIT, "exit", WORLD)                                                                     \
	X(CPU, "cpu", TASK)                                                                        \
	X(MAP, "map", TASK)                                                                        \
	X(UNMAP, "unmap", TASK)                                                                    \
	X(PROTECT, "protect", TASK)                                                                \
	X(REMAP, "remap", TASK)                                                                    \
	X(WRITE, "write", TASK)                                                                    \
	X(READ, "read", TASK)                                                                      \
	X(CHECK, "check", TASK)                                                                    \
	X(ADVISE, "advise", TASK)                                                                  \
	X(LOCK, "lock", TASK)                                                                      \
	X(UNLOCK, "unlock", TASK)                                                                  \
	X(PIN, "pin", TASK)                                                                        \
	X(UNPIN, "unpin", TASK)                                                                    \
	X(POLICY, "policy", TASK)                                                                  \
	X(GET_POLICY, "get_policy", TASK)                                                          \
	X(MBIND, "mbind", TASK)                                                                    \
	X(WHERE, "where", TASK)                                                                    \
	X(MOVE, "move", TASK)                                                                      \
	X(MIGRATE, "migrate", TASK)                                                                \
	X(MEMS, "mems", TASK)                                                                      \
	X(MEMS_V1, "mems_v1", TASK)                                                                \
	X(LOAD, "load", TASK)                                                                      \
	X(STOP, "stop", TASK)                                                                      \
	X(SPLIT, "split", TASK)                                                                    \
	X(SET, "set", WORLD)                                                                       \
	X(COMPACT, "compact", WORLD)                                                               \
	X(KHUGEPAGED, "khugepaged", WORLD)                                                         \
	X(KSMD, "ksmd", WORLD)                                                                     \
	X(BALANCE, "balance", WORLD)                                                               \
	X(CMA, "cma", WORLD)                                                                       \
	X(CONTIG, "contig", WORLD)                                                                 \
	X(OFFLINE_PAGE, "offline_page", WORLD)                                                     \
	X(FILL, "fill", WORLD)                                                                     \
	X(UNFILL, "unfill", WORLD)                                                                 \
	X(SLEEP, "sleep", WORLD)                                                                   \
	X(STORE, "store", WORLD)                                                                   \
	X(MARK, "mark", WORLD)                                                                     \
	X(SHOW, "show", WORLD)                                                                     \
	X(EXPECT, "expect", WORLD)

enum command_kind {
#define X(kind, word, who) CMD_##kind,
	STORY_COMMANDS(X)
#undef X
	CMD_COUNT
};

// ---- Who and where ------------------------------------------------------------------------------

struct story_task {
	const char *name;
	unsigned index; // position in story->tasks
	unsigned cpu;	// where it starts
	long uid;	// -1: the player's own
	const struct story_task *parent; // of a fork, else NULL
};

enum mapping_object { OBJECT_ANON, OBJECT_SHM, OBJECT_DISK };
enum mapping_prot { PROT_STORY_NONE, PROT_STORY_READ, PROT_STORY_WRITE };

// A named piece of a task's address space. A forked task has its own struct story_mapping for each
// name its parent had, with the same address; `origin` is then the parent's.
struct story_mapping {
	const char *name;
	const struct story_task *task;
	unsigned index;	   // position in story->mappings
	uint64_t address;  // STORY_MAP_BASE + n * STORY_MAP_STRIDE, n: the task's maps before it
	uint64_t length;   // bytes, as asked
	const struct story_mapping *origin; // fork: what it was copied from; remap: what was moved
	uint64_t page_size; // 4096, or the size of the hugetlb pages
};

// A range of bytes, already inside its mapping. `BUF[off]` has a length of STORY_PAGE_SIZE (less at
// the end of the mapping). Nothing is rounded: a call that wants alignment answers EINVAL itself.
struct story_range {
	const struct story_mapping *map;
	uint64_t offset;
	uint64_t length;
	uint64_t address; // map->address + offset
};

struct story_ranges {
	const struct story_range *v;
	size_t count;
};

// ---- Operands -----------------------------------------------------------------------------------

// Policies as the system calls take them. The numbers of modes and flags are Linux's.
struct story_policy {
	int mode;	// MPOL_DEFAULT 0, PREFERRED 1, BIND 2, INTERLEAVE 3, LOCAL 4,
			// PREFERRED_MANY 5, WEIGHTED_INTERLEAVE 6; or what mode=N said
	unsigned flags; // MPOL_F_STATIC_NODES 1<<15, RELATIVE 1<<14, NUMA_BALANCING 1<<13
	uint64_t nodes; // bit n: node n; 0 with have_nodes false passes a null mask
	bool have_nodes;
};

struct status_run {
	int32_t value; // node, -errno, or STATUS_UNWRITTEN
	uint64_t count;
};

struct status_list {
	const struct status_run *v;
	size_t count;
	bool counted; // an entry was written with "*N", or there is more than one
};

struct operand_task {
	const struct story_task *task;	 // the new task
	const struct story_task *parent; // fork only
};

struct operand_map {
	const struct story_mapping *map;
	enum mapping_object object;
	const char *object_name; // shm=, disk=
	bool private;		 // MAP_PRIVATE; always set for anonymous memory
	bool read_only;
	uint64_t hugetlb; // page size, 0: none
	uint64_t align;	  // 0: none asked (story addresses are aligned to 64 GiB anyway)
};

struct operand_remap {
	struct story_range from;
	const struct story_mapping *to;
};

// unmap, protect, write, read, check, advise, lock, unlock, pin, unpin, split, offline_page
struct operand_range {
	struct story_range range;
	enum mapping_prot prot; // protect
	uint8_t byte;		// write, check
	int advice;		// advise: MADV_*, Linux's number
	const char *advice_word;
};

enum get_policy_flag { GET_POLICY_NODE = 1, GET_POLICY_ADDR = 2, GET_POLICY_MEMS = 4 };

struct operand_policy { // policy, get_policy, mbind
	struct story_policy policy;
	struct story_range range; // mbind; get_policy with GET_POLICY_ADDR
	unsigned flags;		  // get_policy: MPOL_F_* (the numbers above are Linux's);
				  // mbind: MPOL_MF_STRICT 1, MOVE 2, MOVE_ALL 4, or flags=N
	bool keep_huge;		  // mbind
};

enum bad_pointer { BAD_NONE, BAD_PAGES, BAD_NODES, BAD_STATUS };

// where and move. The addresses are those of each range in turn, every `step` bytes, `off` added.
// The count passed is that number unless have_count. of: whose addresses and pid (NULL: the task
// itself, with pid 0).
struct operand_move {
	struct story_ranges ranges;
	uint64_t step;
	uint64_t count;	     // how many addresses the ranges give
	const int32_t *to;   // move: node of address i is to[i % to_count]; NULL in where
	size_t to_count;
	unsigned flags;	     // MPOL_MF_MOVE 2 or MPOL_MF_MOVE_ALL 4 unless flags=N
	uint64_t raw_count;  // with have_count
	bool have_count;
	long raw_pid;	     // with have_pid
	bool have_pid;
	uint64_t off;
	enum bad_pointer bad;
	bool keep_huge; // move: huge pages move whole or not at all; only the engine can
	const struct story_task *of;
};

struct operand_migrate {
	uint64_t from, to;
	const struct story_task *of; // NULL: the task itself, with pid 0
	bool keep_huge;
};

struct operand_mems {
	uint64_t nodes;
	bool migrate; // mems_v1: memory_migrate
};

struct operand_load { // stop: only the range, which equals that of an earlier load
	struct story_range range;
	bool writes;
	unsigned threads;
	unsigned index; // which load of the story this is; the stop has its load's index
};

struct operand_set {
	const char *path; // without a leading slash
	const char *value;
};

enum cma_verb { CMA_ALLOC, CMA_FREE };

struct operand_world { // cpu compact khugepaged ksmd balance cma contig fill unfill sleep
	int node;	  // -1: all (compact, unfill)
	unsigned cpu;	  // cpu
	uint64_t count;	  // khugepaged, ksmd: scans; contig: pages
	uint64_t size;	  // cma alloc: bytes; fill: bytes to leave free
	uint64_t time_ns; // balance, sleep
	enum cma_verb verb;
	const char *name; // cma
};

enum store_verb { STORE_NEW, STORE_MOVE, STORE_CHECK, STORE_WHERE };

struct operand_store { // a driver's pages that move by its own callbacks
	enum store_verb verb;
	const char *name;
	unsigned index;	 // position among the story's stores
	uint64_t size;	 // new: bytes of objects
	uint64_t object; // new: bytes of one object
	int node;	 // new: -1 any
	unsigned from, to; // move
};

enum show_what {
	SHOW_VMSTAT,
	SHOW_NUMA_MAPS,
	SHOW_SMAPS,
	SHOW_BUDDYINFO,
	SHOW_NUMASTAT,
	SHOW_HUGEPAGES,
	SHOW_TRACE,
};

struct operand_show {
	enum show_what what;
	struct story_range range;	 // numa_maps, smaps
	const char *const *names;	 // vmstat
	size_t count;
};

enum expect_what {
	EXPECT_RETURN,
	EXPECT_ERRNO,
	EXPECT_SIGNAL,
	EXPECT_STATUS,
	EXPECT_TEXT, // what get_policy answered
	EXPECT_VMSTAT,
	EXPECT_MOVED,
	EXPECT_NODE,
	EXPECT_HUGE,
	EXPECT_SMAPS,
	EXPECT_NUMA_MAPS,
	EXPECT_HUGEPAGES,
	EXPECT_KSM,
	EXPECT_TUNABLE,
};

enum compare_op { OP_EQ, OP_NE, OP_GE, OP_LE };

enum pool_field { POOL_TOTAL, POOL_FREE, POOL_SURPLUS, POOL_FIELDS };

struct operand_expect {
	enum expect_what what;
	enum compare_op op;
	int64_t value;		   // return, vmstat, moved, huge, smaps, ksm; errno; signal
	const char *name;	   // counter, field, tunable path; the errno or signal as written
	const char *text;	   // tunable's value; text
	struct status_list status; // status, node
	struct story_range range;  // moved, node, huge, smaps, numa_maps
	const char *const *words;  // numa_maps
	size_t word_count;
	int node;		   // hugepages
	uint64_t page_size;	   // hugepages, 2 MiB unless size=
	int64_t pool[POOL_FIELDS]; // -1: not asked
};

// ---- Command ------------------------------------------------------------------------------------

struct command {
	enum command_kind kind;
	unsigned line;
	unsigned column;     // of the command's word
	unsigned operand_column; // of what a build may not have: of expect what is expected, of
				 // others the last word
	const char *source;  // the line as written, without comment and outer blanks
	const char *note;    // the lines of comment above it, without '#'; or NULL
	const char *differs; // the reason after "# differs:", or NULL
	const struct story_task *task; // the A of "A word ...", of exit and offline_page; else NULL
	bool expected; // an expectation follows before the next action
	union {
		struct operand_task create; // task, fork, exit
		struct operand_map map;
		struct operand_remap remap;
		struct operand_range range; // also offline_page
		struct operand_policy policy;
		struct operand_move move;
		struct operand_migrate migrate;
		struct operand_mems mems;
		struct operand_load load;
		struct operand_set set;
		struct operand_world world;
		struct operand_store store;
		struct operand_show show;
		struct operand_expect expect;
	};
};

// ---- Machine lines ------------------------------------------------------------------------------

// X(KIND, "word"): what `needs` may ask for by name; nodes=N and kernel>=V are fields of their own.
#define STORY_NEEDS(X)                                                                             \
	X(CMA, "cma")                                                                              \
	X(THP, "thp")                                                                              \
	X(HUGETLB, "hugetlb")                                                                      \
	X(KSM, "ksm")                                                                              \
	X(NUMA_BALANCING, "numa_balancing")                                                        \
	X(SOFT_OFFLINE, "soft_offline")                                                            \
	X(ROOT, "root")

enum story_need {
#define X(kind, word) NEED_##kind,
	STORY_NEEDS(X)
#undef X
	NEED_COUNT
};

struct story_pool {
	uint64_t page_size;
	uint64_t pages;
	unsigned node;
};

struct story_cma {
	uint64_t size;
	unsigned node;
	unsigned line, column; // of its text
};

struct story_machine {
	unsigned nodes;	    // at least 1
	bool more_nodes;    // nodes>=N: the host may have more
	uint64_t memory[STORY_NODES_MAX]; // bytes; 0: a memoryless node
	unsigned cpus;
	uint8_t cpu_node[STORY_CPUS_MAX]; // node of each cpu
	const uint8_t *distance;	  // nodes * nodes, row-major; NULL: 10 and 20
	const struct story_pool *pools;
	size_t pool_count;
	const struct story_cma *cma;
	size_t cma_count;
	bool only_engine, only_host;
	unsigned needs;	      // bits 1u << enum story_need
	unsigned needs_nodes; // 0: none
	unsigned kernel_major, kernel_minor; // 0.0: any
};

enum machine_word { LINE_MACHINE, LINE_ONLY, LINE_NEEDS };

// A line of them as written, for reports.
struct machine_line {
	enum machine_word word;
	unsigned line;
	const char *source; // without comment and outer blanks
	const char *note;   // as that of a command
};

struct story {
	const char *file;
	struct story_machine machine;
	const struct machine_line *machine_lines;
	size_t machine_line_count;
	const struct story_task *const *tasks; // in order of creation
	size_t task_count;
	const struct story_mapping *const *mappings;
	size_t mapping_count;
	const struct command *const *commands;
	size_t command_count;
	size_t load_count;
	size_t store_count;
	struct story_arena *arena;
};

// ---- Parsing ------------------------------------------------------------------------------------

struct story_error {
	unsigned line, column; // from 1
	char text[200];	       // "what was wrong, what was expected"
};

struct story_errors {
	struct story_error v[STORY_ERRORS_MAX];
	size_t count;
	bool more; // there were others
};

// Parses text (length bytes, any bytes). 0 and a story, or -EINVAL with errors filled (ordered by
// line), or -ENOMEM. file is copied and used in nothing but messages.
int story_parse(const char *file, const char *text, size_t length, struct story **ret_story,
	struct story_errors *errors) __attribute__((warn_unused_result));

// Reads the file ("-": standard input) and parses it; also the negative errno of reading.
int story_load(const char *file, struct story **ret_story, struct story_errors *errors)
	__attribute__((warn_unused_result));

// Moves what standard input has to a new file, whose path is stored and which the caller unlinks,
// and makes it the standard input: so that "-" can be loaded here and given to somebody else.
// 0 or a negative errno.
int story_copy_input(char *path, size_t size) __attribute__((warn_unused_result));

void story_free(struct story *story); // NULL is allowed

// The bytes of an object: as long as the longest map of that name, in pages of page_size bytes.
uint64_t story_object_size(const struct story *story, const char *name, uint64_t page_size);
// Whether any of its commands shows that.
bool story_shows(const struct story *story, enum show_what what);

const char *command_word(enum command_kind kind);
const char *machine_word(enum machine_word word);
const char *expect_word(enum expect_what what); // "status"
const char *show_word(enum show_what what);	// "numa_maps"

// ---- Words shared with the machines -------------------------------------------------------------

// "bind=static:0-1" into buf, as the language writes it; returns buf.
const char *policy_text(const struct story_policy *policy, char *buf, size_t size);
// As the language writes it: "4K", "2M". Returns buf.
#define BYTES_TEXT_MAX 24
const char *bytes_text(uint64_t bytes, char buf[BYTES_TEXT_MAX]);
// "0-1,3", "" for the empty set.
const char *nodes_text(uint64_t nodes, char *buf, size_t size);
// "ENOENT" for 2; NULL for a number without a name.
const char *errno_name(int error);
// "SIGBUS" for 7; NULL for a number without a name.
const char *signal_name(int signal);

#endif
