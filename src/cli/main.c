/* kontiki: which command, and help. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include "cli/cli.h"
#include "kontiki/version.h"

struct command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv);
};

static const struct command commands[] = {
    {"cluster", cli_cluster},
    {"kv", cli_kv},
    {"ping", cli_machine},
    {"info", cli_machine},
    {"put-machine", cli_machine},
    {"get-machine", cli_machine},
    {"list-machines", cli_machine},
    {"create-instance", cli_machine},
    {"get-instance", cli_machine},
    {"list-instances", cli_machine},
    {"delete-instance", cli_machine},
    {"apply-event", cli_machine},
    {"certs", cli_certs},
    {"log", cli_log},
    {"hash-token", cli_hash_token},
    {"hash-password", cli_hash_password},
};

static void print_help(void)
{
    fputs("usage: kontiki [OPTION]... COMMAND [ARGUMENT]...\n"
          "\n"
          "The cluster:\n"
          "  cluster status        one line per node; * marks the leader\n"
          "  cluster leader        print the number of the leader\n"
          "  cluster wait          wait until all nodes given are ready and one leads\n"
          "\n"
          "State machines (JSON may be @FILE, @- is standard input):\n",
          stdout);
    cli_machine_help();
    fputs("\n"
          "Keys:\n"
          "  kv ping\n"
          "  kv get KEY\n"
          "  kv set KEY VALUE [--ttl SECONDS] [--type string|int|float|bool|empty]\n"
          "  kv delete KEY\n"
          "      keys of database system, collection collections; --database, --collection name others\n"
          "\n"
          "A node's log, offline (FOLDER is the data folder or the log folder in it; nothing is changed; a folder\n"
          "that a running node has locked is refused):\n"
          "  log dump FOLDER [--from INDEX] [--to INDEX]   vote, segments, and each entry with its operation\n"
          "  log verify FOLDER                             checks every record\n"
          "      exit codes: 0 whole; 1 only a torn tail, which the next start cuts off; 2 damaged; 3 not readable\n"
          "\n"
          "For settings:\n"
          "  certs FOLDER --nodes ID[,...] [--hosts HOST[,...]] [--days N]\n"
          "      makes an authority and a certificate and key for each node, for cluster.tls; one host per node. An\n"
          "      authority that is in the folder already is used. Certificates are valid for 365 days.\n"
          "  hash-token TOKEN      hash for auth.token_hashes and for a user's api_key (with sha256: before it)\n"
          "  hash-password         reads a password from standard input, prints a verifier for auth.users\n"
          "\n"
          "Options (before or after the command), with their environment:\n"
          "  --endpoint HOST:PORT[,...]        state-machine ports of any nodes; KONTIKI_ENDPOINTS, 127.0.0.1:7401\n"
          "  --kv-endpoint HOST:PORT[,...]     key-value ports; KONTIKI_KV_ENDPOINTS\n"
          "  --admin-endpoint HOST:PORT[,...]  HTTP ports; KONTIKI_ADMIN_ENDPOINTS\n"
          "      Key-value and HTTP ports not given are those of the state-machine endpoints plus 690 and 1690, if\n"
          "      these are 7401..7489 (as deploy/local numbers them).\n"
          "  --token TOKEN                     for state machines; KONTIKI_TOKEN\n"
          "  --user NAME, --password TEXT, --api-key KEY   for keys; KONTIKI_USER, KONTIKI_PASSWORD, KONTIKI_API_KEY\n"
          "  --timeout-ms N                    for the whole command; 30000\n"
          "  --json                            answers as one line of JSON\n"
          "\n"
          "With several endpoints the next one is tried when one does not answer or stops answering; a write is\n"
          "repeated only where that cannot do it twice.\n"
          "\n"
          "Exit codes: 0 done; 1 the server said no; 2 wrong command line; 3 nothing answered, nothing was done;\n"
          "4 a write was sent and its outcome is unknown.\n",
          stdout);
}

int cli_fail(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("kontiki: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
    if (argc == 0) {
        print_help();
        return CLI_USAGE;
    }
    if (strcmp(argv[0], "help") == 0) {
        print_help();
        return CLI_OK;
    }
    for (size_t i = 0; i < KT_COUNT(commands); i++) {
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(cli, argc - 1, argv + 1);
    }
    return cli_fail(CLI_USAGE, "there is no command '%s'; kontiki --help lists them", argv[0]);
}

int main(int argc, char **argv)
{
    struct cli cli = {.timeout_ms = CLI_TIMEOUT_MS_DEFAULT};
    struct kt_error error = {.text = ""};
    int rest = argc, status;

    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return CLI_OK;
        }
        if (i == 1 && strcmp(argv[i], "--version") == 0) {
            puts("kontiki " KT_VERSION);
            return CLI_OK;
        }
    }
    if (cli_options(argc, argv, &cli, &rest, &error) != KT_OK)
        status = cli_fail(CLI_USAGE, "%s", error.text);
    else
        status = run(&cli, argc - rest, argv + rest);
    cli_release(&cli);
    if (fflush(stdout) != 0 && status == CLI_OK)
        status = cli_fail(CLI_REFUSED, "standard output cannot be written");
    return status;
}
