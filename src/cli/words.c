/* A line of the shell as words. */
#include "cli/words.h"

#include "base/alloc.h"
#include "base/buf.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The end of the JSON value that begins here with a bracket, or NULL. Its grammar is judged elsewhere. */
static const char *json_end(const char *at)
{
    unsigned depth = 0;
    bool quoted = false;

    for (; *at; at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && (*at == '{' || *at == '['))
            depth++;
        else if (!quoted && (*at == '}' || *at == ']') && --depth == 0)
            return at + 1;
    }
    return NULL;
}

/* Copies a word without its quotes; NULL: a quote is not closed. */
static const char *take_word(const char *at, struct kt_buf *word)
{
    char quote = 0;

    for (; *at && (quote || !is_blank(*at)); at++) {
        if (quote == '"' && *at == '\\' && at[1])
            kt_buf_append_u8(word, (uint8_t) * ++at);
        else if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? 0 : *at;
        else
            kt_buf_append_u8(word, (uint8_t)*at);
    }
    return quote ? NULL : at;
}

enum kt_code cli_words_split(const char *line, struct cli_words *words, struct kt_error *error)
{
    const char *at = line;
    enum kt_code code = KT_OK;
    struct kt_buf word;

    memset(words, 0, sizeof(*words));
    kt_buf_init(&word, strlen(line) + 1);
    for (;;) {
        while (is_blank(*at))
            at++;
        if (!*at || *at == '#')
            break;
        if (words->count == CLI_WORDS_MAX) {
            code = kt_error_set(error, KT_BAD_REQUEST, "more than %d words", CLI_WORDS_MAX);
            break;
        }
        const char *from = at;
        kt_buf_clear(&word);
        if (*at == '{' || *at == '[') {
            at = json_end(from);
            if (at)
                kt_buf_append(&word, from, (size_t)(at - from));
        } else {
            at = take_word(from, &word);
        }
        if (!at) {
            code = kt_error_set(error, KT_BAD_REQUEST, "not closed: %.60s", from);
            break;
        }
        words->items[words->count++] = kt_slice_dup_text(kt_buf_slice(&word));
    }
    kt_buf_release(&word);
    if (code != KT_OK)
        cli_words_release(words);
    return code;
}

void cli_words_release(struct cli_words *words)
{
    for (size_t i = 0; i < words->count; i++)
        kt_free(words->items[i]);
    memset(words, 0, sizeof(*words));
}

size_t cli_words_last(const char *line, size_t *before)
{
    size_t at = 0;

    *before = 0;
    for (;;) {
        while (is_blank(line[at]))
            at++;
        size_t from = at;
        while (line[at] && !is_blank(line[at]))
            at++;
        if (!line[at])
            return from;
        ++*before;
    }
}
