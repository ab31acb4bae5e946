// SPDX-License-Identifier: MIT
// godwit where PID: on which nodes the memory of a process lies.
//
// One row a mapping that has memory: its size, what of it is resident, and the part on each node,
// from /proc/PID/numa_maps; what of it is shared with others, locked or (on kernels that say so)
// merged by KSM, from smaps. A mapping with pages of several sizes has a row for each below it
// (host/page_sizes.h); so have the totals. Columns that would be empty for every row are left out,
// and what the kernel does not tell is a question mark with a footnote. A kernel without NUMA has
// one node, which everything is on. The process is only looked at, and goes on meanwhile; the
// numbers of two files may be a moment apart.

#include "cli/cli.h"
#include "cli/table.h"
#include "host/nodes.h"
#include "host/page_sizes.h"
#include "host/process.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZES_MAX 16

struct total {
	uint64_t page_bytes; // of a mapping; 0: of all
	uint64_t resident, huge, shared, locked, swapped, ksm;
	uint64_t on_node[MAX_NODES]; // bytes
};

struct view {
	struct host host;
	struct host_nodes nodes;
	struct host_process process;
	struct host_mappings mappings;
	struct total all;
	struct host_page_sizes told;
	struct host_page_size sizes[SIZES_MAX]; // of all mappings, the smallest first
	unsigned nr_sizes;
	bool has_ksm, has_ended;
};

// ---- Sums ---------------------------------------------------------------------------------------

static uint64_t bytes_on(const struct view *v, const struct host_mapping *m, int node)
{
	if (m->has_nodes)
		return m->pages[node] * m->page_bytes;
	return nodemask_weight(v->nodes.memory) == 1 &&
			       nodemask_test(v->nodes.memory, (unsigned)node)
		       ? m->resident
		       : 0;
}

static void add(const struct view *v, struct total *t, const struct host_mapping *m)
{
	int node;

	t->resident += m->resident;
	t->huge += m->huge;
	t->shared += m->shared;
	t->locked += m->locked;
	t->swapped += m->swapped;
	t->ksm += m->ksm;
	for_each_node_in(node, v->nodes.memory) {
		t->on_node[node] += bytes_on(v, m, node);
	}
}

// The place of such pages among the sums, which has its order.
static struct host_page_size *sum_of(struct view *v, const struct host_page_size *size)
{
	unsigned i = 0;

	while (i < v->nr_sizes && (v->sizes[i].hugetlb < size->hugetlb ||
					  (v->sizes[i].hugetlb == size->hugetlb &&
						  v->sizes[i].page_bytes < size->page_bytes)))
		i++;
	if (i < v->nr_sizes && v->sizes[i].hugetlb == size->hugetlb &&
		v->sizes[i].page_bytes == size->page_bytes)
		return &v->sizes[i];
	memmove(&v->sizes[i + 1], &v->sizes[i], (v->nr_sizes - i) * sizeof v->sizes[0]);
	v->nr_sizes++;
	v->sizes[i] = (struct host_page_size){
		.page_bytes = size->page_bytes, .hugetlb = size->hugetlb, .has_nodes = true};
	return &v->sizes[i];
}

static void add_size(struct view *v, const struct host_page_size *size)
{
	struct host_page_size *sum;

	if (v->nr_sizes == SIZES_MAX)
		return;
	sum = sum_of(v, size);
	sum->resident += size->resident;
	sum->has_nodes &= size->has_nodes;
	for (unsigned n = 0; n < MAX_NODES; n++)
		sum->on_node[n] += size->on_node[n];
}

static void sum_up(struct view *v)
{
	for (size_t i = 0; i < v->mappings.count; i++) {
		const struct host_mapping *m = &v->mappings.v[i];

		v->has_ksm |= m->has_ksm;
		if (!m->resident && !m->swapped)
			continue;
		add(v, &v->all, m);
		for (unsigned j = 0; j < m->nr_sizes; j++)
			add_size(v, &m->sizes[j]);
	}
}

// ---- Table --------------------------------------------------------------------------------------

static void add_columns(const struct view *v, struct libscols_table *table, bool only_total)
{
	char title[24];
	int node;

	table_column(table, "ADDRESS", true);
	table_column(table, "SIZE", true);
	table_column(table, "RESIDENT", true);
	for_each_node_in(node, v->nodes.memory) {
		snprintf(title, sizeof title, "NODE %d", node);
		table_column(table, title, true);
	}
	table_column(table, "PAGE", true);
	table_column(table, "SHARED", true);
	if (v->all.locked)
		table_column(table, "LOCKED", true);
	if (v->all.ksm)
		table_column(table, "KSM", true);
	if (v->all.swapped)
		table_column(table, "SWAPPED", true);
	if (only_total)
		return;
	table_column(table, "POLICY", false);
	table_column(table, "MAPPING", false);
}

// "4K", "64K thp", "2M hugetlb".
static void size_cell(struct libscols_line *row, unsigned column, const struct host_page_size *size)
{
	char text[32];

	if (!size->page_bytes) {
		table_cell(row, column, "?");
		return;
	}
	table_cell(row, column, "%s%s", size_text(size->page_bytes, text, sizeof text),
		size->hugetlb ? " hugetlb" : size->page_bytes > 4096 ? " thp" : "");
}

static void add_size_row(
	const struct view *v, struct libscols_table *table, const char *name,
	const struct host_page_size *size)
{
	struct libscols_line *row = table_row(table);
	unsigned column = 2;
	int node;

	table_cell(row, 0, "%s", name);
	table_size(row, column++, size->resident);
	for_each_node_in(node, v->nodes.memory) {
		if (size->has_nodes)
			table_size(row, column++, size->on_node[node]);
		else
			table_cell(row, column++, "?");
	}
	size_cell(row, column, size);
}

// All cells from RESIDENT to SWAPPED; the column after them. sizes: those of its pages.
static unsigned add_sums(const struct view *v, struct libscols_line *row, const struct total *t,
	const struct host_page_size *sizes, unsigned nr_sizes)
{
	unsigned column = 2;
	int node;

	table_size(row, column++, t->resident);
	for_each_node_in(node, v->nodes.memory) {
		table_size(row, column++, t->on_node[node]);
	}
	if (nr_sizes == 1)
		size_cell(row, column++, sizes);
	else
		table_cell(row, column++, "%s", nr_sizes ? "mixed" : "-");
	table_size(row, column++, t->shared);
	if (v->all.locked)
		table_size(row, column++, t->locked);
	if (v->all.ksm)
		table_size(row, column++, t->ksm);
	if (v->all.swapped)
		table_size(row, column++, t->swapped);
	return column;
}

static void add_mapping(
	const struct view *v, struct libscols_table *table, const struct host_mapping *m)
{
	struct libscols_line *row = table_row(table);
	struct total one = {.page_bytes = m->page_bytes};
	unsigned column;

	add(v, &one, m);
	table_cell(row, 0, "%" PRIx64, m->start);
	table_size(row, 1, m->end - m->start);
	column = add_sums(v, row, &one, m->sizes, m->nr_sizes);
	table_cell(row, column++, "%s", m->policy ? m->policy : "-");
	table_cell(row, column, "%s", *m->name ? m->name : "anonymous");
	for (unsigned i = 0; i < m->nr_sizes && m->nr_sizes > 1; i++)
		add_size_row(v, table, "", &m->sizes[i]);
}

static void add_total(const struct view *v, struct libscols_table *table)
{
	struct libscols_line *row;

	for (unsigned i = 0; i < v->nr_sizes && v->nr_sizes > 1; i++)
		add_size_row(v, table, "sum", &v->sizes[i]);
	row = table_row(table);
	table_cell(row, 0, "total");
	add_sums(v, row, &v->all, v->sizes, v->nr_sizes);
}

static void print_footnotes(const struct view *v)
{
	if (v->told.nodes_hidden)
		printf("?: not told by this kernel%s, see godwit-where(1)\n",
			geteuid() ? " but to root" : "");
	if (v->told.changed)
		printf("?: not told, the process changed its memory meanwhile: look again\n");
	if (v->told.multi_size == HOST_MULTI_SIZE_HIDDEN)
		printf("4K: with transparent pages of 16K to 1M, if there are any: only root is "
		       "told of them\n");
}

static void print_table(const struct view *v, bool only_total)
{
	struct libscols_table *table;
	char allowed[NODEMASK_TEXT_MAX], *name = safe_text(v->process.name, true);

	nodemask_format(v->process.mems_allowed, allowed, sizeof allowed);
	printf("process %d, %s, %u thread%s%s%s%s\n", (int)v->process.pid, name ? name : "?",
		v->process.threads, v->process.threads == 1 ? "" : "s",
		*allowed ? ", allowed on node" : "", strpbrk(allowed, "-,") ? "s " : " ", allowed);
	free(name);
	if (!v->mappings.count) { // a kernel thread, or it is about to end
		printf("it has no memory of its own\n");
		return;
	}
	table = table_new(stdout);
	add_columns(v, table, only_total);
	for (size_t i = 0; i < v->mappings.count && !only_total; i++)
		if (v->mappings.v[i].resident || v->mappings.v[i].swapped)
			add_mapping(v, table, &v->mappings.v[i]);
	add_total(v, table);
	table_print(table);
	print_footnotes(v);
}

// ---- JSON ---------------------------------------------------------------------------------------

static void add_number(struct json_object *o, const char *key, uint64_t number)
{
	json_object_object_add(o, key, json_object_new_uint64(number));
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	char *safe = text ? safe_text(text, false) : NULL;

	json_object_object_add(o, key, safe ? json_object_new_string(safe) : NULL);
	free(safe);
}

static struct json_object *nodes_json(const struct view *v, const uint64_t *on_node)
{
	struct json_object *nodes = json_object_new_object();
	char name[16];
	int node;

	for_each_node_in(node, v->nodes.memory) {
		snprintf(name, sizeof name, "%d", node);
		add_number(nodes, name, on_node[node]);
	}
	return nodes;
}

static const char *kind_text(const struct host_page_size *size)
{
	if (!size->page_bytes)
		return "unknown";
	return size->hugetlb ? "hugetlb" : size->page_bytes > 4096 ? "thp" : "base";
}

static struct json_object *sizes_json(
	const struct view *v, const struct host_page_size *sizes, unsigned count)
{
	struct json_object *array = json_object_new_array();

	for (const struct host_page_size *size = sizes; size < sizes + count; size++) {
		struct json_object *o = json_object_new_object();

		if (size->page_bytes)
			add_number(o, "page_bytes", size->page_bytes);
		else
			json_object_object_add(o, "page_bytes", NULL);
		add_text(o, "kind", kind_text(size));
		add_number(o, "resident_bytes", size->resident);
		json_object_object_add(o, "node_bytes",
			size->has_nodes ? nodes_json(v, size->on_node) : NULL);
		json_object_array_add(array, o);
	}
	return array;
}

static struct json_object *sums_json(const struct view *v, const struct total *t)
{
	struct json_object *o = json_object_new_object();

	if (t->page_bytes)
		add_number(o, "page_bytes", t->page_bytes);
	add_number(o, "resident_bytes", t->resident);
	json_object_object_add(o, "node_bytes", nodes_json(v, t->on_node));
	add_number(o, "huge_bytes", t->huge);
	add_number(o, "shared_bytes", t->shared);
	add_number(o, "locked_bytes", t->locked);
	add_number(o, "swapped_bytes", t->swapped);
	if (v->has_ksm)
		add_number(o, "ksm_bytes", t->ksm);
	return o;
}

static struct json_object *mapping_json(const struct view *v, const struct host_mapping *m)
{
	struct total one = {.page_bytes = m->page_bytes};
	struct json_object *o;
	char address[24];

	add(v, &one, m);
	o = sums_json(v, &one);
	snprintf(address, sizeof address, "%" PRIx64, m->start);
	add_text(o, "address", address);
	add_number(o, "size_bytes", m->end - m->start);
	add_text(o, "policy", m->policy);
	add_text(o, "name", m->name);
	json_object_object_add(o, "page_sizes", sizes_json(v, m->sizes, m->nr_sizes));
	return o;
}

static void print_json(const struct view *v, bool only_total)
{
	struct json_object *o = json_object_new_object();
	struct json_object *mappings = json_object_new_array(), *total = sums_json(v, &v->all);
	static const char *const multi_size[] = {
		[HOST_MULTI_SIZE_NONE] = "none",
		[HOST_MULTI_SIZE_TOLD] = "told",
		[HOST_MULTI_SIZE_HIDDEN] = "hidden",
	};
	char allowed[NODEMASK_TEXT_MAX];

	nodemask_format(v->process.mems_allowed, allowed, sizeof allowed);
	for (size_t i = 0; i < v->mappings.count; i++)
		if (v->mappings.v[i].resident || v->mappings.v[i].swapped)
			json_object_array_add(mappings, mapping_json(v, &v->mappings.v[i]));
	add_number(o, "schema", 2);
	add_number(o, "pid", (uint64_t)v->process.pid);
	add_text(o, "name", v->process.name);
	add_number(o, "threads", v->process.threads);
	add_text(o, "allowed_nodes", allowed);
	if (only_total)
		json_object_put(mappings);
	else
		json_object_object_add(o, "mappings", mappings);
	json_object_object_add(total, "page_sizes", sizes_json(v, v->sizes, v->nr_sizes));
	json_object_object_add(o, "total", total);
	add_text(o, "multi_size_thp", multi_size[v->told.multi_size]);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

// ---- Command ------------------------------------------------------------------------------------

struct options {
	const char *root;
	bool json, only_total;
	pid_t pid;
};

// Whatever was read of a process that has ended is an accident. One that had memory and has none is
// about to end.
static bool has_ended(struct view *v)
{
	struct host_process now;
	int err = host_process_read(&v->host, v->process.pid, &now);

	return err == -ESRCH || (!err && (now.has_ended || now.has_memory < v->process.has_memory));
}

static int read_process(const struct options *o, struct view *v)
{
	int err = host_process_read(&v->host, o->pid, &v->process);

	if (err)
		return err;
	err = host_mappings_read(&v->host, o->pid, &v->mappings);
	if (!err)
		err = host_page_sizes_read(
			&v->host, o->pid, v->nodes.memory, &v->mappings, &v->told);
	v->has_ended = has_ended(v);
	return v->has_ended ? -ESRCH : err;
}

static int read_view(const struct options *o, struct view *v)
{
	int err = host_init(&v->host, o->root);

	if (!err)
		err = host_nodes_read(&v->host, &v->nodes);
	if (!err)
		err = read_process(o, v);
	if (!err)
		sum_up(v);
	return err;
}

static int show(const struct options *o)
{
	struct view *v = calloc(1, sizeof *v);
	int err = v ? read_view(o, v) : -ENOMEM;

	if (v && v->has_ended)
		fprintf(stderr, "godwit: process %d ended\n", (int)o->pid);
	else if (v && *v->nodes.damaged)
		fprintf(stderr, "godwit: %s is damaged\n", v->nodes.damaged);
	else if ((err == -EACCES || err == -EPERM) && geteuid())
		fprintf(stderr, "godwit: process %d is another user's: root may look (%s)\n",
			(int)o->pid, strerror(-err));
	else if (err)
		fprintf(stderr, "godwit: process %d: %s%s\n", (int)o->pid, strerror(-err),
			err == -EACCES || err == -EPERM ? ", though this is root" : "");
	else if (o->json)
		print_json(v, o->only_total);
	else
		print_table(v, o->only_total);
	if (v)
		host_mappings_release(&v->mappings);
	free(v);
	return err ? CLI_FAILED : CLI_OK;
}

int cmd_where(int argc, char **argv)
{
	static const struct option known[] = {
		{"json", no_argument, NULL, 'j'},
		{"total", no_argument, NULL, 't'},
		{"root", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options o = {0};
	char *end;
	long pid;

	optind = 1;
	opterr = 0;
	for (int option; (option = getopt_long(argc, argv, ":h", known, NULL)) >= 0;) {
		if (option == 'h') {
			puts("usage: godwit where [--json] [--total] [--root FOLDER] PID\n\n"
			     "On which nodes of this host the memory of a process lies.\n\n"
			     "  --total        only the sums, not each mapping\n"
			     "  --root FOLDER  read proc and sys below FOLDER, as recorded there\n"
			     "  --json         \"schema\": 1");
			return CLI_OK;
		}
		if (option == '?' || option == ':')
			return cli_bad_option("godwit where", option, argv);
		o.json |= option == 'j';
		o.only_total |= option == 't';
		o.root = option == 'r' ? optarg : o.root;
	}
	if (optind + 1 != argc)
		return cli_usage_error("godwit where", "one process is expected");
	pid = strtol(argv[optind], &end, 10);
	if (pid <= 0 || *end || pid > INT32_MAX)
		return cli_usage_error("godwit where", "'%s' is no process", argv[optind]);
	o.pid = (pid_t)pid;
	return show(&o);
}
