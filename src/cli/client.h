/* The client library as the commands use it. */
#ifndef KT_CLI_CLIENT_H
#define KT_CLI_CLIENT_H

#include "cli/cli.h"
#include "kontiki/client.h"

/* CLI_OK, or CLI_USAGE after saying why. Close with kontiki_close. */
int cli_open(const struct cli *cli, struct kontiki_client **client);
/* The exit code of a call, after saying what went wrong. */
int cli_result_status(const struct kontiki_result *result);

#endif
