/* Global options, environment, endpoints; and the words of one command. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/address.h"
#include "base/alloc.h"
#include "base/check.h"
#include "cli/cli.h"

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

/* Takes one global option with its value; *taken tells whether it was one. */
static enum kt_code read_option(struct cli *cli, const char *option, const char *value, bool *taken,
                                struct kt_error *error)
{
    static const char *const names[] = {"--endpoint", "--kv-endpoint", "--admin-endpoint", "--timeout-ms",
                                        "--token",    "--user",        "--password",       "--api-key"};
    struct cli_list *lists[] = {&cli->rcp, &cli->kv, &cli->admin};
    const char **texts[] = {&cli->token, &cli->user, &cli->password, &cli->api_key};

    for (size_t i = 0; i < KT_COUNT(names); i++) {
        if (strcmp(option, names[i]) != 0)
            continue;
        *taken = true;
        if (!value)
            return kt_error_set(error, KT_BAD_REQUEST, "%s needs a value", option);
        if (i < 3)
            return read_list(lists[i], value, error);
        if (i == 3)
            return read_timeout(cli, value, error);
        *texts[i - 4] = value;
        return KT_OK;
    }
    *taken = false;
    return KT_OK;
}

static enum kt_code read_environment(struct cli *cli, struct kt_error *error)
{
    static const char *const lists[] = {"KONTIKI_ENDPOINTS", "KONTIKI_KV_ENDPOINTS", "KONTIKI_ADMIN_ENDPOINTS"};
    struct cli_list *into[] = {&cli->rcp, &cli->kv, &cli->admin};

    for (size_t i = 0; i < KT_COUNT(lists); i++) {
        const char *value = getenv(lists[i]);
        struct kt_error why;
        if (value && value[0] && read_list(into[i], value, &why) != KT_OK)
            return kt_error_set(error, why.code, "environment %s: %s", lists[i], why.text);
    }
    cli->token = getenv("KONTIKI_TOKEN");
    cli->user = getenv("KONTIKI_USER");
    cli->password = getenv("KONTIKI_PASSWORD");
    cli->api_key = getenv("KONTIKI_API_KEY");
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
        bool taken = false;
        if (strcmp(argv[i], "--") == 0) {
            while (i < argc)
                words[count++] = argv[i++];
            break;
        }
        if (strcmp(argv[i], "--json") == 0) {
            cli->json = true;
            continue;
        }
        code = read_option(cli, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &taken, error);
        if (taken)
            i++;
        else
            words[count++] = argv[i];
    }
    if (code == KT_OK && cli->rcp.count == 0)
        code = read_list(&cli->rcp, "127.0.0.1:7401", error);
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
}

static const struct cli_param *find_option(const struct cli_param *params, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (word[1] == '-' ? strcmp(word + 2, params[i].option) == 0
                           : word[1] == params[i].letter && word[1] != '\0' && word[2] == '\0')
            return &params[i];
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
        if (option) {
            param = find_option(params, count, argv[i]);
            if (!param)
                return cli_fail(CLI_USAGE, "%s has no option %s", command, argv[i]);
            if (++i == argc)
                return cli_fail(CLI_USAGE, "%s needs a value", argv[i - 1]);
            if (values->of[param - params])
                return cli_fail(CLI_USAGE, "--%s is given twice", param->option);
        } else {
            param = next_position(params, count, values);
            if (!param)
                return cli_fail(CLI_USAGE, "%s does not know what to do with '%s'", command, argv[i]);
        }
        values->of[param - params] = argv[i];
    }
    for (size_t i = 0; i < count; i++) {
        if (params[i].required && !values->of[i])
            return cli_fail(CLI_USAGE, "%s needs --%s", command, params[i].option);
    }
    return CLI_OK;
}
