/* Commands of the state-machine protocol: words become parameters by a table, the answer is printed as it is. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"

struct operation {
    const char *name, *op;
    const char *words; /* for help */
    size_t count;
    struct cli_param params[CLI_PARAMS_MAX];
};

#define KEY                                                                                                            \
    {                                                                                                                  \
        "idempotency_key", "key", 'k', CLI_WORD, 0, false                                                              \
    }

/* clang-format off */
static const struct operation operations[] = {
    {"ping", "PING", "", 0, {{NULL, NULL, 0, CLI_WORD, 0, false}}},
    {"info", "INFO", "", 0, {{NULL, NULL, 0, CLI_WORD, 0, false}}},
    {"put-machine", "PUT_MACHINE", "NAME VERSION DEFINITION", 3, {
        {"machine", "name", 'n', CLI_WORD, 1, true},
        {"version", "version", 'v', CLI_NUMBER, 2, true},
        {"definition", "definition", 'd', CLI_JSON, 3, true}}},
    {"get-machine", "GET_MACHINE", "NAME [VERSION]", 2, {
        {"machine", "name", 'n', CLI_WORD, 1, true},
        {"version", "version", 'v', CLI_NUMBER, 2, false}}},
    {"list-machines", "LIST_MACHINES", "[--limit N] [--offset N]", 2, {
        {"limit", "limit", 'l', CLI_NUMBER, 0, false},
        {"offset", "offset", 'o', CLI_NUMBER, 0, false}}},
    {"create-instance", "CREATE_INSTANCE", "MACHINE VERSION [--id ID] [--ctx JSON] [--key KEY]", 5, {
        {"machine", "machine", 'm', CLI_WORD, 1, true},
        {"version", "version", 'V', CLI_NUMBER, 2, true},
        {"instance_id", "id", 'i', CLI_WORD, 0, false},
        {"initial_ctx", "ctx", 'c', CLI_JSON, 0, false},
        KEY}},
    {"get-instance", "GET_INSTANCE", "ID", 1, {
        {"instance_id", "id", 'i', CLI_WORD, 1, true}}},
    {"list-instances", "LIST_INSTANCES", "[--machine NAME] [--state STATE] [--limit N] [--offset N]", 4, {
        {"machine", "machine", 'm', CLI_WORD, 0, false},
        {"state", "state", 's', CLI_WORD, 0, false},
        {"limit", "limit", 'l', CLI_NUMBER, 0, false},
        {"offset", "offset", 'o', CLI_NUMBER, 0, false}}},
    {"delete-instance", "DELETE_INSTANCE", "ID [--key KEY]", 2, {
        {"instance_id", "id", 'i', CLI_WORD, 1, true},
        KEY}},
    {"apply-event", "APPLY_EVENT",
     "ID EVENT [--payload JSON] [--expected-state S] [--expected-offset N] [--event-id ID] [--key KEY]", 7, {
        {"instance_id", "instance", 'i', CLI_WORD, 1, true},
        {"event", "event", 'e', CLI_WORD, 2, true},
        {"payload", "payload", 'p', CLI_JSON, 0, false},
        {"expected_state", "expected-state", 's', CLI_WORD, 0, false},
        {"expected_wal_offset", "expected-offset", 'o', CLI_NUMBER, 0, false},
        {"event_id", "event-id", 'I', CLI_WORD, 0, false},
        KEY}},
};
/* clang-format on */

void cli_machine_help(void)
{
    for (size_t i = 0; i < KT_COUNT(operations); i++)
        printf("  %s %s\n", operations[i].name, operations[i].words);
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

static int make_request(const struct operation *operation, const struct cli_values *values, struct kt_buf *request)
{
    struct kt_json_writer writer;
    int status = CLI_OK;

    kt_json_writer_init(&writer, request);
    kt_json_begin_object(&writer);
    for (size_t i = 0; i < operation->count && status == CLI_OK; i++) {
        const struct cli_param *param = &operation->params[i];
        const char *word = values->of[i];
        if (!word)
            continue;
        kt_json_put_key(&writer, param->member);
        if (param->kind == CLI_JSON)
            status = put_json(&writer, param, word);
        else if (param->kind == CLI_WORD)
            kt_json_put_text(&writer, word);
        else if (is_number(word))
            kt_json_put_raw(&writer, kt_slice_text(word));
        else
            status = cli_fail(CLI_USAGE, "--%s '%s' is no number", param->option, word);
    }
    kt_json_end_object(&writer);
    kt_buf_append_u8(request, 0);
    if (status == CLI_OK && kt_buf_code(request) != KT_OK)
        status = cli_fail(CLI_USAGE, "the request is larger than %u bytes", CLI_TEXT_MAX);
    return status;
}

static int call(const struct cli *cli, const struct operation *operation, const char *request)
{
    struct kontiki_client *client = NULL;
    struct kontiki_result result = {.code = KT_OK};
    struct kt_json *json = NULL;
    struct kt_error error = {.text = ""};

    int status = cli_open(cli, &client);
    if (status != CLI_OK)
        return status;
    if (kontiki_machine_call(client, operation->op, request, &result) != KT_OK)
        status = cli_result_status(&result);
    else if (kt_json_parse(kt_slice(result.body, result.body_len), &json, &error) != KT_OK)
        status = cli_fail(CLI_REFUSED, "the answer is no JSON: %s", error.text);
    else
        cli_print_json(json, cli->json);
    kt_json_free(json);
    kontiki_result_release(&result);
    kontiki_close(client);
    return status;
}

int cli_machine(struct cli *cli, int argc, char **argv)
{
    const struct operation *operation = NULL;
    struct cli_values values;
    struct kt_buf request;

    for (size_t i = 0; i < KT_COUNT(operations); i++) {
        if (strcmp(argv[-1], operations[i].name) == 0)
            operation = &operations[i];
    }
    if (!operation)
        return cli_fail(CLI_USAGE, "there is no command '%s'", argv[-1]);
    int status = cli_params(operation->name, operation->params, operation->count, argc, argv, &values);
    if (status != CLI_OK)
        return status;
    kt_buf_init(&request, CLI_TEXT_MAX);
    status = make_request(operation, &values, &request);
    if (status == CLI_OK)
        status = call(cli, operation, (const char *)request.data);
    kt_buf_release(&request);
    return status;
}
