// SPDX-License-Identifier: MIT
// godwit nodes: the nodes of this host, as a table or as JSON.
//
// One row a node: its cpus, its memory and how much of that is free, its pools of huge pages (only
// sizes of which some node has pages), and the distance to every node. A node without memory shows
// "-". Only files are read.

#include "cli/cli.h"
#include "cli/table.h"
#include "host/hugepools.h"
#include "host/nodes.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

struct view {
	struct host host;
	struct host_nodes nodes;
	uint64_t sizes[HUGE_SIZES_MAX]; // of pools
	size_t size_count;
	struct host_pool pools[MAX_NODES][HUGE_SIZES_MAX];
};

// "0-3,8"
static const char *cpus_text(const unsigned long *cpus, char *buf, size_t size)
{
	size_t used = 0, cpu = bitmap_find_next(cpus, HOST_CPUS_MAX, 0);

	snprintf(buf, size, "-");
	while (cpu < HOST_CPUS_MAX && used < size) {
		size_t last = bitmap_find_next_zero(cpus, HOST_CPUS_MAX, cpu) - 1;
		int n = snprintf(buf + used, size - used, last > cpu ? "%s%zu-%zu" : "%s%zu",
			used ? "," : "", cpu, last);

		used += n > 0 ? (size_t)n : 0;
		cpu = bitmap_find_next(cpus, HOST_CPUS_MAX, last + 1);
	}
	return buf;
}

static bool size_is_used(const struct view *v, size_t size)
{
	int node;

	for_each_node_in(node, v->nodes.online) {
		if (v->pools[node][size].total)
			return true;
	}
	return false;
}

// ---- Table --------------------------------------------------------------------------------------

static void add_columns(const struct view *v, struct libscols_table *table)
{
	char title[40], unit[16];
	int node;

	table_column(table, "NODE", true);
	table_column(table, "CPUS", false);
	table_column(table, "MEMORY", true);
	table_column(table, "FREE", true);
	for (size_t i = 0; i < v->size_count; i++) {
		if (!size_is_used(v, i))
			continue;
		size_text(v->sizes[i], unit, sizeof unit);
		snprintf(title, sizeof title, "%s PAGES", unit);
		table_column(table, title, true);
		snprintf(title, sizeof title, "%s FREE", unit);
		table_column(table, title, true);
	}
	for_each_node_in(node, v->nodes.online) {
		snprintf(title, sizeof title, "DIST %d", node);
		table_column(table, title, true);
	}
}

static void add_row(const struct view *v, struct libscols_table *table, int node)
{
	const struct host_node *n = &v->nodes.node[node];
	struct libscols_line *row = table_row(table);
	char text[256];
	unsigned column = 0;
	int to;

	table_cell(row, column++, "%d", node);
	table_cell(row, column++, "%s", cpus_text(n->cpus, text, sizeof text));
	table_size(row, column++, n->total_bytes);
	table_size(row, column++, n->free_bytes);
	for (size_t i = 0; i < v->size_count; i++) {
		if (!size_is_used(v, i))
			continue;
		table_cell(row, column++, "%llu", (unsigned long long)v->pools[node][i].total);
		table_cell(row, column++, "%llu", (unsigned long long)v->pools[node][i].free);
	}
	for_each_node_in(to, v->nodes.online) {
		table_cell(row, column++, "%u", n->distance[to]);
	}
}

static void print_table(const struct view *v)
{
	struct libscols_table *table = table_new(stdout);
	int node;

	add_columns(v, table);
	for_each_node_in(node, v->nodes.online) {
		add_row(v, table, node);
	}
	table_print(table);
}

// ---- JSON ---------------------------------------------------------------------------------------

static struct json_object *pools_json(const struct view *v, int node)
{
	struct json_object *pools = json_object_new_array();

	for (size_t i = 0; i < v->size_count; i++) {
		const struct host_pool *p = &v->pools[node][i];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "page_bytes", json_object_new_uint64(v->sizes[i]));
		json_object_object_add(o, "total", json_object_new_uint64(p->total));
		json_object_object_add(o, "free", json_object_new_uint64(p->free));
		json_object_object_add(o, "surplus", json_object_new_uint64(p->surplus));
		json_object_array_add(pools, o);
	}
	return pools;
}

static struct json_object *node_json(const struct view *v, int node)
{
	const struct host_node *n = &v->nodes.node[node];
	struct json_object *o = json_object_new_object(), *cpus = json_object_new_array();
	struct json_object *distances = json_object_new_object();
	char name[16];
	size_t cpu;
	int to;

	bitmap_for_each(cpu, n->cpus, HOST_CPUS_MAX) {
		json_object_array_add(cpus, json_object_new_int((int)cpu));
	}
	for_each_node_in(to, v->nodes.online) {
		snprintf(name, sizeof name, "%d", to);
		json_object_object_add(distances, name, json_object_new_int((int)n->distance[to]));
	}
	json_object_object_add(o, "node", json_object_new_int(node));
	json_object_object_add(o, "cpus", cpus);
	json_object_object_add(o, "memory_bytes", json_object_new_uint64(n->total_bytes));
	json_object_object_add(o, "free_bytes", json_object_new_uint64(n->free_bytes));
	json_object_object_add(o, "pools", pools_json(v, node));
	json_object_object_add(o, "distances", distances);
	return o;
}

static void print_json(const struct view *v)
{
	struct json_object *o = json_object_new_object(), *nodes = json_object_new_array();
	int node;

	for_each_node_in(node, v->nodes.online) {
		json_object_array_add(nodes, node_json(v, node));
	}
	json_object_object_add(o, "schema", json_object_new_int(1));
	json_object_object_add(o, "nodes", nodes);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

// ---- Command ------------------------------------------------------------------------------------

static int read_view(const char *root, struct view *v)
{
	int node, err = host_init(&v->host, root);

	if (!err)
		err = host_nodes_read(&v->host, &v->nodes);
	if (err)
		return err;
	v->size_count = host_huge_sizes(&v->host, v->sizes);
	for_each_node_in(node, v->nodes.online) {
		for (size_t i = 0; i < v->size_count; i++)
			if (host_pool_read(
				    &v->host, (unsigned)node, v->sizes[i], &v->pools[node][i]))
				v->pools[node][i] = (struct host_pool){0};
	}
	return 0;
}

int cmd_nodes(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"root", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *root = NULL;
	bool json = false;
	struct view *v;
	int err;

	optind = 1;
	opterr = 0;
	for (int option; (option = getopt_long(argc, argv, ":h", options, NULL)) >= 0;) {
		if (option == 'h') {
			puts("usage: godwit nodes [--json] [--root FOLDER]\n\n"
			     "The nodes of this host: memory, cpus, pools of huge pages, "
			     "distances.\n\n"
			     "  --root FOLDER  read proc and sys below FOLDER, as recorded there\n"
			     "  --json         \"schema\": 1");
			return CLI_OK;
		}
		if (option == '?' || option == ':')
			return cli_bad_option("godwit nodes", option, argv);
		json |= option == 'j';
		root = option == 'r' ? optarg : root;
	}
	if (optind < argc)
		return cli_usage_error("godwit nodes", "unexpected '%s'", argv[optind]);
	v = calloc(1, sizeof *v);
	err = v ? read_view(root, v) : -ENOMEM;
	if (v && *v->nodes.damaged)
		fprintf(stderr, "godwit: %s is damaged\n", v->nodes.damaged);
	else if (err)
		fprintf(stderr, "godwit: cannot read the nodes: %s\n", strerror(-err));
	else if (json)
		print_json(v);
	else
		print_table(v);
	free(v);
	return err ? CLI_FAILED : CLI_OK;
}
