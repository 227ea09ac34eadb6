/* JSON for people: indented, members in the order of the answer. */
#include <stdio.h>

#include "cli/cli.h"

static void print_one(const struct kt_json *json)
{
    struct kt_buf text;
    kt_buf_init(&text, CLI_TEXT_MAX);
    kt_json_print(json, false, &text);
    fwrite(text.data, 1, text.len, stdout);
    kt_buf_release(&text);
}

static bool is_flat(const struct kt_json *json)
{
    for (const struct kt_json *child = kt_json_first(json); child; child = kt_json_next(child)) {
        if (kt_json_first(child))
            return false;
    }
    return true;
}

static void print_key(struct kt_slice key)
{
    struct kt_buf text;
    struct kt_json_writer writer;
    kt_buf_init(&text, CLI_TEXT_MAX);
    kt_json_writer_init(&writer, &text);
    kt_json_put_string(&writer, key);
    fwrite(text.data, 1, text.len, stdout);
    kt_buf_release(&text);
    fputs(": ", stdout);
}

/* depth is bounded by KT_JSON_DEPTH_MAX: the tree came from the parser. */
static void print_indented(const struct kt_json *json, unsigned depth)
{
    bool object = kt_json_is(json, KT_JSON_OBJECT);

    /* The innermost ones stay on one line: most are short. */
    if (!kt_json_first(json) || (depth > 0 && is_flat(json))) {
        print_one(json);
        return;
    }
    fputs(object ? "{\n" : "[\n", stdout);
    for (const struct kt_json *child = kt_json_first(json); child; child = kt_json_next(child)) {
        printf("%*s", (int)(depth + 1) * 2, "");
        if (object)
            print_key(kt_json_key(child));
        print_indented(child, depth + 1);
        fputs(kt_json_next(child) ? ",\n" : "\n", stdout);
    }
    printf("%*s%c", (int)depth * 2, "", object ? '}' : ']');
}

void cli_print_json(const struct kt_json *json, bool compact)
{
    if (compact)
        print_one(json);
    else
        print_indented(json, 0);
    fputc('\n', stdout);
}
