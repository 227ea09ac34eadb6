/* The client library as the commands use it: opened from the options, results turned into exit codes. */
#include <stdio.h>

#include "cli/client.h"

#define ATTEMPT_MS_SHARE 4 /* a node that hangs takes at most this part of the time, so that others get their turn */

void cli_client_options(const struct cli *cli, struct kontiki_options *options, struct kontiki_tls *tls)
{
    *tls = (struct kontiki_tls){.ca_cert = cli->ca_cert,
                                .client_cert = cli->client_cert,
                                .client_key = cli->client_key,
                                .server_name = cli->server_name,
                                .insecure = cli->insecure};
    *options = (struct kontiki_options){
        .machine = (const char *const *)cli->rcp.items,
        .machine_count = cli->rcp.count,
        .kv = (const char *const *)cli->kv.items,
        .kv_count = cli->kv.count,
        .token = cli->token,
        .tls = cli->tls ? tls : NULL,
        .user = cli->user,
        .password = cli->password,
        .api_key = cli->api_key,
        .timeout_ms = cli->timeout_ms,
        .attempt_ms = KT_MIN(cli->timeout_ms / ATTEMPT_MS_SHARE + 1, 10000u),
    };
}

int cli_open(const struct cli *cli, struct kontiki_client **client)
{
    char text[256] = "";
    struct kontiki_options options;
    struct kontiki_tls tls;

    cli_client_options(cli, &options, &tls);
    if (kontiki_open(&options, client, text, sizeof(text)) != KT_OK)
        return cli_fail(CLI_USAGE, "%s", text);
    return CLI_OK;
}

int cli_result_status(const struct kontiki_result *result)
{
    if (result->code == KT_OK)
        return CLI_OK;
    if (kt_code_outcome(result->code) == KT_UNKNOWN) {
        fprintf(stderr, "Error: the outcome is unknown: %s (last asked: %s)\n", result->text, result->endpoint);
        return CLI_UNKNOWN;
    }
    if (result->server_code[0]) {
        fprintf(stderr, "Error: server error: %s - %s\n", result->server_code, result->text);
        if (result->details)
            fprintf(stderr, "%s\n", result->details);
        return CLI_REFUSED;
    }
    if (kt_code_class(result->code) == KT_RETRY) {
        fprintf(stderr, "Connection failed: nothing answered, nothing was done: %s\n", result->text);
        return CLI_NO_ANSWER;
    }
    return cli_fail(CLI_USAGE, "%s", result->text);
}

int cli_call(struct cli *cli, const char *op, const char *params, struct kt_json **answer)
{
    struct kontiki_result result = {.code = KT_OK};
    struct kt_error error = {.text = ""};
    int status = cli->client ? CLI_OK : cli_open(cli, &cli->client);

    *answer = NULL;
    if (status != CLI_OK)
        return status;
    if (kontiki_machine_call(cli->client, op, params, &result) != KT_OK)
        status = cli_result_status(&result);
    else if (kt_json_parse(kt_slice(result.body, result.body_len), answer, &error) != KT_OK)
        status = cli_fail(CLI_REFUSED, "the answer is no JSON: %s", error.text);
    kontiki_result_release(&result);
    return status;
}

struct kt_json *cli_peek(struct cli *cli, const char *op, const char *params, unsigned timeout_ms)
{
    struct kontiki_result result = {.code = KT_OK};
    struct kontiki_client *client = NULL;
    struct kontiki_options options;
    struct kontiki_tls tls;
    struct kt_json *answer = NULL;
    struct kt_error error;

    cli_client_options(cli, &options, &tls);
    options.timeout_ms = timeout_ms;
    if (kontiki_open(&options, &client, NULL, 0) != KT_OK)
        return NULL;
    if (kontiki_machine_call(client, op, params, &result) == KT_OK &&
        kt_json_parse(kt_slice(result.body, result.body_len), &answer, &error) != KT_OK)
        answer = NULL;
    kontiki_result_release(&result);
    kontiki_close(client);
    return answer;
}
