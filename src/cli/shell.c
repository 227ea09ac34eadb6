/*
 * The shell: a line is a command of the tool in its own words or in a short form, carried out over one connection that
 * is kept. What people read is shown as tables.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/client.h"
#include "cli/complete.h"
#include "cli/edit.h"
#include "cli/words.h"

#define LINE_BYTES_MAX     (17u << 20) /* a definition may be typed, or come from a file */
#define LIST_LIMIT         "50"
#define HISTORY_PATH_BYTES 4096

static void print_shell_help(void)
{
    fputs("  help, ?                                this\n"
          "  reconnect, rc                          a new connection\n"
          "  ping, info\n"
          "  put-machine, pm NAME VERSION JSON      JSON may have blanks, or be @FILE\n"
          "  get-machine, gm NAME [VERSION]\n"
          "  list-machines, lm\n"
          "  machine draw, draw NAME [VERSION] [--dot | --svg]\n"
          "  create, c MACHINE VERSION [ID] [CTX]\n"
          "  get, g ID\n"
          "  list-instances, li [MACHINE] [STATE]   50, unless --limit says otherwise\n"
          "  apply, a ID EVENT [PAYLOAD]\n"
          "  delete, d ID\n"
          "  watch, wi ID                           events of all, of one instance; until Ctrl-C\n"
          "  wal [FROM] [LIMIT], wal-stats, ws\n"
          "  quit, exit, q, Ctrl-D\n"
          "Every command of the tool (kontiki --help) with its options is one of the shell, too.\n",
          stdout);
}

static bool is_one_of(const char *word, const char *first, const char *second, const char *third)
{
    return strcasecmp(word, first) == 0 || (second && strcasecmp(word, second) == 0) ||
           (third && strcasecmp(word, third) == 0);
}

/* What must not be found in a file later. */
static bool is_secret(const char *command)
{
    return strcasecmp(command, "hash-token") == 0 || strcasecmp(command, "hash-password") == 0;
}

static int run_command(struct cli *cli, struct cli_words *words)
{
    const char *command = cli_alias_resolve(words->items[0]);
    char *argv[CLI_WORDS_MAX + 4], name[64], draw[] = "draw", option[] = "--limit", limit[] = LIST_LIMIT;
    int argc = 0;

    snprintf(name, sizeof(name), "%s", command);
    for (char *at = name; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    argv[argc++] = name;
    if (is_one_of(words->items[0], "draw", NULL, NULL))
        argv[argc++] = draw;
    bool limited = strcmp(name, "list-instances") != 0;
    for (size_t i = 1; i < words->count; i++) {
        limited = limited || strncmp(words->items[i], "--limit", 7) == 0 || strcmp(words->items[i], "-l") == 0;
        argv[argc++] = words->items[i];
    }
    if (!limited) {
        argv[argc++] = option;
        argv[argc++] = limit;
    }
    argv[argc] = NULL;
    if (is_one_of(name, "shell", "repl", NULL))
        return cli_fail(CLI_USAGE, "this is the shell");
    return cli_run(cli, argc, argv);
}

static int run_line(struct cli *cli, struct cli_words *words)
{
    const char *first = words->items[0];
    int status = CLI_OK;

    if (is_one_of(first, "help", "?", NULL)) {
        print_shell_help();
    } else if (is_one_of(first, "reconnect", "rc", NULL)) {
        struct kt_json *answer = NULL;
        kontiki_close(cli->client);
        cli->client = NULL;
        status = cli_call(cli, "PING", "{}", &answer);
        if (status == CLI_OK)
            puts("Connected");
        kt_json_free(answer);
    } else {
        status = run_command(cli, words);
    }
    fflush(stdout);
    return status;
}

static const char *history_path(const struct cli *cli, char *path)
{
    const char *home = getenv("HOME");
    if (!home || !home[0])
        return NULL;
    int len = snprintf(path, HISTORY_PATH_BYTES, "%s/%s", home, cli->original ? ".rstmdb_history" : ".kontiki_history");
    return len > 0 && len < HISTORY_PATH_BYTES ? path : NULL;
}

/* A person sees what fails; a script is told by the exit code: that of the last command that failed. */
static int loop(struct cli *cli, struct cli_edit *edit, struct kt_buf *line)
{
    int failed = CLI_OK;

    for (;;) {
        struct cli_words words;
        struct kt_error error;

        switch (cli_edit_read(edit, line)) {
        case EDIT_INTERRUPTED:
            continue;
        case EDIT_END:
            return failed;
        case EDIT_LINE:
            break;
        }
        if (kt_buf_code(line) != KT_OK) {
            failed = cli_fail(CLI_USAGE, "the line is longer than %u bytes", LINE_BYTES_MAX);
            continue;
        }
        const char *text = (const char *)line->data;
        if (cli_words_split(text, &words, &error) != KT_OK) {
            cli_edit_remember(edit, text);
            failed = cli_fail(CLI_USAGE, "%s", error.text);
            continue;
        }
        bool leaves = words.count > 0 && is_one_of(words.items[0], "quit", "exit", "q");
        if (words.count > 0 && !leaves) {
            /* A blank before a line keeps it out of the history, as in other shells. */
            if (!isspace((unsigned char)text[0]) && !is_secret(words.items[0]))
                cli_edit_remember(edit, text);
            int status = run_line(cli, &words);
            if (status != CLI_OK)
                failed = status;
        }
        cli_words_release(&words);
        if (leaves)
            return failed;
    }
}

int cli_shell(struct cli *cli, int argc, char **argv)
{
    struct cli_names names = {.cli = cli};
    char path[HISTORY_PATH_BYTES];
    struct kt_buf line;

    if (cli->shell || argc > 0)
        return cli_fail(CLI_USAGE, "shell takes no words: '%s'", argc > 0 ? argv[0] : "");
    cli->shell = true;
    kt_buf_init(&line, LINE_BYTES_MAX);
    struct cli_edit *edit =
        cli_edit_open(cli->original ? "rstmdb> " : "kontiki> ", history_path(cli, path), cli_complete, &names);
    if (cli_edit_is_terminal(edit))
        printf("State machines at %s. help lists the commands, Ctrl-D leaves.\n", cli->rcp.items[0]);
    int status = loop(cli, edit, &line);
    if (cli_edit_is_terminal(edit))
        status = CLI_OK;
    cli_edit_close(edit);
    kt_buf_release(&line);
    cli_names_release(&names);
    cli->shell = false;
    return status;
}
