/* Completion: the first word is a command, the others are what the command takes at their place. */
#include "cli/complete.h"

#include <strings.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/words.h"

#define BELIEVE_MS 5000
#define ASK_MS     1000

const struct cli_alias cli_aliases[] = {
    {"a", "apply-event"},     {"apply", "apply-event"},      {"c", "create-instance"}, {"create", "create-instance"},
    {"d", "delete-instance"}, {"delete", "delete-instance"}, {"draw", "machine"},      {"g", "get-instance"},
    {"get", "get-instance"},  {"gm", "get-machine"},         {"li", "list-instances"}, {"lm", "list-machines"},
    {"pm", "put-machine"},    {"wal", "wal-read"},           {"watch", "watch-all"},   {"wi", "watch-instance"},
    {"ws", "wal-stats"},
};
const size_t cli_alias_count = KT_COUNT(cli_aliases);
const char *const cli_builtins[] = {"?", "exit", "help", "q", "quit", "rc", "reconnect", NULL};

const char *cli_alias_resolve(const char *word)
{
    for (size_t i = 0; i < cli_alias_count; i++) {
        if (strcasecmp(word, cli_aliases[i].name) == 0)
            return cli_aliases[i].command;
    }
    return word;
}

void cli_names_release(struct cli_names *names)
{
    kt_json_free(names->machines);
    kt_json_free(names->instances);
    names->machines = names->instances = NULL;
    names->asked_ms = 0;
}

static void ask(struct cli_names *names)
{
    uint64_t now_ms = kt_clock_ms();

    if (names->asked_ms && now_ms < names->asked_ms + BELIEVE_MS)
        return;
    cli_names_release(names);
    names->machines = cli_peek(names->cli, "LIST_MACHINES", "{}", ASK_MS);
    if (names->machines)
        names->instances = cli_peek(names->cli, "LIST_INSTANCES", "{\"limit\":1000}", ASK_MS);
    names->asked_ms = kt_clock_ms();
}

static void offer(struct kt_buf *candidates, struct kt_slice name, const char *typed)
{
    size_t len = strlen(typed);
    if (name.len < len || strncasecmp(name.data, typed, len) != 0 || memchr(name.data, ' ', name.len))
        return;
    kt_buf_append_slice(candidates, name);
    kt_buf_append_u8(candidates, 0);
}

static void offer_commands(struct kt_buf *candidates, const char *typed)
{
    for (size_t i = 0; cli_command_name(i); i++)
        offer(candidates, kt_slice_text(cli_command_name(i)), typed);
    /* One letter is typed sooner than completed. */
    for (size_t i = 0; i < cli_alias_count; i++) {
        if (strlen(cli_aliases[i].name) > 2)
            offer(candidates, kt_slice_text(cli_aliases[i].name), typed);
    }
    for (size_t i = 0; cli_builtins[i]; i++) {
        if (strlen(cli_builtins[i]) > 2)
            offer(candidates, kt_slice_text(cli_builtins[i]), typed);
    }
}

static void offer_members(struct kt_buf *candidates, const struct kt_json *answer, const char *list, const char *member,
                          const char *typed)
{
    const struct kt_json *items = kt_json_get(answer, list);
    for (const struct kt_json *item = kt_json_first(items); item; item = kt_json_next(item)) {
        const struct kt_json *name = kt_json_get(item, member);
        if (kt_json_is(name, KT_JSON_STRING))
            offer(candidates, kt_json_string(name), typed);
    }
}

enum names_of { MACHINES, INSTANCES, WORDS };

/* What stands behind a command: its first words, by position from 1. */
static const struct {
    const char *command;
    size_t position;
    enum names_of what;
    const char *words; /* separated by blanks */
} places[] = {
    {"apply-event", 1, INSTANCES, NULL},
    {"cluster", 1, WORDS, "leader status wait"},
    {"create-instance", 1, MACHINES, NULL},
    {"delete-instance", 1, INSTANCES, NULL},
    {"get-instance", 1, INSTANCES, NULL},
    {"get-machine", 1, MACHINES, NULL},
    {"kv", 1, WORDS, "delete get ping set"},
    {"list-instances", 1, MACHINES, NULL},
    {"machine", 1, WORDS, "draw"},
    {"machine", 2, MACHINES, NULL},
    {"machine", 4, WORDS, "--dot --svg --text"},
    {"put-machine", 1, MACHINES, NULL},
    {"snapshot-instance", 1, INSTANCES, NULL},
    {"watch-instance", 1, INSTANCES, NULL},
};

static void offer_words(struct kt_buf *candidates, const char *words, const char *typed)
{
    while (*words) {
        size_t len = strcspn(words, " ");
        offer(candidates, kt_slice(words, len), typed);
        words += len + (words[len] != '\0');
    }
}

void cli_complete(void *data, const char *line, struct kt_buf *candidates)
{
    struct cli_names *names = data;
    struct cli_words words;
    struct kt_error error;
    size_t before;
    const char *typed = line + cli_words_last(line, &before);

    if (before == 0) {
        offer_commands(candidates, typed);
        return;
    }
    if (cli_words_split(line, &words, &error) != KT_OK)
        return;
    const char *command = cli_alias_resolve(words.items[0]);
    size_t position = before;
    /* The shell's draw is the second word of the tool's. */
    if (strcmp(command, "machine") == 0 && strcasecmp(words.items[0], "machine") != 0)
        position++;
    for (size_t i = 0; i < KT_COUNT(places); i++) {
        if (strcasecmp(command, places[i].command) != 0 || position != places[i].position)
            continue;
        if (places[i].what == WORDS) {
            offer_words(candidates, places[i].words, typed);
            continue;
        }
        ask(names);
        if (places[i].what == MACHINES)
            offer_members(candidates, names->machines, "items", "machine", typed);
        else
            offer_members(candidates, names->instances, "instances", "id", typed);
    }
    cli_words_release(&words);
}
