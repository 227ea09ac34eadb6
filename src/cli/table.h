/* Answers as tables for people, on standard output. */
#ifndef KT_CLI_TABLE_H
#define KT_CLI_TABLE_H

#include "wire/json.h"

#define TABLE_COLUMNS_MAX 8
#define TABLE_CELL_MAX    48 /* characters; a longer text ends in "..." */

/*
 * Rows of cells, printed when the table ends: each column as wide as its widest cell. Numbers stand on the right.
 * Control characters of a text are shown as '?', so that stored data cannot steer a terminal.
 */
struct cli_table {
    size_t columns, count;
    char **cells; /* count of them, row by row; the first row has the titles */
    bool right[TABLE_COLUMNS_MAX];
};

void cli_table_init(struct cli_table *table, size_t columns, const char *const *titles);
/* The next cell, of the current row or of a new one: a string as it is, anything else as its JSON; NULL is empty. */
void cli_table_put(struct cli_table *table, const struct kt_json *value);
void cli_table_put_text(struct cli_table *table, const char *text);
/* Prints and releases. */
void cli_table_end(struct cli_table *table);

/* The answers of LIST_MACHINES, LIST_INSTANCES, WAL_READ, and of anything with plain members. */
void cli_table_machines(const struct kt_json *answer);
void cli_table_instances(const struct kt_json *answer);
void cli_table_wal(const struct kt_json *answer);
void cli_table_members(const struct kt_json *answer);

#endif
