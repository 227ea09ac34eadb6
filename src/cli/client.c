/* The client library as the commands use it: opened from the options, results turned into exit codes. */
#include <stdio.h>

#include "cli/client.h"

#define ATTEMPT_MS_SHARE 4 /* a node that hangs takes at most this part of the time, so that others get their turn */

int cli_open(const struct cli *cli, struct kontiki_client **client)
{
    char text[256] = "";
    struct kontiki_options options = {
        .machine = (const char *const *)cli->rcp.items,
        .machine_count = cli->rcp.count,
        .kv = (const char *const *)cli->kv.items,
        .kv_count = cli->kv.count,
        .token = cli->token,
        .user = cli->user,
        .password = cli->password,
        .api_key = cli->api_key,
        .timeout_ms = cli->timeout_ms,
        .attempt_ms = KT_MIN(cli->timeout_ms / ATTEMPT_MS_SHARE + 1, 10000u),
    };
    if (kontiki_open(&options, client, text, sizeof(text)) != KT_OK)
        return cli_fail(CLI_USAGE, "%s", text);
    return CLI_OK;
}

int cli_result_status(const struct kontiki_result *result)
{
    if (result->code == KT_OK)
        return CLI_OK;
    if (kt_code_outcome(result->code) == KT_UNKNOWN)
        return cli_fail(CLI_UNKNOWN, "the outcome is unknown: %s (last asked: %s)", result->text, result->endpoint);
    if (result->server_code[0]) {
        cli_fail(CLI_REFUSED, "%s: %s", result->server_code, result->text);
        if (result->details)
            fprintf(stderr, "kontiki: %s\n", result->details);
        return CLI_REFUSED;
    }
    if (kt_code_class(result->code) == KT_RETRY)
        return cli_fail(CLI_NO_ANSWER, "nothing answered, nothing was done: %s", result->text);
    return cli_fail(CLI_USAGE, "%s", result->text);
}
