/* Tables for people. */
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/check.h"
#include "cli/cli.h"

/* Characters of UTF-8 text: bytes that do not continue one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

/* A copy that fits a cell: cut at a whole character, without control characters. */
static char *make_cell(struct kt_slice text)
{
    struct kt_buf cell;
    size_t width = 0;

    kt_buf_init(&cell, 4 * TABLE_CELL_MAX + 4);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = ((const unsigned char *)text.data)[i];
        if ((byte & 0xC0) != 0x80 && ++width > TABLE_CELL_MAX) {
            kt_buf_append_text(&cell, "...");
            break;
        }
        kt_buf_append_u8(&cell, byte < 0x20 || byte == 0x7F ? '?' : byte);
    }
    char *copy = kt_slice_dup_text(kt_buf_slice(&cell));
    kt_buf_release(&cell);
    return copy;
}

static void add(struct cli_table *table, char *cell)
{
    table->cells = kt_realloc(table->cells, (table->count + 1) * sizeof(*table->cells));
    table->cells[table->count++] = cell;
}

void cli_table_init(struct cli_table *table, size_t columns, const char *const *titles)
{
    KT_CHECK(columns <= TABLE_COLUMNS_MAX);
    memset(table, 0, sizeof(*table));
    table->columns = columns;
    for (size_t i = 0; i < columns; i++)
        cli_table_put_text(table, titles[i]);
}

void cli_table_put_text(struct cli_table *table, const char *text)
{
    add(table, make_cell(kt_slice_text(text)));
}

void cli_table_put(struct cli_table *table, const struct kt_json *value)
{
    struct kt_buf text;

    kt_buf_init(&text, CLI_TEXT_MAX);
    if (kt_json_is(value, KT_JSON_NUMBER))
        table->right[table->count % table->columns] = true;
    if (kt_json_is(value, KT_JSON_STRING))
        kt_buf_append_slice(&text, kt_json_string(value));
    else if (value)
        kt_json_print(value, false, &text);
    add(table, make_cell(kt_buf_slice(&text)));
    kt_buf_release(&text);
}

static void print_row(const struct cli_table *table, size_t row, const size_t widths[])
{
    for (size_t i = 0; i < table->columns; i++) {
        const char *cell = table->cells[row * table->columns + i];
        size_t blanks = widths[i] - width_of(cell);
        bool last = i + 1 == table->columns;
        if (table->right[i])
            printf("%*s%s%s", (int)blanks, "", cell, last ? "\n" : "  ");
        else
            printf("%s%*s", cell, last ? 0 : (int)blanks + 2, "");
        if (last && !table->right[i])
            putchar('\n');
    }
}

void cli_table_end(struct cli_table *table)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};

    for (size_t i = 0; i < table->count; i++)
        widths[i % table->columns] = KT_MAX(widths[i % table->columns], width_of(table->cells[i]));
    for (size_t row = 0; row < table->count / table->columns; row++) {
        print_row(table, row, widths);
        for (size_t i = 0; row == 0 && i < table->columns; i++) {
            for (size_t dash = 0; dash < widths[i]; dash++)
                putchar('-');
            fputs(i + 1 == table->columns ? "\n" : "  ", stdout);
        }
    }
    for (size_t i = 0; i < table->count; i++)
        kt_free(table->cells[i]);
    kt_free(table->cells);
    memset(table, 0, sizeof(*table));
}

static void print_count(size_t count, const struct kt_json *answer, const char *what)
{
    uint64_t total = count;
    (void)kt_json_u64(kt_json_get(answer, "total"), &total);
    if (total > count)
        printf("%zu of %" PRIu64 " %s\n", count, total, what);
    else
        printf("%zu %s\n", count, what);
}

void cli_table_machines(const struct kt_json *answer)
{
    static const char *const titles[] = {"machine", "versions"};
    const struct kt_json *items = kt_json_get(answer, "items");
    struct cli_table table;

    cli_table_init(&table, KT_COUNT(titles), titles);
    for (const struct kt_json *item = kt_json_first(items); item; item = kt_json_next(item)) {
        cli_table_put(&table, kt_json_get(item, "machine"));
        cli_table_put(&table, kt_json_get(item, "versions"));
    }
    cli_table_end(&table);
    print_count(items ? kt_json_count(items) : 0, answer, "machines");
}

/* Unix milliseconds as UTC: the same on every terminal. */
static void put_time(struct cli_table *table, const struct kt_json *number)
{
    char text[64] = "";
    uint64_t ms;
    struct tm at;

    if (kt_json_u64(number, &ms)) {
        time_t seconds = (time_t)(ms / 1000);
        if (gmtime_r(&seconds, &at))
            snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d:%02d", at.tm_year + 1900, at.tm_mon + 1, at.tm_mday,
                     at.tm_hour, at.tm_min, at.tm_sec);
    }
    cli_table_put_text(table, text);
}

void cli_table_instances(const struct kt_json *answer)
{
    static const char *const titles[] = {"id", "machine", "version", "state", "updated (UTC)", "offset"};
    const struct kt_json *items = kt_json_get(answer, "instances");
    struct cli_table table;

    cli_table_init(&table, KT_COUNT(titles), titles);
    for (const struct kt_json *item = kt_json_first(items); item; item = kt_json_next(item)) {
        cli_table_put(&table, kt_json_get(item, "id"));
        cli_table_put(&table, kt_json_get(item, "machine"));
        cli_table_put(&table, kt_json_get(item, "version"));
        cli_table_put(&table, kt_json_get(item, "state"));
        put_time(&table, kt_json_get(item, "updated_at"));
        cli_table_put(&table, kt_json_get(item, "last_wal_offset"));
    }
    cli_table_end(&table);
    print_count(items ? kt_json_count(items) : 0, answer, "instances");
}

static const struct kt_json *either(const struct kt_json *entry, const char *first, const char *second)
{
    const struct kt_json *value = kt_json_get(entry, first);
    return value ? value : kt_json_get(entry, second);
}

void cli_table_wal(const struct kt_json *answer)
{
    static const char *const titles[] = {"sequence", "offset", "type", "instance or machine", "event", "from", "to"};
    const struct kt_json *items = kt_json_get(answer, "records");
    struct cli_table table;

    cli_table_init(&table, KT_COUNT(titles), titles);
    for (const struct kt_json *item = kt_json_first(items); item; item = kt_json_next(item)) {
        const struct kt_json *entry = kt_json_get(item, "entry");
        cli_table_put(&table, kt_json_get(item, "sequence"));
        cli_table_put(&table, kt_json_get(item, "offset"));
        cli_table_put(&table, kt_json_get(entry, "type"));
        cli_table_put(&table, either(entry, "instance_id", "machine"));
        cli_table_put(&table, kt_json_get(entry, "event"));
        cli_table_put(&table, kt_json_get(entry, "from_state"));
        cli_table_put(&table, either(entry, "to_state", "initial_state"));
    }
    cli_table_end(&table);
    const struct kt_json *next = kt_json_get(answer, "next_offset");
    uint64_t offset;
    print_count(items ? kt_json_count(items) : 0, answer, "records");
    if (kt_json_u64(next, &offset))
        printf("next: wal %" PRIu64 "\n", offset);
}

static void put_members(struct cli_table *table, const struct kt_json *object, const char *prefix)
{
    for (const struct kt_json *member = kt_json_first(object); member; member = kt_json_next(member)) {
        struct kt_slice key = kt_json_key(member);
        char name[2 * TABLE_CELL_MAX];
        snprintf(name, sizeof(name), "%s%s%.*s", prefix, *prefix ? "." : "",
                 (int)KT_MIN(key.len, (size_t)TABLE_CELL_MAX), (const char *)key.data);
        if (kt_json_is(member, KT_JSON_OBJECT) && !*prefix) {
            put_members(table, member, name);
            continue;
        }
        cli_table_put_text(table, name);
        cli_table_put(table, member);
    }
}

void cli_table_members(const struct kt_json *answer)
{
    static const char *const titles[] = {"member", "value"};
    struct cli_table table;

    cli_table_init(&table, KT_COUNT(titles), titles);
    put_members(&table, answer, "");
    cli_table_end(&table);
}
