/*
 * log dump and log verify: a node's log, read offline. They change nothing, not even what the next start of the node
 * would repair, and refuse a folder that a running node has locked: what it writes meanwhile would look like damage.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cluster/log/look.h"
#include "engines/registry.h"
#include "engines/state.h"

enum { LOG_WHOLE = 0, LOG_TORN = 1, LOG_DAMAGED = 2, LOG_UNREAD = 3 };

#define READ_BYTES (4u << 20)
#define PATH_BYTES 4096
#define TYPE_COUNT 4 /* enum kt_entry_type, and what stands before it */

struct log_view {
    const struct cli *cli;
    char path[PATH_BYTES];
    struct kt_disk *disk;
    struct kt_wal *wal;
    struct kt_wal_look look;
    enum kt_code code; /* of the look */
    kt_index from, to; /* dump: which entries */
    uint64_t types[TYPE_COUNT];
    uint64_t unknown; /* commands that this version cannot carry out */
    struct kt_buf line;
};

static const char *type_name(enum kt_entry_type type)
{
    switch (type) {
    case KT_ENTRY_COMMAND:
        return "command";
    case KT_ENTRY_BARRIER:
        return "barrier";
    case KT_ENTRY_CHANGE:
        return "change";
    }
    return "?";
}

/* ---- Opening ---- */

/* The log's folder itself, or a node's data folder, which has it inside. */
static void find_log(const char *folder, char path[PATH_BYTES])
{
    struct stat st;

    snprintf(path, PATH_BYTES, "%s/log", folder);
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        snprintf(path, PATH_BYTES, "%s", folder);
}

static int open_log(struct log_view *view, const char *folder)
{
    struct kt_error error = {.text = ""};
    int number = 0;

    find_log(folder, view->path);
    view->code = kt_disk_open_read_only(view->path, &view->disk, &number);
    if (view->code == KT_BUSY)
        return cli_fail(LOG_UNREAD, "a running node has %s: stop it first, or look at a copy", view->path);
    if (view->code != KT_OK)
        return cli_fail(LOG_UNREAD, "cannot open %s: %s", view->path, strerror(number));
    view->code = kt_wal_look(view->disk, &view->wal, &view->look, &error);
    if (!view->wal)
        return cli_fail(LOG_UNREAD, "%s: %s", view->path, error.text);
    return CLI_OK;
}

static void close_log(struct log_view *view)
{
    kt_wal_close(view->wal);
    kt_disk_close(view->disk);
    kt_buf_release(&view->line);
}

static int verdict(const struct log_view *view)
{
    if (view->code != KT_OK)
        return LOG_DAMAGED;
    return view->look.found.torn_bytes > 0 ? LOG_TORN : LOG_WHOLE;
}

/* ---- One entry ---- */

static void put_line(struct log_view *view)
{
    if (kt_buf_code(&view->line) == KT_OK)
        fwrite(view->line.data, 1, view->line.len, stdout);
    else
        fputs("(too long to print)", stdout);
    putchar('\n');
    kt_buf_clear(&view->line);
}

static bool decode(const struct kt_entry *entry, struct kt_op *op)
{
    return entry->type == KT_ENTRY_COMMAND && kt_op_decode(entry->data, op) == KT_OK;
}

static void entry_text(struct log_view *view, const struct kt_entry *entry)
{
    struct kt_buf *line = &view->line;
    struct kt_op op;
    char time[25];

    kt_buf_printf(line, "%8" PRIu64 "  term %-4" PRIu64 " %-7s", entry->index, entry->term, type_name(entry->type));
    if (decode(entry, &op)) {
        kt_time_text(op.time_ms, time);
        kt_buf_printf(line, "  %s  %016" PRIx64 "/%" PRIu64 "  ", time, op.origin, op.sequence);
    } else {
        kt_buf_append_text(line, "  ");
    }
    if (entry->type == KT_ENTRY_COMMAND)
        kt_op_describe(entry->data, line);
    else
        kt_buf_printf(line, "%zu bytes", entry->data.len);
}

static void entry_json(struct log_view *view, const struct kt_entry *entry)
{
    struct kt_json_writer json;
    struct kt_buf text;
    struct kt_op op;
    uint64_t serial, offset;
    char word[25];

    kt_json_writer_init(&json, &view->line);
    kt_json_begin_object(&json);
    kt_json_put_u64_member(&json, "index", entry->index);
    kt_json_put_u64_member(&json, "term", entry->term);
    kt_json_put_text_member(&json, "type", type_name(entry->type));
    kt_json_put_u64_member(&json, "bytes", entry->data.len);
    if (kt_wal_look_place(view->wal, entry->index, &serial, &offset)) {
        snprintf(word, sizeof(word), "%016" PRIx64 ".seg", serial);
        kt_json_put_text_member(&json, "file", word);
        kt_json_put_u64_member(&json, "offset", offset);
    }
    if (decode(entry, &op)) {
        kt_time_text(op.time_ms, word);
        kt_json_put_text_member(&json, "time", word);
        snprintf(word, sizeof(word), "%016" PRIx64, op.origin);
        kt_json_put_text_member(&json, "origin", word);
        kt_json_put_u64_member(&json, "sequence", op.sequence);
        kt_json_put_u64_member(&json, "code", op.code);
    }
    if (entry->type == KT_ENTRY_COMMAND) {
        kt_buf_init(&text, CLI_TEXT_MAX);
        kt_op_describe(entry->data, &text);
        kt_json_put_string_member(&json, "operation", kt_buf_slice(&text));
        kt_buf_release(&text);
    }
    kt_json_end_object(&json);
}

static void count_entry(struct log_view *view, const struct kt_entry *entry)
{
    struct kt_op op;

    view->types[entry->type]++;
    if (entry->type == KT_ENTRY_COMMAND && (!decode(entry, &op) || !kt_op_kind(op.code, NULL)))
        view->unknown++;
}

static void print_entry(struct log_view *view, const struct kt_entry *entry)
{
    if (view->cli->json)
        entry_json(view, entry);
    else
        entry_text(view, entry);
    put_line(view);
}

/* All entries between from and to that the log holds. KT_OK, or what the disk or the log said. */
static enum kt_code each_entry(struct log_view *view, void (*what)(struct log_view *view, const struct kt_entry *entry))
{
    struct kt_entry entries[KT_WAL_READ_MAX];
    kt_index at = KT_MAX(view->from, kt_wal_first(view->wal)), last = KT_MIN(view->to, kt_wal_last(view->wal));

    while (at <= last) {
        size_t count = 0;
        enum kt_code code = kt_wal_read(view->wal, at, last, READ_BYTES, entries, KT_COUNT(entries), &count);

        if (code != KT_OK)
            return code;
        for (size_t i = 0; i < count; i++) {
            what(view, &entries[i]);
            kt_chunk_drop(entries[i].chunk);
        }
        at += count;
    }
    return KT_OK;
}

/* ---- What is told of the log as a whole ---- */

static void head_text(const struct log_view *view)
{
    const struct kt_wal_found *found = &view->look.found;

    printf("log       %s\n", view->path);
    if (view->look.vote.code != KT_OK)
        puts("vote      unknown");
    else if (found->vote == 0)
        printf("vote      term %" PRIu64 ", for nobody\n", found->term);
    else
        printf("vote      term %" PRIu64 ", for node %" PRIu64 " (member %016" PRIx64 ")\n", found->term,
               kt_member_node(found->vote), found->vote);
    if (found->last >= found->first)
        printf("entries   %" PRIu64 " to %" PRIu64 "\n", found->first, found->last);
    else
        puts("entries   none");
    if (found->first > 1)
        printf("begins    behind entry %" PRIu64 " of term %" PRIu64 "\n", found->first - 1, found->base_term);
    for (unsigned i = 0; i < view->look.segments; i++) {
        struct kt_wal_segment_look segment;

        kt_wal_look_segment(view->wal, i, &segment);
        printf("segment   %016" PRIx64 ".seg  %" PRIu64 " of %" PRIu64 " bytes used", segment.serial, segment.used,
               segment.bytes);
        if (segment.entries > 0)
            printf(", entries %" PRIu64 " to %" PRIu64, segment.first, segment.first + segment.entries - 1);
        putchar('\n');
    }
}

static void tail_text(const struct log_view *view)
{
    const struct kt_wal_look *look = &view->look;

    if (look->vote.code != KT_OK)
        printf("DAMAGED   %s\n", look->vote.text);
    if (look->records.code != KT_OK)
        printf("DAMAGED   %s\n", look->records.text);
    if (look->segments_left > 0)
        printf("unread    %u segments behind that could not be checked\n", look->segments_left);
    if (look->vote_stale)
        puts("note      one of the two slots of the vote file is behind or damaged; the other one counts, and the next "
             "start repairs it");
    if (view->code == KT_OK && look->found.torn_bytes > 0)
        printf("TORN      %016" PRIx64 ".seg from offset %" PRIu64 ": %" PRIu64
               " bytes that were never acknowledged; the next start cuts them off\n",
               look->torn_segment, look->torn_offset, look->found.torn_bytes);
}

static void counts_text(const struct log_view *view)
{
    printf("types     %" PRIu64 " commands, %" PRIu64 " barriers, %" PRIu64 " changes\n", view->types[KT_ENTRY_COMMAND],
           view->types[KT_ENTRY_BARRIER], view->types[KT_ENTRY_CHANGE]);
    if (view->unknown > 0)
        printf("note      %" PRIu64 " commands are not known to this version\n", view->unknown);
}

static void segments_json(const struct log_view *view, struct kt_json_writer *json)
{
    kt_json_put_key(json, "segments");
    kt_json_begin_array(json);
    for (unsigned i = 0; i < view->look.segments; i++) {
        struct kt_wal_segment_look segment;
        char name[25];

        kt_wal_look_segment(view->wal, i, &segment);
        snprintf(name, sizeof(name), "%016" PRIx64 ".seg", segment.serial);
        kt_json_begin_object(json);
        kt_json_put_text_member(json, "file", name);
        kt_json_put_u64_member(json, "bytes", segment.bytes);
        kt_json_put_u64_member(json, "used", segment.used);
        kt_json_put_u64_member(json, "first", segment.first);
        kt_json_put_u64_member(json, "entries", segment.entries);
        kt_json_end_object(json);
    }
    kt_json_end_array(json);
}

/* One object on one line: everything but the entries. */
static void whole_json(struct log_view *view, bool counts)
{
    static const char *const words[] = {"whole", "torn", "damaged"};
    const struct kt_wal_look *look = &view->look;
    struct kt_json_writer json;
    char name[25];

    kt_json_writer_init(&json, &view->line);
    kt_json_begin_object(&json);
    kt_json_put_text_member(&json, "log", view->path);
    kt_json_put_text_member(&json, "verdict", words[verdict(view)]);
    kt_json_put_u64_member(&json, "term", look->found.term);
    snprintf(name, sizeof(name), "%016" PRIx64, look->found.vote);
    kt_json_put_text_member(&json, "vote", name);
    kt_json_put_u64_member(&json, "vote_node", kt_member_node(look->found.vote));
    kt_json_put_bool_member(&json, "vote_stale", look->vote_stale);
    kt_json_put_u64_member(&json, "first", look->found.first);
    kt_json_put_u64_member(&json, "last", look->found.last);
    kt_json_put_u64_member(&json, "base_term", look->found.base_term);
    segments_json(view, &json);
    kt_json_put_u64_member(&json, "segments_left", look->segments_left);
    if (look->vote.code != KT_OK)
        kt_json_put_text_member(&json, "vote_problem", look->vote.text);
    if (look->records.code != KT_OK)
        kt_json_put_text_member(&json, "problem", look->records.text);
    if (look->found.torn_bytes > 0) {
        snprintf(name, sizeof(name), "%016" PRIx64 ".seg", look->torn_segment);
        kt_json_put_text_member(&json, "torn_file", name);
        kt_json_put_u64_member(&json, "torn_offset", look->torn_offset);
        kt_json_put_u64_member(&json, "torn_bytes", look->found.torn_bytes);
    }
    if (counts) {
        kt_json_put_u64_member(&json, "commands", view->types[KT_ENTRY_COMMAND]);
        kt_json_put_u64_member(&json, "barriers", view->types[KT_ENTRY_BARRIER]);
        kt_json_put_u64_member(&json, "changes", view->types[KT_ENTRY_CHANGE]);
        kt_json_put_u64_member(&json, "unknown", view->unknown);
    }
    kt_json_end_object(&json);
    put_line(view);
}

/* ---- The commands ---- */

static int entry_lost(const struct log_view *view, enum kt_code code)
{
    /* The look had read it a moment ago. */
    return cli_fail(code == KT_IO_FAILED ? LOG_UNREAD : LOG_DAMAGED, "%s: an entry cannot be read: %s", view->path,
                    kt_code_text(code));
}

static int dump(struct log_view *view)
{
    enum kt_code code;

    if (view->cli->json)
        whole_json(view, false);
    else
        head_text(view);
    code = each_entry(view, print_entry);
    if (!view->cli->json)
        tail_text(view);
    return code == KT_OK ? verdict(view) : entry_lost(view, code);
}

static int verify(struct log_view *view)
{
    enum kt_code code = each_entry(view, count_entry);

    if (code != KT_OK)
        return entry_lost(view, code);
    if (view->cli->json) {
        whole_json(view, true);
        return verdict(view);
    }
    head_text(view);
    counts_text(view);
    tail_text(view);
    if (verdict(view) == LOG_WHOLE)
        puts("whole     every record is valid");
    return verdict(view);
}

static int read_index(const char *option, const char *text, kt_index initial, kt_index *out)
{
    char *end;

    *out = initial;
    if (!text)
        return CLI_OK;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9')
        return cli_fail(CLI_USAGE, "--%s '%.40s' is no index", option, text);
    return CLI_OK;
}

int cli_log(struct cli *cli, int argc, char **argv)
{
    static const struct cli_param params[] = {
        {"folder", "folder", 'f', CLI_WORD, 1, true, NULL},
        {"from", "from", 'F', CLI_NUMBER, 0, false, NULL},
        {"to", "to", 'T', CLI_NUMBER, 0, false, NULL},
    };
    struct log_view view = {.cli = cli};
    struct cli_values values;
    bool dumps = argc > 0 && strcmp(argv[0], "dump") == 0;
    int status;

    if (!dumps && (argc == 0 || strcmp(argv[0], "verify") != 0))
        return cli_fail(CLI_USAGE, "log needs one of: dump, verify");
    status = cli_params(dumps ? "log dump" : "log verify", params, dumps ? 3 : 1, argc - 1, argv + 1, &values);
    if (status == CLI_OK)
        status = read_index("from", values.of[1], 1, &view.from);
    if (status == CLI_OK)
        status = read_index("to", values.of[2], UINT64_MAX, &view.to);
    if (status != CLI_OK)
        return status;
    kt_buf_init(&view.line, 2 * CLI_TEXT_MAX);
    status = open_log(&view, values.of[0]);
    if (status == CLI_OK)
        status = dumps ? dump(&view) : verify(&view);
    close_log(&view);
    return status;
}
