/* Lines from a terminal through libedit, or plain ones. */
#include "cli/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/alloc.h"
#include "cli/cli.h"

#define HISTORY_LINES       1000
#define CANDIDATE_BYTES_MAX (1u << 20)

struct cli_edit {
    EditLine *editor; /* NULL: no terminal */
    History *history;
    HistEvent event;
    const char *prompt;
    char *history_file; /* or NULL */
    cli_edit_complete complete;
    void *data;
    struct sigaction interrupt; /* as it was before */
};

/* A byte for each Ctrl-C, so that one that comes just before a wait ends the wait, too. */
static int interrupts[2] = {-1, -1};

static void on_interrupt(int number)
{
    int kept = errno;
    (void)number;
    (void)!write(interrupts[1], "", 1);
    errno = kept;
}

/* Whether there was one since this was asked last. */
static bool was_interrupted(void)
{
    char bytes[64];
    bool was = false;
    while (read(interrupts[0], bytes, sizeof(bytes)) > 0)
        was = true;
    return was;
}

static char *prompt_of(EditLine *editor)
{
    struct cli_edit *edit = NULL;
    el_get(editor, EL_CLIENTDATA, &edit);
    return (char *)(uintptr_t)edit->prompt;
}

/* libedit's own reader goes on after a signal; this one gives up, so that Ctrl-C drops the line. */
static int read_character(EditLine *editor, wchar_t *out)
{
    mbstate_t state;
    (void)editor;
    memset(&state, 0, sizeof(state));
    for (;;) {
        struct pollfd at[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = interrupts[0], .events = POLLIN}};
        char byte;
        if (poll(at, KT_COUNT(at), -1) < 0 && errno != EINTR)
            return -1;
        if (at[1].revents & POLLIN)
            return -1;
        if (!at[0].revents)
            continue;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got == 0)
            return 0;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1) {
            memset(&state, 0, sizeof(state));
            *out = L'?';
            return 1;
        }
        if (used != (size_t)-2)
            return 1;
    }
}

size_t cli_edit_common(struct kt_slice candidates)
{
    const char *first = candidates.data, *end = first + candidates.len;
    size_t common = candidates.len ? strlen(first) : 0;

    for (const char *at = first; at < end; at += strlen(at) + 1) {
        size_t same = 0;
        while (same < common && at[same] == first[same])
            same++;
        common = same;
    }
    while (common > 0 && ((unsigned char)first[common] & 0xC0) == 0x80)
        common--;
    return common;
}

static void list_candidates(struct kt_slice candidates)
{
    const char *at = candidates.data, *end = at + candidates.len;
    putchar('\n');
    for (; at < end; at += strlen(at) + 1)
        printf("%s  ", at);
    putchar('\n');
    fflush(stdout);
}

static unsigned char on_tab(EditLine *editor, wint_t key)
{
    struct cli_edit *edit = NULL;
    const LineInfo *info = el_line(editor);
    unsigned char outcome = CC_ERROR;
    struct kt_buf candidates;

    (void)key;
    el_get(editor, EL_CLIENTDATA, &edit);
    char *line = kt_slice_dup_text(kt_slice(info->buffer, (size_t)(info->cursor - info->buffer)));
    size_t typed = strlen(line);
    while (typed > 0 && line[typed - 1] != ' ')
        typed--;
    typed = strlen(line) - typed;
    kt_buf_init(&candidates, CANDIDATE_BYTES_MAX);
    edit->complete(edit->data, line, &candidates);
    struct kt_slice found = kt_buf_slice(&candidates);
    size_t common = cli_edit_common(found);
    if (found.len > 0 && kt_buf_code(&candidates) == KT_OK) {
        bool one = strlen(found.data) + 1 == found.len;
        char *rest = kt_slice_dup_text(kt_slice((const char *)found.data + typed, common > typed ? common - typed : 0));
        if (*rest)
            el_insertstr(editor, rest);
        if (one)
            el_insertstr(editor, " ");
        outcome = CC_REFRESH;
        if (!one && !*rest) {
            list_candidates(found);
            outcome = CC_REDISPLAY;
        }
        kt_free(rest);
    }
    kt_buf_release(&candidates);
    kt_free(line);
    return outcome;
}

static void open_terminal(struct cli_edit *edit)
{
    setlocale(LC_CTYPE, "");
    edit->editor = el_init("kontiki", stdin, stdout, stderr);
    edit->history = history_init();
    if (!edit->editor || !edit->history)
        return;
    history(edit->history, &edit->event, H_SETSIZE, HISTORY_LINES);
    history(edit->history, &edit->event, H_SETUNIQUE, 1);
    if (edit->history_file)
        history(edit->history, &edit->event, H_LOAD, edit->history_file);
    el_set(edit->editor, EL_CLIENTDATA, edit);
    el_set(edit->editor, EL_PROMPT, prompt_of);
    el_set(edit->editor, EL_EDITOR, "emacs");
    el_set(edit->editor, EL_HIST, history, edit->history);
    el_set(edit->editor, EL_GETCFN, read_character);
    /* In wide characters: of narrow ones libedit makes copies that it never frees. */
    el_wset(edit->editor, EL_ADDFN, L"complete-word", L"completes commands and names", on_tab);
    el_set(edit->editor, EL_BIND, "^I", "complete-word", NULL);
    el_set(edit->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(edit->editor, NULL);
}

struct cli_edit *cli_edit_open(const char *prompt, const char *history_file, cli_edit_complete complete, void *data)
{
    struct cli_edit *edit = kt_zalloc(sizeof(*edit));
    struct sigaction action = {.sa_handler = on_interrupt};

    edit->prompt = prompt;
    edit->complete = complete;
    edit->data = data;
    edit->history_file = history_file ? kt_text_dup(history_file) : NULL;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        open_terminal(edit);
    if (edit->editor && pipe2(interrupts, O_CLOEXEC | O_NONBLOCK) == 0)
        sigaction(SIGINT, &action, &edit->interrupt);
    return edit;
}

bool cli_edit_is_terminal(const struct cli_edit *edit)
{
    return edit->editor != NULL;
}

static enum cli_edit_outcome read_plain(struct kt_buf *line)
{
    char *text = NULL;
    size_t size = 0;
    ssize_t len = getline(&text, &size, stdin);

    if (len >= 0)
        kt_buf_append(line, text, strcspn(text, "\n"));
    kt_buf_append_u8(line, 0);
    free(text);
    return len < 0 ? EDIT_END : EDIT_LINE;
}

enum cli_edit_outcome cli_edit_read(struct cli_edit *edit, struct kt_buf *line)
{
    int count = 0;

    kt_buf_clear(line);
    if (!edit->editor)
        return read_plain(line);
    /* What interrupted a command does not count any more. */
    was_interrupted();
    const char *text = el_gets(edit->editor, &count);
    if (!text && was_interrupted()) {
        puts("^C");
        el_reset(edit->editor);
        return EDIT_INTERRUPTED;
    }
    if (!text || count <= 0) {
        putchar('\n');
        return EDIT_END;
    }
    kt_buf_append(line, text, strcspn(text, "\n"));
    kt_buf_append_u8(line, 0);
    return EDIT_LINE;
}

void cli_edit_remember(struct cli_edit *edit, const char *line)
{
    if (edit->editor && edit->history)
        history(edit->history, &edit->event, H_ENTER, line);
}

void cli_edit_close(struct cli_edit *edit)
{
    if (edit->editor && interrupts[0] >= 0) {
        sigaction(SIGINT, &edit->interrupt, NULL);
        close(interrupts[0]);
        close(interrupts[1]);
        interrupts[0] = interrupts[1] = -1;
    }
    if (edit->editor && edit->history && edit->history_file) {
        mode_t before = umask(0077);
        history(edit->history, &edit->event, H_SAVE, edit->history_file);
        umask(before);
        /* One that an older shell left readable. */
        (void)!chmod(edit->history_file, 0600);
    }
    if (edit->history)
        history_end(edit->history);
    if (edit->editor)
        el_end(edit->editor);
    kt_free(edit->history_file);
    kt_free(edit);
}
