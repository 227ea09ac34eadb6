/* A line of the shell as words. */
#ifndef KT_CLI_WORDS_H
#define KT_CLI_WORDS_H

#include "base/error.h"

#define CLI_WORDS_MAX 64

struct cli_words {
    size_t count;
    char *items[CLI_WORDS_MAX + 1]; /* NULL behind the last */
};

/*
 * Words are separated by blanks. '...' is taken as it stands; in "..." a backslash takes the next character as it is;
 * quotes may be parts of a word. A word that begins with { or [ is JSON and reaches to the bracket that closes it,
 * blanks included. '#' at the beginning of a word begins a comment. KT_BAD_REQUEST with a sentence: something is not
 * closed, or there are too many words; then there are none.
 */
KT_MUST_USE enum kt_code cli_words_split(const char *line, struct cli_words *words, struct kt_error *error);
void cli_words_release(struct cli_words *words);
/* Where the last word of an unfinished line begins (its length: the line ends in a blank), and how many are before it.
 */
size_t cli_words_last(const char *line, size_t *before);

#endif
