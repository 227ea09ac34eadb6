/*
 * The kontiki tool. One process, one command or one shell, one thread; everything blocks within the deadline of
 * --timeout-ms, except watching and waiting for the next line.
 *
 * Exit codes: CLI_OK done; CLI_REFUSED the server said no; CLI_USAGE the command line is wrong; CLI_NO_ANSWER nothing
 * answered, and nothing was done; CLI_UNKNOWN a write was sent and its outcome is not known. Called by the name
 * rstmdb-cli, the tool keeps to that program's codes: 0, 2 for a wrong command line, else 1.
 */
#ifndef KT_CLI_CLI_H
#define KT_CLI_CLI_H

#include "base/buf.h"
#include "base/error.h"
#include "wire/json.h"

struct kontiki_client;

enum { CLI_OK = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_NO_ANSWER = 3, CLI_UNKNOWN = 4 };

#define CLI_ENDPOINTS_MAX      16          /* per kind; a cluster has at most so many members */
#define CLI_TEXT_MAX           (17u << 20) /* bytes of a definition file, a request or an answer: a frame has 16 MiB */
#define CLI_TIMEOUT_MS_DEFAULT 30000

struct cli_list {
    char *items[CLI_ENDPOINTS_MAX + 1]; /* "host:port", NULL at the end */
    size_t count;
};

struct cli {
    struct cli_list rcp, kv, admin;
    const char *token, *user, *password, *api_key;
    const char *ca_cert, *client_cert, *client_key, *server_name; /* of TLS; NULL: not given */
    bool tls;                                                     /* to the state-machine ports */
    bool insecure;
    unsigned timeout_ms;
    bool json;
    bool original; /* called as rstmdb-cli */
    bool shell;    /* the command comes from the shell: people read its answer */
    bool help, version;
    struct kontiki_client *client; /* for machine calls, opened by the first one; a shell keeps it */
};

/* Global options out of the arguments and the environment; what is left (the command) begins at *rest. */
KT_MUST_USE enum kt_code cli_options(int argc, char **argv, struct cli *cli, int *rest, struct kt_error *error);
void cli_release(struct cli *cli);
/* Key-value or HTTP endpoints: those given, else made of the state-machine ones by the local port scheme. */
KT_MUST_USE enum kt_code cli_need_kv(struct cli *cli, struct kt_error *error);
KT_MUST_USE enum kt_code cli_need_admin(struct cli *cli, struct kt_error *error);

/* GET of a path; KT_UNAVAILABLE if nothing answered until the deadline (kt_clock_ms). body must be initialised. */
KT_MUST_USE enum kt_code cli_http_get(const char *endpoint, const char *path, uint64_t deadline_ms, unsigned *status,
                                      struct kt_buf *body, struct kt_error *error);

/* Prints a JSON document: on one line, or indented for people. */
void cli_print_json(const struct kt_json *json, bool compact);
/* Whether the tool is called as rstmdb-cli; argv[0]. */
bool cli_is_original(const char *program);

/* "kontiki: ..." on stderr; returns the exit code given. */
int cli_fail(int status, const char *format, ...) KT_PRINTF(2, 3);

/*
 * A parameter of a command: "--option VALUE", "--option=VALUE", "-l VALUE", or the next word without an option if
 * position is not 0. member is its name in the request. CLI_TRUE and CLI_FALSE take no value: being there says it.
 */
enum cli_kind { CLI_WORD, CLI_NUMBER, CLI_JSON, CLI_LIST, CLI_TRUE, CLI_FALSE };
struct cli_param {
    const char *member, *option;
    char letter; /* 0: none */
    enum cli_kind kind;
    unsigned position; /* 1.. in the order of words; 0: only as option */
    bool required;
    const char *initial; /* what counts if it is not given; NULL: then it is not sent */
};
#define CLI_PARAMS_MAX 12

struct cli_values {
    const char *of[CLI_PARAMS_MAX]; /* by parameter; NULL: not given */
};

/* Reads a command's words. CLI_OK, or CLI_USAGE after saying why. */
int cli_params(const char *command, const struct cli_param *params, size_t count, int argc, char **argv,
               struct cli_values *values);

/* A command by its words, argv[0] the first; also from the shell. Options before it are not understood. */
int cli_run(struct cli *cli, int argc, char **argv);
/* The n-th command's name, NULL behind the last; for completion. */
const char *cli_command_name(size_t n);

/* The commands; each gets its own words only, and argv[-1] is its name. */
int cli_cluster(struct cli *cli, int argc, char **argv);
int cli_kv(struct cli *cli, int argc, char **argv);
int cli_machine(struct cli *cli, int argc, char **argv);
int cli_certs(struct cli *cli, int argc, char **argv);
int cli_log(struct cli *cli, int argc, char **argv); /* exit codes of its own: see the help */
int cli_watch(struct cli *cli, int argc, char **argv);
int cli_draw(struct cli *cli, int argc, char **argv);
int cli_shell(struct cli *cli, int argc, char **argv);
int cli_hash_token(struct cli *cli, int argc, char **argv);
int cli_hash_password(struct cli *cli, int argc, char **argv);

/* The usage lines of the machine commands. */
void cli_machine_help(void);
void cli_help(void);

#endif
