/*
 * Invalid definitions by the hundred: a valid one in which one place is wrong, for every place and every wrong value.
 * Each must be refused with words that begin as the reference does, say where, and with the place in the fault.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engines/machine/definition.h"
#include "engines/machine/machine_limits.h"
#include "wire/json.h"

static unsigned refused;

/* The definition with one place, "%s", open. */
#define STATES    "\"states\":[\"a\",\"b\",\"c\"]"
#define INITIAL   "\"initial\":\"a\""
#define FIRST     "{\"from\":\"a\",\"event\":\"GO\",\"to\":\"b\",\"guard\":\"ctx.x\"}"
#define WITH(m)   "{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{" m "}]}"
#define STRUCTURE "JSON error: "
#define MEANING   "invalid machine definition: "
#define GUARD     "invalid guard expression: "
#define IN_SECOND true, 1

/* Every kind of JSON value, by what it is not. */
static const char *const no_string[] = {"null", "true", "0", "1.5", "[]", "{}", "[\"a\"]", "{\"a\":\"b\"}"};
static const char *const no_strings[] = {"null", "true", "7", "\"a\"", "{}", "[1]", "[null]", "[\"a\",[]]", "[{}]"};
static const char *const no_objects[] = {"null", "false", "3", "\"a\"", "{}"};
static const char *const no_object[] = {"null", "true", "4", "\"a\"", "[]", "[{}]"};
static const char *const no_source[] = {"null", "true", "1", "{}", "[1]", "[\"a\",null]", "[[\"a\"]]", "[{}]"};
static const char *const no_state[] = {"\"\"",  "\"A\"",  "\"a \"",      "\" a\"",     "\"*\"",
                                       "\"d\"", "\"ab\"", "\"\\u0000\"", "\"\\u00e4\""};
static const char *const no_sources[] = {
    "\"\"", "\"A\"", "\"*\"", "[\"d\"]", "[\"c\",\"d\"]", "[\"c\",\"\"]", "[\"b\",\"c\",\"D\"]"};
static const char *const no_guard_text[] = {"true", "1", "[]", "{}", "[\"ctx.a\"]"};
static const char *const no_delay[] = {"0",
                                       "1",
                                       "99",
                                       "-1",
                                       "-100",
                                       "100.0",
                                       "1e3",
                                       "1.5",
                                       "\"1000\"",
                                       "true",
                                       "[]",
                                       "{}",
                                       "3162240000001",
                                       "18446744073709551615",
                                       "99999999999999999999999"};
static const char *const no_path[] = {"true", "5", "[]", "{}", "[\"due\"]"};
static const char *const bad_path[] = {"\"\"",     "\"a b\"",     "\"a-b\"", "\"$.due\"",
                                       "\"due!\"", "\"ctx.due\"", "\"a[0]\""};

static const char *const bad_guards[] = {
    "",
    " ",
    "\\t",
    "x",
    "ctx",
    "ctx.",
    "ctx. a",
    "CTX.a",
    "Ctx.a",
    "ctx.a b",
    "ctx.a ctx.b",
    "ctx.a = 5",
    "ctx.a === 5",
    "ctx.a ! 5",
    "ctx.a <> 5",
    "ctx.a =< 5",
    "ctx.a => 5",
    "ctx.a ==",
    "ctx.a !=",
    "ctx.a >",
    "ctx.a >=",
    "ctx.a <",
    "ctx.a <=",
    "ctx.a == ctx.b",
    "ctx.a > ctx.b",
    "ctx.a > \\\"5\\\"",
    "ctx.a > true",
    "ctx.a > null",
    "ctx.a == 'x'",
    "ctx.a == True",
    "ctx.a == NULL",
    "ctx.a == trueish",
    "ctx.a == nullx",
    "ctx.a == 1e3",
    "ctx.a == 0x10",
    "ctx.a == 1.2.3",
    "ctx.a == +5",
    "ctx.a == - 5",
    "ctx.a == -",
    "ctx.a == .",
    "ctx.a == -.",
    "ctx.a == [1]",
    "ctx.a == {}",
    "ctx.a == \\\"x",
    "ctx.a == \\\"x\\\\\\\"",
    "ctx.a == x\\\"",
    "(ctx.a",
    "((ctx.a)",
    "ctx.a)",
    "(ctx.a))",
    "()",
    "(",
    ")",
    "!",
    "!!",
    "!()",
    "! ! ctx",
    "&& ctx.a",
    "|| ctx.a",
    "ctx.a &&",
    "ctx.a ||",
    "ctx.a && && ctx.b",
    "ctx.a || || ctx.b",
    "ctx.a & ctx.b",
    "ctx.a | ctx.b",
    "ctx.a and ctx.b",
    "ctx.a or ctx.b",
    "not ctx.a",
    "ctx.a && (ctx.b || )",
    "ctx.a && !(",
    "ctx.a + 1 > 2",
    "ctx.a.length()",
    "ctx[\\\"a\\\"]",
    "ctx.a[0]",
    "ctx.a == 5;",
    "ctx.a // note",
    "5 < ctx.a",
    "5",
    "true",
    "null",
    "\\\"x\\\"",
    "ctx.a == 99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
    "9999999999999999999999999999999999",
    "ctx.a in ctx.b",
    "ctx.a ? 1 : 2",
    "ctx.a %% 2 == 0",
    "$ctx.a",
    "@ctx.a",
    "ctx:a",
    "ctx->a",
};

struct place {
    const char *before, *after;
    const char *const *values;
    size_t count;
    const char *words;  /* what the sentence begins with */
    const char *member; /* of the fault */
    bool in_transition;
    uint32_t transition;
};

#define PLACE(before, after, values, words, ...)                                                                       \
    {                                                                                                                  \
        before, after, values, KT_COUNT(values), words, __VA_ARGS__                                                    \
    }

static const struct place places[] = {
    PLACE("", "", no_object, STRUCTURE "a machine definition must be an object", NULL, false, 0),
    PLACE("{\"states\":", "," INITIAL ",\"transitions\":[]}", no_strings,
          STRUCTURE "field `states` must be an array of strings", "states", false, 0),
    PLACE("{" STATES ",\"initial\":", ",\"transitions\":[]}", no_string, STRUCTURE "field `initial` must be a string",
          "initial", false, 0),
    PLACE("{" STATES ",\"initial\":", ",\"transitions\":[]}", no_state, MEANING "initial state '", "initial", false, 0),
    PLACE("{" STATES "," INITIAL ",\"transitions\":", "}", no_objects,
          STRUCTURE "field `transitions` must be an array of objects", "transitions", false, 0),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",", "]}", no_object,
          STRUCTURE "transitions[1] must be an object", NULL, IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"event\":\"E\",\"to\":\"b\",\"from\":", "}]}",
          no_source, STRUCTURE "field `from` in transitions[1] must be a string or an array of strings", "from",
          IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"event\":\"E\",\"to\":\"b\",\"from\":", "}]}",
          no_sources, MEANING "transition source '", "from", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"from\":\"c\",\"to\":\"b\",\"event\":", "}]}",
          no_string, STRUCTURE "field `event` in transitions[1] must be a string", "event", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"from\":\"c\",\"event\":\"E\",\"to\":", "}]}",
          no_string, STRUCTURE "field `to` in transitions[1] must be a string", "to", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"from\":\"c\",\"event\":\"E\",\"to\":", "}]}", no_state,
          MEANING "transition target '", "to", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST ",{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"guard\":",
          "}]}", no_guard_text, STRUCTURE "field `guard` in transitions[1] must be a string", "guard", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST
          ",{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"guard\":\"",
          "\"}]}", bad_guards, GUARD, "guard", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST
          ",{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"after_ms\":",
          "}]}", no_delay, MEANING "`after_ms` in transitions[1] must be an integer from 100 to 3162240000000",
          "after_ms", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST
          ",{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"after_ctx\":",
          "}]}", no_path, STRUCTURE "field `after_ctx` in transitions[1] must be a string", "after_ctx", IN_SECOND),
    PLACE("{" STATES "," INITIAL ",\"transitions\":[" FIRST
          ",{\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"after_ctx\":",
          "}]}", bad_path, MEANING "`after_ctx` in transitions[1] ", "after_ctx", IN_SECOND),
};

/* What is missing, or said twice. */
static const struct {
    const char *text;
    const char *words, *member;
    bool in_transition;
    uint32_t transition;
} wholes[] = {
    {"{}", STRUCTURE "missing field `states`", "states", false, 0},
    {"{" INITIAL ",\"transitions\":[]}", STRUCTURE "missing field `states`", "states", false, 0},
    {"{" STATES ",\"transitions\":[]}", STRUCTURE "missing field `initial`", "initial", false, 0},
    {"{" STATES "," INITIAL "}", STRUCTURE "missing field `transitions`", "transitions", false, 0},
    {"{\"States\":[\"a\"]," INITIAL ",\"transitions\":[]}", STRUCTURE "missing field `states`", "states", false, 0},
    {"{\"states\":[]," INITIAL ",\"transitions\":[]}", MEANING "initial state 'a' not in states list", "initial", false,
     0},
    {WITH(""), STRUCTURE "missing field `from` in transitions[1]", "from", IN_SECOND},
    {WITH("\"event\":\"E\",\"to\":\"b\""), STRUCTURE "missing field `from` in transitions[1]", "from", IN_SECOND},
    {WITH("\"from\":\"c\",\"to\":\"b\""), STRUCTURE "missing field `event` in transitions[1]", "event", IN_SECOND},
    {WITH("\"from\":\"c\",\"event\":\"E\""), STRUCTURE "missing field `to` in transitions[1]", "to", IN_SECOND},
    {WITH("\"from\":\"c\",\"event\":\"E\",\"target\":\"b\""), STRUCTURE "missing field `to` in transitions[1]", "to",
     IN_SECOND},
    {WITH("\"from\":\"c\",\"event\":\"E\",\"to\":\"b\",\"after_ms\":100,\"after_ctx\":\"x\""),
     MEANING "transitions[1] has both `after_ms` and `after_ctx`", "after_ctx", IN_SECOND},
    {WITH("\"from\":[\"c\",\"c\"],\"event\":\"E\",\"to\":\"b\""),
     MEANING "duplicate transition from 'c' on event 'E' (transitions[1])", "from", IN_SECOND},
    {WITH("\"from\":\"c\",\"event\":\"E\",\"to\":\"b\"},{\"from\":[\"a\",\"c\"],\"event\":\"E\",\"to\":\"a\""),
     MEANING "duplicate transition from 'c' on event 'E' (transitions[2])", "from", true, 2},
    {WITH(
         "\"from\":\"c\",\"event\":\"\",\"to\":\"b\"},{\"from\":\"c\",\"event\":\"\",\"to\":\"a\",\"guard\":\"ctx.x\""),
     MEANING "duplicate transition from 'c' on event '' (transitions[2])", "from", true, 2},
};

static void assert_refused_at(const char *text, const char *words, const char *member, bool in_transition,
                              uint32_t transition)
{
    struct definition definition;
    struct kt_arena arena;
    struct kt_buf canonical;
    struct kt_error error;
    struct kt_json *json;

    kt_arena_init(&arena);
    kt_buf_init(&canonical, 1u << 20);
    if (kt_json_parse(kt_slice_text(text), &json, &error) != KT_OK)
        fail_msg("%s: %s", text, error.text);
    kt_json_print(json, true, &canonical);
    kt_json_free(json);
    if (definition_read(kt_buf_slice(&canonical), &arena, &definition, &error) != KT_BAD_REQUEST)
        fail_msg("accepted: %s", text);
    if (strncmp(error.text, words, strlen(words)) != 0)
        fail_msg("%s:\n  got      %s\n  expected %s", text, error.text, words);
    if (in_transition) {
        char place[32];

        snprintf(place, sizeof(place), "transitions[%u]", transition);
        if (!strstr(error.text, place))
            fail_msg("%s: no place in: %s", text, error.text);
    }
    assert_null(strstr(error.text, "connection"));
    assert_int_equal(definition.fault.in_transition, in_transition);
    assert_int_equal(definition.fault.transition, transition);
    if (member)
        assert_string_equal(definition.fault.member, member);
    else
        assert_null(definition.fault.member);
    kt_buf_release(&canonical);
    kt_arena_release(&arena);
    refused++;
}

static void definition__one_place_wrong__refused_there(void **state)
{
    char text[4096];

    (void)state;
    for (size_t i = 0; i < KT_COUNT(places); i++) {
        const struct place *place = &places[i];

        for (size_t k = 0; k < place->count; k++) {
            snprintf(text, sizeof(text), "%s%s%s", place->before, place->values[k], place->after);
            assert_refused_at(text, place->words, place->member, place->in_transition, place->transition);
        }
    }
}

static void definition__incomplete_or_repeated__refused_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_COUNT(wholes); i++)
        assert_refused_at(wholes[i].text, wholes[i].words, wholes[i].member, wholes[i].in_transition,
                          wholes[i].transition);
}

/* A mistake is found wherever the transition stands, and the earliest is told. */
static void definition__wrong_at_any_position__position_told(void **state)
{
    char text[8192];

    (void)state;
    for (uint32_t wrong = 0; wrong < 60; wrong++) {
        size_t len = (size_t)snprintf(text, sizeof(text), "{" STATES "," INITIAL ",\"transitions\":[");

        for (uint32_t i = 0; i < 60; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len,
                                    "%s{\"from\":\"a\",\"event\":\"E%u\",\"to\":\"%s\",\"guard\":\"ctx.a%s\"}",
                                    i ? "," : "", i, i == wrong && wrong % 2 ? "nowhere" : "b",
                                    i == wrong && wrong % 2 == 0 ? " ==" : "");
        snprintf(text + len, sizeof(text) - len, "]}");
        assert_refused_at(text, wrong % 2 ? MEANING "transition target 'nowhere' not in states list" : GUARD,
                          wrong % 2 ? "to" : "guard", true, wrong);
    }
}

/* So many timers as an instance's record has room for, and no more. */
static void definition__timers_of_one_state__capped(void **state)
{
    char text[4096];

    (void)state;
    for (unsigned count = MACHINE_TIMERS_MAX; count <= MACHINE_TIMERS_MAX + 1; count++) {
        size_t len = (size_t)snprintf(text, sizeof(text), "{" INITIAL "," STATES ",\"transitions\":[");

        for (unsigned i = 0; i < count; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len,
                                    "%s{\"after_ms\":100,\"event\":\"E%u\",\"from\":[\"a\",\"b\"],\"to\":\"b\"}",
                                    i ? "," : "", i);
        snprintf(text + len, sizeof(text) - len, "]}");
        if (count > MACHINE_TIMERS_MAX) {
            assert_refused_at(text, MEANING "more than 16 timers in state 'a' (transitions[16])", "from", true, 16);
        } else {
            struct definition definition;
            struct kt_arena arena;

            kt_arena_init(&arena);
            assert_int_equal(definition_read(kt_slice_text(text), &arena, &definition, NULL), KT_OK);
            assert_true(definition.timed);
            assert_null(definition.fault.member);
            kt_arena_release(&arena);
        }
    }
}

static void definitions__counted__hundreds(void **state)
{
    (void)state;
    print_message("%u invalid definitions refused\n", refused);
    assert_true(refused >= 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition__one_place_wrong__refused_there),
        cmocka_unit_test(definition__incomplete_or_repeated__refused_there),
        cmocka_unit_test(definition__wrong_at_any_position__position_told),
        cmocka_unit_test(definition__timers_of_one_state__capped),
        cmocka_unit_test(definitions__counted__hundreds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
