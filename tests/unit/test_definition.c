#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engines/machine/definition.h"
#include "engines/machine/machine_limits.h"
#include "wire/json.h"

/* A definition read from JSON text as a client writes it. */
struct fixture {
    struct kt_arena arena;
    struct kt_buf canonical, normal;
    struct definition definition;
    struct kt_error error;
    enum kt_code code;
};

static void fixture_read_slice(struct fixture *fixture, struct kt_slice text)
{
    struct kt_json *json;

    memset(fixture, 0, sizeof(*fixture));
    kt_arena_init(&fixture->arena);
    kt_buf_init(&fixture->canonical, 64u << 20);
    kt_buf_init(&fixture->normal, 64u << 20);
    if (kt_json_parse(text, &json, &fixture->error) != KT_OK)
        fail_msg("%s", fixture->error.text);
    kt_json_print(json, true, &fixture->canonical);
    kt_json_free(json);
    fixture->code =
        definition_read(kt_buf_slice(&fixture->canonical), &fixture->arena, &fixture->definition, &fixture->error);
    if (fixture->code != KT_OK)
        return;
    definition_print(&fixture->definition, &fixture->normal);
    definition_index(&fixture->definition, &fixture->arena);
    kt_buf_append_u8(&fixture->normal, '\0');
    assert_int_equal(kt_buf_code(&fixture->normal), KT_OK);
}

static void fixture_read(struct fixture *fixture, const char *text)
{
    fixture_read_slice(fixture, kt_slice_text(text));
}

static void fixture_release(struct fixture *fixture)
{
    kt_arena_release(&fixture->arena);
    kt_buf_release(&fixture->canonical);
    kt_buf_release(&fixture->normal);
}

static void assert_normal(const char *text, const char *normal)
{
    struct fixture fixture, again;

    fixture_read(&fixture, text);
    if (fixture.code != KT_OK)
        fail_msg("%s", fixture.error.text);
    assert_string_equal((char *)fixture.normal.data, normal);
    /* A normal form is its own. */
    fixture_read(&again, (char *)fixture.normal.data);
    assert_int_equal(again.code, KT_OK);
    assert_string_equal((char *)again.normal.data, normal);
    fixture_release(&fixture);
    fixture_release(&again);
}

static void assert_refused(const char *text, const char *words)
{
    struct fixture fixture;

    fixture_read(&fixture, text);
    assert_int_equal(fixture.code, KT_BAD_REQUEST);
    assert_string_equal(fixture.error.text, words);
    fixture_release(&fixture);
}

static void definition__reference_vectors__checksum(void **state)
{
    static const struct {
        const char *text, *checksum;
    } vectors[] = {
        {"{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[]}", "6b16bc3e"},
        {"{\"meta\":{\"b\":\"x\",\"a\":1},\"states\":[\"shut\",\"open\"],\"initial\":\"shut\",\"transitions\":[]}",
         "d509000e"},
        {"{\"states\":[\"shut\",\"open\"],\"initial\":\"shut\",\"transitions\":[{\"from\":\"shut\",\"event\":\"OPEN\","
         "\"to\":\"open\",\"guard\":\"ctx.key\"},{\"from\":[\"open\"],\"event\":\"CLOSE\",\"to\":\"shut\"}]}",
         "d6840009"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(vectors); i++) {
        struct fixture fixture;
        char checksum[9];

        fixture_read(&fixture, vectors[i].text);
        assert_int_equal(fixture.code, KT_OK);
        definition_checksum(kt_slice(fixture.normal.data, fixture.normal.len - 1), checksum);
        assert_string_equal(checksum, vectors[i].checksum);
        fixture_release(&fixture);
    }
}

static void definition__other_spellings__one_normal_form(void **state)
{
    const char *normal =
        "{\"states\":[\"a\",\"b\"],\"initial\":\"a\",\"transitions\":[{\"from\":[\"a\"],\"event\":\"E\","
        "\"to\":\"b\"}]}";

    (void)state;
    assert_normal("{\"transitions\":[{\"to\":\"b\",\"from\":\"a\",\"event\":\"E\",\"guard\":null,\"note\":[1]}],"
                  " \"initial\" : \"a\", \"states\":[\"a\",\"b\",\"a\"], \"meta\":null, \"unknown\":{}}",
                  normal);
    assert_normal("{\"states\":[\"\\u0061\",\"b\"],\"initial\":\"a\",\"transitions\":[{\"from\":[\"a\"],\"event\":"
                  "\"\\u0045\",\"to\":\"b\"}]}",
                  normal);
    assert_normal(normal, normal);
}

static void definition__meta__kept_and_sorted(void **state)
{
    (void)state;
    assert_normal("{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[],\"meta\":{\"z\":[{\"b\":1.0,\"a\":1e2}],"
                  "\"\":9007199254740993}}",
                  "{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[],\"meta\":{\"\":9007199254740993,\"z\":[{"
                  "\"a\":100.0,\"b\":1.0}]}}");
    assert_normal("{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[],\"meta\":false}",
                  "{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[],\"meta\":false}");
}

static void definition__odd_names__kept(void **state)
{
    (void)state;
    assert_normal("{\"states\":[\"\",\"*\",\"a\\\"\\\\\\n\\u0000\\u001f\",\"日本\"],\"initial\":\"\",\"transitions\":[{"
                  "\"from\":[\"a\\\"\\\\\\n\\u0000\\u001f\",\"*\"],\"event\":\"\",\"to\":\"日本\"}]}",
                  "{\"states\":[\"\",\"*\",\"a\\\"\\\\\\n\\u0000\\u001f\",\"日本\"],\"initial\":\"\",\"transitions\":[{"
                  "\"from\":[\"a\\\"\\\\\\n\\u0000\\u001f\",\"*\"],\"event\":\"\",\"to\":\"日本\"}]}");
}

static void definition__no_sources__never(void **state)
{
    (void)state;
    assert_normal("{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[{\"from\":[],\"event\":\"E\",\"to\":\"a\"},{"
                  "\"from\":[],\"event\":\"E\",\"to\":\"a\"}]}",
                  "{\"states\":[\"a\"],\"initial\":\"a\",\"transitions\":[{\"from\":[],\"event\":\"E\",\"to\":\"a\"},{"
                  "\"from\":[],\"event\":\"E\",\"to\":\"a\"}]}");
}

#define S "\"states\":[\"a\",\"b\"],\"initial\":\"a\","

static void definition__wrong_structure__refused(void **state)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"[]", "JSON error: a machine definition must be an object"},
        {"{}", "JSON error: missing field `states`"},
        {"{\"states\":null}", "JSON error: field `states` must be an array of strings"},
        {"{\"states\":{\"a\":\"b\"}}", "JSON error: field `states` must be an array of strings"},
        {"{\"states\":\"a\"}", "JSON error: field `states` must be an array of strings"},
        {"{\"states\":[\"a\",1]}", "JSON error: field `states` must be an array of strings"},
        {"{\"states\":[null]}", "JSON error: field `states` must be an array of strings"},
        {"{\"states\":[\"a\"]}", "JSON error: missing field `initial`"},
        {"{\"states\":[\"a\"],\"initial\":null}", "JSON error: field `initial` must be a string"},
        {"{\"states\":[\"a\"],\"initial\":[\"a\"]}", "JSON error: field `initial` must be a string"},
        {"{" S "\"meta\":1}", "JSON error: missing field `transitions`"},
        {"{" S "\"transitions\":{}}", "JSON error: field `transitions` must be an array of objects"},
        {"{" S "\"transitions\":[[]]}", "JSON error: transitions[0] must be an object"},
        {"{" S "\"transitions\":[{\"event\":\"E\",\"to\":\"b\"}]}",
         "JSON error: missing field `from` in transitions[0]"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\"},{\"from\":\"a\",\"to\":\"b\"}]}",
         "JSON error: missing field `event` in transitions[1]"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\"}]}",
         "JSON error: missing field `to` in transitions[0]"},
        {"{" S "\"transitions\":[{\"from\":1,\"event\":\"E\",\"to\":\"b\"}]}",
         "JSON error: field `from` in transitions[0] must be a string or an array of strings"},
        {"{" S "\"transitions\":[{\"from\":[\"a\",null],\"event\":\"E\",\"to\":\"b\"}]}",
         "JSON error: field `from` in transitions[0] must be a string or an array of strings"},
        {"{" S "\"transitions\":[{\"from\":{\"a\":\"b\"},\"event\":\"E\",\"to\":\"b\"}]}",
         "JSON error: field `from` in transitions[0] must be a string or an array of strings"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":7,\"to\":\"b\"}]}",
         "JSON error: field `event` in transitions[0] must be a string"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":[\"b\"]}]}",
         "JSON error: field `to` in transitions[0] must be a string"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\",\"guard\":true}]}",
         "JSON error: field `guard` in transitions[0] must be a string"},
        /* Structure comes before meaning. */
        {"{\"states\":[],\"initial\":\"x\",\"transitions\":[{\"from\":\"a\",\"event\":\"E\"}]}",
         "JSON error: missing field `to` in transitions[0]"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        assert_refused(rows[i].text, rows[i].words);
}

static void definition__wrong_meaning__refused(void **state)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"{\"states\":[],\"initial\":\"a\",\"transitions\":[]}",
         "invalid machine definition: initial state 'a' not in states list"},
        {"{\"states\":[\"a\"],\"initial\":\"A\",\"transitions\":[]}",
         "invalid machine definition: initial state 'A' not in states list"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"c\"}]}",
         "invalid machine definition: transition target 'c' not in states list (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\"}]}",
         "invalid machine definition: transition source 'c' not in states list (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":[\"a\",\"*\"],\"event\":\"E\",\"to\":\"b\"}]}",
         "invalid machine definition: transition source '*' not in states list (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"\"}]}",
         "invalid guard expression: empty guard expression (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"ctx.a ==\"}]}",
         "invalid guard expression: invalid number: '' (transitions[0])"},
        /* Target before guard before source, and one transition after the other. */
        {"{" S "\"transitions\":[{\"from\":\"c\",\"event\":\"E\",\"to\":\"d\",\"guard\":\"x\"}]}",
         "invalid machine definition: transition target 'd' not in states list (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"x\"}]}",
         "invalid guard expression: field must start with 'ctx.' (transitions[0])"},
        {"{" S "\"transitions\":[{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\"},{\"from\":\"a\",\"event\":\"E\",\"to\":"
         "\"d\"}]}",
         "invalid machine definition: transition source 'c' not in states list (transitions[0])"},
    };

    (void)state;
    for (size_t i = 0; i < KT_COUNT(rows); i++)
        assert_refused(rows[i].text, rows[i].words);
}

#define DUPLICATE(at) "invalid machine definition: duplicate transition from 'a' on event 'E' (transitions[" at "])"

static void definition__second_behind_an_unguarded_one__refused(void **state)
{
    (void)state;
    assert_refused("{" S
                   "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\"},{\"from\":\"a\",\"event\":\"E\","
                   "\"to\":\"a\"}]}",
                   DUPLICATE("1"));
    assert_refused("{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\"},{\"from\":[\"b\",\"a\"],"
                   "\"event\":\"E\",\"to\":\"a\",\"guard\":\"ctx.x\"}]}",
                   DUPLICATE("1"));
    assert_refused("{" S "\"transitions\":[{\"from\":[\"a\",\"a\"],\"event\":\"E\",\"to\":\"b\"}]}", DUPLICATE("0"));
    assert_refused("{" S "\"transitions\":[{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"ctx.x\"},{\"from\":"
                   "\"a\",\"event\":\"E\",\"to\":\"b\"},{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\"}]}",
                   DUPLICATE("2"));
}

/* The names of the targets that a state has on an event, in the order of trying. */
static void assert_rules(const struct fixture *fixture, uint32_t source, const char *event, const char *targets)
{
    const struct definition_rule *rules;
    char text[200] = "";
    size_t len = 0;
    uint32_t count = definition_rules(&fixture->definition, source, kt_slice_text(event), &rules);

    for (uint32_t i = 0; i < count; i++) {
        struct kt_slice name = fixture->definition.transitions[rules[i].transition].target_name;

        len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s ", (int)name.len, (const char *)name.data);
    }
    assert_string_equal(text, targets);
}

static void definition__several_for_one_event__in_order(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_read(&fixture, "{\"states\":[\"a\",\"b\",\"c\"],\"initial\":\"a\",\"transitions\":["
                           "{\"from\":[\"c\",\"a\"],\"event\":\"E\",\"to\":\"c\",\"guard\":\"ctx.c\"},"
                           "{\"from\":\"b\",\"event\":\"E\",\"to\":\"a\"},"
                           "{\"from\":\"a\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"ctx.b\"},"
                           "{\"from\":\"a\",\"event\":\"EE\",\"to\":\"b\"},"
                           "{\"from\":\"a\",\"event\":\"\",\"to\":\"c\"},"
                           "{\"from\":\"a\",\"event\":\"E\",\"to\":\"a\"}]}");
    assert_int_equal(fixture.code, KT_OK);
    assert_rules(&fixture, 0, "E", "c b a ");
    assert_rules(&fixture, 0, "EE", "b ");
    assert_rules(&fixture, 0, "", "c ");
    assert_rules(&fixture, 1, "E", "a ");
    assert_rules(&fixture, 2, "E", "c ");
    assert_rules(&fixture, 2, "EE", "");
    assert_rules(&fixture, 1, "", "");
    assert_rules(&fixture, 7, "E", "");
    assert_rules(&fixture, 0, "F", "");
    fixture_release(&fixture);
}

/* Text with count elements "<number>" made by the format, commas between. */
static void append_numbered(struct kt_buf *buf, const char *before, const char *after, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        kt_buf_printf(buf, "%s%s%u%s", i ? "," : "", before, i, after);
}

static void assert_large(struct kt_buf *text, const char *words)
{
    struct fixture fixture;

    assert_int_equal(kt_buf_code(text), KT_OK);
    fixture_read_slice(&fixture, kt_buf_slice(text));
    if (words) {
        assert_int_equal(fixture.code, KT_BAD_REQUEST);
        assert_string_equal(fixture.error.text, words);
    } else {
        assert_int_equal(fixture.code, KT_OK);
    }
    fixture_release(&fixture);
    kt_buf_release(text);
}

static void definition__many_states__capped(void **state)
{
    struct kt_buf text;

    (void)state;
    for (unsigned extra = 0; extra < 2; extra++) {
        kt_buf_init(&text, 8u << 20);
        kt_buf_append_text(&text, "{\"initial\":\"0\",\"transitions\":[],\"states\":[");
        append_numbered(&text, "\"", "\"", MACHINE_STATES_MAX + extra);
        kt_buf_append_text(&text, "]}");
        assert_large(&text, extra ? "invalid machine definition: 10001 states, the limit is 10000" : NULL);
    }
}

static void definition__many_transitions__capped(void **state)
{
    struct kt_buf text;

    (void)state;
    for (unsigned extra = 0; extra < 2; extra++) {
        kt_buf_init(&text, 8u << 20);
        kt_buf_append_text(&text, "{\"initial\":\"a\",\"states\":[\"a\"],\"transitions\":[");
        append_numbered(&text, "{\"from\":\"a\",\"to\":\"a\",\"event\":\"", "\"}", MACHINE_TRANSITIONS_MAX + extra);
        kt_buf_append_text(&text, "]}");
        assert_large(&text, extra ? "invalid machine definition: 10001 transitions, the limit is 10000" : NULL);
    }
}

static void definition__many_sources__capped(void **state)
{
    struct kt_buf text;

    (void)state;
    for (unsigned extra = 0; extra < 2; extra++) {
        kt_buf_init(&text, 8u << 20);
        kt_buf_append_text(&text,
                           "{\"initial\":\"a\",\"states\":[\"a\"],\"transitions\":[{\"to\":\"a\",\"event\":\"E\","
                           "\"guard\":\"ctx.a\",\"from\":[");
        for (unsigned i = 0; i < MACHINE_SOURCES_MAX + extra; i++)
            kt_buf_append_text(&text, i ? ",\"a\"" : "\"a\"");
        kt_buf_append_text(&text, "]}]}");
        assert_large(&text, extra ? "invalid machine definition: more than 100000 sources in all transitions" : NULL);
    }
}

static void definition__long_names__capped(void **state)
{
    struct kt_buf text;
    char name[MACHINE_ID_BYTES_MAX + 2];

    (void)state;
    for (unsigned extra = 0; extra < 2; extra++) {
        memset(name, 'x', sizeof(name));
        name[MACHINE_NAME_BYTES_MAX + extra] = '\0';
        kt_buf_init(&text, 1u << 20);
        kt_buf_printf(&text, "{\"initial\":\"%s\",\"states\":[\"%s\"],\"transitions\":[]}", name, name);
        assert_large(&text, extra ? "invalid machine definition: a state name is 481 bytes, the limit is 480" : NULL);
        memset(name, 'x', sizeof(name));
        name[MACHINE_ID_BYTES_MAX + extra] = '\0';
        kt_buf_init(&text, 1u << 20);
        kt_buf_printf(&text,
                      "{\"initial\":\"a\",\"states\":[\"a\"],\"transitions\":[{\"from\":\"a\",\"event\":\"%s\",\"to\":"
                      "\"a\"}]}",
                      name);
        assert_large(&text, extra
                                ? "invalid machine definition: the event of transitions[0] is 1025 bytes, the limit is "
                                  "1024"
                                : NULL);
    }
}

static void definition__more_than_a_mebibyte__refused(void **state)
{
    struct kt_buf text;

    (void)state;
    kt_buf_init(&text, 8u << 20);
    kt_buf_append_text(&text, "{\"initial\":\"a\",\"states\":[\"a\"],\"transitions\":[],\"meta\":\"");
    while (text.len < MACHINE_DEFINITION_BYTES_MAX)
        kt_buf_append_text(&text, "0123456789abcdef");
    kt_buf_append_text(&text, "\"}");
    assert_large(&text, "invalid machine definition: 1048585 bytes, the limit is 1048576");
}

static void definition__name_longer_than_a_sentence__cut_whole(void **state)
{
    struct fixture fixture;
    char text[800];
    int len = snprintf(text, sizeof(text), "{\"states\":[],\"transitions\":[],\"initial\":\"");

    (void)state;
    for (unsigned i = 0; i < 150; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "日");
    snprintf(text + len, sizeof(text) - (size_t)len, "\"}");
    fixture_read(&fixture, text);
    assert_int_equal(fixture.code, KT_BAD_REQUEST);
    len = (int)strlen("invalid machine definition: initial state '");
    assert_true(strlen(fixture.error.text) > 200);
    assert_int_equal((strlen(fixture.error.text) - (size_t)len) % 3, 0);
    fixture_release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition__reference_vectors__checksum),
        cmocka_unit_test(definition__other_spellings__one_normal_form),
        cmocka_unit_test(definition__meta__kept_and_sorted),
        cmocka_unit_test(definition__odd_names__kept),
        cmocka_unit_test(definition__no_sources__never),
        cmocka_unit_test(definition__wrong_structure__refused),
        cmocka_unit_test(definition__wrong_meaning__refused),
        cmocka_unit_test(definition__second_behind_an_unguarded_one__refused),
        cmocka_unit_test(definition__several_for_one_event__in_order),
        cmocka_unit_test(definition__many_states__capped),
        cmocka_unit_test(definition__many_transitions__capped),
        cmocka_unit_test(definition__many_sources__capped),
        cmocka_unit_test(definition__long_names__capped),
        cmocka_unit_test(definition__more_than_a_mebibyte__refused),
        cmocka_unit_test(definition__name_longer_than_a_sentence__cut_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
