/* Commands of the key-value protocol. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/client.h"
#include "wire/writer.h"

/* Types of encoded values (key-value protocol, section 3.8) that the command line can write. */
enum { VALUE_EMPTY = 0, VALUE_BOOL = 1, VALUE_INT64 = 8, VALUE_FLOAT64 = 10, VALUE_STRING = 12 };

static const struct cli_param params[] = {
    {"key", "key", 'k', CLI_WORD, 1, false, NULL},
    {"value", "value", 'v', CLI_WORD, 2, false, NULL},
    {"ttl", "ttl", 't', CLI_WORD, 0, false, NULL},
    {"type", "type", 'T', CLI_WORD, 0, false, NULL},
    {"database", "database", 'd', CLI_WORD, 0, false, NULL},
    {"collection", "collection", 'c', CLI_WORD, 0, false, NULL},
};
enum { KEY, VALUE, TTL, TYPE, DATABASE, COLLECTION };

static int encode_number(const char *text, bool whole, struct kt_buf *value)
{
    char *end = NULL;
    uint64_t bits;

    errno = 0;
    if (whole) {
        long long number = strtoll(text, &end, 10);
        bits = (uint64_t)number;
    } else {
        double number = strtod(text, &end);
        if (!isfinite(number))
            errno = ERANGE;
        memcpy(&bits, &number, sizeof(bits));
    }
    if (errno || end == text || *end)
        return cli_fail(CLI_USAGE, "'%s' is no %s", text, whole ? "integer of 64 bits" : "number");
    kt_buf_append_u8(value, whole ? VALUE_INT64 : VALUE_FLOAT64);
    kt_write_be64(value, bits);
    return CLI_OK;
}

static int encode(const char *type, const char *text, struct kt_buf *value)
{
    if (!text && strcmp(type, "empty") != 0)
        return cli_fail(CLI_USAGE, "kv set needs a value");
    if (strcmp(type, "string") == 0) {
        kt_buf_append_u8(value, VALUE_STRING);
        kt_write_be32(value, (uint32_t)strlen(text));
        kt_buf_append_text(value, text);
        return CLI_OK;
    }
    if (strcmp(type, "int") == 0 || strcmp(type, "float") == 0)
        return encode_number(text, type[0] == 'i', value);
    if (strcmp(type, "bool") == 0) {
        bool yes = strcmp(text, "true") == 0;
        if (!yes && strcmp(text, "false") != 0)
            return cli_fail(CLI_USAGE, "'%s' is neither true nor false", text);
        kt_buf_append_u8(value, VALUE_BOOL);
        kt_buf_append_u8(value, yes);
        return CLI_OK;
    }
    if (strcmp(type, "empty") == 0) {
        kt_buf_append_u8(value, VALUE_EMPTY);
        return CLI_OK;
    }
    return cli_fail(CLI_USAGE, "--type '%s' is none of: string, int, float, bool, empty", type);
}

/* Seconds, with a fraction if wanted, to milliseconds. */
static int read_ttl(const char *text, uint64_t *ttl_ms)
{
    char *end = NULL;
    errno = 0;
    double seconds = strtod(text, &end);
    /* A hundred years: what is beyond would not fit the protocol's nanoseconds. */
    if (errno || end == text || *end || !(seconds >= 0.001 && seconds <= 3.2e9))
        return cli_fail(CLI_USAGE, "--ttl '%s' is no number of seconds from 0.001 to 3200000000", text);
    *ttl_ms = (uint64_t)(seconds * 1000);
    return CLI_OK;
}

static int print_value(const struct cli *cli, const struct kontiki_result *result)
{
    char *text = NULL;
    size_t len = 0;

    if (kontiki_value_text(result->body, result->body_len, &text, &len) != KT_OK)
        return cli_fail(CLI_REFUSED, "the answer is no value");
    if (cli->json && result->body[0] == VALUE_STRING) {
        struct kt_buf out;
        struct kt_json_writer writer;
        kt_buf_init(&out, CLI_TEXT_MAX * 6u); /* a control character takes six bytes as \u00xx */
        kt_json_writer_init(&writer, &out);
        kt_json_put_string(&writer, kt_slice(text, len));
        fwrite(out.data, 1, out.len, stdout);
        kt_buf_release(&out);
    } else {
        fwrite(text, 1, len, stdout);
    }
    fputc('\n', stdout);
    kontiki_free(text);
    return CLI_OK;
}

static int done(const struct cli *cli, const struct kontiki_result *result)
{
    int status = cli_result_status(result);
    if (status == CLI_OK)
        puts(cli->json ? "true" : "ok");
    return status;
}

static int run_set(const struct cli *cli, struct kontiki_client *client, const struct kontiki_key *key,
                   const struct cli_values *values, struct kontiki_result *result)
{
    struct kt_buf value;
    uint64_t ttl_ms = 0;

    kt_buf_init(&value, CLI_TEXT_MAX);
    int status = encode(values->of[TYPE] ? values->of[TYPE] : "string", values->of[VALUE], &value);
    if (status == CLI_OK && values->of[TTL])
        status = read_ttl(values->of[TTL], &ttl_ms);
    if (status == CLI_OK && kt_buf_code(&value) != KT_OK)
        status = cli_fail(CLI_USAGE, "the value is too large");
    if (status == CLI_OK) {
        /* The result says the same as the code returned. */
        if (ttl_ms)
            (void)!kontiki_kv_set_ttl(client, key, value.data, value.len, ttl_ms, result);
        else
            (void)!kontiki_kv_set(client, key, value.data, value.len, result);
        status = done(cli, result);
    }
    kt_buf_release(&value);
    return status;
}

static int run(const struct cli *cli, const char *command, struct kontiki_client *client,
               const struct cli_values *values, struct kontiki_result *result)
{
    struct kontiki_key key = {
        .database = values->of[DATABASE] ? values->of[DATABASE] : "system",
        .collection = values->of[COLLECTION] ? values->of[COLLECTION] : "collections",
        .key = values->of[KEY],
        .key_len = values->of[KEY] ? strlen(values->of[KEY]) : 0,
    };
    if (strcmp(command, "ping") == 0) {
        (void)!kontiki_kv_ping(client, result);
        return done(cli, result);
    }
    if (!values->of[KEY])
        return cli_fail(CLI_USAGE, "kv %s needs a key", command);
    if (strcmp(command, "set") == 0)
        return run_set(cli, client, &key, values, result);
    if (values->of[VALUE] || values->of[TTL] || values->of[TYPE])
        return cli_fail(CLI_USAGE, "kv %s takes a key and nothing else", command);
    if (strcmp(command, "get") == 0)
        return kontiki_kv_get(client, &key, result) == KT_OK ? print_value(cli, result) : cli_result_status(result);
    if (strcmp(command, "delete") == 0) {
        (void)!kontiki_kv_delete(client, &key, result);
        return done(cli, result);
    }
    return cli_fail(CLI_USAGE, "kv has no command '%s': ping, get, set, delete", command);
}

int cli_kv(struct cli *cli, int argc, char **argv)
{
    struct kontiki_client *client = NULL;
    struct kontiki_result result = {.code = KT_OK};
    struct cli_values values;
    struct kt_error error = {.text = ""};

    if (argc == 0)
        return cli_fail(CLI_USAGE, "kv needs one of: ping, get, set, delete");
    /* Whoever asks for TLS does not want a password to go out in plain. */
    if (cli->tls)
        return cli_fail(CLI_USAGE, "keys have no TLS: run kv without --tls and what says it, also in the environment");
    if (cli_need_kv(cli, &error) != KT_OK)
        return cli_fail(CLI_USAGE, "%s", error.text);
    int status = cli_params("kv", params, KT_COUNT(params), argc - 1, argv + 1, &values);
    if (status == CLI_OK)
        status = cli_open(cli, &client);
    if (status != CLI_OK)
        return status;
    status = run(cli, argv[0], client, &values, &result);
    kontiki_result_release(&result);
    kontiki_close(client);
    return status;
}
