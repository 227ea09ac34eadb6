/* What the table of settings looks like to people: --help, docs/settings.md, --print-config. */
#include "node/settings.h"

#include "base/check.h"

static bool is_shown(const struct kt_setting *row)
{
    return row->kind != KT_SETTING_INERT;
}

static const char *kind_name(const struct kt_setting *row)
{
    switch (row->kind) {
    case KT_SETTING_TEXT:
        return "text";
    case KT_SETTING_ADDRESS:
        return "address";
    case KT_SETTING_NUMBER:
        return "number";
    case KT_SETTING_SWITCH:
        return "true or false";
    case KT_SETTING_CHOICE:
    case KT_SETTING_FSYNC:
        return "word";
    case KT_SETTING_TEXTS:
        return "list of texts";
    case KT_SETTING_USERS:
        return "list of maps";
    case KT_SETTING_MEMBERS:
        return "list of id@host:port";
    case KT_SETTING_INERT:
        break;
    }
    return "anything";
}

/* "1..65535 seconds", "auto, a, b", or nothing. */
static void print_bounds(const struct kt_setting *row, FILE *out)
{
    if (row->kind == KT_SETTING_NUMBER)
        fprintf(out, "%llu..%llu%s%s", (unsigned long long)row->min, (unsigned long long)row->max,
                row->unit[0] ? " " : "", row->unit);
    else if (row->choices)
        for (const char *at = row->choices; *at; at++)
            fprintf(out, *at == ' ' ? ", " : "%c", *at);
    else
        fputs(row->unit, out);
}

void kt_settings_help(FILE *out)
{
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if (!is_shown(row))
            continue;
        fprintf(out, "  %s = %s\n      %s\n", row->name, row->initial[0] ? row->initial : "(none)", row->sentence);
        if (row->environment[0])
            fprintf(out, "      environment: %s\n", row->environment);
    }
}

void kt_settings_markdown(FILE *out)
{
    fputs(
        "# Settings\n\n"
        "Made by `kontikid --print-settings-markdown` from `src/node/settings_table.c`; a test compares them.\n\n"
        "Sources, later wins: defaults, the YAML file (`--config FILE`, or `KONTIKI_CONFIG`, or `RSTMDB_CONFIG`), the\n"
        "environment, `--set name=value`. In the file, names are nested: `network: {bind_addr: ...}`. Unknown names "
        "and values\nthat cannot be understood are refused at start. `kontikid --print-config` shows what would be "
        "used.\n`SIGHUP` reads the files of `cluster.tls` and `tls` again; everything else needs a restart.\n\n"
        "| Setting | Type | Default | Bounds, unit | Environment | Meaning |\n|---|---|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if (!is_shown(row))
            continue;
        fprintf(out, "| `%s` | %s | %s%s%s | ", row->name, kind_name(row), row->initial[0] ? "`" : "",
                row->initial[0] ? row->initial : "none", row->initial[0] ? "`" : "");
        print_bounds(row, out);
        fputs(" | ", out);
        for (const char *at = row->environment; *at;) {
            size_t len = strcspn(at, " ");
            fprintf(out, "`%.*s`%s", (int)len, at, at[len] ? " " : "");
            at += len + (at[len] == ' ');
        }
        fprintf(out, " | %s |\n", row->sentence);
    }
    fputs("\n## Accepted, but without effect\n\n"
          "Names that configurations of rstmdb may carry.\n\n| Setting | What happens | Reason |\n|---|---|---|\n",
          out);
    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if (!is_shown(row))
            fprintf(out, "| `%s` | a warning in the log | %s |\n", row->name, row->sentence);
    }
}

static void print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(out, "\\x%02x", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

static void print_value(const struct kt_settings *settings, const struct kt_setting *row, FILE *out)
{
    const void *value = (const char *)settings + row->offset;
    const struct kt_settings_members *members = value;
    const char *text;

    KT_CHECK(row->offset != SIZE_MAX);
    switch (row->kind) {
    case KT_SETTING_TEXT:
    case KT_SETTING_ADDRESS:
    case KT_SETTING_CHOICE:
    case KT_SETTING_FSYNC:
        text = *(char *const *)value;
        if (text)
            print_quoted(text, out);
        else
            fputs((row->flags & KT_SETTING_OFF) ? "off" : "null", out);
        break;
    case KT_SETTING_NUMBER:
        fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)value);
        break;
    case KT_SETTING_SWITCH:
        fputs(*(const bool *)value ? "true" : "false", out);
        break;
    case KT_SETTING_TEXTS:
        fprintf(out, "[] # %zu, not shown", ((const struct kt_settings_texts *)value)->count);
        break;
    case KT_SETTING_USERS:
        fprintf(out, "[] # %zu, not shown", ((const struct kt_settings_users *)value)->count);
        break;
    case KT_SETTING_MEMBERS:
        fputc('[', out);
        for (size_t i = 0; i < members->count; i++)
            fprintf(out, "%s\"%llu@%s\"", i ? ", " : "", (unsigned long long)members->items[i].id,
                    members->items[i].address);
        fputc(']', out);
        break;
    case KT_SETTING_INERT:
        break;
    }
}

void kt_settings_print(const struct kt_settings *settings, FILE *out)
{
    static const char *const sources[] = {"", "file", "environment", "command line"};

    for (size_t i = 0; i < kt_setting_count; i++) {
        const struct kt_setting *row = &kt_setting_rows[i];
        if (!is_shown(row))
            continue;
        fprintf(out, "%s: ", row->name);
        print_value(settings, row, out);
        if (settings->sources[i])
            fprintf(out, " # from the %s", sources[settings->sources[i]]);
        fputc('\n', out);
    }
}
