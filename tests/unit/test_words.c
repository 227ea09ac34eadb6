/* Lines of the shell as words; candidates of a completion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/edit.h"
#include "cli/words.h"

static void expect(const char *line, const char *const *wanted)
{
    struct cli_words words;
    struct kt_error error;
    assert_int_equal(cli_words_split(line, &words, &error), KT_OK);
    for (size_t i = 0; wanted[i]; i++) {
        assert_true(i < words.count);
        assert_string_equal(words.items[i], wanted[i]);
        assert_null(words.items[words.count]);
    }
    for (size_t i = 0; i <= words.count; i++)
        assert_true(i < words.count ? wanted[i] != NULL : wanted[i] == NULL);
    cli_words_release(&words);
}

#define EXPECT(line, ...) expect(line, (const char *const[]){__VA_ARGS__, NULL})

static void split__blanks_and_quotes__make_words(void **state)
{
    (void)state;
    EXPECT("  a\tb  c\r\n", "a", "b", "c");
    EXPECT("'a b' \"c d\" e'f g'h", "a b", "c d", "ef gh");
    EXPECT("\"a \\\" b\\\\\" 'c\\d'", "a \" b\\", "c\\d");
    EXPECT("'' x", "", "x");
    EXPECT("a#b # c", "a#b");
    expect("", (const char *const[]){NULL});
    expect("   # only a comment", (const char *const[]){NULL});
}

static void split__json__reaches_to_its_bracket(void **state)
{
    (void)state;
    EXPECT("pm a 1 {\"s\": [\"x y\", \"}\"], \"q\": \"a\\\"}\"} z", "pm", "a", "1",
           "{\"s\": [\"x y\", \"}\"], \"q\": \"a\\\"}\"}", "z");
    EXPECT("[1, 2] {}", "[1, 2]", "{}");
}

static void split__not_closed_or_too_many__is_refused(void **state)
{
    static const char *const lines[] = {"'a", "\"a", "{\"a\": 1", "[", "a {\"}", "\"a\\"};
    char many[2 * CLI_WORDS_MAX + 3];
    struct cli_words words;
    struct kt_error error;
    (void)state;
    for (size_t i = 0; i < KT_COUNT(lines); i++) {
        assert_int_equal(cli_words_split(lines[i], &words, &error), KT_BAD_REQUEST);
        assert_int_equal(words.count, 0);
    }
    memset(many, ' ', sizeof(many));
    for (size_t i = 0; i <= CLI_WORDS_MAX; i++)
        many[2 * i] = 'x';
    many[sizeof(many) - 1] = '\0';
    assert_int_equal(cli_words_split(many, &words, &error), KT_BAD_REQUEST);
    many[2 * CLI_WORDS_MAX] = '\0';
    assert_int_equal(cli_words_split(many, &words, &error), KT_OK);
    assert_int_equal(words.count, CLI_WORDS_MAX);
    cli_words_release(&words);
}

static void last__of_an_unfinished_line__is_found(void **state)
{
    size_t before;
    (void)state;
    assert_int_equal(cli_words_last("", &before), 0);
    assert_int_equal(before, 0);
    assert_int_equal(cli_words_last("get d", &before), 4);
    assert_int_equal(before, 1);
    assert_int_equal(cli_words_last("get d ", &before), 6);
    assert_int_equal(before, 2);
}

static void common__of_candidates__ends_at_a_whole_character(void **state)
{
    static const char two[] = "list-machines\0list-instances", one[] = "ping", umlauts[] = "a\xc3\xa4\0a\xc3\xb6";
    (void)state;
    assert_int_equal(cli_edit_common(kt_slice(two, sizeof(two))), 5);
    assert_int_equal(cli_edit_common(kt_slice(one, sizeof(one))), 4);
    assert_int_equal(cli_edit_common(kt_slice(umlauts, sizeof(umlauts))), 1);
    assert_int_equal(cli_edit_common(kt_slice(NULL, 0)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split__blanks_and_quotes__make_words),
        cmocka_unit_test(split__json__reaches_to_its_bracket),
        cmocka_unit_test(split__not_closed_or_too_many__is_refused),
        cmocka_unit_test(last__of_an_unfinished_line__is_found),
        cmocka_unit_test(common__of_candidates__ends_at_a_whole_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
