/*
 * Lines from a person at a terminal, with editing, history and completion (libedit); or from anything else, as they
 * come. One at a time in a process; signals of the terminal are its business while it waits.
 */
#ifndef KT_CLI_EDIT_H
#define KT_CLI_EDIT_H

#include "base/buf.h"

struct cli_edit;

/* Appends to candidates, each followed by a NUL, the words that may stand at the end of the line. */
typedef void (*cli_edit_complete)(void *data, const char *line, struct kt_buf *candidates);

enum cli_edit_outcome { EDIT_LINE, EDIT_INTERRUPTED, EDIT_END };

/* history_file: read now, written by cli_edit_close with mode 0600; NULL: none is kept. */
struct cli_edit *cli_edit_open(const char *prompt, const char *history_file, cli_edit_complete complete, void *data);
/* The next line without its end, as text in line. EDIT_INTERRUPTED: Ctrl-C, what was typed is dropped. */
enum cli_edit_outcome cli_edit_read(struct cli_edit *edit, struct kt_buf *line);
/* Keeps a line in the history. Not for secrets. */
void cli_edit_remember(struct cli_edit *edit, const char *line);
bool cli_edit_is_terminal(const struct cli_edit *edit);
void cli_edit_close(struct cli_edit *edit);

/* The longest beginning that all candidates have in common, in bytes, at a whole character. */
size_t cli_edit_common(struct kt_slice candidates);

#endif
