/* kontiki: options, one command, exit codes. */
#include <signal.h>
#include <stdio.h>

#include "cli/cli.h"
#include "kontiki/version.h"

/* Scripts written for rstmdb-cli know success, failure and, from its argument parser, a wrong command line. */
static int exit_code(const struct cli *cli, int status)
{
    return cli->original && status > CLI_USAGE ? CLI_REFUSED : status;
}

int main(int argc, char **argv)
{
    struct cli cli = {.timeout_ms = CLI_TIMEOUT_MS_DEFAULT, .original = argc > 0 && cli_is_original(argv[0])};
    struct kt_error error = {.text = ""};
    int rest = argc, status = CLI_OK;

    signal(SIGPIPE, SIG_IGN);
    if (cli_options(argc, argv, &cli, &rest, &error) != KT_OK)
        status = cli_fail(CLI_USAGE, "%s", error.text);
    else if (cli.help)
        cli_help();
    else if (cli.version)
        printf("%s " KT_VERSION "\n", cli.original ? "rstmdb-cli" : "kontiki");
    else
        status = cli_run(&cli, argc - rest, argv + rest);
    status = exit_code(&cli, status);
    cli_release(&cli);
    if (fflush(stdout) != 0 && status == CLI_OK)
        status = cli_fail(CLI_REFUSED, "standard output cannot be written");
    return status;
}
