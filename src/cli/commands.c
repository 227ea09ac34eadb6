/* Which commands there are, and help. */
#include <stdarg.h>
#include <stdio.h>

#include "cli/cli.h"

struct command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv);
};

static const struct command commands[] = {
    {"apply-event", cli_machine},
    {"batch", cli_machine},
    {"certs", cli_certs},
    {"cluster", cli_cluster},
    {"compact", cli_machine},
    {"confirm-migration", cli_machine},
    {"create-instance", cli_machine},
    {"delete-instance", cli_machine},
    {"explain-event", cli_machine},
    {"flush-all", cli_machine},
    {"get-instance", cli_machine},
    {"get-machine", cli_machine},
    {"get-migration", cli_machine},
    {"hash-password", cli_hash_password},
    {"hash-token", cli_hash_token},
    {"info", cli_machine},
    {"kv", cli_kv},
    {"list-instances", cli_machine},
    {"list-machines", cli_machine},
    {"list-migrations", cli_machine},
    {"log", cli_log},
    {"machine", cli_draw},
    {"migrate-instances", cli_machine},
    {"ping", cli_machine},
    {"put-machine", cli_machine},
    {"repl", cli_shell},
    {"shell", cli_shell},
    {"snapshot-instance", cli_machine},
    {"undo-migration", cli_machine},
    {"unwatch", cli_machine},
    {"wal-read", cli_machine},
    {"wal-stats", cli_machine},
    {"watch-all", cli_watch},
    {"watch-instance", cli_watch},
};

const char *cli_command_name(size_t n)
{
    return n < KT_COUNT(commands) ? commands[n].name : NULL;
}

bool cli_is_original(const char *program)
{
    const char *slash = strrchr(program, '/');
    return strcmp(slash ? slash + 1 : program, "rstmdb-cli") == 0;
}

void cli_help(void)
{
    fputs(
        "usage: kontiki [OPTION]... [COMMAND [ARGUMENT]...]\n"
        "\n"
        "  shell (also: repl)    commands line by line, with history and completion; without a command, too\n"
        "\n"
        "The cluster:\n"
        "  cluster status        one line per node; * marks the leader\n"
        "  cluster leader        print the number of the leader\n"
        "  cluster wait          wait until all nodes given are ready and one leads\n"
        "\n"
        "State machines (JSON may be @FILE, @- is standard input; every place has an option, too: --name, --id ...):\n",
        stdout);
    cli_machine_help();
    fputs("  machine draw NAME [VERSION] [--text | --dot | --svg]\n"
          "      the watches print one JSON line per event until they are interrupted, and go on at another node\n"
          "\n"
          "Keys:\n"
          "  kv ping\n"
          "  kv get KEY\n"
          "  kv set KEY VALUE [--ttl SECONDS] [--type string|int|float|bool|empty]\n"
          "  kv delete KEY\n"
          "      keys of database system, collection collections; --database, --collection name others\n"
          "\n"
          "A node's log, offline (FOLDER is the data folder or the log folder in it; nothing is changed; a folder that "
          "a\n"
          "running node has locked is refused):\n"
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
          "Options (before or after the command; letters before it only), with their environment:\n"
          "  -s, --endpoint, --server HOST:PORT[,...]  state-machine ports of any nodes; KONTIKI_ENDPOINTS,\n"
          "                                    RSTMDB_SERVER, 127.0.0.1:7401\n"
          "  --kv-endpoint HOST:PORT[,...]     key-value ports; KONTIKI_KV_ENDPOINTS\n"
          "  --admin-endpoint HOST:PORT[,...]  HTTP ports; KONTIKI_ADMIN_ENDPOINTS\n"
          "      Key-value and HTTP ports not given are those of the state-machine endpoints plus 690 and 1690, if\n"
          "      these are 7401..7489 (as deploy/local numbers them).\n"
          "  -t, --token TOKEN                 for state machines; KONTIKI_TOKEN, RSTMDB_TOKEN\n"
          "  --tls                             TLS to the state-machine ports; KONTIKI_TLS, RSTMDB_TLS\n"
          "  --ca-cert FILE                    the authorities trusted, in place of the system's; KONTIKI_CA_CERT,\n"
          "                                    RSTMDB_CA_CERT\n"
          "  --client-cert FILE, --client-key FILE   shown to servers that ask; KONTIKI_CLIENT_CERT and\n"
          "                                    RSTMDB_CLIENT_CERT, KONTIKI_CLIENT_KEY and RSTMDB_CLIENT_KEY\n"
          "  --server-name NAME                whom the certificate must name, in place of the endpoint's host\n"
          "  -k, --insecure                    takes any certificate: for trying out only\n"
          "      Each of these but --server-name says --tls, too. Files are PEM. Keys (kv) have no TLS.\n"
          "  --user NAME, --password TEXT, --api-key KEY   for keys; KONTIKI_USER, KONTIKI_PASSWORD, KONTIKI_API_KEY\n"
          "  --timeout-ms N                    for the whole command; 30000\n"
          "  --json                            answers as one line of JSON\n"
          "  -h, --help; -V, --version\n"
          "\n"
          "With several endpoints the next one is tried when one does not answer or stops answering; a write is\n"
          "repeated only where that cannot do it twice.\n"
          "\n"
          "Exit codes: 0 done; 1 the server said no; 2 wrong command line; 3 nothing answered, nothing was done;\n"
          "4 a write was sent and its outcome is unknown. Called as rstmdb-cli: 1 in place of 3 and 4.\n",
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

int cli_run(struct cli *cli, int argc, char **argv)
{
    if (argc == 0)
        return cli_shell(cli, 0, argv);
    if (strcmp(argv[0], "help") == 0) {
        cli_help();
        return CLI_OK;
    }
    for (size_t i = 0; i < KT_COUNT(commands); i++) {
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(cli, argc - 1, argv + 1);
    }
    return cli_fail(CLI_USAGE, "there is no command '%s'; kontiki --help lists them", argv[0]);
}
