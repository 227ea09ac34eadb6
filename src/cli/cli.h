/*
 * The kontiki tool. One process, one command, one thread; everything blocks within the deadline of --timeout-ms.
 *
 * Exit codes: CLI_OK done; CLI_REFUSED the server said no; CLI_USAGE the command line is wrong; CLI_NO_ANSWER nothing
 * answered, and nothing was done; CLI_UNKNOWN a write was sent and its outcome is not known.
 */
#ifndef KT_CLI_CLI_H
#define KT_CLI_CLI_H

#include "base/buf.h"
#include "base/error.h"
#include "wire/json.h"

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
    unsigned timeout_ms;
    bool json;
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
/* "kontiki: ..." on stderr; returns the exit code given. */
int cli_fail(int status, const char *format, ...) KT_PRINTF(2, 3);

/*
 * A parameter of a command: "--option VALUE", "-l VALUE", or the next word without an option if position is not 0.
 * member is its name in the request.
 */
enum cli_kind { CLI_WORD, CLI_NUMBER, CLI_JSON };
struct cli_param {
    const char *member, *option;
    char letter;
    enum cli_kind kind;
    unsigned position; /* 1.. in the order of words; 0: only as option */
    bool required;
};
#define CLI_PARAMS_MAX 8

struct cli_values {
    const char *of[CLI_PARAMS_MAX]; /* by parameter; NULL: not given */
};

/* Reads a command's words. CLI_OK, or CLI_USAGE after saying why. */
int cli_params(const char *command, const struct cli_param *params, size_t count, int argc, char **argv,
               struct cli_values *values);

/* The commands; each gets its own words only. */
int cli_cluster(struct cli *cli, int argc, char **argv);
int cli_kv(struct cli *cli, int argc, char **argv);
int cli_machine(struct cli *cli, int argc, char **argv); /* argv[-1] is the command's name */
int cli_certs(struct cli *cli, int argc, char **argv);
int cli_log(struct cli *cli, int argc, char **argv); /* exit codes of its own: see print_help */
int cli_hash_token(struct cli *cli, int argc, char **argv);
int cli_hash_password(struct cli *cli, int argc, char **argv);

/* The usage lines of the machine commands. */
void cli_machine_help(void);

#endif
