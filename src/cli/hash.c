/* hash-token and hash-password: what goes into settings instead of the secret. Offline. */
#include <stdio.h>

#include "auth/auth.h"
#include "cli/cli.h"

#define PASSWORD_MAX 4096 /* bytes; read from standard input, so that it stays out of the list of processes */

int cli_hash_token(struct cli *cli, int argc, char **argv)
{
    char text[65];

    (void)cli;
    if (argc != 1 || argv[0][0] == '\0')
        return cli_fail(CLI_USAGE, "hash-token needs one token");
    kt_auth_token_hash(kt_slice_text(argv[0]), text);
    puts(text);
    return CLI_OK;
}

int cli_hash_password(struct cli *cli, int argc, char **argv)
{
    char password[PASSWORD_MAX + 2], text[160];

    (void)cli;
    (void)argv;
    if (argc != 0)
        return cli_fail(CLI_USAGE, "hash-password reads the password from standard input, not from the command line");
    if (!fgets(password, sizeof(password), stdin))
        return cli_fail(CLI_USAGE, "no password on standard input");
    size_t len = strcspn(password, "\r\n");
    if (len == 0 || len > PASSWORD_MAX)
        return cli_fail(CLI_USAGE, "a password has 1..%d bytes", PASSWORD_MAX);
    kt_auth_verifier(kt_slice(password, len), text);
    puts(text);
    return CLI_OK;
}
