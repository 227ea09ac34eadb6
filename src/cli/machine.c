/* Commands of the state-machine protocol: words become parameters by a table, the answer is printed as it is. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/table.h"

struct operation {
    const char *name, *op;
    const char *words; /* for help */
    const char *(*show)(
        const struct kt_json *answer);           /* what is printed instead of the answer, unless --json; or NULL */
    void (*table)(const struct kt_json *answer); /* the same in the shell; or NULL */
    size_t count;
    struct cli_param params[CLI_PARAMS_MAX];
};

static const char *show_pong(const struct kt_json *answer)
{
    (void)answer;
    return "PONG";
}

/* member, option, letter, kind, position */
#define OPTION(member, option, letter, kind)                                                                           \
    {                                                                                                                  \
        member, option, letter, kind, 0, false, NULL                                                                   \
    }
#define PLACE(member, option, letter, kind, position)                                                                  \
    {                                                                                                                  \
        member, option, letter, kind, position, false, NULL                                                            \
    }
#define REQUIRED(member, option, letter, kind, position)                                                               \
    {                                                                                                                  \
        member, option, letter, kind, position, true, NULL                                                             \
    }
#define KEY      OPTION("idempotency_key", "key", 'k', CLI_WORD)
#define LONG_KEY OPTION("idempotency_key", "idempotency-key", 0, CLI_WORD)

/* clang-format off */
static const struct operation operations[] = {
    {"ping", "PING", "", show_pong, NULL, 0, {OPTION(NULL, NULL, 0, CLI_WORD)}},
    {"info", "INFO", "", NULL, NULL, 0, {OPTION(NULL, NULL, 0, CLI_WORD)}},
    {"put-machine", "PUT_MACHINE", "NAME VERSION DEFINITION", NULL, NULL, 3, {
        REQUIRED("machine", "name", 'n', CLI_WORD, 1),
        REQUIRED("version", "version", 'v', CLI_NUMBER, 2),
        REQUIRED("definition", "definition", 'd', CLI_JSON, 3)}},
    {"get-machine", "GET_MACHINE", "NAME [VERSION]", NULL, NULL, 2, {
        REQUIRED("machine", "name", 'n', CLI_WORD, 1),
        PLACE("version", "version", 'v', CLI_NUMBER, 2)}},
    {"list-machines", "LIST_MACHINES", "[--limit N] [--offset N]", NULL, cli_table_machines, 2, {
        OPTION("limit", "limit", 'l', CLI_NUMBER),
        OPTION("offset", "offset", 'o', CLI_NUMBER)}},
    {"create-instance", "CREATE_INSTANCE", "MACHINE VERSION [ID] [CTX] [--key KEY]", NULL, NULL, 6, {
        REQUIRED("machine", "machine", 'm', CLI_WORD, 1),
        REQUIRED("version", "version", 'V', CLI_NUMBER, 2),
        PLACE("instance_id", "id", 'i', CLI_WORD, 3),
        PLACE("initial_ctx", "ctx", 'c', CLI_JSON, 4),
        KEY, LONG_KEY}},
    {"get-instance", "GET_INSTANCE", "ID", NULL, NULL, 1, {
        REQUIRED("instance_id", "id", 'i', CLI_WORD, 1)}},
    {"list-instances", "LIST_INSTANCES", "[MACHINE] [STATE] [--limit N] [--offset N]", NULL, cli_table_instances, 4, {
        PLACE("machine", "machine", 'm', CLI_WORD, 1),
        PLACE("state", "state", 's', CLI_WORD, 2),
        OPTION("limit", "limit", 'l', CLI_NUMBER),
        OPTION("offset", "offset", 'o', CLI_NUMBER)}},
    {"delete-instance", "DELETE_INSTANCE", "ID [--key KEY]", NULL, NULL, 3, {
        REQUIRED("instance_id", "id", 'i', CLI_WORD, 1),
        KEY, LONG_KEY}},
    {"apply-event", "APPLY_EVENT",
     "ID EVENT [PAYLOAD] [--expected-state S] [--expected-offset N] [--event-id ID] [--key KEY]", NULL, NULL, 8, {
        REQUIRED("instance_id", "instance", 'i', CLI_WORD, 1),
        REQUIRED("event", "event", 'e', CLI_WORD, 2),
        PLACE("payload", "payload", 'p', CLI_JSON, 3),
        OPTION("expected_state", "expected-state", 's', CLI_WORD),
        OPTION("expected_wal_offset", "expected-offset", 'o', CLI_NUMBER),
        OPTION("event_id", "event-id", 'I', CLI_WORD),
        KEY, LONG_KEY}},
    {"batch", "BATCH", "OPERATIONS [--mode atomic|best_effort] [--key KEY]", NULL, NULL, 4, {
        REQUIRED("ops", "ops", 'O', CLI_JSON, 1),
        OPTION("mode", "mode", 'm', CLI_WORD),
        KEY, LONG_KEY}},
    {"wal-read", "WAL_READ", "[FROM] [LIMIT]", NULL, cli_table_wal, 2, {
        {"from_offset", "from", 'f', CLI_NUMBER, 1, false, "0"},
        PLACE("limit", "limit", 'l', CLI_NUMBER, 2)}},
    {"wal-stats", "WAL_STATS", "", NULL, cli_table_members, 0, {OPTION(NULL, NULL, 0, CLI_WORD)}},
    {"snapshot-instance", "SNAPSHOT_INSTANCE", "ID", NULL, NULL, 1, {
        REQUIRED("instance_id", "id", 'i', CLI_WORD, 1)}},
    {"compact", "COMPACT", "[--force]", NULL, cli_table_members, 1, {
        OPTION("force_snapshot", "force", 'f', CLI_TRUE)}},
    {"flush-all", "FLUSH_ALL", "", NULL, NULL, 0, {OPTION(NULL, NULL, 0, CLI_WORD)}},
    {"explain-event", "EXPLAIN_EVENT", "ID EVENT [PAYLOAD]", NULL, NULL, 3, {
        REQUIRED("instance_id", "instance", 'i', CLI_WORD, 1),
        REQUIRED("event", "event", 'e', CLI_WORD, 2),
        PLACE("payload", "payload", 'p', CLI_JSON, 3)}},
    {"migrate-instances", "MIGRATE_INSTANCES",
     "MACHINE FROM TO [--states JSON] [--ctx-defaults JSON] [--ctx-renames JSON] [--ctx-removed A,B] [--dry-run]",
     NULL, NULL, 11, {
        REQUIRED("machine", "machine", 'm', CLI_WORD, 1),
        REQUIRED("from_version", "from-version", 'f', CLI_NUMBER, 2),
        REQUIRED("to_version", "to-version", 't', CLI_NUMBER, 3),
        OPTION("states", "states", 's', CLI_JSON),
        OPTION("ctx_defaults", "ctx-defaults", 0, CLI_JSON),
        OPTION("ctx_renames", "ctx-renames", 0, CLI_JSON),
        OPTION("ctx_removed", "ctx-removed", 0, CLI_LIST),
        OPTION("dry_run", "dry-run", 'd', CLI_TRUE),
        OPTION("limit", "limit", 'l', CLI_NUMBER),
        OPTION("offset", "offset", 'o', CLI_NUMBER),
        KEY}},
    {"get-migration", "GET_MIGRATION", "ID [--limit N] [--offset N]", NULL, NULL, 3, {
        REQUIRED("migration_id", "id", 'i', CLI_NUMBER, 1),
        OPTION("limit", "limit", 'l', CLI_NUMBER),
        OPTION("offset", "offset", 'o', CLI_NUMBER)}},
    {"list-migrations", "LIST_MIGRATIONS", "[MACHINE]", NULL, NULL, 1, {
        PLACE("machine", "machine", 'm', CLI_WORD, 1)}},
    {"undo-migration", "UNDO_MIGRATION", "ID", NULL, NULL, 1, {
        REQUIRED("migration_id", "id", 'i', CLI_NUMBER, 1)}},
    {"confirm-migration", "CONFIRM_MIGRATION", "ID", NULL, NULL, 1, {
        REQUIRED("migration_id", "id", 'i', CLI_NUMBER, 1)}},
    {"unwatch", "UNWATCH", "SUBSCRIPTION_ID", NULL, NULL, 1, {
        REQUIRED("subscription_id", "subscription", 'i', CLI_WORD, 1)}},
};

static const struct operation watches[] = {
    {"watch-instance", "WATCH_INSTANCE", "ID [--no-ctx] [--from-offset N]", NULL, NULL, 3, {
        REQUIRED("instance_id", "id", 'i', CLI_WORD, 1),
        OPTION("include_ctx", "no-ctx", 0, CLI_FALSE),
        OPTION("from_offset", "from-offset", 'f', CLI_NUMBER)}},
    {"watch-all", "WATCH_ALL",
     "[--machines A,B] [--from-states A,B] [--to-states A,B] [--events A,B] [--no-ctx] [--from-offset N]",
     NULL, NULL, 6, {
        OPTION("machines", "machines", 0, CLI_LIST),
        OPTION("from_states", "from-states", 0, CLI_LIST),
        OPTION("to_states", "to-states", 0, CLI_LIST),
        OPTION("events", "events", 0, CLI_LIST),
        OPTION("include_ctx", "no-ctx", 0, CLI_FALSE),
        OPTION("from_offset", "from-offset", 'f', CLI_NUMBER)}},
};
/* clang-format on */

void cli_machine_help(void)
{
    for (size_t i = 0; i < KT_COUNT(operations); i++)
        printf("  %s %s\n", operations[i].name, operations[i].words);
    for (size_t i = 0; i < KT_COUNT(watches); i++)
        printf("  %s %s\n", watches[i].name, watches[i].words);
}

static bool is_number(const char *word)
{
    size_t len = strlen(word);
    return len > 0 && len < 20 && strspn(word, "0123456789") == len;
}

/* The text of a JSON word: itself, or what is in @FILE, or standard input for @-. */
static int read_word(const char *word, struct kt_buf *text)
{
    if (word[0] != '@') {
        kt_buf_append_text(text, word);
        return CLI_OK;
    }
    bool standard = strcmp(word, "@-") == 0;
    FILE *file = standard ? stdin : fopen(word + 1, "re");
    if (!file)
        return cli_fail(CLI_USAGE, "%s: %s", word + 1, strerror(errno));
    uint8_t *room;
    size_t got = 1;
    while (got > 0 && (room = kt_buf_reserve(text, 65536))) {
        got = fread(room, 1, 65536, file);
        text->len += got;
    }
    bool failed = ferror(file) != 0;
    if (!standard)
        fclose(file);
    if (failed || kt_buf_code(text) != KT_OK)
        return cli_fail(CLI_USAGE, "%s cannot be read, or is larger than %u bytes", word + 1, CLI_TEXT_MAX);
    return CLI_OK;
}

static int put_json(struct kt_json_writer *writer, const struct cli_param *param, const char *word)
{
    struct kt_buf text, canonical;
    struct kt_json *json = NULL;
    struct kt_error error = {.text = ""};

    kt_buf_init(&text, CLI_TEXT_MAX);
    kt_buf_init(&canonical, CLI_TEXT_MAX);
    int status = read_word(word, &text);
    if (status == CLI_OK && kt_json_parse(kt_buf_slice(&text), &json, &error) != KT_OK)
        status = cli_fail(CLI_USAGE, "--%s is no JSON: %s", param->option, error.text);
    if (status == CLI_OK) {
        kt_json_print(json, false, &canonical);
        kt_json_put_raw(writer, kt_buf_slice(&canonical));
    }
    kt_json_free(json);
    kt_buf_release(&text);
    kt_buf_release(&canonical);
    return status;
}

/* "a,b" as an array of strings; empty names are left out, as between two commas. */
static void put_list(struct kt_json_writer *writer, const char *word)
{
    kt_json_begin_array(writer);
    while (*word) {
        size_t len = strcspn(word, ",");
        if (len > 0)
            kt_json_put_string(writer, kt_slice(word, len));
        word += len + (word[len] != '\0');
    }
    kt_json_end_array(writer);
}

static int put_param(struct kt_json_writer *writer, const struct cli_param *param, const char *word)
{
    kt_json_put_key(writer, param->member);
    switch (param->kind) {
    case CLI_JSON:
        return put_json(writer, param, word);
    case CLI_WORD:
        kt_json_put_text(writer, word);
        return CLI_OK;
    case CLI_LIST:
        put_list(writer, word);
        return CLI_OK;
    case CLI_TRUE:
    case CLI_FALSE:
        kt_json_put_bool(writer, param->kind == CLI_TRUE);
        return CLI_OK;
    case CLI_NUMBER:
        break;
    }
    if (!is_number(word))
        return cli_fail(CLI_USAGE, "--%s '%s' is no number", param->option, word);
    kt_json_put_raw(writer, kt_slice_text(word));
    return CLI_OK;
}

static int make_request(const struct operation *operation, const struct cli_values *values, struct kt_buf *request)
{
    struct kt_json_writer writer;
    int status = CLI_OK;

    kt_json_writer_init(&writer, request);
    kt_json_begin_object(&writer);
    for (size_t i = 0; i < operation->count && status == CLI_OK; i++) {
        const char *word = values->of[i] ? values->of[i] : operation->params[i].initial;
        if (word)
            status = put_param(&writer, &operation->params[i], word);
    }
    kt_json_end_object(&writer);
    kt_buf_append_u8(request, 0);
    if (status == CLI_OK && kt_buf_code(request) != KT_OK)
        status = cli_fail(CLI_USAGE, "the request is larger than %u bytes", CLI_TEXT_MAX);
    return status;
}

static int call(struct cli *cli, const struct operation *operation, const char *request)
{
    struct kt_json *answer = NULL;
    int status = cli_call(cli, operation->op, request, &answer);

    if (status != CLI_OK)
        return status;
    if (operation->show && !cli->json)
        puts(operation->show(answer));
    else if (operation->table && cli->shell && !cli->json)
        operation->table(answer);
    else
        cli_print_json(answer, cli->json);
    kt_json_free(answer);
    return CLI_OK;
}

static const struct operation *find(const struct operation *among, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, among[i].name) == 0)
            return &among[i];
    }
    return NULL;
}

static int run(struct cli *cli, const struct operation *operation, bool watches_events, int argc, char **argv)
{
    struct cli_values values;
    struct kt_buf request;

    if (!operation)
        return cli_fail(CLI_USAGE, "there is no command '%s'", argv[-1]);
    int status = cli_params(operation->name, operation->params, operation->count, argc, argv, &values);
    if (status != CLI_OK)
        return status;
    kt_buf_init(&request, CLI_TEXT_MAX);
    status = make_request(operation, &values, &request);
    if (status == CLI_OK && watches_events)
        status = cli_follow(cli, operation->op, (const char *)request.data);
    else if (status == CLI_OK)
        status = call(cli, operation, (const char *)request.data);
    kt_buf_release(&request);
    return status;
}

int cli_machine(struct cli *cli, int argc, char **argv)
{
    return run(cli, find(operations, KT_COUNT(operations), argv[-1]), false, argc, argv);
}

int cli_watch(struct cli *cli, int argc, char **argv)
{
    return run(cli, find(watches, KT_COUNT(watches), argv[-1]), true, argc, argv);
}
