/* Global options, environment, endpoints; and the words of one command. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/address.h"
#include "base/alloc.h"
#include "base/check.h"
#include "cli/cli.h"
#include "kontiki/client.h"

/* How deploy/local numbers ports: node N has 7400+N, 8090+N, 9090+N. */
#define SCHEME_FIRST 7401u
#define SCHEME_LAST  7489u
#define SCHEME_KV    690u
#define SCHEME_ADMIN 1690u

static void clear_list(struct cli_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        kt_free(list->items[i]);
    memset(list, 0, sizeof(*list));
}

static enum kt_code read_list(struct cli_list *list, const char *text, struct kt_error *error)
{
    clear_list(list);
    while (*text) {
        size_t len = strcspn(text, ", ");
        struct kt_address address;
        if (len > 0) {
            if (list->count == CLI_ENDPOINTS_MAX)
                return kt_error_set(error, KT_BAD_REQUEST, "more than %d endpoints", CLI_ENDPOINTS_MAX);
            char *item = kt_slice_dup_text(kt_slice(text, len));
            list->items[list->count++] = item;
            enum kt_code code = kt_address_parse(item, &address, error);
            if (code != KT_OK)
                return code;
            if (address.port == 0)
                return kt_error_set(error, KT_BAD_REQUEST, "'%.100s' has port 0", item);
        }
        text += len + (text[len] != '\0');
    }
    return list->count ? KT_OK : kt_error_set(error, KT_BAD_REQUEST, "an empty list of endpoints");
}

static enum kt_code derive(struct cli_list *list, const struct cli_list *rcp, unsigned distance, const char *option,
                           struct kt_error *error)
{
    if (list->count)
        return KT_OK;
    for (size_t i = 0; i < rcp->count; i++) {
        struct kt_address address;
        char text[KT_ADDRESS_HOST_MAX + 16];
        enum kt_code code = kt_address_parse(rcp->items[i], &address, error);
        KT_CHECK(code == KT_OK);
        if (address.port < SCHEME_FIRST || address.port > SCHEME_LAST)
            return kt_error_set(error, KT_BAD_REQUEST, "%s is needed: it cannot be told from the endpoint %.100s",
                                option, rcp->items[i]);
        snprintf(text, sizeof(text), strchr(address.host, ':') ? "[%s]:%u" : "%s:%u", address.host,
                 address.port + distance);
        list->items[list->count++] = kt_text_dup(text);
    }
    return KT_OK;
}

enum kt_code cli_need_kv(struct cli *cli, struct kt_error *error)
{
    return derive(&cli->kv, &cli->rcp, SCHEME_KV, "--kv-endpoint", error);
}

enum kt_code cli_need_admin(struct cli *cli, struct kt_error *error)
{
    return derive(&cli->admin, &cli->rcp, SCHEME_ADMIN, "--admin-endpoint", error);
}

static enum kt_code read_timeout(struct cli *cli, const char *text, struct kt_error *error)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9' || number == 0 || number > 3600000)
        return kt_error_set(error, KT_BAD_REQUEST, "--timeout-ms '%.40s' is not within 1..3600000", text);
    cli->timeout_ms = (unsigned)number;
    return KT_OK;
}

enum option_kind { ENDPOINTS, TIMEOUT, TEXT, SWITCH, HELP, VERSION };

/* The letters count before the command only: behind it they are the command's own. */
static const struct option {
    const char *name;
    char letter;
    enum option_kind kind;
    size_t offset; /* in struct cli: of a list, a text or a switch */
} globals[] = {
    {"endpoint", 0, ENDPOINTS, offsetof(struct cli, rcp)},
    {"server", 's', ENDPOINTS, offsetof(struct cli, rcp)},
    {"kv-endpoint", 0, ENDPOINTS, offsetof(struct cli, kv)},
    {"admin-endpoint", 0, ENDPOINTS, offsetof(struct cli, admin)},
    {"timeout-ms", 0, TIMEOUT, 0},
    {"token", 't', TEXT, offsetof(struct cli, token)},
    {"user", 0, TEXT, offsetof(struct cli, user)},
    {"password", 0, TEXT, offsetof(struct cli, password)},
    {"api-key", 0, TEXT, offsetof(struct cli, api_key)},
    {"json", 0, SWITCH, offsetof(struct cli, json)},
    {"help", 'h', HELP, 0},
    {"version", 'V', VERSION, 0},
    {"tls", 0, SWITCH, offsetof(struct cli, tls)},
    {"ca-cert", 0, TEXT, offsetof(struct cli, ca_cert)},
    {"client-cert", 0, TEXT, offsetof(struct cli, client_cert)},
    {"client-key", 0, TEXT, offsetof(struct cli, client_key)},
    {"server-name", 0, TEXT, offsetof(struct cli, server_name)},
    {"insecure", 'k', SWITCH, offsetof(struct cli, insecure)},
};

static bool is_switch(enum option_kind kind)
{
    return kind == SWITCH || kind == HELP || kind == VERSION;
}

/* before: no word of the command has come yet. *value: what stands behind "=", or NULL. */
static const struct option *find_global(const char *word, bool before, const char **value)
{
    *value = NULL;
    if (word[0] != '-' || word[1] == '\0')
        return NULL;
    for (size_t i = 0; i < KT_COUNT(globals); i++) {
        const struct option *option = &globals[i];
        size_t len = strlen(option->name);
        if (word[1] != '-') {
            /* Help is help everywhere; no command has that letter. */
            if ((before || option->kind == HELP) && word[1] == option->letter && word[2] == '\0')
                return option;
            continue;
        }
        if (strncmp(word + 2, option->name, len) != 0 || (word[2 + len] != '\0' && word[2 + len] != '='))
            continue;
        /* put-machine --version is the machine's. */
        if (option->kind == VERSION && !before)
            return NULL;
        if (word[2 + len] == '=')
            *value = word + 2 + len + 1;
        return option;
    }
    return NULL;
}

static enum kt_code take_option(struct cli *cli, const struct option *option, const char *value, struct kt_error *error)
{
    void *at = (char *)cli + option->offset;

    switch (option->kind) {
    case ENDPOINTS:
        return read_list(at, value, error);
    case TIMEOUT:
        return read_timeout(cli, value, error);
    case TEXT:
        *(const char **)at = value;
        break;
    case SWITCH:
        *(bool *)at = true;
        break;
    case HELP:
        cli->help = true;
        break;
    case VERSION:
        cli->version = true;
        break;
    }
    return KT_OK;
}

/* The first of the names that is set and not empty; *name tells which. */
static const char *environment(const char *first, const char *second, const char **name)
{
    const char *value = getenv(first);
    *name = first;
    if ((!value || !value[0]) && second) {
        value = getenv(second);
        *name = second;
    }
    return value && value[0] ? value : NULL;
}

static bool is_no(const char *text)
{
    static const char *const words[] = {"0", "false", "f", "no", "n", "off"};
    for (size_t i = 0; i < KT_COUNT(words); i++) {
        if (strcasecmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

static enum kt_code read_environment(struct cli *cli, struct kt_error *error)
{
    static const struct {
        const char *name, *also;
        size_t offset;
        bool list;
    } rows[] = {
        {"KONTIKI_ENDPOINTS", "RSTMDB_SERVER", offsetof(struct cli, rcp), true},
        {"KONTIKI_KV_ENDPOINTS", NULL, offsetof(struct cli, kv), true},
        {"KONTIKI_ADMIN_ENDPOINTS", NULL, offsetof(struct cli, admin), true},
        {"KONTIKI_TOKEN", "RSTMDB_TOKEN", offsetof(struct cli, token), false},
        {"KONTIKI_USER", NULL, offsetof(struct cli, user), false},
        {"KONTIKI_PASSWORD", NULL, offsetof(struct cli, password), false},
        {"KONTIKI_API_KEY", NULL, offsetof(struct cli, api_key), false},
        {"KONTIKI_CA_CERT", "RSTMDB_CA_CERT", offsetof(struct cli, ca_cert), false},
        {"KONTIKI_CLIENT_CERT", "RSTMDB_CLIENT_CERT", offsetof(struct cli, client_cert), false},
        {"KONTIKI_CLIENT_KEY", "RSTMDB_CLIENT_KEY", offsetof(struct cli, client_key), false},
    };
    const char *name, *value;
    struct kt_error why;

    for (size_t i = 0; i < KT_COUNT(rows); i++) {
        value = environment(rows[i].name, rows[i].also, &name);
        if (value && !rows[i].list)
            *(const char **)((char *)cli + rows[i].offset) = value;
        else if (value && read_list((void *)((char *)cli + rows[i].offset), value, &why) != KT_OK)
            return kt_error_set(error, why.code, "environment %s: %s", name, why.text);
    }
    value = environment("KONTIKI_TLS", "RSTMDB_TLS", &name);
    cli->tls = value && !is_no(value);
    return KT_OK;
}

/* Whoever names a certificate wants it used. */
static enum kt_code settle_tls(struct cli *cli, struct kt_error *error)
{
    cli->tls = cli->tls || cli->ca_cert || cli->client_cert || cli->client_key || cli->insecure;
    if (cli->server_name && !cli->tls)
        return kt_error_set(error, KT_BAD_REQUEST, "--server-name is of use with --tls only");
    return KT_OK;
}

/*
 * Global options may stand anywhere before "--": they are taken out, the other words move to the end of argv in their
 * order.
 */
enum kt_code cli_options(int argc, char **argv, struct cli *cli, int *rest, struct kt_error *error)
{
    char **words = kt_alloc(sizeof(*words) * (size_t)(argc + 1));
    int count = 0;
    enum kt_code code = read_environment(cli, error);

    for (int i = 1; i < argc && code == KT_OK; i++) {
        const char *value;
        if (strcmp(argv[i], "--") == 0) {
            while (i < argc)
                words[count++] = argv[i++];
            break;
        }
        const struct option *option = find_global(argv[i], count == 0, &value);
        if (!option) {
            words[count++] = argv[i];
            continue;
        }
        if (is_switch(option->kind) && value)
            code = kt_error_set(error, KT_BAD_REQUEST, "--%s takes no value", option->name);
        else if (!is_switch(option->kind) && !value && ++i == argc)
            code = kt_error_set(error, KT_BAD_REQUEST, "%s needs a value", argv[i - 1]);
        else
            code = take_option(cli, option, value ? value : argv[i], error);
    }
    if (code == KT_OK && cli->rcp.count == 0)
        code = read_list(&cli->rcp, "127.0.0.1:7401", error);
    if (code == KT_OK)
        code = settle_tls(cli, error);
    *rest = argc - count;
    for (int i = 0; i < count; i++)
        argv[*rest + i] = words[i];
    kt_free(words);
    return code;
}

void cli_release(struct cli *cli)
{
    clear_list(&cli->rcp);
    clear_list(&cli->kv);
    clear_list(&cli->admin);
    kontiki_close(cli->client);
    cli->client = NULL;
}

/* *value: what stands behind "=", or NULL. */
static const struct cli_param *find_option(const struct cli_param *params, size_t count, const char *word,
                                           const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(params[i].option);
        if (word[1] != '-') {
            if (params[i].letter && word[1] == params[i].letter && word[2] == '\0')
                return &params[i];
        } else if (strncmp(word + 2, params[i].option, len) == 0 && (word[2 + len] == '\0' || word[2 + len] == '=')) {
            if (word[2 + len] == '=')
                *value = word + 2 + len + 1;
            return &params[i];
        }
    }
    return NULL;
}

static const struct cli_param *next_position(const struct cli_param *params, size_t count,
                                             const struct cli_values *values)
{
    const struct cli_param *next = NULL;
    for (size_t i = 0; i < count; i++) {
        if (params[i].position && !values->of[i] && (!next || params[i].position < next->position))
            next = &params[i];
    }
    return next;
}

int cli_params(const char *command, const struct cli_param *params, size_t count, int argc, char **argv,
               struct cli_values *values)
{
    bool options = true;

    KT_CHECK(count <= CLI_PARAMS_MAX);
    memset(values, 0, sizeof(*values));
    for (int i = 0; i < argc; i++) {
        const struct cli_param *param;
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
            continue;
        }
        /* A lone "-" and negative numbers are words. */
        bool option = options && argv[i][0] == '-' && argv[i][1] != '\0' && !(argv[i][1] >= '0' && argv[i][1] <= '9');
        const char *value = argv[i];
        if (option) {
            param = find_option(params, count, argv[i], &value);
            if (!param)
                return cli_fail(CLI_USAGE, "%s has no option %s", command, argv[i]);
            if (values->of[param - params])
                return cli_fail(CLI_USAGE, "--%s is given twice", param->option);
            bool alone = param->kind == CLI_TRUE || param->kind == CLI_FALSE;
            if (alone && value)
                return cli_fail(CLI_USAGE, "--%s takes no value", param->option);
            if (alone)
                value = argv[i];
            else if (!value && ++i == argc)
                return cli_fail(CLI_USAGE, "%s needs a value", argv[i - 1]);
            else if (!value)
                value = argv[i];
        } else {
            param = next_position(params, count, values);
            if (!param)
                return cli_fail(CLI_USAGE, "%s does not know what to do with '%s'", command, argv[i]);
        }
        values->of[param - params] = value;
    }
    for (size_t i = 0; i < count; i++) {
        if (params[i].required && !values->of[i])
            return cli_fail(CLI_USAGE, "%s needs --%s", command, params[i].option);
    }
    return CLI_OK;
}
