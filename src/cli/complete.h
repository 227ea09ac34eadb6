/* What may stand at the end of a line of the shell. */
#ifndef KT_CLI_COMPLETE_H
#define KT_CLI_COMPLETE_H

#include "cli/cli.h"

/* A short name of the shell and the command it stands for. */
struct cli_alias {
    const char *name, *command;
};
extern const struct cli_alias cli_aliases[];
extern const size_t cli_alias_count;
/* The shell's own commands; NULL behind the last. */
extern const char *const cli_builtins[];

/* The command that a first word means, in small letters: an alias is resolved, anything else stays. */
const char *cli_alias_resolve(const char *word);

/*
 * Names of machines and instances, asked of the cluster when they are needed and believed for a few seconds: at most a
 * thousand instances. A cluster that does not answer within a second has none.
 */
struct cli_names {
    struct cli *cli;
    struct kt_json *machines, *instances;
    uint64_t asked_ms; /* kt_clock_ms; 0: never */
};
void cli_names_release(struct cli_names *names);

/* A cli_edit_complete; data: struct cli_names. */
void cli_complete(void *data, const char *line, struct kt_buf *candidates);

#endif
