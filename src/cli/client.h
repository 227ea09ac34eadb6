/* The client library as the commands use it. */
#ifndef KT_CLI_CLIENT_H
#define KT_CLI_CLIENT_H

#include "cli/cli.h"
#include "kontiki/client.h"

/* The library's options out of the tool's; they borrow from cli and from tls. */
void cli_client_options(const struct cli *cli, struct kontiki_options *options, struct kontiki_tls *tls);
/* CLI_OK, or CLI_USAGE after saying why. Close with kontiki_close. */
int cli_open(const struct cli *cli, struct kontiki_client **client);
/* The exit code of a call, after saying what went wrong. */
int cli_result_status(const struct kontiki_result *result);
/* One machine call over cli->client. CLI_OK: *answer is the caller's. Else it was said what went wrong. */
int cli_call(struct cli *cli, const char *op, const char *params, struct kt_json **answer);
/* The same, but silent: NULL if it did not work within timeout_ms. For completion. */
struct kt_json *cli_peek(struct cli *cli, const char *op, const char *params, unsigned timeout_ms);
/* Prints events, one line each, until SIGINT or SIGTERM (CLI_OK) or until no node goes on (watch.c). */
int cli_follow(struct cli *cli, const char *op, const char *params);

#endif
